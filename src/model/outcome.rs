//! How a run ended.

use super::exit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a run ended: from what the agent reported and how its process ended,
/// and `success` needs both to be well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The agent said so and its process exited with 0.
    Success,
    /// The agent or its process failed.
    Failed,
    /// The agent was interrupted by somebody else than cldpd.
    Interrupted,
    /// A user stopped it.
    Stopped,
    /// A user took it back before it ran.
    Cancelled,
    /// Its image could not be built.
    BuildFailed,
    /// The agent ran out of turns.
    MaxTurns,
    /// The agent ran out of its budget.
    Budget,
    /// Its time limit passed.
    Timeout,
    /// It said nothing for too long.
    Idle,
    /// It was killed for want of memory.
    Oom,
    /// It was killed by whom is not known.
    Killed,
    /// Nothing more can be known.
    Lost,
    /// The agent's API answered with an error.
    ApiError {
        /// HTTP status, if there was an answer.
        status: Option<u16>,
        /// Whether trying again may help.
        retryable: bool,
    },
}

impl Outcome {
    /// All names there are.
    pub const NAMES: [&'static str; 14] = [
        "success",
        "failed",
        "interrupted",
        "stopped",
        "cancelled",
        "build_failed",
        "max_turns",
        "budget",
        "timeout",
        "idle",
        "oom",
        "killed",
        "lost",
        "api_error",
    ];

    /// The name, as in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
            Self::BuildFailed => "build_failed",
            Self::MaxTurns => "max_turns",
            Self::Budget => "budget",
            Self::Timeout => "timeout",
            Self::Idle => "idle",
            Self::Oom => "oom",
            Self::Killed => "killed",
            Self::Lost => "lost",
            Self::ApiError { .. } => "api_error",
        }
    }

    /// The exit code of a command that waited for a run that ended so, with
    /// the code of the agent's process where it had one.
    #[must_use]
    pub fn exit_code(&self, process: Option<u8>) -> u8 {
        match (self, process) {
            (Self::Timeout | Self::Idle, _) => exit::TIMED_OUT,
            (Self::Budget, _) => exit::TRY_LATER,
            // Its own word for it, unless it was stopped on its behalf.
            (Self::MaxTurns, Some(128..)) => exit::FAILED,
            // Whoever lingered after it was told to go, and has a code from that.
            (Self::Success, _) => exit::OK,
            (Self::BuildFailed | Self::Lost, None) => exit::CLDPD_FAILED,
            (Self::Cancelled, None) => exit::INTERRUPTED,
            (_, Some(0)) if matches!(self, Self::Stopped) => exit::OK,
            (_, Some(0) | None) => exit::FAILED,
            (_, Some(code)) => code,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
