//! What the journal holds, what it takes, and what makes it smaller.

use crate::model::{HomeId, SessionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to look at beside how things stand: which sessions retention would
/// remove if it went by these limits instead of the settled ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalQuery {
    /// Older than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// Beyond so many ended sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Beyond so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// The journal in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JournalStats {
    /// Events that are recorded.
    pub events: u64,
    /// Sessions.
    pub sessions: u64,
    /// Blocks of events.
    pub blocks: u64,
    /// Bytes of all events, before compression.
    pub raw_bytes: u64,
    /// Bytes of everything as it is stored.
    pub stored_bytes: u64,
    /// Bytes that the database takes on disk.
    pub disk_bytes: u64,
    /// How many of these hold nothing any more; a compaction gives them back.
    pub garbage_bytes: u64,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
    /// With less than so many nothing new is dispatched.
    pub min_free: u64,
    /// The number of the last commit.
    pub last_commit: u64,
    /// The schema.
    pub schema: u32,
    /// Whose journal it is.
    #[schemars(with = "String")]
    pub home: HomeId,
    /// The name of the current database.
    pub database: String,
    /// The version that made it.
    pub created_by: String,
    /// The version that opened it last.
    pub opened_by: String,
    /// When its oldest session was made.
    pub oldest: Option<Timestamp>,
    /// The time of the last event.
    pub newest: Option<Timestamp>,
    /// Compactions.
    pub compaction: CompactionState,
    /// Sessions whose history goes by itself.
    pub retention: RetentionState,
}

/// How compaction stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactionState {
    /// Since when one is under way.
    pub running: Option<Timestamp>,
    /// The last one since the daemon started.
    pub last: Option<CompactionEnd>,
}

/// How a compaction ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompactionEnd {
    /// When.
    pub at: Timestamp,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compacted: Option<CompactResponse>,
    /// Why nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A compaction that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompactResponse {
    /// Bytes that the database took on disk before.
    pub before: u64,
    /// Bytes that it takes now.
    pub after: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// How many of them have events that cannot be read; they are as they were.
    pub damaged: u64,
}

/// How retention stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetentionState {
    /// Sessions are removed so many seconds after their end; none: never.
    pub age: Option<u64>,
    /// So many ended sessions are left.
    pub count: Option<u64>,
    /// So many bytes are left.
    pub size: Option<u64>,
    /// How many it removed since the daemon started.
    pub removed: u64,
    /// What it would remove now, by these limits or those that were asked about.
    pub due: Vec<SessionId>,
}
