//! Replaying: blocks as they lie, and where the last lines and events begin.

use super::block::{Body, EventRef, Header};
use super::error::StoreError;
use super::reader::{Reader, damaged};
use crate::model::{Stream, Timestamp, Ulid};
use std::ops::ControlFlow;

/// How many events before the last lines are looked at for what these began with.
const LOOK_BACK: u32 = 4096;

/// Blocks as they are stored, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// All of them. The first may begin before what was asked for.
    pub bytes: Vec<u8>,
    /// The number of the last event in them.
    pub last_seq: u64,
    /// Its time.
    pub last_time: Timestamp,
}

impl Reader {
    /// The blocks that have the events after number `after`: until there are
    /// `max_bytes`, so one at least and one more than that at most; none when
    /// there are no such events.
    ///
    /// Their headers are looked at, nothing else: whoever decodes them checks them.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn blocks(
        &self,
        ulid: Ulid,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<Stored>, StoreError> {
        let last = self.last_seq(ulid)?;
        let mut found: Option<Stored> = None;
        let mut done = after;
        while done < last {
            let bytes = match self.stored(ulid, done + 1) {
                Ok(bytes) => bytes,
                // What comes before the damage is given out first.
                Err(_) if found.is_some() => break,
                Err(error) => return Err(error),
            };
            let header = Header::parse(&bytes).map_err(|e| damaged(ulid, done + 1, e))?;
            done = header.last_seq();
            let stored = match &mut found {
                None => found.insert(Stored {
                    bytes,
                    last_seq: done,
                    last_time: header.last_time,
                }),
                Some(stored) => {
                    stored.bytes.extend_from_slice(&bytes);
                    stored.last_seq = done;
                    stored.last_time = header.last_time;
                    stored
                }
            };
            if stored.bytes.len() >= max_bytes {
                break;
            }
        }
        Ok(found)
    }

    /// The number after which the last `count` lines of output begin that
    /// `wanted` takes, of those between the numbers `after` and `until`. A line
    /// that came in pieces is one line; one that began very long before its
    /// last piece is not found whole.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn last_lines(
        &self,
        ulid: Ulid,
        (after, until): (u64, u64),
        count: u64,
        wanted: &dyn Fn(&EventRef<'_>) -> bool,
    ) -> Result<u64, StoreError> {
        let mut lines = Lines {
            left: count,
            start: until + 1,
            open: Vec::new(),
            beyond: 0,
        };
        if count > 0 {
            self.backwards(ulid, (after, until), &mut |event| {
                if wanted(&event) {
                    lines.take(&event)
                } else {
                    ControlFlow::Continue(())
                }
            })?;
        }
        Ok(match lines.left {
            0 => lines.start - 1,
            _ => after,
        })
    }

    /// The number after which the last `count` events lie that `wanted` takes,
    /// of those between the numbers `after` and `until`.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn last_events(
        &self,
        ulid: Ulid,
        (after, until): (u64, u64),
        count: u64,
        wanted: &dyn Fn(&EventRef<'_>) -> bool,
    ) -> Result<u64, StoreError> {
        if count == 0 {
            return Ok(until);
        }
        let mut left = count;
        let mut start = after;
        self.backwards(ulid, (after, until), &mut |event| {
            if wanted(&event) {
                left -= 1;
            }
            if left == 0 {
                start = event.seq - 1;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(start)
    }

    /// Shows `take` the events between two numbers, the last one first.
    fn backwards(
        &self,
        ulid: Ulid,
        (after, until): (u64, u64),
        take: &mut dyn FnMut(EventRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut seq = until;
        while seq > after {
            let block = self.block(ulid, seq)?;
            let first_seq = block.header().first_seq;
            let events: Result<Vec<_>, _> = block.events().collect();
            let events = events.map_err(|e| damaged(ulid, first_seq, e))?;
            // It may have been merged meanwhile with those that were shown already.
            let between = events.into_iter().rev();
            for event in between.filter(|event| event.seq > after && event.seq <= seq) {
                if take(event).is_break() {
                    return Ok(());
                }
            }
            seq = first_seq - 1;
        }
        Ok(())
    }
}

/// The last lines, as they are found from their ends.
struct Lines {
    /// So many are still to be found.
    left: u64,
    /// The first event of those that were found.
    start: u64,
    /// Whose lines may have begun before what was looked at.
    open: Vec<(u32, Stream)>,
    /// Events that were looked at since all were found.
    beyond: u32,
}

impl Lines {
    fn take(&mut self, event: &EventRef<'_>) -> ControlFlow<()> {
        let Body::Output {
            stream, continued, ..
        } = event.body
        else {
            return ControlFlow::Continue(());
        };
        let source = (event.run, stream);
        let open = self.open.iter().position(|open| *open == source);
        match open {
            Some(_) if continued => self.start = event.seq,
            Some(at) => {
                // It ended the line before, so that what was found of the next is whole.
                self.open.swap_remove(at);
            }
            None => {}
        }
        if self.left > 0 && (open.is_none() || !continued) {
            self.left -= 1;
            self.start = event.seq;
            self.open.push(source);
        } else if self.left == 0 {
            self.beyond += 1;
        }
        if self.left == 0 && (self.open.is_empty() || self.beyond == LOOK_BACK) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
