//! What lists and streams are asked with: the query part of an address.

use crate::model::event::Stream;
use crate::model::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Stands between the values of a field that is given several times: the query
/// part of an address holds one text for each.
pub(crate) const SEPARATOR: char = '\u{1f}';

pub(super) fn several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.split(SEPARATOR).map(str::to_owned).collect())
}

/// Which sessions are exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportQuery {
    /// These, however they are named; all, when there are none.
    #[serde(default, deserialize_with = "several")]
    pub session: Vec<String>,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListQuery {
    /// Ended ones too.
    #[serde(default)]
    pub all: bool,
    /// Of this pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// In this state (a state's or an outcome's name).
    #[serde(default)]
    pub state: Option<String>,
    /// With all of these labels, `key` or `key=value`; given several times.
    #[serde(default, deserialize_with = "several")]
    pub label: Vec<String>,
    /// Dispatched since, RFC 3339.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Dispatched until.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
}

impl ListQuery {
    /// Whether only live sessions can be among what is asked for.
    #[must_use]
    pub const fn live_only(&self) -> bool {
        !self.all && self.state.is_none()
    }
}

/// Which events of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventsQuery {
    /// Events after this seq.
    #[serde(default)]
    pub after: Option<u64>,
    /// Only the last so many lines of output (before going on live). Other kinds
    /// of event between and after them are given too.
    #[serde(default)]
    pub tail: Option<u64>,
    /// Only the last so many events, of whatever kind (before going on live).
    #[serde(default)]
    pub last: Option<u64>,
    /// Since this time.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Until this time.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Only of this run.
    #[serde(default)]
    pub run: Option<u32>,
    /// Only this stream (and no other kind of event).
    #[serde(default)]
    pub stream: Option<Stream>,
    /// Go on with what comes, until the session (or the run asked for) is over.
    #[serde(default)]
    pub follow: bool,
}

impl EventsQuery {
    /// Whether an event is among those that are asked for, wherever it lies:
    /// `stream` is where it is output, none for other kinds.
    #[must_use]
    pub fn takes(&self, run: u32, time: Timestamp, stream: Option<Stream>) -> bool {
        self.run.is_none_or(|only| run == only)
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time <= until)
            && self.stream.is_none_or(|only| stream == Some(only))
    }
}

/// Which events of all sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirehoseQuery {
    /// From this cursor: the opaque text that came with an event.
    #[serde(default)]
    pub from: Option<String>,
    /// Since this time; without `from` and `since`, from now on when following,
    /// else everything.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Only of this pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Only of sessions that are in this state now (a state's or an outcome's name).
    #[serde(default)]
    pub state: Option<String>,
    /// Only of sessions with all of these labels, `key` or `key=value`; given several times.
    #[serde(default, deserialize_with = "several")]
    pub label: Vec<String>,
    /// Until this time.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Only this kind of event.
    #[serde(default)]
    pub kind: Option<String>,
    /// Go on with what comes.
    #[serde(default)]
    pub follow: bool,
}
