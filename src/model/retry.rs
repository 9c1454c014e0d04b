//! Runs that try again what an earlier one failed at.

use super::bounds::Bounds;
use super::run::{Phase, RunState};
use super::session::{RunRecord, SessionRecord};
use super::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// More often nothing is tried again.
pub const RETRIES_MAX: u32 = 10;

/// Of a run that nobody asked for: it tries again what another failed at, because
/// its API did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retry {
    /// The run that was asked for.
    pub of: u32,
    /// Which try again it is, from 1.
    pub attempt: u32,
    /// It does not begin before.
    pub after: Timestamp,
    /// It does not try itself: it has the agent shorten the conversation, so that the
    /// next one can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compacts: bool,
}

impl SessionRecord {
    /// How far the agent may go in a run.
    #[must_use]
    pub fn bounds_of(&self, run: &RunRecord) -> Bounds {
        run.bounds.over(self.bounds)
    }

    /// Whether a run may be tried again, should it fail.
    #[must_use]
    pub fn may_retry(&self, run: &RunRecord) -> bool {
        let allowed = self.bounds_of(run).retries();
        let tried = run.retry.as_ref().map_or(0, |retry| retry.attempt);
        run.compacts() || tried < allowed
    }

    /// The run that tries again what a run failed at, where one was recorded.
    #[must_use]
    pub fn retried_by(&self, run: &RunRecord) -> Option<&RunRecord> {
        let mut later = self.runs.iter().skip(run.number as usize + 1);
        later.find(|later| later.retry.is_some() && later.asked() == run.asked())
    }

    /// Whether a prompt waits for the end of a run.
    #[must_use]
    pub fn is_waited_for(&self, run: u32) -> bool {
        let mut later = self.runs.iter().skip(run as usize + 1);
        later.any(|later| !later.state.is_ended())
    }

    /// Whether the values of a run are needed, by it or by one that tries it again.
    #[must_use]
    pub fn needs_values(&self, number: u32) -> bool {
        let mut users = self.runs.iter().filter(|run| run.asked() == number);
        users.any(|run| match &run.state {
            RunState::Ended { .. } => false,
            RunState::Live { phase, .. } => !phase.is_accepted() || self.may_retry(run),
        })
    }
}

impl Phase {
    /// Whether the shim has the run.
    const fn is_accepted(&self) -> bool {
        match self {
            Self::Accepted { .. } | Self::Running { .. } | Self::Over { .. } => true,
            Self::Queued
            | Self::Steering { .. }
            | Self::Preparing
            | Self::Building { .. }
            | Self::Built { .. }
            | Self::Creating { .. } => false,
        }
    }
}

impl RunRecord {
    /// Why it did not succeed, if it has ended.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match &self.state {
            RunState::Ended { why, .. } => why.as_deref(),
            RunState::Live { .. } => None,
        }
    }

    /// Whether it shortens the conversation, so that the next run can go on with it.
    #[must_use]
    pub fn compacts(&self) -> bool {
        self.retry.as_ref().is_some_and(|retry| retry.compacts)
    }

    /// The run that was asked for: this one, or the one that it tries again.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.retry.as_ref().map_or(self.number, |retry| retry.of)
    }
}
