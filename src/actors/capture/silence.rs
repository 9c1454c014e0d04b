//! Agents that say nothing: that is noted once for each silence, and the run
//! stopped if the user settled so.
//!
//! Where the daemon's settings say how long, what came before it read the run does not
//! count. Where the session's do, the silence begins with the last thing that is
//! recorded, whoever listened since.

use super::Reading;
use crate::actors::driver::{Driver, Over, gone};
use crate::actors::session::Stop;
use crate::model::run::{BY_SILENCE, Phase};
use crate::model::{Error, Event, EventKind, RunState, Timestamp};
use std::time::Duration;

/// Between SIGTERM and SIGKILL of a run that was silent for too long.
const GRACE: Duration = Duration::from_secs(10);

impl Reading {
    fn last_heard(&self) -> Timestamp {
        self.tracker.heard().max(self.began)
    }

    /// When the run has been silent for so long that it is said; nothing once it was.
    pub(super) fn silence(&self, driver: &Driver) -> Option<Timestamp> {
        let after = driver.link.shared.settings.silence.after?;
        let from = self.last_heard();
        let said = self.silent_since == Some(from);
        (!said && self.tracker.has_started()).then(|| from.plus(after))
    }

    /// Notes a silence that is long enough, and does what the user settled.
    pub(super) async fn keep_watch(&mut self, driver: &Driver) -> Result<(), Over> {
        let now = Timestamp::now();
        if self.silence(driver).is_none_or(|at| at > now) {
            return Ok(());
        }
        let from = self.last_heard();
        self.silent_since = Some(from);
        let record = driver.record();
        let Some(run) = record.runs.get(self.number as usize) else {
            return Ok(());
        };
        let seconds = now.since(from).as_secs_f64();
        let (code, message) = match run.result {
            None => ("silent", format!("nothing was said for {seconds:.1} s")),
            Some(_) => (
                "lingers",
                format!("the agent gave its result {seconds:.1} s ago and has not ended"),
            ),
        };
        let note = EventKind::Note {
            code: code.to_owned(),
            message,
        };
        driver.link.record(self.number, vec![note]).await?;
        if !driver.link.shared.settings.silence.stop || self.spending.silence().is_some() {
            return Ok(());
        }
        self.stop_idle(driver).await
    }

    /// When the run will have said nothing for longer than its session allows.
    pub(super) fn idle_deadline(&self, driver: &Driver) -> Option<Timestamp> {
        let limit = self
            .spending
            .silence()
            .filter(|limit| *limit > 0 && !self.idle)?;
        let record = driver.record();
        match &record.runs.get(self.number as usize)?.state {
            RunState::Live {
                phase: Phase::Running { since, .. },
                ..
            } => {
                let from = self.tracker.heard().max(self.said).max(*since);
                Some(from.plus(Duration::from_secs(u64::from(limit))))
            }
            RunState::Live { .. } | RunState::Ended { .. } => None,
        }
    }

    /// Stops the run if it said nothing for longer than its session allows.
    pub(super) async fn keep_idle(&mut self, driver: &Driver) -> Result<(), Over> {
        let now = Timestamp::now();
        if self.idle_deadline(driver).is_none_or(|at| at > now) {
            return Ok(());
        }
        self.idle = true;
        self.stop_idle(driver).await
    }

    async fn stop_idle(&self, driver: &Driver) -> Result<(), Over> {
        let stop = Stop {
            run: Some(self.number),
            grace: GRACE,
            by: BY_SILENCE,
        };
        let stopping = driver.link.addr.send(stop).await.map_err(|_| gone())?;
        stopping.map(|_| ())
    }
}

/// When a run said something last, as far as is recorded and anybody asks.
pub(super) fn last_said(driver: &Driver, number: u32) -> Result<Timestamp, Over> {
    let record = driver.record();
    let run = record.runs.get(number as usize);
    let adopted = run.filter(|run| run.started.is_some());
    let limit = adopted.and_then(|run| run.bounds.over(driver.spec.bounds).silence());
    if limit.is_none() {
        return Ok(Timestamp::default());
    }
    let (reader, ulid) = (&driver.link.shared.reader, driver.link.ulid);
    let said = |event: &Event| {
        let says = matches!(event.kind, EventKind::Output(_) | EventKind::Agent { .. });
        event.run == number && says
    };
    let at = reader.tail_start(ulid, 1, &said).map_err(Error::from)?;
    let events = reader.events(ulid, at, 1).map_err(Error::from)?;
    let last = events.iter().find(|event| said(event));
    Ok(last.map(|event| event.time).unwrap_or_default())
}
