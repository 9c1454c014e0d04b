//! How far an agent may go, kept by whichever daemon reads the run: turns, and what
//! its session may cost.
//!
//! Agents that keep a limit themselves are told it, and stop before; this is for
//! the others, and for those that go beyond. What a run took is counted from what
//! is recorded of it, so that a daemon that reads on knows. A run that had ended by
//! itself is read to its end first and stays what it was.

use super::Reading;
use crate::actors::driver::{Driver, Over};
use crate::agent;
use crate::agent::progress::Progress;
use crate::model::run::{BY_BUDGET, BY_TURNS};
use crate::model::{Bounds, Error, EventKind, Timestamp};

/// Bytes of events read at once.
const BATCH: usize = 1 << 20;

/// What is counted of a run, and how far it may go.
pub(super) struct Spending {
    bounds: Bounds,
    progress: Progress,
    told: bool,
}

impl Spending {
    /// Goes on where the journal is.
    pub(super) fn new(driver: &Driver, number: u32) -> Result<Self, Over> {
        let record = driver.record();
        let run = record.runs.get(number as usize);
        let mut spending = Self {
            bounds: run.map(|run| record.bounds_of(run)).unwrap_or_default(),
            progress: Progress::new(agent::speaks(&driver.spec)),
            told: false,
        };
        let Some(run) = run.filter(|run| run.started.is_some() && spending.is_needed()) else {
            return Ok(spending);
        };
        let mut at = run.queued_seq;
        loop {
            let reader = &driver.link.shared.reader;
            let events = reader
                .events(driver.link.ulid, at, BATCH)
                .map_err(Error::from)?;
            let Some(last) = events.last() else {
                return Ok(spending);
            };
            at = last.seq;
            for event in events.iter().filter(|event| event.run == number) {
                spending.take(&event.kind);
            }
        }
    }

    /// Takes an event of the run.
    pub(super) fn take(&mut self, kind: &EventKind) {
        if let EventKind::Agent { event } = kind {
            self.progress.take(event);
        }
    }

    /// Takes what is about to be recorded of the run.
    pub(super) fn take_all(&mut self, events: &[(Timestamp, EventKind)]) {
        events.iter().for_each(|(_, kind)| self.take(kind));
    }

    /// Seconds of silence that are settled for the session; 0 is for ever.
    pub(super) const fn silence(&self) -> Option<u32> {
        self.bounds.idle_timeout
    }

    fn is_needed(&self) -> bool {
        self.bounds.turns().is_some() || self.bounds.cost().is_some()
    }
}

impl Reading {
    /// Stops the run if it goes further than it may.
    pub(super) async fn keep_bounds(&mut self, driver: &Driver) -> Result<(), Over> {
        let spending = &self.spending;
        if spending.told || !spending.is_needed() || !spending.progress.works() {
            return Ok(());
        }
        let too_many = |turns| spending.progress.exceeds(turns);
        let by = if spending.bounds.turns().is_some_and(too_many) {
            BY_TURNS
        } else if spending.bounds.cost().is_some_and(|limit| {
            let spent = driver.record().spent_before(self.number + 1);
            limit.less(spent).is_zero()
        }) {
            BY_BUDGET
        } else {
            return Ok(());
        };
        self.spending.told = true;
        self.stop(driver, by).await
    }
}
