//! A run's time limit, kept by whichever daemon reads the run.
//!
//! The deadline follows from the record, so a daemon that was not there when it
//! passed stops the run when it is. A run that had ended by itself meanwhile is
//! read to its end first and stays what it was.

use super::Reading;
use crate::actors::driver::{Driver, Over, gone};
use crate::actors::session::Stop;
use crate::model::run::{BY_TIMEOUT, Phase};
use crate::model::{RunState, Timestamp};
use crate::runtime::shim::Spool;
use std::time::Duration;

/// Between SIGTERM and SIGKILL of a run whose time is over.
const GRACE: Duration = Duration::from_secs(10);
/// The clock may be set meanwhile, so it is looked at again after this.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

impl Reading {
    /// Whether everything below `upto` in the spool was understood.
    pub(super) fn has_taken(&self, upto: u64) -> bool {
        let all_read = self.ahead.is_none() && self.position() >= upto;
        all_read || self.tracker.position() >= upto
    }

    /// Where in the spool the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.spool.as_ref().map_or(u64::MAX, Spool::position)
    }

    /// When the run's time is over; nothing when it has no limit, or does not run.
    pub(super) fn deadline(&self, driver: &Driver) -> Option<Timestamp> {
        let limit = driver.spec.timeout.filter(|_| !self.timed_out)?;
        let record = driver.record();
        match &record.runs.get(self.number as usize)?.state {
            RunState::Live {
                phase: Phase::Running { since, .. },
                ..
            } => Some(since.plus(Duration::from_secs(u64::from(limit)))),
            RunState::Live { .. } | RunState::Ended { .. } => None,
        }
    }

    /// Stops the run if its time is over. A stop that is under way and at least
    /// as quick is left as it is.
    pub(super) async fn keep_deadline(&mut self, driver: &Driver) -> Result<(), Over> {
        let over = |deadline: &Timestamp| *deadline <= Timestamp::now();
        if self.deadline(driver).filter(over).is_none() {
            return Ok(());
        }
        self.timed_out = true;
        let stop = Stop {
            run: Some(self.number),
            grace: GRACE,
            by: BY_TIMEOUT,
        };
        let stopping = driver.link.addr.send(stop).await.map_err(|_| gone())?;
        stopping.map(|_| ())
    }
}

/// Completes at the deadline at the latest; never without one.
pub(super) async fn wait_for(deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => {
            let left = deadline.since(Timestamp::now());
            tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        }
        None => std::future::pending().await,
    }
}
