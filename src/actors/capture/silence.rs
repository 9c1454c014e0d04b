//! Agents that say nothing, or stay after their result: that is noted once for each
//! silence, and the run stopped if the user settled so.
//!
//! Where the daemon's settings say how long, what came before it read the run does not
//! count. Where the session's do, the silence begins with the last thing that is
//! recorded, whoever listened since. The machine's clock is looked at when something
//! was said; a clock that somebody sets afterwards is no silence.

use super::Reading;
use super::deadline::past;
use crate::actors::driver::{Driver, Over};
use crate::model::run::{BY_LINGERING, BY_SILENCE, Phase};
use crate::model::{Error, Event, EventKind, RunState, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// Since when nothing came.
pub(super) struct Silence {
    /// When this daemon began to read it.
    began: Instant,
    /// So much had been said when something was said last.
    said: u64,
    /// When that was; none before anything was.
    heard: Option<Instant>,
    /// It was noted already.
    noted: bool,
    /// It was longer than the session allows, and the run was told so.
    over: bool,
}

impl Silence {
    pub(super) fn new(driver: &Driver, number: u32) -> Result<Self, Over> {
        Ok(Self {
            began: Instant::now(),
            said: 0,
            heard: last_said(driver, number)?.map(past),
            noted: false,
            over: false,
        })
    }
}

impl Reading {
    /// Looks whether something was said since it was looked last.
    fn listen(&mut self) {
        let said = self.tracker.said();
        if said != self.silence.said {
            self.silence.said = said;
            self.silence.heard = Some(past(self.tracker.heard()));
            self.silence.noted = false;
        }
    }

    fn silent_since(&self) -> Instant {
        let began = self.silence.began;
        self.silence.heard.map_or(began, |heard| heard.max(began))
    }

    /// When the run has been silent for so long that it is said; nothing once it was.
    pub(super) fn silence(&mut self, driver: &Driver) -> Option<Instant> {
        self.listen();
        let settled = driver.link.shared.settings.silence;
        let after = match self.tracker.rests() {
            true => settled.linger?,
            false => settled.after?,
        };
        let due = !self.silence.noted && self.tracker.has_started();
        due.then(|| self.silent_since() + after)
    }

    /// Notes a silence that is long enough, and does what the user settled.
    pub(super) async fn keep_watch(&mut self, driver: &Driver) -> Result<(), Over> {
        let now = Instant::now();
        if self.silence(driver).is_none_or(|at| at > now) {
            return Ok(());
        }
        self.silence.noted = true;
        let seconds = (now - self.silent_since()).as_secs_f64();
        let (code, by, message) = match self.tracker.rests() {
            false => (
                "silent",
                BY_SILENCE,
                format!("nothing was said for {seconds:.1} s"),
            ),
            true => (
                "lingers",
                BY_LINGERING,
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
        self.stop(driver, by).await
    }

    /// When the run will have said nothing for longer than its session allows.
    pub(super) fn idle_deadline(&mut self, driver: &Driver) -> Option<Instant> {
        self.listen();
        let limit = self
            .spending
            .silence()
            .filter(|limit| *limit > 0 && !self.silence.over)?;
        let record = driver.record();
        match &record.runs.get(self.number as usize)?.state {
            RunState::Live {
                phase: Phase::Running { since, .. },
                ..
            } => {
                let from = *self.silence.heard.get_or_insert_with(|| past(*since));
                Some(from + Duration::from_secs(u64::from(limit)))
            }
            RunState::Live { .. } | RunState::Ended { .. } => None,
        }
    }

    /// Stops the run if it said nothing for longer than its session allows.
    pub(super) async fn keep_idle(&mut self, driver: &Driver) -> Result<(), Over> {
        let now = Instant::now();
        if self.idle_deadline(driver).is_none_or(|at| at > now) {
            return Ok(());
        }
        self.silence.over = true;
        self.stop(driver, BY_SILENCE).await
    }
}

/// When a run said something last, as far as is recorded and anybody asks.
fn last_said(driver: &Driver, number: u32) -> Result<Option<Timestamp>, Over> {
    let record = driver.record();
    let run = record.runs.get(number as usize);
    let adopted = run.filter(|run| run.started.is_some());
    let limit = adopted.and_then(|run| record.bounds_of(run).silence());
    if limit.is_none() {
        return Ok(None);
    }
    let (reader, ulid) = (&driver.link.shared.reader, driver.link.ulid);
    let said = |event: &Event| {
        let says = matches!(event.kind, EventKind::Output(_) | EventKind::Agent { .. });
        event.run == number && says
    };
    let at = reader.tail_start(ulid, 1, &said).map_err(Error::from)?;
    let events = reader.events(ulid, at, 1).map_err(Error::from)?;
    let last = events.iter().find(|event| said(event));
    Ok(last.map(|event| event.time))
}
