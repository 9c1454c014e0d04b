//! What agents used: which runs are counted, and what they come to.

use super::queries::several;
use crate::model::time::Timestamp;
use crate::model::usage::Usage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What runs are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatsBy {
    /// All together.
    #[default]
    Total,
    /// The day on which they began, in UTC.
    Day,
    /// Their pod.
    Pod,
    /// Their agent.
    Agent,
    /// The model that was used; a run that used several is counted with each.
    Model,
}

/// Which runs are counted: those that have begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatsQuery {
    /// What they are put together by.
    #[serde(default)]
    pub by: StatsBy,
    /// Of sessions of this pod.
    #[serde(default)]
    pub pod: Option<String>,
    /// Of sessions with all of these labels, `key` or `key=value`; given several times.
    #[serde(default, deserialize_with = "several")]
    pub label: Vec<String>,
    /// Begun since, RFC 3339.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Begun until.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// What some runs come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsRow {
    /// The day, pod, agent or model; `total`. Empty for a model that was not named.
    pub key: String,
    /// Sessions that the runs are of.
    pub sessions: u64,
    /// Runs.
    pub runs: u64,
    /// Those of them that ended well.
    pub succeeded: u64,
    /// Those that have not ended.
    pub live: u64,
    /// Turns, by the agents' count; none by model, since agents do not say which took them.
    pub turns: u64,
    /// Seconds from their beginnings to their ends, added up; until now for live ones.
    pub seconds: f64,
    /// Tokens and price, as far as the agents said them.
    #[serde(flatten)]
    pub usage: Usage,
}
