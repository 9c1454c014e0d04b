//! What goes into the journal and what comes out, beside events.

use crate::model::capture::{Cursor, CursorKey};
use crate::model::{Event, EventKind, SessionRecord, Timestamp, Ulid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// How to open a journal.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's version; kept as who made it, and who opened it last.
    pub version: String,
    /// How much of the database is kept in memory, in bytes.
    pub cache_bytes: u64,
    /// Now: requests older than 24 h are forgotten.
    pub now: Timestamp,
}

/// What a session may append from now on, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// To be given with each append. Larger than any before it, for ever.
    pub generation: u64,
    /// The number of the next event.
    pub next_seq: u64,
    /// How much of each stream the journal has.
    pub cursors: BTreeMap<CursorKey, Cursor>,
}

/// What one session wants recorded, all of it or nothing.
#[derive(Clone, Debug)]
pub struct Append {
    /// The session.
    pub session: Ulid,
    /// From its [`Claim`].
    pub generation: u64,
    /// Dense from the session's next number on; may be empty.
    pub events: Vec<Event>,
    /// The streams' cursors that change with them.
    pub cursors: Vec<(CursorKey, Cursor)>,
    /// The projection after these events, if they changed it.
    pub record: Option<SessionRecord>,
    /// Requests that these events carry out.
    pub requests: Vec<RequestRow>,
}

impl Append {
    /// Roughly how many bytes it holds.
    #[must_use]
    pub fn weight(&self) -> usize {
        let event = |kind: &EventKind| match kind {
            EventKind::Output(output) => output.data.len(),
            EventKind::BuildOutput { line } => line.0.len(),
            EventKind::Queued { prompt, .. } => prompt.0.len(),
            _ => 256,
        };
        self.events.iter().map(|e| 48 + event(&e.kind)).sum()
    }

    /// Whether it holds something that an agent or a build said: a great deal, perhaps,
    /// which can wait where it is.
    #[must_use]
    pub fn has_output(&self) -> bool {
        let said =
            |kind: &EventKind| matches!(kind, EventKind::Output(_) | EventKind::BuildOutput { .. });
        self.events.iter().any(|event| said(&event.kind))
    }
}

/// A request that was carried out. Kept for 24 h.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// The client's id for it.
    pub id: Ulid,
    /// A hash of its body.
    pub hash: [u8; 32],
    /// What was, or will be, answered.
    pub answer: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

/// An append is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub number: u64,
    /// The session's last event after this append.
    pub last_seq: u64,
}

/// A place in the order of events across sessions: the first `offset` events
/// of a commit, and all commits before it, lie behind it.
///
/// Opaque to clients; as text `commit.offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirehoseCursor {
    /// The commit.
    pub commit: u64,
    /// Events of it that lie behind.
    pub offset: u64,
}

impl fmt::Display for FirehoseCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.commit, self.offset)
    }
}

/// The text is no [`FirehoseCursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of the journal")]
pub struct BadCursor;

impl FromStr for FirehoseCursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (commit, offset) = text.split_once('.').ok_or(BadCursor)?;
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(BadCursor);
            }
            digits.parse().map_err(|_| BadCursor)
        };
        Ok(Self {
            commit: number(commit)?,
            offset: number(offset)?,
        })
    }
}
