//! From the bytes of a stream to lines, without losing or doubling one.
//!
//! The shim numbers the bytes of each stream of a run from 0. The journal keeps
//! for each stream how many of them it has ([`Cursor`]), in the same commit as
//! the events made of them. After a crash reading starts from an earlier place
//! of the spool, and a [`LineAssembler`] made from the cursor skips what the
//! journal has already.

use super::event::{Output, Stream};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest piece of a line in one event, in bytes.
pub const PIECE_MAX: usize = 64 * 1024;
/// An open line is recorded after this long without a further byte.
pub const OPEN_LINE_FLUSH: Duration = Duration::from_secs(1);

/// Which stream of which attempt of which run. `stream` is the shim's number:
/// 0 for its control records, 1 stdout, 2 stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CursorKey {
    /// The run.
    pub run: u32,
    /// The attempt at the run's container.
    pub attempt: u32,
    /// The shim's number of the run within that container's life.
    pub stream: u8,
}

/// How much of a stream the journal has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Bytes of the stream that are in the journal (for control records: how many).
    pub position: u64,
    /// The last piece recorded ended without a newline.
    pub open: bool,
}

/// Cuts one stream into lines.
#[derive(Debug)]
pub struct LineAssembler {
    stream: Stream,
    /// Position of the next byte that is expected.
    next: u64,
    /// Bytes of the open line that are not recorded yet; they end at `next`.
    open: Vec<u8>,
    /// The journal's last piece was continued (decides nothing but what is shown).
    continued: bool,
}

/// A hole in what the spool held: bytes that were lost before they could be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Bytes missing.
    pub bytes: u64,
}

impl LineAssembler {
    /// Goes on where the journal is.
    #[must_use]
    pub fn new(stream: Stream, cursor: Cursor) -> Self {
        Self {
            stream,
            next: cursor.position,
            open: Vec::new(),
            continued: cursor.open,
        }
    }

    /// Takes `bytes` that begin at `position` of the stream and puts the lines
    /// that they complete into `out`. Bytes that the journal has are skipped.
    ///
    /// # Errors
    /// [`Gap`] when bytes are missing before `position`: the open line is
    /// given out as it is, and the bytes are taken after the hole.
    pub fn push(&mut self, position: u64, bytes: &[u8], out: &mut Vec<Output>) -> Result<(), Gap> {
        // Positions come from where an agent can write: none may overflow.
        let end = position.saturating_add(bytes.len() as u64);
        if end <= self.next {
            return Ok(());
        }
        let mut gap = Ok(());
        if position > self.next {
            gap = Err(Gap {
                bytes: position - self.next,
            });
            self.flush(out);
            self.next = position;
        }
        let skip = usize::try_from(self.next - position).unwrap_or(bytes.len());
        self.next = end;
        self.cut(&bytes[skip..], out);
        gap
    }

    /// Records the open line as a piece: after a second of silence, or at the end.
    pub fn flush(&mut self, out: &mut Vec<Output>) {
        if self.open.is_empty() {
            return;
        }
        let data = std::mem::take(&mut self.open);
        self.emit(data, true, out);
    }

    /// Whether bytes wait for their line's end.
    #[must_use]
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Bytes that wait for their line's end.
    #[must_use]
    pub fn open_len(&self) -> u64 {
        self.open.len() as u64
    }

    /// Where the journal will be once everything given out so far is in it.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            position: self.next - self.open_len(),
            open: self.continued,
        }
    }

    fn cut(&mut self, mut bytes: &[u8], out: &mut Vec<Output>) {
        while let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(at);
            bytes = &rest[1..];
            self.extend(line, out);
            let data = std::mem::take(&mut self.open);
            self.emit(data, false, out);
        }
        self.extend(bytes, out);
    }

    /// Adds to the open line, giving out whole pieces of a long one.
    fn extend(&mut self, mut bytes: &[u8], out: &mut Vec<Output>) {
        while self.open.len() + bytes.len() > PIECE_MAX {
            let (head, rest) = bytes.split_at(PIECE_MAX - self.open.len());
            bytes = rest;
            let mut data = std::mem::take(&mut self.open);
            data.extend_from_slice(head);
            self.emit(data, true, out);
        }
        self.open.extend_from_slice(bytes);
    }

    fn emit(&mut self, data: Vec<u8>, continued: bool, out: &mut Vec<Output>) {
        self.continued = continued;
        out.push(Output {
            stream: self.stream,
            data,
            continued,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(outputs: &[Output]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for output in outputs {
            bytes.extend_from_slice(&output.data);
            if !output.continued {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn check(chunks: &[Vec<u8>], crash_after: usize, flush_at_crash: bool) {
        let whole: Vec<u8> = chunks.concat();
        let mut journal = Vec::new();
        let mut lines = LineAssembler::new(Stream::Stdout, Cursor::default());
        let mut at = 0;
        for chunk in chunks.iter().take(crash_after) {
            assert_eq!(lines.push(at, chunk, &mut journal), Ok(()));
            at += chunk.len() as u64;
        }
        if flush_at_crash {
            lines.flush(&mut journal);
        }
        // The daemon dies here; the next one reads the spool from its beginning.
        let mut lines = LineAssembler::new(Stream::Stdout, lines.cursor());
        let mut at = 0;
        for chunk in chunks {
            assert_eq!(lines.push(at, chunk, &mut journal), Ok(()));
            at += chunk.len() as u64;
        }
        lines.flush(&mut journal);
        assert_eq!(raw(&journal), whole);
        assert!(journal.iter().all(|o| o.data.len() <= PIECE_MAX));
        assert_eq!(lines.cursor().position, whole.len() as u64);
    }

    proptest! {
        #[test]
        fn a_crash_anywhere_costs_and_doubles_nothing(
            chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..12),
            crash_after in 0usize..12,
            flush: bool,
        ) {
            check(&chunks, crash_after, flush);
        }
    }

    #[test]
    fn long_lines_are_cut_in_pieces() {
        let long = vec![b'x'; 3 * PIECE_MAX + 5];
        check(&[long.clone(), b"\nnext\n".to_vec(), long], 1, false);
    }

    #[test]
    fn a_hole_is_told() {
        let mut out = Vec::new();
        let mut lines = LineAssembler::new(Stream::Stdout, Cursor::default());
        assert_eq!(lines.push(0, b"ab", &mut out), Ok(()));
        assert_eq!(lines.push(5, b"c\n", &mut out), Err(Gap { bytes: 3 }));
        assert_eq!(raw(&out), b"abc\n");
    }

    #[test]
    fn a_position_that_no_stream_has_breaks_nothing() {
        let mut out = Vec::new();
        let mut lines = LineAssembler::new(Stream::Stdout, Cursor::default());
        assert!(lines.push(u64::MAX - 1, b"abc\n", &mut out).is_err());
        assert_eq!(lines.push(0, b"d\n", &mut out), Ok(()));
        assert_eq!(raw(&out), b"abc\n");
    }
}
