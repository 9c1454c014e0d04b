//! One commit in the making: which appends are taken, and what they write.
//!
//! An append is taken whole or not at all, and looking at it changes nothing
//! that another could notice.

use super::block::{BODY_MAX, Encoded, Encoder, body, event_ref};
use super::error::{AppendError, StoreError};
use super::journal::Claimed;
use super::open::REQUEST_KEPT;
use super::rows::{self, Span};
use super::shared::{Hidden, Sight};
use super::{Append, RequestRow, keys, parts};
use crate::model::{Event, EventKind, Timestamp, Ulid};
use sled::Batch;
use std::collections::{BTreeMap, HashMap};

/// The appends that were taken.
pub(super) struct Plan {
    taken: Vec<Taken>,
    /// By session, in the order of the appends: which of `taken`, and the next seq.
    sessions: BTreeMap<Ulid, (Vec<usize>, u64)>,
    requests: HashMap<Ulid, RequestRow>,
    time: Timestamp,
}

/// An append that was taken.
struct Taken {
    append: Append,
    /// Bodies of the events that are no outputs, by their place in the append.
    bodies: Vec<(usize, Vec<u8>)>,
    /// The projection's JSON.
    record: Option<Vec<u8>>,
    /// The requests' JSON.
    requests: Vec<(Ulid, Vec<u8>)>,
}

/// What a plan put into a batch.
pub(super) struct Written {
    pub(super) time: Timestamp,
    pub(super) spans: Vec<Span>,
    pub(super) sessions: Vec<(Ulid, Appended)>,
    /// By how many bytes the values beside events grew.
    pub(super) grown: i64,
    /// How many sessions there are more.
    pub(super) made: u64,
}

/// What a commit does to one session.
pub(super) struct Appended {
    pub(super) next_seq: u64,
    pub(super) blocks: Vec<Encoded>,
    /// No run of it is live any more.
    pub(super) ended: bool,
}

impl Plan {
    /// A plan without an append. `time` is that of the commit before.
    pub(super) fn new(time: Timestamp) -> Self {
        Self {
            taken: Vec::new(),
            sessions: BTreeMap::new(),
            requests: HashMap::new(),
            time,
        }
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// The time of the latest request in it.
    pub(super) fn latest_request(&self) -> Option<Timestamp> {
        self.requests.values().map(|row| row.at).max()
    }

    /// Takes or refuses an append. Returns the session's last event after it.
    pub(super) fn take(
        &mut self,
        append: Append,
        claims: &HashMap<Ulid, Claimed>,
        sight: &Sight<'_>,
    ) -> Result<Result<u64, AppendError>, StoreError> {
        let session = append.session;
        let claimed = claims.get(&session);
        let current = claimed.map(|claimed| claimed.generation);
        let Some(claimed) = claimed.filter(|_| current == Some(append.generation)) else {
            return Ok(Err(AppendError::Stale {
                session,
                given: append.generation,
                current,
            }));
        };
        for row in &append.requests {
            if let Some(refusal) = self.seen(row, sight)? {
                return Ok(Err(refusal));
            }
        }
        let planned = self.sessions.get(&session).map(|(_, next)| *next);
        let next_seq = planned.unwrap_or(claimed.next_seq);
        Ok(self.check(append, next_seq))
    }

    /// Why a request may not be carried out: it was already.
    fn seen(&self, row: &RequestRow, sight: &Sight<'_>) -> Result<Option<AppendError>, StoreError> {
        let before = match self.requests.get(&row.id) {
            Some(planned) => Some(planned.clone()),
            None => match sight.value(&keys::request(row.id))? {
                Some(sealed) => Some(rows::request(row.id, &sealed)?),
                None => None,
            },
        };
        let fresh = before.filter(|before| row.at.since(before.at) <= REQUEST_KEPT);
        Ok(fresh.map(|before| {
            if before.hash == row.hash {
                AppendError::RequestDone(Box::new(before))
            } else {
                AppendError::RequestMismatch { id: row.id }
            }
        }))
    }

    fn check(&mut self, append: Append, next_seq: u64) -> Result<u64, AppendError> {
        let session = append.session;
        for (event, expected) in append.events.iter().zip(next_seq..) {
            if event.seq != expected {
                return Err(AppendError::WrongSeq {
                    session,
                    expected,
                    found: event.seq,
                });
            }
        }
        let fits = |what: &dyn Fn() -> String, bytes: usize, max: usize| {
            if bytes <= max {
                return Ok(());
            }
            Err(AppendError::TooLarge {
                session,
                what: what(),
                bytes,
                max,
            })
        };
        let json = |what: &dyn Fn() -> String, json: Result<Vec<u8>, serde_json::Error>, max| {
            let json = json.map_err(|why| AppendError::Encode {
                session,
                what: what(),
                why: why.to_string(),
            })?;
            fits(what, json.len(), max)?;
            Ok(json)
        };
        let mut bodies = Vec::new();
        for (place, event) in append.events.iter().enumerate() {
            let name = || format!("event {}", event.seq);
            match &event.kind {
                EventKind::Output(output) => fits(&name, output.data.len(), BODY_MAX)?,
                other => {
                    let encoded = body(other);
                    bodies.push((place, json(&name, encoded, BODY_MAX)?));
                }
            }
        }
        let record = append.record.as_ref().map(|record| {
            let name = || "the projection".to_owned();
            json(&name, serde_json::to_vec(record), rows::CONTENT_MAX)
        });
        let requests = append.requests.iter().map(|row| {
            let name = || format!("request {}", row.id);
            let encoded = json(&name, serde_json::to_vec(row), rows::CONTENT_MAX)?;
            Ok((row.id, encoded))
        });
        let taken = Taken {
            bodies,
            record: record.transpose()?,
            requests: requests.collect::<Result<_, _>>()?,
            append,
        };
        Ok(self.accept(taken, next_seq))
    }

    fn accept(&mut self, taken: Taken, next_seq: u64) -> u64 {
        let append = &taken.append;
        let next_seq = next_seq + append.events.len() as u64;
        let writes_nothing = append.events.is_empty()
            && append.cursors.is_empty()
            && append.record.is_none()
            && append.requests.is_empty();
        if writes_nothing {
            return next_seq - 1;
        }
        for row in &append.requests {
            self.requests.insert(row.id, row.clone());
        }
        let latest = append.events.iter().map(|event| event.time).max();
        self.time = latest.map_or(self.time, |latest| self.time.max(latest));
        let session = self.sessions.entry(append.session).or_default();
        session.0.push(self.taken.len());
        session.1 = next_seq;
        self.taken.push(taken);
        next_seq - 1
    }

    /// Puts everything into `batch`, and what it writes over into `hidden`.
    pub(super) fn write(
        self,
        sight: &Sight<'_>,
        encoder: &mut Encoder,
        batch: &mut Batch,
        hidden: &mut Hidden,
    ) -> Result<Written, StoreError> {
        let mut sessions = Vec::with_capacity(self.sessions.len());
        let (mut grown, mut made) = (0, 0);
        for (session, (places, next_seq)) in &self.sessions {
            let taken: Vec<&Taken> = places.iter().map(|place| &self.taken[*place]).collect();
            let blocks = encode(&taken, encoder);
            for block in &blocks {
                let prefix = keys::block(*session, block.header.first_seq);
                for (key, piece) in parts::split(&prefix, &block.bytes) {
                    batch.insert(key, piece);
                }
            }
            for (stream, cursor) in taken.iter().flat_map(|taken| &taken.append.cursors) {
                let key = keys::cursor(*session, stream);
                batch.insert(key.as_slice(), rows::put_cursor(*cursor));
                let before = sight.get(&key)?;
                if before.is_none() {
                    grown += rows::CURSOR_LEN as i64;
                }
                hidden.rows.insert(key, before);
            }
            let last = taken.iter().rev().find(|taken| taken.record.is_some());
            if let Some(json) = last.and_then(|taken| taken.record.as_ref()) {
                let (prefix, sealed) = (keys::session(*session), rows::seal(json));
                let before = rewrite(sight, &prefix, &sealed, batch, hidden)?;
                grown += sealed.len() as i64 - before.unwrap_or(0) as i64;
                made += u64::from(before.is_none());
            }
            let record = last.and_then(|taken| taken.append.record.as_ref());
            sessions.push((
                *session,
                Appended {
                    next_seq: *next_seq,
                    blocks,
                    ended: record.is_some_and(|record| !record.is_live()),
                },
            ));
        }
        for (id, json) in self.taken.iter().flat_map(|taken| &taken.requests) {
            let sealed = rows::seal(json);
            let before = rewrite(sight, &keys::request(*id), &sealed, batch, hidden)?;
            grown += sealed.len() as i64 - before.unwrap_or(0) as i64;
        }
        Ok(Written {
            time: self.time,
            spans: spans(&self.taken),
            sessions,
            grown,
            made,
        })
    }
}

/// The blocks of one session's appends.
fn encode(taken: &[&Taken], encoder: &mut Encoder) -> Vec<Encoded> {
    for taken in taken {
        let mut bodies = taken.bodies.iter().peekable();
        for (place, event) in taken.append.events.iter().enumerate() {
            let own = bodies.next_if(|(of, _)| *of == place);
            encoder.push(event_ref(event, own.map_or(&[], |(_, body)| body)));
        }
    }
    encoder.finish()
}

/// The events of all appends, in order.
fn spans(taken: &[Taken]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for Taken { append, .. } in taken {
        let Some(Event { seq, .. }) = append.events.first() else {
            continue;
        };
        let count = append.events.len() as u64;
        match spans.last_mut() {
            Some(last) if last.session == append.session => last.count += count,
            _ => spans.push(Span {
                session: append.session,
                first_seq: *seq,
                count,
            }),
        }
    }
    spans
}

/// Writes a value over the one that may be there, whichever has more parts.
/// Returns that one's length.
fn rewrite(
    sight: &Sight<'_>,
    prefix: &[u8],
    value: &[u8],
    batch: &mut Batch,
    hidden: &mut Hidden,
) -> Result<Option<usize>, StoreError> {
    let first = sight.get(&keys::with_part(prefix, 0))?;
    let before = first.and_then(|first| rows::sealed_len(&first));
    for (key, piece) in parts::split(prefix, value) {
        batch.insert(key.as_slice(), piece);
        let old = sight.get(&key)?;
        hidden.rows.insert(key, old);
    }
    for part in parts::count(value.len())..parts::count(before.unwrap_or(0)) {
        let key = keys::with_part(prefix, part);
        batch.remove(key.as_slice());
        let old = sight.get(&key)?;
        hidden.rows.insert(key, old);
    }
    Ok(before)
}
