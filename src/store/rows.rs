//! The values beside blocks: projections, commits, requests, cursors.
//!
//! | value | form |
//! |---|---|
//! | projection, request, commit | an *envelope*: format (1 byte: 1), length (4), CRC-32C of the content (4), content; in parts when it is long |
//! | content of a projection | [`SessionRecord`] as JSON |
//! | content of a request | [`RequestRow`] as JSON |
//! | content of a commit (in a row of its own; see [`group`](super::group) for many) | time (8, nanoseconds since 1970), how much its number exceeds that of the commit before (varint), then for each span of events: session (16), first seq (varint), count (varint) |
//! | origin | the id of the home that recorded an imported session (16) |
//! | cursor | format (1 byte: 1), position (8), open (1 byte: 0 or 1) |
//!
//! Numbers of fixed size are big-endian.

use super::error::StoreError;
use super::shared::Sight;
use super::varint::{self, Bytes};
use super::{RequestRow, keys};
use crate::model::capture::{Cursor, CursorKey};
use crate::model::{HomeId, SessionRecord, Timestamp, Ulid};
use sled::IVec;
use std::collections::BTreeMap;

const FORMAT: u8 = 1;
/// An envelope with a group of commits, see [`group`](super::group).
const FORMAT_GROUP: u8 = 2;
/// Length of an envelope without its content.
pub(super) const ENVELOPE_LEN: usize = 9;
/// Largest content of an envelope.
pub(super) const CONTENT_MAX: usize = 64 * 1024 * 1024;

/// Puts `content` into an envelope.
pub(super) fn seal(content: &[u8]) -> Vec<u8> {
    seal_as(FORMAT, content)
}

/// Puts a group of commits into an envelope.
pub(super) fn seal_group(content: &[u8]) -> Vec<u8> {
    seal_as(FORMAT_GROUP, content)
}

/// Whether an envelope has a group of commits.
pub(super) fn is_group(sealed: &[u8]) -> bool {
    sealed.first() == Some(&FORMAT_GROUP)
}

fn seal_as(format: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE_LEN + content.len());
    out.push(format);
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
    out.extend_from_slice(content);
    out
}

/// Length of a whole envelope, by its first part.
pub(super) fn sealed_len(first: &[u8]) -> Option<usize> {
    let mut bytes = Bytes(first);
    let format = bytes.byte()?;
    let len = u32::from_be_bytes(bytes.array()?) as usize;
    (matches!(format, FORMAT | FORMAT_GROUP) && len <= CONTENT_MAX).then_some(ENVELOPE_LEN + len)
}

/// The content of an envelope, if it is whole.
pub(super) fn open(sealed: &[u8]) -> Option<&[u8]> {
    if sealed_len(sealed)? != sealed.len() {
        return None;
    }
    let (head, content) = sealed.split_at_checked(ENVELOPE_LEN)?;
    let crc = u32::from_be_bytes(*head.last_chunk()?);
    (crc32c::crc32c(content) == crc).then_some(content)
}

/// Consecutive events of one session in a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The session.
    pub(super) session: Ulid,
    /// The first event.
    pub(super) first_seq: u64,
    /// How many, at least one.
    pub(super) count: u64,
}

/// What one commit brought, in the order across sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommitRow {
    /// The latest time of an event in it and in all commits before it.
    pub(super) time: Timestamp,
    /// How much its number exceeds that of the commit before: 1, but where
    /// damage took commits that had been acknowledged. sled can lose rows
    /// without a word; a reader notices by this.
    pub(super) step: u64,
    /// Its events.
    pub(super) spans: Vec<Span>,
}

impl CommitRow {
    /// In an envelope.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.time.0.to_be_bytes().to_vec();
        varint::put(&mut out, self.step);
        for span in &self.spans {
            out.extend_from_slice(&span.session.0.to_be_bytes());
            varint::put(&mut out, span.first_seq);
            varint::put(&mut out, span.count);
        }
        seal(&out)
    }

    /// Out of an envelope.
    pub(super) fn decode(number: u64, sealed: &[u8]) -> Result<Self, StoreError> {
        open(sealed)
            .filter(|_| !is_group(sealed))
            .and_then(Self::parse)
            .ok_or_else(|| damaged("commit", number, "it is malformed"))
    }

    fn parse(content: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(content);
        let time = Timestamp(i64::from_be_bytes(bytes.array()?));
        let step = bytes.varint()?;
        let mut spans = Vec::new();
        while !bytes.0.is_empty() {
            let span = Span {
                session: Ulid(u128::from_be_bytes(bytes.array()?)),
                first_seq: bytes.varint()?,
                count: bytes.varint()?,
            };
            span.first_seq.checked_add(span.count)?;
            spans.push(span);
        }
        Some(Self { time, step, spans })
    }
}

/// A projection out of its envelope.
pub(super) fn record(session: Ulid, sealed: &[u8]) -> Result<SessionRecord, StoreError> {
    let content = open(sealed).ok_or_else(|| damaged("session", session, "it is malformed"))?;
    serde_json::from_slice(content).map_err(|e| damaged("session", session, e))
}

/// A request out of its envelope.
pub(super) fn request(id: Ulid, sealed: &[u8]) -> Result<RequestRow, StoreError> {
    let content = open(sealed).ok_or_else(|| damaged("request", id, "it is malformed"))?;
    serde_json::from_slice(content).map_err(|e| damaged("request", id, e))
}

/// Length of a cursor's row.
pub(super) const CURSOR_LEN: usize = 10;

/// A cursor as it is stored.
pub(super) fn put_cursor(cursor: Cursor) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&cursor.position.to_be_bytes());
    out.push(u8::from(cursor.open));
    out
}

/// A cursor out of its row.
pub(super) fn cursor(key: &[u8], value: &[u8]) -> Result<Cursor, StoreError> {
    let parse = || {
        let mut bytes = Bytes(value);
        let format = bytes.byte()?;
        let position = u64::from_be_bytes(bytes.array()?);
        let open = bytes.byte()?;
        let fits = format == FORMAT && open < 2 && bytes.0.is_empty();
        fits.then_some(Cursor {
            position,
            open: open == 1,
        })
    };
    parse().ok_or_else(|| damaged("cursor", keys::hex(key), "it is malformed"))
}

/// A session's cursors out of their rows.
pub(super) fn cursors(rows: Vec<(IVec, IVec)>) -> Result<BTreeMap<CursorKey, Cursor>, StoreError> {
    rows.iter()
        .map(|(key, value)| {
            let stream = keys::cursor_key(key)
                .ok_or_else(|| damaged("cursor", keys::hex(key), "its key is malformed"))?;
            Ok((stream, cursor(key, value)?))
        })
        .collect()
}

/// The home that recorded a session which was imported.
pub(super) fn origin(sight: &Sight<'_>, session: Ulid) -> Result<Option<HomeId>, StoreError> {
    let row = sight.get(&keys::origin(session))?;
    row.map(|row| {
        let home = row.as_ref().try_into();
        home.map(|bytes| HomeId(Ulid::from_bytes(bytes)))
            .map_err(|_| damaged("origin", session, "it is malformed"))
    })
    .transpose()
}

/// The error of a row that cannot be read.
pub(super) fn damaged(kind: &'static str, key: impl ToString, what: impl ToString) -> StoreError {
    StoreError::Row {
        kind,
        key: key.to_string(),
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span() -> impl Strategy<Value = Span> {
        (any::<u128>(), 1u64..1 << 60, 1u64..1 << 30).prop_map(|(session, first_seq, count)| Span {
            session: Ulid(session),
            first_seq,
            count,
        })
    }

    proptest! {
        #[test]
        fn commits_survive(time: i64, step: u64, spans in proptest::collection::vec(span(), 0..20)) {
            let row = CommitRow { time: Timestamp(time), step, spans };
            prop_assert_eq!(CommitRow::decode(1, &row.encode()).unwrap(), row);
        }

        #[test]
        fn cursors_survive(position: u64, open: bool) {
            let row = Cursor { position, open };
            prop_assert_eq!(cursor(b"", &put_cursor(row)).unwrap(), row);
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes: Vec<u8>) {
            let _ = CommitRow::decode(1, &bytes);
            let _ = CommitRow::decode(1, &seal(&bytes));
            let _ = cursor(b"", &bytes);
            let _ = record(Ulid(0), &seal(&bytes));
            let _ = request(Ulid(0), &seal(&bytes));
        }

        #[test]
        fn a_changed_envelope_is_refused(content: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let mut sealed = seal(&content);
            prop_assert_eq!(open(&sealed), Some(content.as_slice()));
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(open(&sealed), None);
        }
    }
}
