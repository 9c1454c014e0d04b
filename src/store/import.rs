//! Taking sessions in that were written down by `export`.
//!
//! The file is read twice. First everything is checked, and nothing is written;
//! then each session that is new is recorded, and shows only when all of it is
//! there: what a crash leaves half done is removed at the next opening.

use super::block::{BODY_MAX, body};
use super::export::{self, Begin, End, Head, Line, checksum, hex};
use super::fold::Fold;
use super::reader::Reader;
use crate::model::api::Imported;
use crate::model::capture::{Cursor, CursorKey};
use crate::model::{Error, ErrorCode, Event, EventKind, HomeId, SessionRecord, Timestamp, Ulid};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

/// Longest line that is taken.
const LINE_MAX: u64 = 256 << 20;
/// Events are recorded in pieces of about so many bytes.
const BATCH: usize = 1 << 20;

/// A part of a session that is being taken in.
#[derive(Debug)]
pub struct Batch {
    /// The session.
    pub session: Ulid,
    /// Nothing of it was recorded before.
    pub(super) first: bool,
    /// Its next events.
    pub(super) events: Vec<Event>,
    /// All of it is there with these.
    pub(super) last: Option<Last>,
}

/// What makes a session that is being taken in whole.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) cursors: Vec<(CursorKey, Cursor)>,
    pub(super) record: SessionRecord,
    pub(super) home: HomeId,
}

impl Batch {
    /// The session's projection, where this makes it whole.
    #[must_use]
    pub fn record(&self) -> Option<&SessionRecord> {
        self.last.as_ref().map(|last| &last.record)
    }
}

/// An export that was found good, and what is to be taken of it.
#[derive(Debug)]
pub struct Import {
    lines: Lines,
    fresh: BTreeSet<Ulid>,
    reading: Option<Reading>,
    /// What is said about it.
    pub report: Imported,
}

/// A session that is being read.
#[derive(Debug)]
struct Reading {
    session: Ulid,
    home: HomeId,
    fold: Fold,
    sum: Sha256,
    next: u64,
    time: Timestamp,
    cursors: Option<Vec<(CursorKey, Cursor)>>,
    is_whole: bool,
    begun: bool,
}

impl Import {
    /// Checks an export, all of it. Nothing is written.
    ///
    /// # Errors
    /// `journal_damaged`, with the line, for what is no export, or not as it was
    /// written; `refused` when a session is here already and is another one.
    pub fn check(file: File, reader: &Reader, home: HomeId) -> Result<Self, Error> {
        let mut lines = Lines::new(file)?;
        let (mut fresh, mut report) = (BTreeSet::new(), Imported::default());
        let (mut seen, mut different) = (BTreeSet::new(), Vec::new());
        let mut reading: Option<Reading> = None;
        let mut ended = 0;
        loop {
            let line = lines.next()?;
            match (line, &mut reading) {
                (Line::Begin(begin), None) if seen.insert(begin.session) => {
                    reading = Some(Reading::new(&begin, &lines.line));
                }
                (Line::End(end), Some(done)) => {
                    let (session, whole) = (done.session, done.is_whole);
                    let sum = end.sha256.clone();
                    let record = done.end(&end).map_err(|why| lines.wrong(&why))?;
                    reading = None;
                    ended += 1;
                    let there = checksum(reader, home, session)?;
                    let name = record.map_or_else(|| session.to_string(), |r| r.id.to_string());
                    match there {
                        _ if !whole => report.incomplete.push(name),
                        None => drop(fresh.insert(session)),
                        Some(there) if there == sum => report.present.push(name),
                        Some(_) => different.push(name),
                    }
                }
                (Line::Gone(gone), Some(open)) if gone.gone == open.session => reading = None,
                (Line::Done(done), None) => {
                    if done.exported.sessions != ended || !lines.at_end()? {
                        return Err(lines.wrong("this is not the end of the export"));
                    }
                    break;
                }
                (line, Some(open)) => {
                    let done = open.take(line, &lines.line);
                    done.map_err(|why| lines.wrong(&why))?;
                }
                (_, None) => return Err(lines.wrong("no session begins here")),
            }
        }
        if !different.is_empty() {
            let message = format!(
                "nothing was imported: {} is here already, with other events",
                different.join(", ")
            );
            return Err(Error::new(ErrorCode::Refused, message)
                .hint("export only the others, or remove it here with `cldpd rm --history`"));
        }
        lines.rewind()?;
        Ok(Self {
            lines,
            fresh,
            reading: None,
            report,
        })
    }

    /// What is to be recorded next; none when all of it was given.
    ///
    /// # Errors
    /// When the file cannot be read again, or was changed since it was checked.
    pub fn batch(&mut self) -> Result<Option<Batch>, Error> {
        let mut events = Vec::new();
        let mut bytes = 0;
        loop {
            let line = self.lines.next()?;
            match (line, &mut self.reading) {
                (Line::Begin(begin), None) => {
                    if self.fresh.contains(&begin.session) {
                        self.reading = Some(Reading::new(&begin, &self.lines.line));
                    }
                }
                (Line::Done(_), None) => return Ok(None),
                // Of a session that is passed over.
                (_, None) => {}
                (Line::End(end), Some(done)) => {
                    let record = done.end(&end).map_err(|why| self.lines.wrong(&why))?;
                    let done = self.reading.take();
                    let (Some(record), Some(done)) = (record, done) else {
                        return Err(self.lines.wrong("the file was changed"));
                    };
                    self.report.imported.push(record.id.to_string());
                    return Ok(Some(Batch {
                        session: done.session,
                        first: !done.begun,
                        events,
                        last: Some(Last {
                            cursors: done.cursors.unwrap_or_default(),
                            record,
                            home: done.home,
                        }),
                    }));
                }
                (line, Some(open)) => {
                    bytes += self.lines.line.len();
                    let event = open.take(line, &self.lines.line);
                    events.extend(event.map_err(|why| self.lines.wrong(&why))?);
                    if bytes > BATCH {
                        let first = !std::mem::replace(&mut open.begun, true);
                        let session = open.session;
                        let last = None;
                        return Ok(Some(Batch {
                            session,
                            first,
                            events,
                            last,
                        }));
                    }
                }
            }
        }
    }
}

impl Reading {
    fn new(begin: &Begin, line: &[u8]) -> Self {
        let mut sum = Sha256::new();
        sum.update(line);
        Self {
            session: begin.session,
            home: begin.home,
            fold: Fold::new(begin.session, Some(begin.home)),
            sum,
            next: 1,
            time: Timestamp(i64::MIN),
            cursors: None,
            is_whole: true,
            begun: false,
        }
    }

    /// Takes a line within the session; gives the event in it.
    fn take(&mut self, line: Line, bytes: &[u8]) -> Result<Option<Event>, String> {
        self.sum.update(bytes);
        match line {
            Line::Event(event) if self.cursors.is_none() => {
                if event.seq != self.next {
                    return Err(format!("event {} is due, not {}", self.next, event.seq));
                }
                fits(&event)?;
                if event.time < self.time {
                    return Err("the event is earlier than the one before it".to_owned());
                }
                self.next = event.seq + 1;
                self.time = event.time;
                self.fold.take(&event);
                Ok(Some(event))
            }
            Line::Missing(missing) if self.cursors.is_none() => {
                self.is_whole = false;
                self.fold.miss(missing.missing.from);
                self.next = missing.missing.to.unwrap_or(u64::MAX - 1).saturating_add(1);
                Ok(None)
            }
            Line::Cursors(cursors) if self.cursors.is_none() => {
                let cursors = cursors.cursors.into_iter();
                self.cursors = Some(cursors.map(|line| (line.key, line.cursor)).collect());
                Ok(None)
            }
            _ => Err("this line does not belong here".to_owned()),
        }
    }

    /// Checks the session's last line. Gives its projection, where it is whole.
    fn end(&mut self, end: &End) -> Result<Option<SessionRecord>, String> {
        let sum = hex(&std::mem::take(&mut self.sum).finalize());
        if end.end != self.session || self.cursors.is_none() || sum != end.sha256 {
            return Err("the session's lines are not as they were written".to_owned());
        }
        if !self.is_whole {
            return Ok(None);
        }
        if end.events + 1 != self.next {
            return Err(format!(
                "it has {} events, not {}",
                self.next - 1,
                end.events
            ));
        }
        let fold = std::mem::replace(&mut self.fold, Fold::new(self.session, None));
        let record = fold.finish();
        record
            .map(Some)
            .map_err(|(seq, why)| format!("event {seq} does not follow: {why}"))
    }
}

/// Whether an event is one that a block may have.
fn fits(event: &Event) -> Result<(), String> {
    let size = match &event.kind {
        EventKind::Output(output) => output.data.len(),
        kind => body(kind).map_err(|why| why.to_string())?.len(),
    };
    if size > BODY_MAX {
        return Err(format!(
            "event {} has {size} bytes, and may have {BODY_MAX}",
            event.seq
        ));
    }
    Ok(())
}

/// The lines of an export.
#[derive(Debug)]
struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn new(file: File) -> Result<Self, Error> {
        let mut lines = Self {
            file: BufReader::with_capacity(256 * 1024, file),
            line: Vec::new(),
            number: 0,
        };
        lines.rewind()?;
        Ok(lines)
    }

    /// Back to what follows the first line, which is checked.
    fn rewind(&mut self) -> Result<(), Error> {
        let sought = self.file.seek(SeekFrom::Start(0));
        sought.map_err(|error| self.unreadable(&error))?;
        self.number = 0;
        self.read()?;
        let head: Result<Head, _> = serde_json::from_slice(&self.line);
        let head = head.map_err(|_| self.wrong("this is no export of a journal"))?;
        if head.cldpd_export > export::FORMAT {
            let format = head.cldpd_export;
            let message = format!(
                "the export has format {format}, written by cldpd {}; this version reads up to {}",
                head.version,
                export::FORMAT
            );
            return Err(Error::new(ErrorCode::JournalFailed, message)
                .hint("use the version of cldpd that wrote it, or a newer one"));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Line, Error> {
        self.read()?;
        serde_json::from_slice(&self.line).map_err(|_| self.wrong("this is not understood"))
    }

    fn read(&mut self) -> Result<(), Error> {
        self.line.clear();
        self.line.shrink_to(1 << 20);
        self.number += 1;
        let read = (&mut self.file)
            .take(LINE_MAX)
            .read_until(b'\n', &mut self.line);
        read.map_err(|error| self.unreadable(&error))?;
        match self.line.last() {
            Some(b'\n') => Ok(()),
            Some(_) => Err(self.wrong("the line does not end")),
            None => Err(self.wrong("the export ends before its last line")),
        }
    }

    fn at_end(&mut self) -> Result<bool, Error> {
        let rest = self.file.fill_buf().map(<[u8]>::is_empty);
        rest.map_err(|error| self.unreadable(&error))
    }

    fn wrong(&self, why: &str) -> Error {
        let message = format!("line {} of the export: {why}", self.number);
        Error::new(ErrorCode::JournalDamaged, message)
            .hint("nothing of it was imported; export it once more")
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        let message = format!("the export cannot be read: {error}");
        Error::new(ErrorCode::JournalFailed, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Output, Stream};

    #[test]
    fn an_event_that_no_block_may_have_is_refused() {
        let event = |len| Event {
            seq: 3,
            run: 0,
            time: Timestamp(0),
            kind: EventKind::Output(Output {
                stream: Stream::Stdout,
                data: vec![b'x'; len],
                continued: false,
            }),
        };
        fits(&event(BODY_MAX)).unwrap();
        let why = fits(&event(BODY_MAX + 1)).unwrap_err();
        assert!(why.starts_with("event 3 has "), "{why}");
    }
}
