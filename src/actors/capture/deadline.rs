//! A run's time limit, kept by whichever daemon reads the run.
//!
//! The deadline follows from the record, so a daemon that was not there when it
//! passed stops the run when it is. A run that had ended by itself meanwhile is
//! read to its end first and stays what it was. The machine's clock is looked at
//! once; from then on it may be set.

use super::Reading;
use crate::actors::driver::{Driver, Over, gone};
use crate::actors::session::Stop;
use crate::model::run::{BY_TIMEOUT, Phase};
use crate::model::{RunState, Timestamp, Ulid};
use crate::runtime::shim::Spool;
use std::time::Duration;
use tokio::time::Instant;

/// Between SIGTERM and SIGKILL of a run that is over by a limit.
const GRACE: Duration = Duration::from_secs(10);
/// Longest time that is waited for; beyond it a moment may not be there to be told.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A recorded moment, as soon as it is met.
pub(super) fn moment(at: Timestamp) -> Instant {
    Instant::now() + at.since(Timestamp::now()).min(LONGEST)
}

/// A recorded moment that has passed; one that lies in the future is now.
pub(super) fn past(at: Timestamp) -> Instant {
    let now = Instant::now();
    now.checked_sub(Timestamp::now().since(at)).unwrap_or(now)
}

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
    pub(super) fn deadline(&mut self, driver: &Driver) -> Option<Instant> {
        let limit = driver.spec.timeout.filter(|_| !self.timed_out)?;
        if self.time_is_over.is_some() {
            return self.time_is_over;
        }
        let record = driver.record();
        match &record.runs.get(self.number as usize)?.state {
            RunState::Live {
                phase: Phase::Running { since, .. },
                ..
            } => {
                let limit = Duration::from_secs(u64::from(limit));
                // Begun in what is the future now, it has all its time.
                let latest = Instant::now() + limit;
                self.time_is_over = Some(moment(since.plus(limit)).min(latest));
            }
            RunState::Live { .. } | RunState::Ended { .. } => {}
        }
        self.time_is_over
    }

    /// How long the deadline of that stop has passed, since this daemon knows it.
    pub(super) fn overdue(&mut self, id: Ulid, deadline: Timestamp) -> Duration {
        let due = match self.stop_due {
            Some((known, due)) if known == id => due,
            _ => moment(deadline),
        };
        self.stop_due = Some((id, due));
        Instant::now().saturating_duration_since(due)
    }

    /// Stops the run if its time is over.
    pub(super) async fn keep_deadline(&mut self, driver: &Driver) -> Result<(), Over> {
        let over = |deadline: &Instant| *deadline <= Instant::now();
        if self.deadline(driver).filter(over).is_none() {
            return Ok(());
        }
        self.timed_out = true;
        self.stop(driver, BY_TIMEOUT).await
    }

    /// Stops the run by a limit. A stop that is under way and at least as quick is
    /// left as it is.
    pub(super) async fn stop(&self, driver: &Driver, by: &'static str) -> Result<(), Over> {
        let stop = Stop {
            run: Some(self.number),
            grace: GRACE,
            by,
        };
        let stopping = driver.link.addr.send(stop).await.map_err(|_| gone())?;
        stopping.map(|_| ())
    }
}

/// Completes at the deadline at the latest; never without one.
pub(super) async fn wait_for(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
