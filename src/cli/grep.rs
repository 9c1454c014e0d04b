//! Lines that match a regular expression, put together from their pieces.
//!
//! A line is judged as a whole, or by its first [`JUDGED`] bytes: so much of a
//! line is held until its end has come. What matches is shown as it came, piece
//! by piece.

use super::error::usage;
use crate::block::{Body, EventRef};
use crate::model::{Result, Stream, Timestamp};
use regex::bytes::Regex;
use std::collections::{HashMap, VecDeque};

/// A line is judged by so many bytes at most.
const JUDGED: usize = 1 << 20;

/// The pattern of `--grep`.
///
/// # Errors
/// Wrong usage, with the place.
pub fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| {
        usage(format!("--grep: {error}"))
            .hint("see https://docs.rs/regex/#syntax; \\ before a character takes it as it is")
    })
}

/// Whose line it is: the run and its stream.
type Source = (u32, Stream);

/// A piece that is held until its line is judged.
#[derive(Debug)]
struct Piece {
    seq: u64,
    time: Timestamp,
    data: Vec<u8>,
    continued: bool,
}

/// A line whose end has not come.
#[derive(Debug)]
enum Open {
    /// Its pieces, and how much is in them.
    Held(Vec<Piece>, usize),
    /// It was judged already: whether it matches.
    Judged(bool),
}

/// Lets lines pass that match.
#[derive(Debug)]
pub struct Grep {
    pattern: Regex,
    open: HashMap<Source, Open>,
    lines: u64,
}

impl Grep {
    /// Lets pass what `pattern` matches.
    #[must_use]
    pub fn new(pattern: Regex) -> Self {
        Self {
            pattern,
            open: HashMap::new(),
            lines: 0,
        }
    }

    /// How many lines it has seen.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// Takes the next event, and gives `show` what may pass now, in its order.
    ///
    /// # Errors
    /// What `show` says.
    pub fn take<E>(
        &mut self,
        event: &EventRef<'_>,
        mut show: impl FnMut(&EventRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Body::Output {
            stream,
            continued,
            data,
        } = event.body
        else {
            return Ok(());
        };
        self.lines += u64::from(!continued);
        let source = (event.run, stream);
        if !continued && (self.open.is_empty() || !self.open.contains_key(&source)) {
            // Nearly every line comes in one piece.
            return match self.pattern.is_match(&data[..data.len().min(JUDGED)]) {
                true => show(event),
                false => Ok(()),
            };
        }
        let open = self.open.entry(source);
        let open = open.or_insert_with(|| Open::Held(Vec::new(), 0));
        match open {
            Open::Judged(matches) => {
                if *matches {
                    show(event)?;
                }
            }
            Open::Held(pieces, length) => {
                *length += data.len();
                pieces.push(Piece {
                    seq: event.seq,
                    time: event.time,
                    data: data.to_vec(),
                    continued,
                });
                if continued && *length < JUDGED {
                    return Ok(());
                }
                let pieces = std::mem::take(pieces);
                let matches = judge(&self.pattern, source, &pieces, &mut show)?;
                *open = Open::Judged(matches);
            }
        }
        if !continued {
            self.open.remove(&source);
        }
        Ok(())
    }

    /// Judges what was still open at the end.
    ///
    /// # Errors
    /// What `show` says.
    pub fn finish<E>(
        &mut self,
        mut show: impl FnMut(&EventRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_by_key(|(source, _)| *source);
        for (source, open) in open {
            self.lines += 1;
            if let Open::Held(pieces, _) = open {
                judge(&self.pattern, source, &pieces, &mut show)?;
            }
        }
        Ok(())
    }
}

/// Shows the pieces of a line, if it matches.
fn judge<E>(
    pattern: &Regex,
    (run, stream): Source,
    pieces: &[Piece],
    show: &mut impl FnMut(&EventRef<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let mut line = Vec::new();
    for piece in pieces {
        line.extend_from_slice(&piece.data);
    }
    line.truncate(JUDGED);
    if !pattern.is_match(&line) {
        return Ok(false);
    }
    for piece in pieces {
        show(&EventRef {
            seq: piece.seq,
            run,
            time: piece.time,
            body: Body::Output {
                stream,
                continued: piece.continued,
                data: &piece.data,
            },
        })?;
    }
    Ok(true)
}

/// Where the last lines begin, of those that are given.
#[derive(Debug)]
pub struct LastLines {
    count: u64,
    starts: VecDeque<u64>,
    /// Whose last piece was given and did not end its line.
    open: Option<Source>,
}

impl LastLines {
    /// Of the last `count`.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self {
            count,
            starts: VecDeque::new(),
            open: None,
        }
    }

    /// Takes note of a line, or of a piece of one.
    pub fn take(&mut self, event: &EventRef<'_>) {
        let Body::Output {
            stream, continued, ..
        } = event.body
        else {
            return;
        };
        let source = (event.run, stream);
        if self.open != Some(source) {
            if self.is_full() {
                self.starts.pop_front();
            }
            self.starts.push_back(event.seq);
        }
        self.open = continued.then_some(source);
    }

    /// Whether there were so many.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.starts.len() as u64 == self.count
    }

    /// The number of the event after which they lie; none when there are none.
    #[must_use]
    pub fn start(&self) -> Option<u64> {
        self.starts.iter().min().map(|seq| seq - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pieces of lines, of either stream.
    fn pieces(lines: &[(bool, Vec<u8>)], cut: usize) -> Vec<(Stream, Vec<u8>, bool)> {
        let mut all = Vec::new();
        for (err, line) in lines {
            let stream = if *err { Stream::Stderr } else { Stream::Stdout };
            let mut rest = line.as_slice();
            while rest.len() > cut {
                all.push((stream, rest[..cut].to_vec(), true));
                rest = &rest[cut..];
            }
            all.push((stream, rest.to_vec(), false));
        }
        all
    }

    /// What passes, as bytes of one stream, and where the last `count` lines begin.
    fn passed(
        pattern: &str,
        pieces: &[(Stream, Vec<u8>, bool)],
        only: Stream,
        count: u64,
    ) -> (Vec<u8>, Option<u64>) {
        let mut grep = Grep::new(Regex::new(pattern).unwrap());
        let mut out = Vec::new();
        let mut last = LastLines::new(count);
        let mut show = |event: &EventRef<'_>| {
            if let Body::Output {
                stream,
                data,
                continued,
            } = event.body
                && stream == only
            {
                out.extend_from_slice(data);
                if !continued {
                    out.push(b'\n');
                }
            }
            last.take(event);
            Ok::<_, ()>(())
        };
        for ((stream, data, continued), seq) in pieces.iter().zip(1..) {
            let event = EventRef {
                seq,
                run: 0,
                time: Timestamp(0),
                body: Body::Output {
                    stream: *stream,
                    continued: *continued,
                    data,
                },
            };
            grep.take(&event, &mut show).unwrap();
        }
        grep.finish(&mut show).unwrap();
        (out, last.start())
    }

    proptest! {
        #[test]
        fn lines_are_judged_whole_however_they_are_cut(
            lines in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(b'a'..=b'c', 0..12)), 0..12),
            cut in 1usize..6,
        ) {
            for only in [Stream::Stdout, Stream::Stderr] {
                let mut expected = Vec::new();
                for (err, line) in &lines {
                    let ours = *err == (only == Stream::Stderr);
                    if ours && line.windows(2).any(|pair| pair == b"ab") {
                        expected.extend_from_slice(line);
                        expected.push(b'\n');
                    }
                }
                let (shown, _) = passed("ab", &pieces(&lines, cut), only, 1);
                prop_assert_eq!(shown, expected);
            }
        }
    }

    #[test]
    fn the_last_lines_begin_where_their_first_piece_lies() {
        let lines: Vec<_> = [&b"xx ab"[..], b"no", b"ab long", b"no", b"ab"]
            .map(|line| (false, line.to_vec()))
            .into();
        // Pieces of three bytes: the lines begin at 1, 3, 4, 7 and 8.
        let pieces = pieces(&lines, 3);
        let start = |count| passed("ab", &pieces, Stream::Stdout, count).1;
        assert_eq!(
            [start(1), start(2), start(3), start(9)],
            [Some(7), Some(3), Some(0), Some(0)]
        );
        assert_eq!(passed("nowhere", &pieces, Stream::Stdout, 3).1, None);
    }

    #[test]
    fn a_line_without_end_is_judged_by_its_beginning() {
        let piece = |data: Vec<u8>| (Stream::Stdout, data, true);
        let mut pieces = vec![piece(b"ab".to_vec()), piece(vec![b'x'; JUDGED])];
        pieces.push(piece(b"more".to_vec()));
        let (shown, _) = passed("ab", &pieces, Stream::Stdout, 1);
        assert_eq!(shown.len(), JUDGED + 6);
        // What comes later in it is not looked at.
        pieces[0].1 = b"no".to_vec();
        pieces[2].1 = b"ab".to_vec();
        assert_eq!(passed("ab", &pieces, Stream::Stdout, 1).0, b"");
    }

    #[test]
    fn a_pattern_that_is_none_is_said_so() {
        let error = pattern("a(b").unwrap_err();
        assert!(error.message.contains("unclosed group"), "{error:?}");
    }
}
