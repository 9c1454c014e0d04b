//! Reading on what a run says, from wherever the journal is, until it ends.
//!
//! A batch is read from the spool, recorded together with the cursors, and only
//! then is the shim told how far it may trim. While one is being recorded the
//! next is read, no further: so a slow journal makes the spool grow, which is
//! what the spool is for, and a crash anywhere costs and doubles nothing.
//! Memory: two batches and one open line a stream, twice [`BATCH`] and twice
//! 64 KiB, and [`JOIN_MAX`] for the agent's line.

mod adopt;
mod deadline;
mod signals;
mod silence;
mod spending;
mod steering;

use super::driver::{Driver, ENGINE_RETRY, Over, gone};
use super::tracker::{Ending, Flushed, Tracker};
use crate::model::capture::OPEN_LINE_FLUSH;
use crate::model::run::{Phase, Place};
use crate::model::{ErrorCode, EventKind, RunState, RuntimeName, Spec, Timestamp, Ulid};
use crate::runtime::session_dir::RunDir;
use crate::runtime::shim::{Record, Shim, ShimError, Spool, SpoolError};
use crate::runtime::{ExitInfo, Owner, PlaceState, Runtime, RuntimeError};
use adopt::Met;
use spending::Spending;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of the spool that are read and recorded at once.
/// At worst they are all newlines, an event each: some 60 MB while they are recorded.
pub(super) const BATCH: usize = 256 << 10;
/// Longest line of an agent that is put together again to be understood.
pub(super) const JOIN_MAX: usize = 8 << 20;
/// How long the engine's word on the end is waited for, once the shim's is there.
const CONFIRMATION: Duration = Duration::from_secs(10);
/// A stop that is overdue by so much, at a shim that does not answer, is left to the engine.
const OVERDUE: Duration = Duration::from_secs(5);
/// A spool that the system fails to read so often in a row cannot be read.
const FAILURES_MAX: u32 = 30;
const SIGKILL: &str = "SIGKILL";

/// A shim that this driver is connected to.
pub(super) struct Attached {
    pub(super) shim: Shim,
    pub(super) run: u32,
    pub(super) attempt: u32,
}

/// Reads on until the run's end is recorded.
pub(super) async fn capture(driver: &mut Driver, number: u32, place: &Place) -> Result<(), Over> {
    let ulid = driver.link.ulid;
    let dir = driver
        .link
        .shared
        .session_dir(ulid)
        .run(number, place.attempt);
    let ours = |a: &Attached| a.run == number && a.attempt == place.attempt;
    let attached = driver.attached.take().filter(ours);
    let (mut met, adopted) = match attached {
        Some(attached) => (Met::Shim(attached.shim), None),
        None => adopt::adopt(driver, number, place).await?,
    };
    fail_point!("capture.begun");
    let spool = adopt::open(&dir, (ulid, number, place.attempt)).await?;
    let mut reading = Reading {
        tracker: Tracker::new(driver, number, place.attempt).await?,
        number,
        place: place.clone(),
        dir,
        spool: None,
        ahead: None,
        known: 0,
        sent_stop: None,
        adopted,
        silent: false,
        timed_out: false,
        spending: Spending::new(driver, number)?,
        time_is_over: None,
        stop_due: None,
        silence: silence::Silence::new(driver, number)?,
        failures: 0,
        messages: steering::Done::default(),
    };
    match spool {
        Ok(spool) => reading.spool = Some(spool),
        Err(error) => reading.damaged(driver, &error).await?,
    }
    loop {
        met = match met {
            Met::Shim(shim) => match reading.live(driver, shim).await? {
                Some(lost) => lost,
                None => return reading.finish(driver, None).await,
            },
            Met::Mute => {
                reading.note_adoption(driver).await?;
                reading.mute(driver).await?
            }
            Met::Dead => return reading.after_death(driver).await,
        };
    }
}

async fn wait_for_end(
    runtime: Arc<dyn Runtime>,
    owner: Owner,
    container: String,
) -> Option<ExitInfo> {
    loop {
        match runtime.wait(&owner, &container).await {
            Ok(exit) => return exit,
            Err(RuntimeError::Unavailable { cause, .. }) => {
                tracing::warn!(container, cause, "waiting for the engine");
                tokio::time::sleep(ENGINE_RETRY).await;
            }
            Err(error) => {
                tracing::warn!(container, %error, "its end is not known");
                return None;
            }
        }
    }
}

struct Reading {
    tracker: Tracker,
    number: u32,
    place: Place,
    dir: RunDir,
    spool: Option<Spool>,
    /// The batch that was read while the one before was recorded.
    ahead: Option<Result<Vec<Record>, SpoolError>>,
    /// The spool is known to hold so many bytes.
    known: u64,
    sent_stop: Option<Ulid>,
    /// To be noted once what was said meanwhile is recorded, with its own times.
    adopted: Option<String>,
    /// It did not answer in time: it is frozen, or very busy.
    silent: bool,
    /// Its time was over, and it was told so.
    timed_out: bool,
    /// How far it has come, and how far it may go.
    spending: Spending,
    /// When it is, once that is known.
    time_is_over: Option<Instant>,
    /// When the deadline of the stop that is under way passes.
    stop_due: Option<(Ulid, Instant)>,
    silence: silence::Silence,
    /// So often in a row the system failed to read the spool.
    failures: u32,
    messages: steering::Done,
}

impl Reading {
    /// Reads on as long as the shim answers. Returns how it was lost; nothing
    /// when it has said its last word.
    async fn live(&mut self, driver: &mut Driver, shim: Shim) -> Result<Option<Met>, Over> {
        let there = shim.hello().written;
        self.known = self.known.max(there);
        // What was sent on another connection may not have arrived; the shim knows it by its id.
        self.sent_stop = None;
        self.messages = steering::Done::default();
        self.repeat_signals(driver, &shim).await;
        // Since when there is nothing to read: how long we took ourselves is no silence.
        let mut quiet: Option<Instant> = None;
        loop {
            if std::mem::take(&mut self.silent) {
                return Ok(Some(Met::Mute));
            }
            // What it had said already may be that it has ended.
            if self.has_taken(there) && !self.tracker.is_finished() {
                self.keep_deadline(driver).await?;
                self.keep_bounds(driver).await?;
            }
            self.pass_on_stop(driver, &shim).await;
            self.steer(driver, &shim).await?;
            while let Ok(signal) = driver.signals.try_recv() {
                self.pass_on(driver, &shim, signal).await;
            }
            let upto = self.known;
            if self.read_batch(driver, Some(upto)).await? {
                // A shim that has said its last word is on its way out.
                if !self.tracker.is_finished() {
                    let flushed = self.tracker.flush_silent();
                    self.settle(driver, &shim, flushed).await?;
                }
                quiet = None;
                continue;
            }
            self.note_adoption(driver).await?;
            if self.tracker.is_finished() {
                return Ok(None);
            }
            self.keep_watch(driver).await?;
            self.keep_idle(driver).await?;
            let quiet_since = *quiet.get_or_insert_with(Instant::now);
            let silence = tokio::time::sleep_until(quiet_since + OPEN_LINE_FLUSH);
            let position = self.position();
            let deadline = self.deadline(driver).into_iter();
            let deadline = deadline.chain(self.silence(driver));
            let deadline = deadline.chain(self.idle_deadline(driver)).min();
            let mut published = driver.link.published.clone();
            let mut again = published.clone();
            let sent = self.sent_stop;
            let done = self.messages.clone();
            let dead = self.wait(driver);
            tokio::select! {
                biased;
                written = shim.written(position.min(self.known)), if self.spool.is_some() => {
                    match written {
                        Ok(length) => self.known = length,
                        Err(ShimError::Displaced { .. }) => return Err(gone()),
                        Err(_) => {
                            let met = adopt::meet(driver, self.number, &self.place).await;
                            return met.map(Some);
                        }
                    }
                }
                () = Driver::stop_asked(&mut published, self.number, sent) => {}
                () = steering::asked(&mut again, self.number, &done) => {}
                () = deadline::wait_for(deadline), if deadline.is_some() => {}
                Some(signal) = driver.signals.recv() => {
                    self.pass_on(driver, &shim, signal).await;
                }
                () = silence, if self.tracker.has_open() => {
                    let flushed = self.tracker.flush_open(Timestamp::now());
                    self.settle(driver, &shim, flushed).await?;
                }
                _ = dead, if self.spool.is_none() => return Ok(Some(Met::Dead)),
            }
        }
    }

    /// Records lines that have been open in silence, and tells the shim what it
    /// may let go: an open line keeps all that follows it in the spool.
    async fn settle(
        &mut self,
        driver: &Driver,
        shim: &Shim,
        (events, cursors): Flushed,
    ) -> Result<(), Over> {
        if !events.is_empty() {
            driver
                .link
                .record_with(self.number, events, cursors)
                .await?;
        }
        fail_point!("capture.recorded");
        let trim_to = self.tracker.trim_to();
        if let Err(error) = self.answer(shim.trim(trim_to)).await {
            tracing::debug!(%error, "a trim was not taken");
        }
        fail_point!("capture.trimmed");
        Ok(())
    }

    /// A shim that is frozen while it is connected answers nothing.
    async fn answer<T>(
        &mut self,
        call: impl Future<Output = Result<T, ShimError>>,
    ) -> Result<T, ShimError> {
        let answered = tokio::time::timeout(CONFIRMATION, call).await;
        answered.unwrap_or_else(|_| {
            self.silent = true;
            Err(self.timeout())
        })
    }

    fn timeout(&self) -> ShimError {
        let dir = self.dir.path().display().to_string();
        ShimError::Timeout { dir }
    }

    /// Asks a shim that does not answer again and again, until it does or its
    /// container has ended. A stop wakes it; one that is overdue ends it.
    async fn mute(&mut self, driver: &mut Driver) -> Result<Met, Over> {
        loop {
            tokio::select! {
                _ = self.wait(driver) => return Ok(Met::Dead),
                () = tokio::time::sleep(ENGINE_RETRY) => {}
            }
            self.keep_deadline(driver).await?;
            let record = driver.record();
            let run = record.runs.get(self.number as usize);
            if let Some(stop) = run.and_then(|run| run.state.stop()) {
                let owner = driver.owner(self.number, self.place.attempt);
                if self.overdue(stop.id, stop.deadline) > OVERDUE {
                    let container = &self.place.container;
                    if let Err(error) = driver.runtime.remove(&owner, container, false).await {
                        tracing::warn!(container, %error, "it cannot be killed yet");
                    }
                } else {
                    self.unpause(driver, &owner).await;
                }
            }
            match adopt::meet(driver, self.number, &self.place).await? {
                Met::Mute => {}
                met => return Ok(met),
            }
        }
    }

    /// A frozen container hears nothing; a deadline is kept once it thaws.
    async fn unpause(&self, driver: &Driver, owner: &Owner) {
        let (runtime, container) = (&driver.runtime, &self.place.container);
        let thaw = async {
            let found = runtime.find(owner, container).await;
            if let Ok(Some(found)) = found
                && matches!(found.state, PlaceState::Running { paused: true, .. })
            {
                let _ = runtime.unpause(owner, container).await;
            }
        };
        // An engine that hangs must not keep what the run says from being read.
        let _ = tokio::time::timeout(CONFIRMATION, thaw).await;
    }

    /// The shim is dead: everything it will ever say is in the spool.
    async fn after_death(mut self, driver: &mut Driver) -> Result<(), Over> {
        self.own_up(driver).await?;
        while self.read_batch(driver, None).await? {
            fail_point!("capture.drained");
        }
        self.note_adoption(driver).await?;
        if self.tracker.is_finished() {
            // The end is known, whether or not the engine answers now.
            return self.finish(driver, None).await;
        }
        let exit = self.wait(driver).await;
        while self.read_batch(driver, None).await? {}
        self.finish(driver, Some(exit)).await
    }

    async fn note_adoption(&mut self, driver: &Driver) -> Result<(), Over> {
        let Some(message) = self.adopted.take() else {
            return Ok(());
        };
        let code = "adopted".to_owned();
        let note = EventKind::Note { code, message };
        driver.link.record(self.number, vec![note]).await
    }

    /// Reads and records one batch; false when there was nothing to read. The
    /// next one is read while this one is made durable.
    async fn read_batch(&mut self, driver: &Driver, upto: Option<u64>) -> Result<bool, Over> {
        let read = match self.ahead.take() {
            Some(read) => Some(read),
            None => self.read(upto).await?,
        };
        let records = match read {
            None => return Ok(false),
            Some(Ok(records)) if records.is_empty() => return Ok(false),
            Some(Ok(records)) => records,
            Some(Err(SpoolError::Io { source, .. })) if self.failures < FAILURES_MAX => {
                tracing::warn!(session = %driver.link.ulid, %source, "a spool cannot be read now");
                self.failures += 1;
                tokio::time::sleep(ENGINE_RETRY).await;
                return Ok(true);
            }
            Some(Err(error)) => {
                self.damaged(driver, &error).await?;
                return Ok(false);
            }
        };
        self.failures = 0;
        let (events, cursors) = self.tracker.take(driver, records);
        if events.is_empty() && cursors.is_empty() {
            return Ok(true);
        }
        self.spending.take_all(&events);
        fail_point!("capture.read");
        let recorded = driver.link.record_with(self.number, events, cursors);
        let (recorded, ahead) = tokio::join!(recorded, self.read(upto));
        recorded?;
        self.ahead = ahead?.filter(|read| !matches!(read, Ok(records) if records.is_empty()));
        Ok(true)
    }

    /// Reads on, if there is something below `upto` that was not read.
    async fn read(
        &mut self,
        upto: Option<u64>,
    ) -> Result<Option<Result<Vec<Record>, SpoolError>>, Over> {
        let beyond = |spool: &Spool| upto.is_some_and(|upto| spool.position() >= upto);
        if self.spool.as_ref().is_none_or(beyond) {
            return Ok(None);
        }
        let Some(mut spool) = self.spool.take() else {
            return Ok(None);
        };
        let read = tokio::task::spawn_blocking(move || {
            let read = spool.read(upto, BATCH);
            (spool, read)
        });
        let (spool, read) = read.await.map_err(|_| gone())?;
        self.spool = Some(spool);
        Ok(Some(read))
    }

    /// What is in a container is not trusted: a spoiled spool ends this capture, nothing else.
    async fn damaged(&mut self, driver: &Driver, error: &SpoolError) -> Result<(), Over> {
        self.spool = None;
        let message = format!("what the agent wrote from here on cannot be read: {error}");
        let note = EventKind::Note {
            code: "spool_damaged".to_owned(),
            message,
        };
        driver.link.record(self.number, vec![note]).await
    }

    async fn pass_on_stop(&mut self, driver: &Driver, shim: &Shim) {
        let record = driver.record();
        let run = record.runs.get(self.number as usize);
        let Some(stop) = run.and_then(|run| run.state.stop()) else {
            return;
        };
        if self.sent_stop == Some(stop.id) {
            return;
        }
        self.sent_stop = Some(stop.id);
        fail_point!("capture.stopping");
        let grace = stop.deadline.since(Timestamp::now());
        let owner = driver.owner(self.number, self.place.attempt);
        let (id, number) = (stop.id, self.number);
        let both = async {
            let unpause = self.unpause(driver, &owner);
            let stop = tokio::time::timeout(CONFIRMATION, shim.stop(id, number, grace));
            tokio::join!(stop, unpause).0
        };
        let stopped = both.await.unwrap_or_else(|_| {
            self.silent = true;
            Err(self.timeout())
        });
        if let Err(error) = stopped {
            tracing::warn!(session = %driver.link.ulid, %error, "the shim did not take the stop");
        }
    }

    /// Records the end. `exit` is the engine's word, when the shim is dead.
    async fn finish(mut self, driver: &Driver, exit: Option<Option<ExitInfo>>) -> Result<(), Over> {
        self.give_back(driver).await?;
        let ending = self.tracker.ending();
        let now = Timestamp::now();
        let finished = self.tracker.ended_at().unwrap_or(now);
        let end = match ending {
            Ending::Exited { code, signal, .. } => {
                let oom_killed = signal.as_deref() == Some(SIGKILL)
                    && self
                        .confirmed(driver, exit)
                        .await
                        .is_some_and(|exit| exit.oom_killed);
                EventKind::ContainerExited {
                    code,
                    finished,
                    oom_killed,
                    signal,
                }
            }
            Ending::NotRun { code, message } => {
                let code = match code {
                    127 => ErrorCode::CommandNotFound,
                    _ => ErrorCode::CommandNotExecutable,
                };
                let hint = command_hint(&driver.spec);
                let message = format!("{message}\nhint: {hint}");
                EventKind::Error { code, message }
            }
            Ending::Unknown => self.without_record(driver, exit.flatten()),
        };
        let (mut events, cursors) = self.tracker.close(now);
        events.push((finished, end));
        fail_point!("capture.ended");
        driver.link.record_with(self.number, events, cursors).await
    }

    /// Waits until the place is dead; says how, where that is known.
    fn wait(&self, driver: &Driver) -> impl Future<Output = Option<ExitInfo>> + Send + use<> {
        let owner = driver.owner(self.number, self.place.attempt);
        wait_for_end(driver.runtime.clone(), owner, self.place.container.clone())
    }

    /// The engine's word on an end that the shim reported.
    async fn confirmed(&self, driver: &Driver, exit: Option<Option<ExitInfo>>) -> Option<ExitInfo> {
        match exit {
            Some(exit) => exit,
            None => tokio::time::timeout(CONFIRMATION, self.wait(driver))
                .await
                .ok()
                .flatten(),
        }
    }

    /// The shim died without a word on how the run ended.
    fn without_record(&self, driver: &Driver, exit: Option<ExitInfo>) -> EventKind {
        let record = driver.record();
        let running = record.runs.get(self.number as usize).is_some_and(|run| {
            matches!(
                run.state,
                RunState::Live {
                    phase: Phase::Running { .. },
                    ..
                }
            )
        });
        let container = &self.place.container;
        // A plain process that was killed leaves nobody who could tell how its agent
        // fared; one that ended by itself says when.
        let local = driver.spec.runtime == RuntimeName::Local;
        let exit = exit.filter(|exit| !local || exit.finished.is_some());
        match exit {
            Some(exit) if running || self.tracker.has_started() => {
                let code = u8::try_from(exit.code).unwrap_or(255);
                let signal = match code {
                    137 => Some(SIGKILL.to_owned()),
                    143 => Some("SIGTERM".to_owned()),
                    _ => None,
                };
                EventKind::ContainerExited {
                    code,
                    finished: exit.finished.unwrap_or_else(Timestamp::now),
                    oom_killed: exit.oom_killed,
                    signal,
                }
            }
            Some(exit) => {
                let why = exit
                    .error
                    .unwrap_or_else(|| format!("it exited with {}", exit.code));
                let message =
                    format!("container {container}: {why}; whether its agent ran is not known");
                EventKind::Error {
                    code: ErrorCode::ContainerFailed,
                    message,
                }
            }
            None => {
                let message = format!("{container} is gone; how it ended is not known");
                EventKind::Error {
                    code: ErrorCode::Gone,
                    message,
                }
            }
        }
    }
}

/// What to do about a command that could not be run.
fn command_hint(spec: &Spec) -> String {
    let json = spec.pod.dir.join("pod.json");
    let json = json.display();
    match spec.runtime {
        RuntimeName::Local => format!("set PATH in \"env\" of {json}, or \"entrypoint\""),
        RuntimeName::Docker | RuntimeName::Fake if spec.pod.dockerfile => {
            let file = spec.pod.dir.join("Dockerfile");
            format!(
                "install it in {}, or set \"entrypoint\" in {json}",
                file.display()
            )
        }
        RuntimeName::Docker | RuntimeName::Fake => {
            format!("use an image that has it, or set \"entrypoint\" in {json}")
        }
    }
}
