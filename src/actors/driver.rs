//! The driver: does, step by step, what a session's record says is next.
//!
//! It keeps nothing that matters: every step begins from the published record
//! and ends with events that are durable, so the next generation, or the next
//! daemon, goes on where this one was. An error here means that this generation
//! is over, not that the run failed: what fails a run is recorded as `error`.

use super::admission::{Demand, Fate, Verdict};
use super::capture::{self, Attached};
use super::cleanup;
use super::conclusion;
use super::environment;
use super::launch;
use super::messages;
use super::retrying;
use super::session::{Idle, Link, Published, Signal};
use super::supervisor::{Acquire, Enqueue, Release};
use crate::agent;
use crate::model::run::{self, End, Phase, Place, Step};
use crate::model::{
    Account, Error, ErrorCode, EventKind, How, Outcome, RunRecord, RunState, SessionRecord, Spec,
    Timestamp,
};
use crate::runtime::{Owner, Runtime};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument as _;

/// How long an engine that does not answer is left alone before it is asked again.
pub(super) const ENGINE_RETRY: Duration = Duration::from_secs(2);

/// Why a run is over that a user took back.
pub(super) const TAKEN_BACK: &str = "taken back before it ran";

/// Why a driver ends.
pub(super) type Over = Error;

/// What a driver works with.
pub(super) struct Driver {
    pub(super) link: Link,
    pub(super) spec: Arc<Spec>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
    /// The engine's id of the container that this driver created last.
    pub(super) container_id: Option<String>,
    /// What is to be recorded of the launch that is under way.
    pub(super) notes: Vec<EventKind>,
    /// The shim of the run that was launched by this driver itself.
    pub(super) attached: Option<Attached>,
    /// The run whose image was gone when its container was to be created.
    pub(super) built_again: Option<u32>,
}

/// Drives a session until its generation is over; says why it is.
pub(super) async fn drive(link: Link, signals: mpsc::UnboundedReceiver<Signal>) -> Over {
    let ulid = link.ulid;
    // Always there, whatever is logged: what is said below names its session by it.
    let span = tracing::error_span!("driver", session = %ulid);
    let Err(error) = run(link, signals).instrument(span).await;
    tracing::debug!(session = %ulid, %error, "a driver ended");
    error
}

async fn run(link: Link, signals: mpsc::UnboundedReceiver<Signal>) -> Result<Infallible, Over> {
    let spec = Arc::new(link.shared.spec(link.ulid)?);
    let runtime = link.shared.runtime(spec.runtime)?.clone();
    if let Some(needed) = link.shared.needed.get(&spec.runtime) {
        needed.cancel();
    }
    let mut driver = Driver {
        link,
        spec,
        runtime,
        signals,
        container_id: None,
        notes: Vec::new(),
        attached: None,
        built_again: None,
    };
    loop {
        let record = driver.record();
        let Some(run) = record.live_run() else {
            driver.idle(&record).await?;
            continue;
        };
        fail_point!("driver.step", record.pod.as_str());
        driver.step(&record, run).await?;
    }
}

impl Driver {
    /// What is durable now.
    pub(super) fn record(&self) -> Arc<SessionRecord> {
        self.link.published.borrow().record.clone()
    }

    /// Whose the container of a run's attempt is.
    pub(super) fn owner(&self, run: u32, attempt: u32) -> Owner {
        let record = self.record();
        let home = self.link.shared.home;
        Owner {
            home,
            session: record.ulid,
            id: record.id.clone(),
            run,
            attempt,
        }
    }

    /// Completes when a stop that is not `known` is asked for of run `number`.
    pub(super) async fn stop_asked(
        published: &mut tokio::sync::watch::Receiver<Published>,
        number: u32,
        known: Option<crate::model::Ulid>,
    ) {
        let asked = |published: &Published| {
            let run = published.record.runs.get(number as usize);
            run.and_then(|run| run.state.stop())
                .is_some_and(|stop| Some(stop.id) != known)
        };
        if published.wait_for(asked).await.is_err() {
            // The actor is gone; the driver is about to be cancelled.
            std::future::pending::<()>().await;
        }
    }

    async fn idle(&mut self, record: &SessionRecord) -> Result<(), Over> {
        cleanup::after_runs(self, record).await;
        let seen = self.link.published.borrow_and_update().seq;
        self.link.addr.send(Idle).await.map_err(|_| gone())?;
        // Either the actor ends, and with it this task, or a run was added.
        let more = |published: &Published| published.seq > seen || published.record.is_live();
        self.link
            .published
            .wait_for(more)
            .await
            .map_err(|_| gone())?;
        Ok(())
    }

    async fn step(&mut self, record: &SessionRecord, run: &RunRecord) -> Result<(), Over> {
        let number = run.number;
        match run.state.step() {
            Step::AwaitSlot => self.await_slot(record, run).await,
            Step::Cancel { place } => self.cancel(number, place).await,
            Step::Build { attempt } => launch::build(self, record, run, attempt, None).await,
            Step::Create { attempt } => {
                let container = record.id.container_name(number);
                self.link
                    .record(number, vec![EventKind::Creating { attempt, container }])
                    .await?;
                launch::launch(self, record, number, true).await
            }
            Step::Launch { .. } => launch::launch(self, record, number, false).await,
            Step::Capture { place } => capture::capture(self, number, &place).await,
            Step::Defer => messages::defer(self, number, false).await,
            Step::Conclude { place } => self.conclude(run, place).await,
            Step::Done => Ok(()),
        }
    }

    async fn await_slot(&mut self, record: &SessionRecord, run: &RunRecord) -> Result<(), Over> {
        let number = run.number;
        let mut published = self.link.published.clone();
        tokio::select! {
            biased;
            () = Self::stop_asked(&mut published, number, None) => return Ok(()),
            () = retrying::due(run) => {}
        }
        let demand = Demand::new(self.link.ulid, &self.spec, number, run.queued);
        let enqueued = self.link.supervisor.send(Enqueue(demand)).await;
        enqueued.map_err(|_| gone())?;
        let acquired = self.link.supervisor.send(Acquire(self.link.ulid)).await;
        let slot = acquired.map_err(|_| gone())?.0;
        let mut published = self.link.published.clone();
        tokio::select! {
            biased;
            () = Self::stop_asked(&mut published, number, None) => return Ok(()),
            told = slot => match told.map_err(|_| gone())? {
                Verdict::Go => {}
                Verdict::Never(why) => return self.give_up(record, &why).await,
            },
        }
        let step = "checking what the pod needs".to_owned();
        let admitted = EventKind::Preparing { step };
        launch::build(self, record, run, 1, Some(admitted)).await
    }

    /// What the session was to run after did not succeed: nothing of it will run,
    /// the last first, so that none begins when the one before it ends.
    async fn give_up(&mut self, record: &SessionRecord, why: &str) -> Result<(), Over> {
        let live = record.runs.iter().filter(|run| !run.state.is_ended());
        for run in live.rev() {
            let kinds = taken_back(Timestamp::now(), why);
            self.link.record_with(run.number, kinds, Vec::new()).await?;
            self.over(run.number).await?;
        }
        Ok(())
    }

    async fn cancel(&mut self, number: u32, place: Option<Place>) -> Result<(), Over> {
        if let Some(place) = place {
            if launch::was_told(self, number, &place).await {
                return launch::accepted(self, number).await;
            }
            let owner = self.owner(number, place.attempt);
            while let Err(error) = self.runtime.remove(&owner, &place.container, true).await {
                tracing::warn!(session = %self.link.ulid, %error, "a container cannot be removed yet");
                tokio::time::sleep(ENGINE_RETRY).await;
            }
        }
        let kinds = taken_back(Timestamp::now(), TAKEN_BACK);
        self.link.record_with(number, kinds, Vec::new()).await?;
        self.over(number).await
    }

    async fn conclude(&mut self, run: &RunRecord, place: Option<Place>) -> Result<(), Over> {
        let RunState::Live {
            phase: Phase::Over { end, .. },
            stop,
        } = &run.state
        else {
            return Ok(());
        };
        let outcome = run::outcome(
            agent::reports(agent::speaks(&self.spec)),
            stop.as_ref(),
            end,
            run.result.as_ref(),
            run.interrupted,
        );
        let outcome = retrying::settled(run, end, outcome);
        let why = conclusion::why(self, run, end, &outcome);
        messages::conclude(self, run.number, &outcome, why.as_deref()).await?;
        let record = self.record();
        let next = retrying::after(self, &record, run, &outcome, why.as_deref())?;
        let why = why.map(|why| retrying::first_error(&record, run, why));
        let never_ran = run.started.is_none();
        if let (Some(place), true) = (&place, never_ran) {
            let owner = self.owner(run.number, place.attempt);
            if let Err(error) = self.runtime.remove(&owner, &place.container, true).await {
                tracing::warn!(session = %self.link.ulid, %error, "left behind until it is removed");
            }
        }
        debug_assert!(matches!(end, End::Exited { .. } | End::Error { .. }));
        let ended = run_ended(&run.account, outcome, why);
        if next.is_none() {
            // What is over needs no values; what is recorded to be over has none.
            let dir = self.link.shared.session_dir(self.link.ulid);
            environment::forget(&dir, run.asked());
        }
        self.link.end(run.number, ended, next).await?;
        fail_point!("run.ended");
        self.over(run.number).await
    }

    /// Frees what a run had outside the journal and its container.
    async fn over(&mut self, number: u32) -> Result<(), Over> {
        self.attached = None;
        let dir = self.link.shared.session_dir(self.link.ulid);
        let record = self.record();
        environment::forget_unneeded(&dir, &record, number);
        if let Some(place) = record
            .runs
            .get(number as usize)
            .and_then(|run| run.state.place())
        {
            cleanup::spool(dir.run(number, place.attempt)).await;
        }
        fail_point!("run.freed");
        let fate = Fate::of(&record);
        let released = self.link.supervisor.send(Release(self.link.ulid, fate));
        released.await.map_err(|_| gone())
    }

    /// Ends the run with an error in place of what did not happen.
    pub(super) async fn fail(&self, number: u32, error: Error) -> Result<(), Over> {
        self.link.record(number, vec![failure(error)]).await
    }
}

/// An error as the event in place of what did not happen.
pub(super) fn failure(error: Error) -> EventKind {
    let message = match error.hint {
        Some(hint) => format!("{}\nhint: {hint}", error.message),
        None => error.message,
    };
    EventKind::Error {
        code: error.code,
        message,
    }
}

/// The end of a run that was taken back before it ran.
pub(super) fn taken_back(now: Timestamp, why: &str) -> Vec<(Timestamp, EventKind)> {
    let message = why.to_owned();
    let code = ErrorCode::Cancelled;
    let outcome = Outcome::Cancelled;
    vec![
        (now, EventKind::Error { code, message }),
        (now, run_ended(&Account::default(), outcome, None)),
    ]
}

/// The last event of a run that accounted for `account`.
pub(super) fn run_ended(account: &Account, outcome: Outcome, why: Option<String>) -> EventKind {
    let total = account.total();
    EventKind::RunEnded {
        outcome,
        why,
        usage: (!total.is_empty()).then_some(total),
        turns: (account.turns > 0).then_some(account.turns),
    }
}

/// The actor, or the daemon, is going away.
pub(super) fn gone() -> Error {
    Error::new(ErrorCode::Stopping, "the daemon is stopping")
}

/// Whether a run goes on with an earlier one's conversation: something ran before it.
pub(super) fn goes_on(record: &SessionRecord, run: &RunRecord) -> bool {
    run.how != How::New
        && record
            .runs
            .iter()
            .take(run.number as usize)
            .any(|earlier| earlier.started.is_some())
}
