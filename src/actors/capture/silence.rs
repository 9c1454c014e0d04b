//! Agents that say nothing: that is noted once for each silence, and the run
//! stopped if the user settled so.
//!
//! What came before this daemon read the run does not count: how long a silence
//! is cannot be known of a time when nobody listened.

use super::Reading;
use crate::actors::driver::{Driver, Over, gone};
use crate::actors::session::Stop;
use crate::model::run::BY_SILENCE;
use crate::model::{EventKind, Timestamp};
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
        if !driver.link.shared.settings.silence.stop {
            return Ok(());
        }
        let stop = Stop {
            run: Some(self.number),
            grace: GRACE,
            by: BY_SILENCE,
        };
        let stopping = driver.link.addr.send(stop).await.map_err(|_| gone())?;
        stopping.map(|_| ())
    }
}
