//! What an agent said about itself, read out of its output.

use super::outcome::Outcome;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A typed event of an agent, recorded beside the raw line it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The agent began, or began again, to work on the conversation.
    Init {
        /// The agent's own id of the conversation; it may change.
        agent_session: Option<String>,
        /// The model it says it uses.
        model: Option<String>,
        /// The agent's version.
        version: Option<String>,
    },
    /// The agent's own word on how it ended.
    Result {
        /// What that means.
        #[serde(flatten)]
        outcome: Outcome,
        /// Its last answer or its error text.
        text: String,
        /// The agent's own id of the conversation.
        agent_session: Option<String>,
        /// Turns it took.
        turns: Option<u64>,
        /// US dollars, as the agent counts them.
        cost_usd: Option<f64>,
        /// Milliseconds, as the agent counts them.
        duration_ms: Option<u64>,
    },
}
