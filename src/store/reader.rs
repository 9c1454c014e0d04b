//! Readers.

use super::{FirehoseCursor, RequestRow, StoreError};
use crate::model::capture::{Cursor, CursorKey};
use crate::model::{Event, SessionRecord, Timestamp, Ulid};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Reads what is on disk. Cheap to clone; blocks nobody.
#[derive(Clone, Debug)]
pub struct Reader {}

/// The sessions, newest first.
#[derive(Debug)]
pub struct Sessions {}

impl Iterator for Sessions {
    type Item = Result<SessionRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

fn closed<T>() -> Result<T, StoreError> {
    Err(StoreError::Closed {
        path: PathBuf::new(),
    })
}

impl Reader {
    /// The last commit that is on disk.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        0
    }

    /// A session's projection.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn session(&self, ulid: Ulid) -> Result<Option<SessionRecord>, StoreError> {
        let _ = ulid;
        closed()
    }

    /// The sessions, newest first, read as they are asked for.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        Sessions {}
    }

    /// The number of a session's last event; 0 when there is none.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn last_seq(&self, ulid: Ulid) -> Result<u64, StoreError> {
        let _ = ulid;
        closed()
    }

    /// Events after number `after`, at least one block's worth and then up to
    /// about `max_bytes`; empty when there are none.
    ///
    /// # Errors
    /// [`StoreError::Gap`] and the like when events are damaged.
    pub fn events(
        &self,
        ulid: Ulid,
        after: u64,
        max_bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let _ = (ulid, after, max_bytes);
        closed()
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
        let _ = (ulid, outputs, matches);
        closed()
    }

    /// The number after which all events are of `time` or later.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn since(&self, ulid: Ulid, time: Timestamp) -> Result<u64, StoreError> {
        let _ = (ulid, time);
        closed()
    }

    /// Events of all sessions in the order in which they were recorded.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn firehose(
        &self,
        after: FirehoseCursor,
        max_events: usize,
    ) -> Result<Vec<(FirehoseCursor, Ulid, Event)>, StoreError> {
        let _ = (after, max_events);
        closed()
    }

    /// Where the commits of `time` and later begin.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn firehose_since(&self, time: Timestamp) -> Result<FirehoseCursor, StoreError> {
        let _ = time;
        closed()
    }

    /// How much of each of a session's streams the journal has.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn cursors(&self, ulid: Ulid) -> Result<BTreeMap<CursorKey, Cursor>, StoreError> {
        let _ = ulid;
        closed()
    }

    /// A request that was carried out in the last 24 h.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn request(&self, id: Ulid) -> Result<Option<RequestRow>, StoreError> {
        let _ = id;
        closed()
    }
}
