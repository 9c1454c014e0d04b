//! Searching: the lines of a stretch of a session that match a pattern.
//!
//! A stretch is a few blocks. They are looked through as they are, and only
//! where something may match, event by event. Stretches of a session share
//! nothing, so that several threads may each take one, and the newest is first.
//!
//! What is searched are *lines*: pieces of output that were written as one
//! line are joined again, from event to event and block to block. A line
//! belongs to the stretch that it begins in. Two bounds, both on purpose:
//! pieces with more than [`APART_MAX`] other events between them are taken as
//! lines of their own, and so is what follows [`LINE_MAX`] bytes of one line.

use super::ahead::Ahead;
use super::block::{Block, Body, EventRef};
use super::error::StoreError;
use super::reader::{Reader, damaged};
use crate::model::api::SearchPlace;
use crate::model::{EventKind, Pattern, Stream, Timestamp, Ulid};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks of a stretch.
const BLOCKS: usize = 4;
/// Events of a stretch, from which on no further block is taken to it.
const EVENTS: u64 = 8192;
/// So many events may lie between two pieces of one line.
const APART_MAX: u64 = 1024;
/// A line is searched in pieces of this length.
const LINE_MAX: usize = 8 * 1024 * 1024;
/// What is given of a line, at most.
const SHOWN_MAX: usize = 64 * 1024;
/// What is given of a longer line before its first match.
const SHOWN_BEFORE: usize = 1024;
/// Places of a line that are given, at most.
const PLACES_MAX: usize = 64;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What a line has to match.
    pub pattern: Pattern,
    /// Where it has to stand; anywhere if none.
    pub place: Option<SearchPlace>,
    /// Only count the lines.
    pub count: bool,
}

/// Neighbouring blocks of a session: the first events of each, and the one behind the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    first_seqs: Vec<u64>,
    end: u64,
}

impl Stretch {
    /// The number of its first event.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first_seqs.first().copied().unwrap_or(self.end)
    }
}

/// A line that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The event that it begins with.
    pub seq: u64,
    /// The run.
    pub run: u32,
    /// When it began to be written.
    pub time: Timestamp,
    /// Where it stands.
    pub place: SearchPlace,
    /// The line; of one longer than 64 KiB what stands around its first match.
    pub line: Vec<u8>,
    /// Where it matches.
    pub places: Vec<Range<usize>>,
    /// The line is longer.
    pub cut: bool,
}

/// What a stretch has.
#[derive(Debug, Default)]
pub struct Findings {
    /// How many lines match.
    pub count: u64,
    /// These, unless they are only counted; the newest first.
    pub lines: Vec<Found>,
    /// What could not be read.
    pub damage: Vec<StoreError>,
}

impl Reader {
    /// The stretch of a session that ends before event `end`, at or after event
    /// `least`; none when there is nothing.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn stretch(&self, ulid: Ulid, least: u64, end: u64) -> Result<Option<Stretch>, StoreError> {
        let view = self.shared.view()?;
        let mut first_seqs = Vec::with_capacity(BLOCKS);
        let mut first = end;
        while first > least && first_seqs.len() < BLOCKS && end - first < EVENTS {
            let Some(block) = view.block_until(ulid, first - 1)? else {
                break;
            };
            first = block.max(least);
            first_seqs.push(first);
        }
        first_seqs.reverse();
        Ok((!first_seqs.is_empty()).then_some(Stretch { first_seqs, end }))
    }

    /// The lines that begin in a stretch and match. Stops early once `stop` is set.
    ///
    /// # Errors
    /// When the journal cannot be read; [`StoreError::Gone`] when the session is
    /// being removed. What is only damaged is told in the [`Findings`].
    pub fn search(
        &self,
        ulid: Ulid,
        stretch: &Stretch,
        wanted: &Wanted,
        stop: &AtomicBool,
    ) -> Result<Findings, StoreError> {
        let mut walk = Walk {
            reader: self,
            ulid,
            wanted,
            stop,
            first: stretch.first(),
            seen: Vec::new(),
            open: Vec::new(),
            findings: Findings::default(),
        };
        let mut buffer = Vec::new();
        for (index, first) in stretch.first_seqs.iter().enumerate() {
            let end = stretch.first_seqs.get(index + 1).unwrap_or(&stretch.end);
            let mut at = *first;
            while at < *end && !walk.stopped() {
                match walk.block(at..*end, &mut buffer) {
                    Ok(next) => at = next,
                    Err(error) => {
                        walk.spare(error)?;
                        break;
                    }
                }
            }
        }
        if let Err(error) = walk.finish(stretch.end) {
            walk.spare(error)?;
        }
        let mut findings = walk.findings;
        findings
            .lines
            .sort_by_key(|line| std::cmp::Reverse(line.seq));
        Ok(findings)
    }
}

/// A stream of one run: what lines are made of.
type Source = (u32, Stream);

/// A line whose end has not come.
struct Open {
    source: Source,
    /// Its first event, and that event's time.
    seq: u64,
    time: Timestamp,
    /// Its last event so far.
    last: u64,
    line: Vec<u8>,
    /// Nothing of its stream came before it in the stretch: it may have begun earlier.
    head: bool,
}

struct Walk<'a> {
    reader: &'a Reader,
    ulid: Ulid,
    wanted: &'a Wanted,
    stop: &'a AtomicBool,
    /// The stretch's first event.
    first: u64,
    /// Streams that something was seen of.
    seen: Vec<Source>,
    open: Vec<Open>,
    findings: Findings,
}

impl Walk<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes note of damage, which ends no search; all else does.
    fn spare(&mut self, error: StoreError) -> Result<(), StoreError> {
        if error.is_damage() {
            self.findings.damage.push(error);
            return Ok(());
        }
        Err(error)
    }

    /// Looks through the events in `range` of the block that has the first of
    /// them. Returns where the next block begins.
    fn block(&mut self, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<u64, StoreError> {
        let block = self.reader.block_into(self.ulid, range.start, buffer)?;
        let next = block.header().last_seq() + 1;
        let done = self.events(&block, range);
        *buffer = block.into_payload();
        done.map(|()| next)
    }

    fn events(&mut self, block: &Block, range: Range<u64>) -> Result<(), StoreError> {
        let pattern = &self.wanted.pattern;
        let payload = block.payload();
        let begin = payload.as_ptr() as usize;
        let mut ahead = Ahead::new(payload.len());
        for event in block.events() {
            let event = event.map_err(|e| damaged(self.ulid, block.header().first_seq, e))?;
            if !range.contains(&event.seq) {
                continue;
            }
            let (stream, continued, data) = match event.body {
                Body::Output {
                    stream,
                    continued,
                    data,
                } => (stream, continued, data),
                Body::Json(json) => {
                    self.json(&event, json)?;
                    continue;
                }
            };
            let source = (event.run, stream);
            let head = !self.seen.contains(&source);
            if head {
                self.seen.push(source);
            }
            if (continued || !self.open.is_empty())
                && self.join(&event, source, data, continued, head)?
            {
                continue;
            }
            let from = data.as_ptr() as usize - begin;
            let to = from + data.len();
            let may_match = ahead.is_worth(from..to, |from| pattern.may_begin(payload, from));
            if may_match && self.wants(stream) && pattern.matches(data) {
                self.complete(event.seq, event.time, source, data, head)?;
            }
            // Some patterns take long, so each line of them is an occasion.
            if may_match && self.stopped() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn wants(&self, stream: Stream) -> bool {
        self.wanted.place.is_none_or(|place| place == of(stream))
    }

    /// Adds a piece to its line. Returns whether it was part of one.
    fn join(
        &mut self,
        event: &EventRef<'_>,
        source: Source,
        data: &[u8],
        continued: bool,
        head: bool,
    ) -> Result<bool, StoreError> {
        let known = self.open.iter().position(|open| open.source == source);
        if let Some(index) = known {
            let open = &mut self.open[index];
            if event.seq - open.last <= APART_MAX {
                open.last = event.seq;
                open.line.extend_from_slice(data);
                if !continued {
                    let open = self.open.swap_remove(index);
                    self.close(open)?;
                } else if open.line.len() >= LINE_MAX {
                    let rest = Open {
                        line: Vec::new(),
                        ..*open
                    };
                    let open = std::mem::replace(open, rest);
                    self.close(open)?;
                }
                return Ok(true);
            }
            let open = self.open.swap_remove(index);
            self.close(open)?;
        }
        if continued {
            self.open.push(Open {
                source,
                seq: event.seq,
                time: event.time,
                last: event.seq,
                line: data.to_vec(),
                head,
            });
        }
        Ok(continued)
    }

    /// A line that was in pieces is whole.
    fn close(&mut self, open: Open) -> Result<(), StoreError> {
        if self.wants(open.source.1) && self.wanted.pattern.matches(&open.line) {
            self.complete(open.seq, open.time, open.source, &open.line, open.head)?;
        }
        Ok(())
    }

    /// A line matches: it counts unless it began before the stretch.
    fn complete(
        &mut self,
        seq: u64,
        time: Timestamp,
        source: Source,
        line: &[u8],
        head: bool,
    ) -> Result<(), StoreError> {
        if !(head && self.began_earlier(seq, source)?) {
            self.add(seq, time, source.0, of(source.1), line);
        }
        Ok(())
    }

    fn add(&mut self, seq: u64, time: Timestamp, run: u32, place: SearchPlace, line: &[u8]) {
        self.findings.count += 1;
        if self.wanted.count {
            return;
        }
        let mut places = self.wanted.pattern.places(line, PLACES_MAX);
        let mut shown = line;
        let cut = line.len() > SHOWN_MAX;
        if cut {
            let first = places.first().map_or(0, |place| place.start);
            let from = first.saturating_sub(SHOWN_BEFORE);
            let to = line.len().min(from + SHOWN_MAX);
            shown = &line[from..to];
            places.retain(|place| place.start <= to);
            for place in &mut places {
                *place = place.start - from..place.end.min(to) - from;
            }
        }
        self.findings.lines.push(Found {
            seq,
            run,
            time,
            place,
            line: shown.to_vec(),
            places,
            cut,
        });
    }

    /// The lines of a prompt.
    fn json(&mut self, event: &EventRef<'_>, json: &[u8]) -> Result<(), StoreError> {
        let wanted = self
            .wanted
            .place
            .is_none_or(|place| place == SearchPlace::Prompt);
        // The tag is written first.
        if !wanted || !json.starts_with(b"{\"kind\":\"queued\"") {
            return Ok(());
        }
        let event = event
            .to_event()
            .map_err(|e| damaged(self.ulid, event.seq, e))?;
        if let EventKind::Queued { prompt, .. } = &event.kind {
            // One newline at the end ends the last line, and begins none.
            let text = prompt.0.strip_suffix(b"\n").unwrap_or(&prompt.0);
            let first = self.findings.lines.len();
            for line in text.split(|byte| *byte == b'\n') {
                if self.wanted.pattern.matches(line) {
                    self.add(event.seq, event.time, event.run, SearchPlace::Prompt, line);
                }
            }
            // The last line of it is the newest, as everywhere.
            self.findings.lines[first..].reverse();
        }
        Ok(())
    }

    /// Whether the stream's last piece before event `seq`, which is the first
    /// of the stretch, left its line open.
    fn began_earlier(&self, seq: u64, source: Source) -> Result<bool, StoreError> {
        let least = seq.saturating_sub(APART_MAX).max(1);
        let mut before = self.first;
        while before > least && !self.stopped() {
            let block = match self.reader.block(self.ulid, before - 1) {
                Ok(block) => block,
                // It is told by whoever searches that stretch.
                Err(error) if error.is_damage() => return Ok(false),
                Err(error) => return Err(error),
            };
            let first_seq = block.header().first_seq;
            let mut open = None;
            for event in block.events() {
                let event = event.map_err(|e| damaged(self.ulid, first_seq, e))?;
                if (least..before).contains(&event.seq)
                    && let Body::Output {
                        stream, continued, ..
                    } = event.body
                    && (event.run, stream) == source
                {
                    open = Some(continued);
                }
            }
            if let Some(open) = open {
                return Ok(open);
            }
            before = first_seq;
        }
        Ok(false)
    }

    /// Reads on behind the stretch until the lines that are open have ended.
    fn finish(&mut self, end: u64) -> Result<(), StoreError> {
        let mut open = std::mem::take(&mut self.open);
        // Whose line it is, is asked before it is read to its end.
        for line in std::mem::take(&mut open) {
            let theirs = !self.wants(line.source.1)
                || (line.head && self.began_earlier(line.seq, line.source)?);
            if !theirs {
                open.push(Open {
                    head: false,
                    ..line
                });
            }
        }
        self.open = open;
        let last = self.reader.last_seq(self.ulid)?;
        let mut at = end;
        while at <= last && !self.open.is_empty() && !self.stopped() {
            let block = match self.reader.block(self.ulid, at) {
                Ok(block) => block,
                Err(error) if error.is_damage() => break,
                Err(error) => return Err(error),
            };
            let first_seq = block.header().first_seq;
            for event in block.events() {
                let event = event.map_err(|e| damaged(self.ulid, first_seq, e))?;
                self.close_those_left(event.seq)?;
                if self.open.is_empty() {
                    break;
                }
                if event.seq >= at
                    && let Body::Output {
                        stream,
                        continued,
                        data,
                    } = event.body
                    && let source = (event.run, stream)
                    && self.open.iter().any(|open| open.source == source)
                {
                    self.join(&event, source, data, continued, false)?;
                }
            }
            at = block.header().last_seq() + 1;
        }
        for open in std::mem::take(&mut self.open) {
            self.close(open)?;
        }
        Ok(())
    }

    /// Ends the lines whose next piece could only come too late.
    fn close_those_left(&mut self, seq: u64) -> Result<(), StoreError> {
        while let Some(index) = self
            .open
            .iter()
            .position(|open| seq.saturating_sub(open.last) > APART_MAX)
        {
            let open = self.open.swap_remove(index);
            self.close(open)?;
        }
        Ok(())
    }
}

const fn of(stream: Stream) -> SearchPlace {
    match stream {
        Stream::Stdout => SearchPlace::Stdout,
        Stream::Stderr => SearchPlace::Stderr,
    }
}
