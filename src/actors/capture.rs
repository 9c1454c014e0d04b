//! Reading on what a run says, from wherever the journal is, until it ends.
//!
//! One batch is in flight: it is read from the spool, recorded together with
//! the cursors, and only then is the shim told how far it may trim. So a slow
//! journal makes the spool grow, which is what the spool is for, and a crash
//! anywhere costs and doubles nothing. Memory: one batch and one open line a
//! stream, about [`BATCH`] and twice 64 KiB, and [`JOIN_MAX`] for the agent's line.

use super::driver::{Driver, ENGINE_RETRY, Over, gone};
use super::session::Signal;
use super::tracker::{Ending, Tracker};
use crate::model::capture::OPEN_LINE_FLUSH;
use crate::model::run::{Phase, Place};
use crate::model::{ErrorCode, EventKind, RunState, RuntimeName, Spec, Timestamp, Ulid};
use crate::runtime::session_dir::RunDir;
use crate::runtime::shim::{Record, Shim, ShimError, Spool, SpoolError};
use crate::runtime::{ExitInfo, Owner, PlaceState, Runtime, RuntimeError};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the spool that are read and recorded at once.
pub(super) const BATCH: usize = 1 << 20;
/// Longest line of an agent that is put together again to be understood.
pub(super) const JOIN_MAX: usize = 8 << 20;
/// How long a shim that should be there is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the engine's word on the end is waited for, once the shim's is there.
const CONFIRMATION: Duration = Duration::from_secs(10);
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
    let (shim, adopted) = match attached {
        Some(attached) => (Some(attached.shim), None),
        None => adopt(driver, &dir).await?,
    };
    let expect = (ulid, number, place.attempt);
    let opened = tokio::task::spawn_blocking({
        let dir = dir.clone();
        move || Spool::open(&dir, expect)
    });
    let spool = opened.await.map_err(|_| gone())?;
    let mut reading = Reading {
        tracker: Tracker::new(driver, number, place.attempt).await?,
        number,
        place: place.clone(),
        dir,
        spool: None,
        known: 0,
        sent_stop: None,
        adopted,
    };
    match spool {
        Ok(spool) => reading.spool = Some(spool),
        Err(error) => reading.damaged(driver, &error).await?,
    }
    match shim {
        Some(shim) => reading.live(driver, shim).await,
        None => reading.after_death(driver).await,
    }
}

/// Takes over a run that another generation or daemon launched. Gives what is
/// to be noted about it.
async fn adopt(driver: &Driver, dir: &RunDir) -> Result<(Option<Shim>, Option<String>), Over> {
    let connected = connect(driver, dir, PATIENCE).await;
    let message = match &connected {
        Ok(_) => "a daemon that started later goes on with this run".to_owned(),
        Err(ShimError::Dead { .. }) => "the run ended while no daemon ran".to_owned(),
        Err(ShimError::Displaced { .. }) => return Err(gone()),
        Err(error) => format!("the shim cannot be talked to ({error}); waiting for the end"),
    };
    Ok((connected.ok(), Some(message)))
}

async fn connect(driver: &Driver, dir: &RunDir, patience: Duration) -> Result<Shim, ShimError> {
    let generation = driver.link.claim.generation;
    Shim::connect(dir, driver.peer(None), generation, patience).await
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
    /// The spool is known to hold so many bytes.
    known: u64,
    sent_stop: Option<Ulid>,
    /// To be noted once what was said meanwhile is recorded, with its own times.
    adopted: Option<String>,
}

impl Reading {
    async fn live(mut self, driver: &mut Driver, mut shim: Shim) -> Result<(), Over> {
        self.known = shim.hello().written;
        loop {
            self.pass_on_stop(driver, &shim).await;
            while let Ok(signal) = driver.signals.try_recv() {
                self.pass_on(driver, &shim, signal).await;
            }
            let upto = self.known;
            if let Some(trim) = self.read_batch(driver, Some(upto)).await? {
                // A shim that has said its last word is on its way out.
                if self.tracker.is_finished() {
                    continue;
                }
                if let Err(error) = shim.trim(trim).await {
                    tracing::debug!(%error, "a trim was not taken");
                }
                continue;
            }
            self.note_adoption(driver).await?;
            if self.tracker.is_finished() {
                return self.finish(driver, None).await;
            }
            let position = self.spool.as_ref().map_or(u64::MAX, Spool::position);
            let mut published = driver.link.published.clone();
            let sent = self.sent_stop;
            let dead = self.wait(driver);
            tokio::select! {
                written = shim.written(position.min(self.known)), if self.spool.is_some() => {
                    match written {
                        Ok(length) => self.known = length,
                        Err(ShimError::Displaced { .. }) => return Err(gone()),
                        Err(_) => match connect(driver, &self.dir, Duration::ZERO).await {
                            Ok(again) => {
                                self.known = again.hello().written;
                                shim = again;
                            }
                            Err(ShimError::Displaced { .. }) => return Err(gone()),
                            Err(_) => return self.after_death(driver).await,
                        },
                    }
                }
                () = Driver::stop_asked(&mut published, self.number, sent) => {}
                Some(signal) = driver.signals.recv() => {
                    self.pass_on(driver, &shim, signal).await;
                }
                () = tokio::time::sleep(OPEN_LINE_FLUSH), if self.tracker.has_open() => {
                    let (events, cursors) = self.tracker.flush(Timestamp::now());
                    driver.link.record_with(self.number, events, cursors).await?;
                }
                _ = dead, if self.spool.is_none() => {
                    return self.after_death(driver).await;
                }
            }
        }
    }

    /// The shim is dead: everything it will ever say is in the spool.
    async fn after_death(mut self, driver: &mut Driver) -> Result<(), Over> {
        let exit = self.wait(driver).await;
        while self.read_batch(driver, None).await?.is_some() {}
        self.note_adoption(driver).await?;
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

    /// Reads and records one batch. Returns how far the spool may be trimmed,
    /// `None` when there was nothing to read.
    async fn read_batch(
        &mut self,
        driver: &Driver,
        upto: Option<u64>,
    ) -> Result<Option<u64>, Over> {
        let Some(mut spool) = self.spool.take() else {
            return Ok(None);
        };
        if upto.is_some_and(|upto| spool.position() >= upto) {
            self.spool = Some(spool);
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let read = spool.read(upto, BATCH);
            (spool, read)
        });
        let (spool, read) = read.await.map_err(|_| gone())?;
        let records: Vec<Record> = match read {
            Ok(records) => {
                self.spool = Some(spool);
                records
            }
            Err(error) => {
                self.damaged(driver, &error).await?;
                return Ok(None);
            }
        };
        if records.is_empty() {
            return Ok(None);
        }
        let (events, cursors) = self.tracker.take(driver, records);
        if !events.is_empty() || !cursors.is_empty() {
            driver
                .link
                .record_with(self.number, events, cursors)
                .await?;
        }
        Ok(Some(self.tracker.trim_to()))
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
        let grace = stop.deadline.since(Timestamp::now());
        let owner = driver.owner(self.number, self.place.attempt);
        let unpause = async {
            // A frozen container hears nothing; the deadline is kept once it thaws.
            let found = driver.runtime.find(&owner, &self.place.container).await;
            if let Ok(Some(found)) = found
                && matches!(found.state, PlaceState::Running { paused: true, .. })
            {
                let _ = driver.runtime.unpause(&owner, &self.place.container).await;
            }
        };
        let (stopped, ()) = tokio::join!(shim.stop(stop.id, self.number, grace), unpause);
        if let Err(error) = stopped {
            tracing::warn!(session = %driver.link.ulid, %error, "the shim did not take the stop");
        }
    }

    async fn pass_on(&self, driver: &Driver, shim: &Shim, signal: Signal) {
        if signal.run != self.number {
            return;
        }
        if let Err(error) = shim.signal(signal.id, signal.run, signal.number).await {
            tracing::warn!(session = %driver.link.ulid, %error, "the shim did not take the signal");
        }
    }

    /// Records the end. `exit` is the engine's word, when the shim is dead.
    async fn finish(mut self, driver: &Driver, exit: Option<Option<ExitInfo>>) -> Result<(), Over> {
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
                let message = format!("container {container}: {why}, before the agent ran");
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
