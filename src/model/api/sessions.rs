//! Sessions as lists and inspection show them.

use crate::model::ids::{PodName, SessionId, Ulid};
use crate::model::schema::UlidText;
use crate::model::session::ReachedLimit;
use crate::model::spec::{AgentKind, RuntimeName, Spec};
use crate::model::waiting::WaitsFor;
use crate::model::{Outcome, SessionRecord, Timestamp, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A session as `sessions` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Its ULID.
    #[schemars(with = "UlidText")]
    pub ulid: Ulid,
    /// `--name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its pod.
    pub pod: PodName,
    /// Where it runs.
    pub runtime: RuntimeName,
    /// Its agent.
    pub agent: AgentKind,
    /// `queued`, `preparing`, `building`, `starting`, `running`, `stopping`, `ended` or `removed`.
    pub state: String,
    /// How the last run ended, when none is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Exit code of the last run's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// What was wrong with the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<crate::model::Error>,
    /// Why nothing can be recorded of it now, while it is live; what it says
    /// waits where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// Place in the queue, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// What it waits for, while it is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// How many runs it has.
    pub runs: u32,
    /// The current run's number.
    pub run: u32,
    /// When it was dispatched.
    pub created: Timestamp,
    /// When the current run's program began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// US dollars that the agent reported, over all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// What its agent used, over all runs, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The limit of its provider that the agent waits for, or ended at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_limit: Option<ReachedLimit>,
    /// Turns of its agent, over all runs, by the agent's count.
    #[serde(default)]
    pub turns: u64,
    /// The container of the current run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The id of the image that the current run is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the agent calls the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    /// The first line of the first task, without the pod's template.
    pub prompt: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Everything known of a session; never a secret's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inspection {
    /// As `sessions` shows it.
    #[serde(flatten)]
    pub view: SessionView,
    /// What was frozen at dispatch.
    pub spec: Spec,
    /// The projection, with every run.
    pub record: SessionRecord,
    /// The last event's seq.
    pub last_seq: u64,
    /// What the agent is run with: argv of the current run.
    pub argv: Vec<String>,
    /// The session's directory.
    pub directory: String,
}
