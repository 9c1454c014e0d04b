//! What looking through the journal tells.

use crate::model::Ulid;
use crate::model::schema::UlidText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `journal verify` says: what it finds, as it finds it, and then how much
/// it looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VerifyEvent {
    /// Something is not as it was written.
    Damage(Finding),
    /// Something that is worth knowing, and no damage.
    Note(Finding),
    /// The end.
    Verified(Verified),
}

/// One thing that was found, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The session it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<UlidText>")]
    pub session: Option<Ulid>,
    /// The first event it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What.
    pub what: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Sessions.
    pub sessions: u64,
    /// Events that can be read.
    pub events: u64,
    /// Blocks of events that are whole.
    pub blocks: u64,
    /// Bytes of these blocks as they are stored.
    pub stored_bytes: u64,
    /// The same before compression.
    pub raw_bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Cursors of streams.
    pub cursors: u64,
    /// Requests that are remembered.
    pub requests: u64,
    /// How much damage was told.
    pub damage: u64,
}

/// How much was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exported {
    /// Sessions.
    pub sessions: u64,
    /// Those that have something missing.
    pub damaged: u64,
}

/// What an import came to. Sessions are named by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// They are here now.
    pub imported: Vec<String>,
    /// They were here already, the same.
    pub present: Vec<String>,
    /// They were not whole when they were exported, and are left out.
    pub incomplete: Vec<String>,
}

/// What making all projections again came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rebuilt {
    /// Sessions there are.
    pub sessions: u64,
    /// Those that did not stand as their events say, by their ids.
    pub mended: Vec<String>,
    /// Those that cannot be made, and why.
    pub failed: Vec<String>,
}
