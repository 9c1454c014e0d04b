//! Followers: a cursor into the journal each.
//!
//! A follower registers with the hub, then reads the journal from its cursor; at
//! the end it waits until more is durable and reads on. There is no other path:
//! what was seen is on disk, nobody is dropped, nobody blocks the writer.
//! Memory: one batch of about [`BATCH`] bytes each.

use super::context::Shared;
use super::view;
use crate::model::api::{EventsQuery, FirehoseEvent, FirehoseQuery};
use crate::model::{
    Error, ErrorCode, Event, EventKind, Result, SessionEvent, SessionRecord, Timestamp, Ulid,
};
use crate::store::{FirehoseCursor, Reader, StoreError};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Bytes of events that are read at once.
const BATCH: usize = 256 * 1024;
/// Events of the firehose that are read at once.
const FIREHOSE_BATCH: usize = 1024;

/// Events of one session.
pub struct Follow {
    shared: Arc<Shared>,
    ulid: Ulid,
    record: SessionRecord,
    query: EventsQuery,
    at: u64,
    /// The last event there was when it began; none when what comes is followed.
    end: Option<u64>,
    durable: watch::Receiver<u64>,
    done: bool,
}

impl Follow {
    pub(super) fn new(shared: Arc<Shared>, ulid: Ulid, query: EventsQuery) -> Result<Self> {
        let durable = shared.hub.follow(ulid);
        let record = load(&shared, ulid)?;
        let last = shared.reader.last_seq(ulid).map_err(Error::from)?;
        let at = start(&shared.reader, ulid, &query, last).map_err(Error::from)?;
        Ok(Self {
            end: (!query.follow).then_some(last),
            shared,
            ulid,
            record,
            query,
            at,
            durable,
            done: false,
        })
    }

    /// The session as it was when the following began.
    #[must_use]
    pub const fn record(&self) -> &SessionRecord {
        &self.record
    }

    /// The number of the event after which it goes on.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The number of the event with which it ends; none when what comes is followed.
    #[must_use]
    pub const fn end(&self) -> Option<u64> {
        self.end
    }

    /// The next events that fit; none when there will be no more. Waits only when following.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<SessionEvent>>> {
        let read: Read<Vec<Event>> = |reader, ulid, at| {
            let events = reader.events(ulid, at, BATCH)?;
            let last = events.last().map(|event| (event.seq, event.time));
            Ok(last.map(|(seq, time)| (events, seq, time)))
        };
        while let Some(events) = self.read(read).await? {
            let id = &self.record.id;
            let end = self.end.unwrap_or(u64::MAX);
            let wanted: Vec<SessionEvent> = events
                .into_iter()
                .filter(|event| event.seq <= end && fits(&self.query, event))
                .map(|event| SessionEvent {
                    session: id.clone(),
                    ulid: self.ulid,
                    event,
                })
                .collect();
            if !wanted.is_empty() {
                return Ok(Some(wanted));
            }
        }
        Ok(None)
    }

    /// The next blocks, as they lie in the journal, with what does not fit; none
    /// when there will be no more. Waits only when following.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next_blocks(&mut self) -> Result<Option<Vec<u8>>> {
        let read: Read<Vec<u8>> = |reader, ulid, at| {
            let stored = reader.blocks(ulid, at, BATCH)?;
            Ok(stored.map(|stored| (stored.bytes, stored.last_seq, stored.last_time)))
        };
        self.read(read).await
    }

    /// What is to be read next, by whatever way.
    async fn read<T: Send + 'static>(&mut self, read: Read<T>) -> Result<Option<T>> {
        while !self.done && self.end.is_none_or(|end| self.at < end) {
            self.durable.borrow_and_update();
            let (shared, ulid, at) = (self.shared.clone(), self.ulid, self.at);
            let (follow, run) = (self.query.follow, self.query.run);
            let read = tokio::task::spawn_blocking(move || {
                let over = follow && is_over(&shared, ulid, run)?;
                let end = shared.reader.last_seq(ulid).map_err(Error::from)?;
                let found = read(&shared.reader, ulid, at);
                Ok::<_, Error>((over.then_some(end), found.map_err(Error::from)?))
            });
            // Whether it was over was asked before the read: all of it is before `end`.
            let (end, found) = read.await.map_err(|_| broken())??;
            let Some((found, last_seq, last_time)) = found else {
                // What is missing before the end was removed.
                if self.end.is_some() {
                    return Err(gone());
                }
                if end.is_some() || self.durable.changed().await.is_err() {
                    load(&self.shared, self.ulid)?;
                    self.done = true;
                }
                continue;
            };
            self.at = last_seq;
            let passed = self.query.until.is_some_and(|until| last_time > until);
            // What other runs say meanwhile is not waited for.
            self.done = passed || end.is_some_and(|end| last_seq >= end);
            return Ok(Some(found));
        }
        Ok(None)
    }
}

/// Reads what lies after an event: it, and the number and time of the last event in it.
type Read<T> = fn(&Reader, Ulid, u64) -> std::result::Result<Found<T>, StoreError>;
type Found<T> = Option<(T, u64, Timestamp)>;

/// After which event it begins.
fn start(
    reader: &Reader,
    ulid: Ulid,
    query: &EventsQuery,
    last: u64,
) -> std::result::Result<u64, StoreError> {
    let mut after = query.after.unwrap_or(0);
    if let Some(since) = query.since {
        after = after.max(reader.since(ulid, since)?);
    }
    if query.tail.is_none() && query.last.is_none() {
        return Ok(after);
    }
    let until = match query.until {
        Some(Timestamp(until)) => reader.since(ulid, Timestamp(until.saturating_add(1)))?,
        None => last,
    };
    if let Some(lines) = query.tail {
        let start = reader.last_lines(ulid, (after, until), lines, &|event| {
            query.takes(event.run, event.time, event.stream())
        })?;
        after = after.max(start);
    }
    if let Some(events) = query.last {
        let start = reader.last_events(ulid, (after, until), events, &|event| {
            query.takes(event.run, event.time, event.stream())
        })?;
        after = after.max(start);
    }
    Ok(after)
}

/// Whether nothing more will be recorded of what is followed.
fn is_over(shared: &Shared, ulid: Ulid, run: Option<u32>) -> Result<bool> {
    let record = load(shared, ulid)?;
    Ok(match run {
        Some(run) => record
            .runs
            .get(run as usize)
            .is_none_or(|run| view::end(run).is_some()),
        None => !record.is_live(),
    })
}

fn load(shared: &Shared, ulid: Ulid) -> Result<SessionRecord> {
    let record = shared.reader.session(ulid).map_err(Error::from)?;
    record.ok_or_else(gone)
}

fn gone() -> Error {
    Error::new(ErrorCode::Gone, "the session's history was removed")
}

fn broken() -> Error {
    Error::new(ErrorCode::Internal, "a reader of the journal broke off")
}

fn fits(query: &EventsQuery, event: &Event) -> bool {
    let stream = match &event.kind {
        EventKind::Output(output) => Some(output.stream),
        _ => None,
    };
    query.takes(event.run, event.time, stream)
}

/// Events of all sessions, in the order of their commits.
pub struct Firehose {
    shared: Arc<Shared>,
    query: FirehoseQuery,
    at: FirehoseCursor,
    durable: watch::Receiver<u64>,
    /// How many more are wanted.
    left: usize,
    /// Ids, pods and labels of sessions that were seen.
    known: HashMap<Ulid, SessionRecord>,
}

/// Sessions whose names are kept at hand.
const KNOWN_MAX: usize = 1024;

impl Firehose {
    pub(super) fn new(shared: Arc<Shared>, query: FirehoseQuery) -> Result<Self> {
        let durable = shared.hub.follow_all();
        let at = match (&query.from, query.since) {
            (Some(text), _) => {
                let at = text.parse().map_err(|_| {
                    Error::new(
                        ErrorCode::Usage,
                        format!("\"{text}\" is no cursor of this journal"),
                    )
                })?;
                shared.reader.check_cursor(at).map_err(Error::from)?;
                at
            }
            (None, Some(since)) => shared.reader.firehose_since(since).map_err(Error::from)?,
            (None, None) if query.follow => FirehoseCursor {
                commit: shared.reader.watermark() + 1,
                offset: 0,
            },
            (None, None) => FirehoseCursor::default(),
        };
        Ok(Self {
            left: query.limit.unwrap_or(usize::MAX),
            shared,
            query,
            at,
            durable,
            known: HashMap::new(),
        })
    }

    /// The next events that fit; none when there are no more and nothing is followed.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<FirehoseEvent>>> {
        while self.left > 0 {
            self.durable.borrow_and_update();
            if self.query.state.is_some() {
                // States change from one batch to the next.
                self.known.clear();
            }
            let reader = self.shared.reader.clone();
            let at = self.at;
            let read = tokio::task::spawn_blocking(move || reader.firehose(at, FIREHOSE_BATCH));
            let events = read.await.map_err(|_| broken())?.map_err(Error::from)?;
            let Some((last, ..)) = events.last() else {
                if !self.query.follow || self.durable.changed().await.is_err() {
                    return Ok(None);
                }
                continue;
            };
            self.at = *last;
            let mut wanted = Vec::new();
            for (cursor, ulid, event) in events {
                if let Some(event) = self.named(ulid, event) {
                    wanted.push(FirehoseEvent {
                        cursor: cursor.to_string(),
                        event,
                    });
                }
            }
            wanted.truncate(self.left);
            self.left -= wanted.len();
            if !wanted.is_empty() {
                return Ok(Some(wanted));
            }
        }
        Ok(None)
    }

    fn named(&mut self, ulid: Ulid, event: Event) -> Option<SessionEvent> {
        let query = &self.query;
        if query
            .kind
            .as_ref()
            .is_some_and(|kind| event.kind.name() != kind)
            || query.since.is_some_and(|since| event.time < since)
            || query.until.is_some_and(|until| event.time > until)
        {
            return None;
        }
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        if !self.known.contains_key(&ulid) {
            let record = self.shared.reader.session(ulid).ok().flatten()?;
            self.known.insert(ulid, record);
        }
        let record = self.known.get(&ulid)?;
        let query = &self.query;
        if query
            .pod
            .as_ref()
            .is_some_and(|pod| record.pod.as_str() != pod)
            || !view::has_labels(record, &query.label)
            || !view::in_state(record, query.state.as_deref())
        {
            return None;
        }
        Some(SessionEvent {
            session: record.id.clone(),
            ulid,
            event,
        })
    }
}
