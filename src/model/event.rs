//! Events: everything that is recorded of a session.

use super::agent_event::AgentEvent;
use super::bounds::Bounds;
use super::bytes::Blob;
use super::error::ErrorCode;
use super::ids::{SessionId, Ulid};
use super::outcome::Outcome;
use super::retry::Retry;
use super::schema::UlidText;
use super::spec::{ImageConfig, Spec};
use super::time::Timestamp;
use super::usage::Usage;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One event of a session. `seq` is dense from 1 in each session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Position in the session, dense from 1.
    pub seq: u64,
    /// The run it belongs to; 0 is the first prompt's.
    pub run: u32,
    /// When; never earlier than the event before it.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// An event with the session it belongs to: the form on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionEvent {
    /// The session's id.
    pub session: SessionId,
    /// The session's ULID.
    #[schemars(with = "UlidText")]
    pub ulid: Ulid,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
///
/// A run's events come in this order: `queued`, (`preparing`, `build_started`,
/// `build_output`*, `build_complete`,) `creating`, `run_started`, `container_started`,
/// `output`*, then exactly one of `container_exited` and `error`, then
/// `run_ended`. `agent`, `stopping` and `note` may stand anywhere between.
///
/// A message to a working agent (`steer`) is `queued`, `run_started` once it is on its
/// way, and `run_ended` when the agent answered it. What is said meanwhile belongs to
/// the run that it went to. Where the agent did not take it up it is `deferred`, and
/// goes on as any other run, from `preparing`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// The session was dispatched; always its first event. Everything about it
    /// is frozen here, except values of secrets, which are never recorded.
    Created {
        /// What is to be run, and how.
        spec: Box<Spec>,
    },
    /// A run was asked for: its intent. It waits until admission lets it go.
    Queued {
        /// How it came about.
        how: How,
        /// What the agent is told, whole.
        prompt: Blob,
        /// The first line of the task, where the prompt begins with something else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
        /// Names of the environment variables whose values came with it and
        /// are not recorded.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        env: Vec<String>,
        /// It goes on with no conversation, but begins one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fresh: Option<Fresh>,
        /// It leaves the line of the conversation, or goes on with one that left it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<Branch>,
        /// How far its agent may go, where that is not the session's.
        #[serde(default, skip_serializing_if = "Bounds::is_empty")]
        bounds: Bounds,
        /// Bytes of the prompt that are the pod's template, before the task.
        #[serde(default, skip_serializing_if = "is_zero")]
        task_at: u64,
        /// It tries again what another run failed at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry: Option<Retry>,
        /// Place in the queue when it was recorded, from 1; none when nothing was before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u32>,
        /// Why it waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A step before the container: checking mounts, writing files.
    Preparing {
        /// Which step, in words.
        step: String,
    },
    /// An image build begins, or the image that is there is used.
    BuildStarted {
        /// From 1; a build interrupted by a crash is a further attempt.
        attempt: u32,
        /// The image's tag.
        tag: String,
    },
    /// A line of the builder's output, while the build runs.
    BuildOutput {
        /// The line.
        line: Blob,
    },
    /// The image is there.
    BuildComplete {
        /// The image's id.
        image: String,
        /// How long it took.
        seconds: f64,
        /// Nothing had to be built.
        cached: bool,
        /// When the image was made, if the engine says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        created: Option<Timestamp>,
        /// What the image says about how it is to be run; a snapshot says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        config: Option<ImageConfig>,
    },
    /// About to create a container: durable before the engine hears of it.
    Creating {
        /// From 1; a container that never ran is replaced by a further attempt.
        attempt: u32,
        /// The name it will have.
        container: String,
    },
    /// The shim reported that the agent's program runs.
    ContainerStarted {
        /// The container's name (locally: what stands for it).
        container: String,
        /// The engine's id of it.
        id: String,
    },
    /// The shim accepted the run: from here on it is never sent again.
    RunStarted {
        /// How it came about.
        how: How,
        /// The first line of the prompt, cut; `queued` has it whole.
        prompt: String,
    },
    /// What the agent's process wrote.
    Output(Output),
    /// What the agent said about itself, beside the raw line.
    Agent {
        /// The typed event.
        event: AgentEvent,
    },
    /// A message to a working agent did not reach it: it becomes a run of its own,
    /// as the next one.
    Deferred {
        /// Why.
        why: String,
    },
    /// A stop was asked for.
    Stopping {
        /// The signal that is sent first.
        signal: String,
        /// When the tree is killed.
        deadline: Timestamp,
        /// By whom: `user`, `rm`, `timeout`, …
        by: String,
        /// The id of the command at the shim.
        #[schemars(with = "UlidText")]
        id: Ulid,
    },
    /// A signal was sent on a user's behalf.
    Signalled {
        /// Its name, as in `SIGINT`.
        signal: String,
        /// The id of the command at the shim.
        #[schemars(with = "UlidText")]
        id: Ulid,
    },
    /// The agent's process ended: the normal end.
    ContainerExited {
        /// The exit code, 128 + n for signal n.
        code: u8,
        /// When, by the clock of who saw it: the event's own time never goes
        /// back, and may be later when the end was learnt later.
        finished: Timestamp,
        /// It was killed for want of memory.
        oom_killed: bool,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<String>,
    },
    /// The other end: it could not be run, or nothing more is known of it.
    Error {
        /// The kind.
        code: ErrorCode,
        /// What is wrong, and where.
        message: String,
    },
    /// The run is over. The last event of each run.
    RunEnded {
        /// How.
        #[serde(flatten)]
        outcome: Outcome,
        /// Why it did not succeed: in the agent's words, else the last of its
        /// standard error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What the agent used in it, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// Turns it took, by the agent's count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turns: Option<u64>,
    },
    /// What the user must know about the record itself.
    Note {
        /// `adopted`, `gap`, `redacted`, `maybe_twice`, `spool_damaged`, …
        code: String,
        /// In words.
        message: String,
    },
    /// What the session had was removed; its history stays.
    Removed {
        /// False while something of it could not be removed yet.
        complete: bool,
        /// What is left, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

impl EventKind {
    /// All names there are.
    pub const NAMES: [&'static str; 19] = [
        "created",
        "queued",
        "preparing",
        "build_started",
        "build_output",
        "build_complete",
        "creating",
        "container_started",
        "run_started",
        "deferred",
        "output",
        "agent",
        "stopping",
        "signalled",
        "container_exited",
        "error",
        "run_ended",
        "note",
        "removed",
    ];

    /// The name, as in JSON's `kind`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Queued { .. } => "queued",
            Self::Preparing { .. } => "preparing",
            Self::BuildStarted { .. } => "build_started",
            Self::BuildOutput { .. } => "build_output",
            Self::BuildComplete { .. } => "build_complete",
            Self::Creating { .. } => "creating",
            Self::ContainerStarted { .. } => "container_started",
            Self::RunStarted { .. } => "run_started",
            Self::Output(_) => "output",
            Self::Agent { .. } => "agent",
            Self::Deferred { .. } => "deferred",
            Self::Stopping { .. } => "stopping",
            Self::Signalled { .. } => "signalled",
            Self::ContainerExited { .. } => "container_exited",
            Self::Error { .. } => "error",
            Self::RunEnded { .. } => "run_ended",
            Self::Note { .. } => "note",
            Self::Removed { .. } => "removed",
        }
    }
}

impl EventKind {
    /// It changes nothing of a session's record: output, and most of what agents say.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Output(_) | Self::BuildOutput { .. } => true,
            Self::Agent { event } => event.is_passing(),
            _ => false,
        }
    }
}

/// A conversation that a further run begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fresh {
    /// The agent's own id of it, where cldpd chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
}

/// Where a further run stands in what was said before it, if that is not its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "branch", rename_all = "snake_case")]
pub enum Branch {
    /// On a fork of the conversation: it knows what was said, and no later run knows
    /// what is said in it.
    Fork,
    /// It goes on with the fork that a run made: that is the conversation from now on.
    From {
        /// The run.
        run: u32,
    },
}

/// How a run came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The session's first.
    New,
    /// A further prompt, after the one before it.
    Next,
    /// A message to the working process.
    Steer,
    /// Beside the main run, in the same container.
    Exec,
    /// The same again, in the same conversation, after an API did not answer.
    Retry,
}

/// For what is left out where it is nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it on so")]
pub(super) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Which of a process's streams.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or a terminal's.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// A line, or a piece of one, without its newline.
///
/// Concatenating, for one stream and run, `data` and then a newline unless
/// `continued`, gives exactly the bytes that the process wrote (secrets excepted).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OutputRepr", into = "OutputRepr")]
pub struct Output {
    /// The stream.
    pub stream: Stream,
    /// The bytes. In JSON `data`, or `data_b64` when they are not UTF-8.
    pub data: Vec<u8>,
    /// No newline followed: the line is longer than 64 KiB, was still open
    /// after a second of silence, or never ended.
    pub continued: bool,
}

#[derive(Serialize, Deserialize)]
struct OutputRepr {
    stream: Stream,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_b64: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    continued: bool,
}

impl From<Output> for OutputRepr {
    fn from(output: Output) -> Self {
        let Output {
            stream,
            data,
            continued,
        } = output;
        match String::from_utf8(data) {
            Ok(text) => Self {
                stream,
                data: Some(text),
                data_b64: None,
                continued,
            },
            Err(raw) => {
                let encoded = STANDARD.encode(raw.as_bytes());
                Self {
                    stream,
                    data: None,
                    data_b64: Some(encoded),
                    continued,
                }
            }
        }
    }
}

impl From<OutputRepr> for Output {
    fn from(repr: OutputRepr) -> Self {
        let data = match (repr.data, repr.data_b64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(encoded)) => STANDARD.decode(encoded).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        Self {
            stream: repr.stream,
            data,
            continued: repr.continued,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn output_survives_json(data: Vec<u8>, continued: bool) {
            let kind = EventKind::Output(Output { stream: Stream::Stderr, data, continued });
            let event = Event { seq: 7, run: 1, time: Timestamp(1_700_000_000_123_456_789), kind };
            let json = serde_json::to_string(&event)?;
            prop_assert_eq!(serde_json::from_str::<Event>(&json)?, event);
        }
    }
}
