//! What an agent said about itself, read out of its output.

use super::outcome::Outcome;
use super::time::Timestamp;
use super::usage::Usage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A typed event of an agent, recorded beside the raw line it came from.
///
/// Texts are cut; the raw line has all of them. `parent` is the tool use in
/// which a sub-agent said it, where it was one.
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
        /// What it says it may do without being asked, in its own words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permissions: Option<String>,
        /// Where it says it works.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
    },
    /// It took up a message that it was sent.
    Heard {
        /// The message's id.
        message: String,
    },
    /// It gave up a message that it had not taken up, as it was asked to.
    Dropped {
        /// The message's id.
        message: String,
    },
    /// What it said: the text of one message.
    Text {
        /// The text.
        text: String,
        /// The sub-agent's tool use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// What it thought.
    Thinking {
        /// The text, which may be empty: agents do not show all of it.
        text: String,
        /// The sub-agent's tool use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// It uses a tool.
    ToolUse {
        /// The use's id.
        id: String,
        /// The tool.
        name: String,
        /// What for, in one line: a command, a path, a pattern.
        summary: String,
        /// Its input as JSON, where that is short.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<String>,
        /// The sub-agent's tool use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// What the use of a tool came to.
    ToolResult {
        /// The use's id.
        id: String,
        /// It failed.
        is_error: bool,
        /// Bytes of text.
        size: u64,
        /// The sub-agent's tool use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// What was used since the last such event: adding them up counts nothing twice.
    Usage {
        /// By which model, where the agent says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// How much.
        #[serde(flatten)]
        usage: Usage,
        /// The sub-agent's tool use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
        /// The message that it was used for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A request failed; the agent tries again by itself.
    Retry {
        /// Which try failed, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// How many there will be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u32>,
        /// Milliseconds until the next one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delay_ms: Option<u64>,
        /// The HTTP status, if there was an answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why, in its words.
        #[serde(default)]
        message: String,
    },
    /// How its account stands with a limit of its provider.
    Limit {
        /// Nothing is answered until then.
        reached: bool,
        /// Which limit, in its words.
        #[serde(default)]
        name: String,
        /// When it begins anew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resets: Option<Timestamp>,
    },
    /// It was not allowed to use a tool.
    PermissionDenied {
        /// Which.
        tool: String,
    },
    /// Something that this version of cldpd does not know.
    Unknown {
        /// What it calls itself.
        name: String,
        /// It should have been an event and could not be read.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        malformed: bool,
    },
    /// The agent's own word on how it ended. There may be several in one run.
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
        /// US dollars, as the agent counts them: in all, in its own scope.
        cost_usd: Option<f64>,
        /// Milliseconds, as the agent counts them.
        duration_ms: Option<u64>,
        /// What was used since the last result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
}

impl AgentEvent {
    /// It changes nothing that is kept of a session: most do not.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Text { .. }
            | Self::Thinking { .. }
            | Self::ToolUse { .. }
            | Self::ToolResult { .. }
            | Self::Retry { .. }
            | Self::PermissionDenied { .. }
            | Self::Unknown {
                malformed: false, ..
            } => true,
            Self::Init { .. }
            | Self::Heard { .. }
            | Self::Dropped { .. }
            | Self::Usage { .. }
            | Self::Limit { .. }
            | Self::Unknown {
                malformed: true, ..
            }
            | Self::Result { .. } => false,
        }
    }
}
