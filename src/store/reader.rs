//! Reading one session, or the list of them.
//!
//! Each step takes a fresh look: nothing is held while events are decoded, and
//! whatever was merged or removed in between is either the same or told.

use super::block::{Block, BlockError, EventRef, Header};
use super::error::StoreError;
use super::shared::Shared;
use super::{RequestRow, keys, rows};
use crate::model::capture::{Cursor, CursorKey};
use crate::model::{Event, SessionRecord, Timestamp, Ulid};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Reads what is on disk. Cheap to clone; blocks nobody.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The last commit that is on disk.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.shared.read().watermark
    }

    /// A session's projection.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn session(&self, ulid: Ulid) -> Result<Option<SessionRecord>, StoreError> {
        let sealed = self.shared.view()?.value(&keys::session(ulid));
        let sealed = sealed.map_err(|error| match error.is_damage() {
            true => rows::damaged("session", ulid, error),
            false => error,
        })?;
        sealed.map(|sealed| rows::record(ulid, &sealed)).transpose()
    }

    /// The sessions, newest first, read as they are asked for.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        Sessions {
            reader: self.clone(),
            before: Some(keys::after_sessions().to_vec()),
            ready: VecDeque::new(),
        }
    }

    /// The number of a session's last event; 0 when there is none.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn last_seq(&self, ulid: Ulid) -> Result<u64, StoreError> {
        self.shared.view()?.last_seq(ulid)
    }

    /// Events after number `after`: whole blocks until there are `max_bytes`, so
    /// one at least and one more than that at most; empty when there are none.
    ///
    /// # Errors
    /// [`StoreError::Gap`] and the like when events are damaged;
    /// [`StoreError::Gone`] when the session is being removed meanwhile.
    pub fn events(
        &self,
        ulid: Ulid,
        after: u64,
        max_bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        self.visit(ulid, after, max_bytes, &mut |event| {
            events.push(event.to_event()?);
            Ok(())
        })?;
        Ok(events)
    }

    /// Gives `take` the events after number `after` as they lie in their
    /// blocks: whole blocks until there are `max_bytes`. Returns the number of the last one, `after` when there are none.
    ///
    /// # Errors
    /// As [`Reader::events`], and what `take` says.
    pub fn visit(
        &self,
        ulid: Ulid,
        after: u64,
        max_bytes: usize,
        take: &mut dyn FnMut(EventRef<'_>) -> Result<(), BlockError>,
    ) -> Result<u64, StoreError> {
        let last = self.last_seq(ulid)?;
        let mut done = after;
        let mut bytes = 0;
        while done < last {
            match self.visit_block(ulid, done, take) {
                Ok(header) => {
                    bytes += header.raw_len();
                    done = header.last_seq();
                }
                // What comes before the damage is given out first.
                Err(_) if done > after => break,
                Err(error) => return Err(error),
            }
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(done)
    }

    /// Gives `take` the events after number `done` of the block that has the next.
    fn visit_block(
        &self,
        ulid: Ulid,
        done: u64,
        take: &mut dyn FnMut(EventRef<'_>) -> Result<(), BlockError>,
    ) -> Result<Header, StoreError> {
        let block = self.block(ulid, done + 1)?;
        for event in block.events() {
            event
                .and_then(|event| {
                    if event.seq > done {
                        take(event)
                    } else {
                        Ok(())
                    }
                })
                .map_err(|e| damaged(ulid, block.header().first_seq, e))?;
        }
        Ok(*block.header())
    }

    /// The number after which the last `outputs` events lie that `matches` takes.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn tail_start(
        &self,
        ulid: Ulid,
        outputs: u64,
        matches: &dyn Fn(&Event) -> bool,
    ) -> Result<u64, StoreError> {
        let last = self.last_seq(ulid)?;
        self.last_events(ulid, (0, last), outputs, &|event| {
            event.to_event().is_ok_and(|event| matches(&event))
        })
    }

    /// The number after which all events are of `time` or later.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn since(&self, ulid: Ulid, time: Timestamp) -> Result<u64, StoreError> {
        let last = self.last_seq(ulid)?;
        // Everything before `low` is earlier; the block at `high`, if any, is not.
        let (mut low, mut high) = (1, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let view = self.shared.view()?;
            let header = view.header_at(ulid, middle);
            drop(view);
            let header = header.map_err(|e| self.explain(ulid, e))?;
            if header.last_time < time {
                low = header.last_seq() + 1;
            } else {
                high = header.first_seq.max(low);
            }
        }
        while low <= last {
            let block = self.block(ulid, low)?;
            let first_seq = block.header().first_seq;
            for event in block.events() {
                let event = event.map_err(|e| damaged(ulid, first_seq, e))?;
                if event.time >= time {
                    return Ok(event.seq - 1);
                }
            }
            low = block.header().last_seq() + 1;
        }
        Ok(last)
    }

    /// How much of each of a session's streams the journal has.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn cursors(&self, ulid: Ulid) -> Result<BTreeMap<CursorKey, Cursor>, StoreError> {
        rows::cursors(self.shared.view()?.rows(&keys::cursors(ulid))?)
    }

    /// A request that was carried out in the last 24 h.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn request(&self, id: Ulid) -> Result<Option<RequestRow>, StoreError> {
        let sealed = self.shared.view()?.value(&keys::request(id))?;
        sealed.map(|sealed| rows::request(id, &sealed)).transpose()
    }

    /// The block that has event `seq`, which is known to be there.
    pub(super) fn block(&self, ulid: Ulid, seq: u64) -> Result<Block, StoreError> {
        let stored = self.stored(ulid, seq)?;
        Block::decode(&stored).map_err(|e| damaged(ulid, seq, e))
    }

    /// The same, into memory that is used again.
    pub(super) fn block_into(
        &self,
        ulid: Ulid,
        seq: u64,
        memory: &mut Vec<u8>,
    ) -> Result<Block, StoreError> {
        let stored = self.stored(ulid, seq)?;
        let memory = std::mem::take(memory);
        Block::decode_into(&stored, memory).map_err(|e| damaged(ulid, seq, e))
    }

    pub(super) fn stored(&self, ulid: Ulid, seq: u64) -> Result<Vec<u8>, StoreError> {
        let view = self.shared.view()?;
        if view.contains(&keys::deleting(ulid))? {
            return Err(StoreError::Gone { session: ulid });
        }
        let stored = view.block_at(ulid, seq);
        drop(view);
        stored.map_err(|e| self.explain(ulid, e))
    }

    /// What is missing because the session is being removed is no damage.
    pub(super) fn explain(&self, ulid: Ulid, error: StoreError) -> StoreError {
        if error.is_damage() && matches!(self.last_seq(ulid), Ok(0)) {
            return StoreError::Gone { session: ulid };
        }
        error
    }
}

pub(super) fn damaged(session: Ulid, seq: u64, source: BlockError) -> StoreError {
    StoreError::Block {
        session,
        seq,
        source,
    }
}

/// Sessions that are read at a time.
const SESSIONS_STEP: usize = 16;

/// The sessions, newest first.
///
/// A projection that cannot be read is an error in its place; the ones after
/// it follow.
#[derive(Debug)]
pub struct Sessions {
    reader: Reader,
    /// What is left lies before this key; none at the end.
    before: Option<Vec<u8>>,
    ready: VecDeque<Result<SessionRecord, StoreError>>,
}

impl Sessions {
    fn fill(&mut self) -> Result<(), StoreError> {
        let Some(mut before) = self.before.take() else {
            return Ok(());
        };
        let mut sealed = Vec::with_capacity(SESSIONS_STEP);
        let view = self.reader.shared.view()?;
        while sealed.len() < SESSIONS_STEP {
            let key = view.key_before(&keys::sessions(), &before)?;
            let prefix = key.as_deref().and_then(keys::split_part);
            let Some(ulid) = prefix.and_then(|(prefix, _)| keys::session_ulid(prefix)) else {
                break;
            };
            before = keys::session(ulid);
            // A session that is not on disk yet has a key, but no value.
            match view.value(&before) {
                Ok(None) => {}
                Ok(Some(value)) => sealed.push((ulid, Ok(value))),
                Err(error) => sealed.push((ulid, Err(rows::damaged("session", ulid, error)))),
            }
        }
        drop(view);
        if sealed.len() == SESSIONS_STEP {
            self.before = Some(before);
        }
        self.ready.extend(
            sealed
                .into_iter()
                .map(|(ulid, value)| rows::record(ulid, &value?)),
        );
        Ok(())
    }
}

impl Iterator for Sessions {
    type Item = Result<SessionRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && let Err(error) = self.fill()
        {
            self.before = None;
            return Some(Err(error));
        }
        self.ready.pop_front()
    }
}
