//! Messages to agents that work: runs that are no process of their own.
//!
//! Such a run goes to the agent of another one. That the agent took it up is said by
//! the agent alone, with the id that it was given; so is the answer, which is to all
//! that it took up since it answered last.

use super::agent_event::AgentEvent;
use super::bytes::Blob;
use super::ids::Ulid;
use super::run::{Phase, RunState};
use super::session::{RunRecord, SessionRecord};
use super::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a message to a working agent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// It is recorded.
    Asked,
    /// The shim has it, and writes it to the agent. It is never sent again.
    Sent,
    /// The agent said that it took it up.
    Heard,
}

/// Longest prompt that is handed over as a message: escaped it may be six times as long.
const MESSAGE_MAX: usize = 8 << 20;

/// Whether a prompt can be a message to an agent that takes them as JSON.
#[must_use]
pub fn is_message(prompt: &Blob) -> bool {
    prompt.0.len() <= MESSAGE_MAX && std::str::from_utf8(&prompt.0).is_ok()
}

/// The id of a message to a working agent, which says it when it takes it up. It depends
/// on session and run alone.
#[must_use]
pub fn message_id(session: Ulid, run: u32) -> String {
    uuid(session.0 ^ u128::from(run))
}

/// The id of a prompt that a process begins with. One that was a message before has
/// another: an agent takes up no id twice in a conversation.
#[must_use]
pub fn prompt_id(session: Ulid, run: u32) -> String {
    uuid(session.0 ^ u128::from(run) ^ (1 << 40))
}

/// A UUID of version 4 (RFC 9562) made of a random number.
#[must_use]
pub fn uuid(random: u128) -> String {
    // Version 4, variant 1: all other bits are random.
    let id = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{id:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

/// A result as the answer to messages: what it took is the run's that they went to.
fn answer(result: &AgentEvent) -> AgentEvent {
    let mut answer = result.clone();
    if let AgentEvent::Result {
        cost_usd,
        usage,
        turns,
        ..
    } = &mut answer
    {
        (*cost_usd, *usage, *turns) = (None, None, None);
    }
    answer
}

impl RunState {
    /// A message to the agent of run `to` that was just asked for.
    #[must_use]
    pub const fn steering(to: u32) -> Self {
        let message = Message::Asked;
        Self::Live {
            phase: Phase::Steering { to, message },
            stop: None,
        }
    }

    /// The run that this is a message to, as long as that is not over, and how far it has come.
    #[must_use]
    pub const fn message(&self) -> Option<(u32, Message)> {
        match self {
            Self::Live {
                phase: Phase::Steering { to, message },
                ..
            } => Some((*to, *message)),
            Self::Live { .. } | Self::Ended { .. } => None,
        }
    }

    /// How far the agent says that the message is.
    fn reach(&mut self, stage: Message) {
        if let Self::Live {
            phase: Phase::Steering { message, .. },
            ..
        } = self
        {
            *message = stage;
        }
    }
}

impl SessionRecord {
    /// What the agent of run `to` said about messages to it: that it took one up, or
    /// the answer to all that it took up since it answered last.
    pub(super) fn tell_messages(&mut self, said: &AgentEvent, to: u32, time: Timestamp) {
        let ulid = self.ulid;
        for run in &mut self.runs {
            let Some((_, stands)) = run.state.message().filter(|(of, _)| *of == to) else {
                continue;
            };
            match said {
                AgentEvent::Heard { message } if *message == message_id(ulid, run.number) => {
                    run.started = run.started.or(Some(time));
                    run.state.reach(Message::Heard);
                }
                // As if it had never been sent.
                AgentEvent::Dropped { message } if *message == message_id(ulid, run.number) => {
                    run.state.reach(Message::Asked);
                }
                AgentEvent::Result { .. } if stands == Message::Heard => {
                    run.result.get_or_insert_with(|| answer(said));
                }
                _ => {}
            }
        }
    }

    /// The messages to the agent of run `to` that are not over.
    pub fn messages_to(&self, to: u32) -> impl DoubleEndedIterator<Item = (&RunRecord, Message)> {
        self.runs.iter().filter_map(move |run| {
            let (_, message) = run.state.message().filter(|(of, _)| *of == to)?;
            Some((run, message))
        })
    }
}
