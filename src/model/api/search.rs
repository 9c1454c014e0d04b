//! What is searched for in everything that is recorded, and what is found.

use super::queries::several;
use crate::model::bytes::Blob;
use crate::model::ids::{SessionId, Ulid};
use crate::model::schema::UlidText;
use crate::model::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to look for, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchQuery {
    /// A regular expression (that of Rust's `regex`), held against each line alone.
    pub pattern: String,
    /// The pattern is plain text.
    #[serde(default)]
    pub fixed: bool,
    /// Capital and small letters are alike.
    #[serde(default)]
    pub ignore_case: bool,
    /// Only there.
    #[serde(default)]
    pub place: Option<SearchPlace>,
    /// What is wanted of what is found.
    #[serde(default)]
    pub finds: Finds,
    /// Only in sessions of this pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Only in sessions that are in this state now (a state's or an outcome's name).
    #[serde(default)]
    pub state: Option<String>,
    /// Only in sessions with all of these labels, `key` or `key=value`; given several times.
    #[serde(default, deserialize_with = "several")]
    pub label: Vec<String>,
    /// Only lines since this time.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Only lines until this time.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// At most so many lines, or sessions where those are asked for.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchPlace {
    /// The agent's standard output.
    Stdout,
    /// The agent's standard error.
    Stderr,
    /// What the agent was told.
    Prompt,
}

impl SearchPlace {
    /// The name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Prompt => "prompt",
        }
    }
}

/// What is wanted of what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finds {
    /// The lines.
    #[default]
    Lines,
    /// How many there are in each session that has some.
    Counts,
    /// Only which sessions have some.
    Sessions,
}

/// Something that a search found.
///
/// The session that was dispatched last comes first, and in each session the
/// line that was written last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SearchItem {
    /// A line that matches.
    Line(SearchHit),
    /// A session that has such lines.
    Session {
        /// The session's id.
        session: SessionId,
        /// The session's ULID.
        #[schemars(with = "UlidText")]
        ulid: Ulid,
        /// How many, where they are counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lines: Option<u64>,
    },
    /// Something that could not be searched. The search goes on behind it.
    Damaged {
        /// The session's id.
        session: SessionId,
        /// What is wrong, and where.
        message: String,
    },
}

/// A line that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchHit {
    /// The session's id.
    pub session: SessionId,
    /// The session's ULID.
    #[schemars(with = "UlidText")]
    pub ulid: Ulid,
    /// The event that the line begins with.
    pub seq: u64,
    /// The run it belongs to.
    pub run: u32,
    /// When it began to be written.
    pub time: Timestamp,
    /// Where it stands.
    pub place: SearchPlace,
    /// The line, without its newline.
    pub line: Blob,
    /// Where in it the matches are: first byte, and the byte behind the last.
    pub matches: Vec<(usize, usize)>,
    /// Of a line longer than 64 KiB that is what stands around its first match.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}
