//! The state machine of a run: which event may follow which, and what to do next.
//!
//! ```text
//! queued → preparing → building → starting → running ─┐
//!    │         │           │          │               ├→ over → ended
//!    └─────────┴───────────┴──────────┴── error ──────┘
//! ```
//!
//! A run that is a message to the agent of another one (`steering`) goes from asked to
//! sent to heard, and ends when that agent answers; or it is deferred, and queued.
//!
//! [`RunState::next`] is the only place that knows the legal transitions. It is
//! called when an event is recorded and when the journal is replayed, so a
//! record that could not be replayed is refused before it is written.
//! [`RunState::step`] says what has to be done next, from the record alone: a
//! daemon that starts again does the same as one that never stopped.

use super::event::EventKind;
use super::ids::Ulid;
use super::message::Message;
use super::outcome::Outcome;
use super::schema::UlidText;
use super::time::Timestamp;
use super::{AgentEvent, ErrorCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who stops a run whose time is over.
pub const BY_TIMEOUT: &str = "timeout";
/// Who stops a run that was silent for too long.
pub const BY_SILENCE: &str = "silence";
/// Who stops a run that takes more turns than it may.
pub const BY_TURNS: &str = "max_turns";
/// Who stops a run that costs more than it may.
pub const BY_BUDGET: &str = "budget";
/// Who stops a run whose agent has given its result and stays.
pub const BY_LINGERING: &str = "lingering";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// Not over.
    Live {
        /// How far it has come.
        phase: Phase,
        /// A stop that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<Stop>,
    },
    /// Over, and concluded.
    Ended {
        /// How.
        outcome: Outcome,
        /// The exit code of the agent's process, where it had one.
        code: Option<u8>,
        /// When.
        at: Timestamp,
        /// The container it had.
        place: Option<Place>,
        /// Why it did not succeed, in the agent's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// What was wrong, when it did not end by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<(ErrorCode, String)>,
    },
}

/// How far a live run has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Waits for admission.
    Queued,
    /// Admitted; what it needs is checked and written.
    Preparing,
    /// The image is being built.
    Building {
        /// From 1.
        attempt: u32,
    },
    /// The image is there.
    Built {
        /// Its id.
        image: String,
    },
    /// A container was about to be created; the agent has not been told anything.
    Creating {
        /// The image's id.
        image: String,
        /// The container.
        place: Place,
    },
    /// The shim has the run. It is never sent again.
    Accepted {
        /// The image's id.
        image: String,
        /// The container.
        place: Place,
    },
    /// The agent's program runs.
    Running {
        /// The image's id.
        image: String,
        /// The container.
        place: Place,
        /// The engine's id of it.
        id: String,
        /// Since when.
        since: Timestamp,
    },
    /// It is no process of its own, but a message to the agent of a run that works.
    Steering {
        /// That run.
        to: u32,
        /// How far the message has come.
        message: Message,
    },
    /// The process ended, or an error took its place; the conclusion is due.
    Over {
        /// How.
        end: End,
        /// When.
        at: Timestamp,
        /// The container it had.
        place: Option<Place>,
    },
}

/// A container of one attempt at a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// From 1.
    pub attempt: u32,
    /// The container's name.
    pub container: String,
}

/// A stop that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stop {
    /// The first signal.
    pub signal: String,
    /// When the tree is killed.
    pub deadline: Timestamp,
    /// By whom.
    pub by: String,
    /// The id of the command at the shim.
    #[schemars(with = "UlidText")]
    pub id: Ulid,
}

/// How a run's process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// By itself or by a signal.
    Exited {
        /// Exit code, 128 + n for signal n.
        code: u8,
        /// Killed for want of memory.
        oom_killed: bool,
        /// The signal.
        signal: Option<String>,
    },
    /// It never ran, or nothing more is known.
    Error {
        /// The kind.
        code: ErrorCode,
        /// What was wrong.
        message: String,
    },
}

/// What has to be done next for a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing until admission lets it go.
    AwaitSlot,
    /// It is taken back: undo what there is of it, then record so.
    Cancel {
        /// The container, if one may exist.
        place: Option<Place>,
    },
    /// Check what it needs, build (or snapshot) its image.
    Build {
        /// The attempt to record.
        attempt: u32,
    },
    /// Record the intent to create a container.
    Create {
        /// The attempt to record.
        attempt: u32,
    },
    /// Find or create that container, and hand it the run.
    Launch {
        /// The container.
        place: Place,
        /// Of this image.
        image: String,
    },
    /// Read on what it says until it ends.
    Capture {
        /// The container.
        place: Place,
    },
    /// The run that it was a message to is over: it becomes a run of its own.
    Defer,
    /// Record how it ended.
    Conclude {
        /// The container, if there was one.
        place: Option<Place>,
    },
    /// Nothing.
    Done,
}

/// An event that may not follow what is recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {state} cannot take the event {event}")]
pub struct IllegalTransition {
    /// The state, in short.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl RunState {
    /// A run that was just asked for.
    #[must_use]
    pub const fn queued() -> Self {
        Self::Live {
            phase: Phase::Queued,
            stop: None,
        }
    }

    /// The state after `event` at `time`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the event may not follow.
    pub fn next(&self, event: &EventKind, time: Timestamp) -> Result<Self, IllegalTransition> {
        use EventKind as E;
        let illegal = || IllegalTransition {
            state: self.name(),
            event: event.name(),
        };
        let Self::Live { phase, stop } = self else {
            return match event {
                E::Note { .. } | E::Removed { .. } => Ok(self.clone()),
                _ => Err(illegal()),
            };
        };
        let stay = || Ok(self.clone());
        let go = |phase: Phase| {
            Ok(Self::Live {
                phase,
                stop: stop.clone(),
            })
        };
        match (phase, event) {
            (_, E::Note { .. }) => stay(),
            (Phase::Over { .. }, E::Signalled { .. } | E::Stopping { .. }) => Err(illegal()),
            (
                _,
                E::Stopping {
                    signal,
                    deadline,
                    by,
                    id,
                },
            ) => {
                let next = Stop {
                    signal: signal.clone(),
                    deadline: *deadline,
                    // Who asked first is why it ends; who asks again is in a hurry.
                    by: stop.as_ref().map_or(by, |first| &first.by).clone(),
                    id: *id,
                };
                Ok(Self::Live {
                    phase: phase.clone(),
                    stop: Some(next),
                })
            }

            (
                Phase::Steering {
                    to,
                    message: Message::Asked,
                },
                E::RunStarted { .. },
            ) => go(Phase::Steering {
                to: *to,
                message: Message::Sent,
            }),
            (
                Phase::Steering {
                    message: Message::Asked | Message::Sent,
                    ..
                },
                E::Deferred { .. },
            ) => go(Phase::Queued),
            (
                Phase::Steering {
                    message: Message::Heard,
                    ..
                },
                E::RunEnded { outcome, why, .. },
            ) => Ok(Self::Ended {
                outcome: outcome.clone(),
                why: why.clone(),
                code: None,
                at: time,
                place: None,
                error: None,
            }),

            (Phase::Queued | Phase::Preparing, E::Preparing { .. }) => go(Phase::Preparing),

            // Its image is gone, and nothing was made of it: from the beginning.
            (Phase::Creating { .. }, E::Preparing { .. }) => go(Phase::Preparing),

            (Phase::Preparing, E::BuildStarted { attempt, .. }) => {
                go(Phase::Building { attempt: *attempt })
            }
            (Phase::Building { attempt: last }, E::BuildStarted { attempt, .. })
                if attempt > last =>
            {
                go(Phase::Building { attempt: *attempt })
            }
            (Phase::Building { .. }, E::BuildOutput { .. }) => stay(),
            // A further run builds nothing: its image is a snapshot.
            (Phase::Building { .. } | Phase::Preparing, E::BuildComplete { image, .. }) => {
                go(Phase::Built {
                    image: image.clone(),
                })
            }

            (Phase::Built { image }, E::Creating { attempt, container }) => {
                let place = Place {
                    attempt: *attempt,
                    container: container.clone(),
                };
                go(Phase::Creating {
                    image: image.clone(),
                    place,
                })
            }
            (Phase::Creating { image, place }, E::Creating { attempt, container })
                if *attempt > place.attempt =>
            {
                let place = Place {
                    attempt: *attempt,
                    container: container.clone(),
                };
                go(Phase::Creating {
                    image: image.clone(),
                    place,
                })
            }
            (Phase::Creating { image, place }, E::RunStarted { .. }) => go(Phase::Accepted {
                image: image.clone(),
                place: place.clone(),
            }),
            (Phase::Accepted { image, place }, E::ContainerStarted { id, .. }) => {
                go(Phase::Running {
                    image: image.clone(),
                    place: place.clone(),
                    id: id.clone(),
                    since: time,
                })
            }
            (Phase::Running { .. }, E::Output(_) | E::Agent { .. } | E::Signalled { .. }) => stay(),
            (Phase::Accepted { .. }, E::Signalled { .. }) => stay(),

            (
                Phase::Running { place, .. },
                E::ContainerExited {
                    code,
                    finished,
                    oom_killed,
                    signal,
                },
            ) => {
                let end = End::Exited {
                    code: *code,
                    oom_killed: *oom_killed,
                    signal: signal.clone(),
                };
                go(Phase::Over {
                    end,
                    at: *finished,
                    place: Some(place.clone()),
                })
            }
            (Phase::Over { .. }, E::Error { .. }) => Err(illegal()),
            (_, E::Error { code, message }) => {
                let end = End::Error {
                    code: *code,
                    message: message.clone(),
                };
                go(Phase::Over {
                    end,
                    at: time,
                    place: phase.place().cloned(),
                })
            }

            (Phase::Over { end, at, place }, E::RunEnded { outcome, why, .. }) => {
                let (code, error) = match end {
                    End::Exited { code, .. } => (Some(*code), None),
                    End::Error { code, message } => (None, Some((*code, message.clone()))),
                };
                Ok(Self::Ended {
                    outcome: outcome.clone(),
                    why: why.clone(),
                    code,
                    at: *at,
                    place: place.clone(),
                    error,
                })
            }
            _ => Err(illegal()),
        }
    }

    /// What has to be done next.
    #[must_use]
    pub fn step(&self) -> Step {
        let (phase, stop) = match self {
            Self::Ended { .. } => return Step::Done,
            Self::Live { phase, stop } => (phase, stop),
        };
        match phase {
            Phase::Over { place, .. } => Step::Conclude {
                place: place.clone(),
            },
            Phase::Accepted { place, .. } | Phase::Running { place, .. } => Step::Capture {
                place: place.clone(),
            },
            _ if stop.is_some() => Step::Cancel {
                place: phase.place().cloned(),
            },
            Phase::Steering { .. } => Step::Defer,
            Phase::Queued => Step::AwaitSlot,
            Phase::Preparing => Step::Build { attempt: 1 },
            Phase::Building { attempt } => Step::Build {
                attempt: attempt + 1,
            },
            Phase::Built { .. } => Step::Create { attempt: 1 },
            Phase::Creating { place, image } => Step::Launch {
                place: place.clone(),
                image: image.clone(),
            },
        }
    }

    /// Over and concluded.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// The stop that was asked for.
    #[must_use]
    pub const fn stop(&self) -> Option<&Stop> {
        match self {
            Self::Live { stop, .. } => stop.as_ref(),
            Self::Ended { .. } => None,
        }
    }

    /// The container, if one was about to be created.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Live { phase, .. } => phase.place(),
            Self::Ended { place, .. } => place.as_ref(),
        }
    }

    /// The state in one word, as `sessions` shows it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ended { .. } => "ended",
            Self::Live { stop: Some(_), .. } => "stopping",
            Self::Live { phase, .. } => match phase {
                Phase::Queued => "queued",
                Phase::Steering { message, .. } => match message {
                    Message::Asked => "queued",
                    Message::Sent => "sent",
                    Message::Heard => "running",
                },
                Phase::Preparing => "preparing",
                Phase::Building { .. } => "building",
                Phase::Built { .. } | Phase::Creating { .. } | Phase::Accepted { .. } => "starting",
                Phase::Running { .. } | Phase::Over { .. } => "running",
            },
        }
    }
}

impl Phase {
    /// The container, if one was about to be created.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Creating { place, .. }
            | Self::Accepted { place, .. }
            | Self::Running { place, .. } => Some(place),
            Self::Over { place, .. } => place.as_ref(),
            Self::Queued
            | Self::Preparing
            | Self::Building { .. }
            | Self::Built { .. }
            | Self::Steering { .. } => None,
        }
    }
}

/// How a run ended, from how its process ended, what the agent said last, and
/// what the user had asked for. `reports`: the agent says how it ended.
#[must_use]
pub fn outcome(
    reports: bool,
    stop: Option<&Stop>,
    end: &End,
    said: Option<&AgentEvent>,
    interrupted: bool,
) -> Outcome {
    let (code, oom_killed, signal) = match end {
        End::Error {
            code: ErrorCode::Cancelled,
            ..
        } => return Outcome::Cancelled,
        End::Error {
            code: ErrorCode::BuildFailed,
            ..
        } => return Outcome::BuildFailed,
        End::Error {
            code: ErrorCode::Budget,
            ..
        } => return Outcome::Budget,
        End::Error {
            code: ErrorCode::Gone,
            ..
        } => {
            return stop.map_or(Outcome::Lost, asked_for);
        }
        End::Error { .. } => return Outcome::Failed,
        End::Exited {
            code,
            oom_killed,
            signal,
        } => (*code, *oom_killed, signal),
    };
    if let Some(stop) = stop {
        return match said {
            // It has said how it went; all that was asked for is that it goes.
            Some(AgentEvent::Result { outcome, .. }) if stop.by == BY_LINGERING => outcome.clone(),
            _ => asked_for(stop),
        };
    }
    if oom_killed {
        return Outcome::Oom;
    }
    match signal.as_deref() {
        // Not every agent catches it.
        Some("SIGINT") if interrupted => return Outcome::Interrupted,
        Some(_) => return Outcome::Killed,
        None => {}
    }
    match said {
        Some(AgentEvent::Result { outcome, .. }) => match outcome {
            Outcome::Success if code != 0 => Outcome::Failed,
            Outcome::Failed if interrupted => Outcome::Interrupted,
            outcome => outcome.clone(),
        },
        _ if interrupted && reports => Outcome::Interrupted,
        // Whoever reports how it ended, and did not, did not end well.
        _ if code == 0 && !reports => Outcome::Success,
        _ => Outcome::Failed,
    }
}

/// How a run ends that was stopped.
fn asked_for(stop: &Stop) -> Outcome {
    match stop.by.as_str() {
        BY_TIMEOUT => Outcome::Timeout,
        BY_SILENCE | BY_LINGERING => Outcome::Idle,
        BY_TURNS => Outcome::MaxTurns,
        BY_BUDGET => Outcome::Budget,
        _ => Outcome::Stopped,
    }
}
