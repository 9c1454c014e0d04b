//! One actor for each session that is live: it alone writes the session's record.
//!
//! It numbers events, holds them against the state machine, hands them to the
//! journal and publishes the record once it is durable. The work itself is done
//! by a driver task ([`driver`](super::driver)) that sees only what is published.
//! A panic or a journal that fails ends the actor; the supervisor makes the next
//! generation from what is durable. The container is not the actor.

mod end;

use super::admission::Fate;
use super::context::Shared;
use super::record::{Recorder, Staged};
use super::resume::steerable;
use super::supervisor::{Dismiss, Ended, Exit, Supervisor};
use super::{driver, handle};
use crate::model::api::{ResumeHow, ResumeResponse};
use crate::model::capture::{Cursor, CursorKey};
use crate::model::run::{Phase, Step};
use crate::model::{
    Blob, Bounds, Branch, Error, ErrorCode, Event, EventKind, Fresh, How, RunState, SessionRecord,
    Timestamp, Ulid,
};
use crate::store::{Append, AppendError, Claim, RequestRow};
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is durable of a session.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) record: Arc<SessionRecord>,
    pub(super) seq: u64,
}

/// The driver's way to its session.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) addr: Addr<Session>,
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) claim: Arc<Claim>,
    pub(super) published: watch::Receiver<Published>,
    pub(super) ulid: Ulid,
    /// This process had another generation of it before.
    pub(super) again: bool,
}

impl Link {
    /// Records events of a run; returns when they are durable. An error means
    /// that this generation is over.
    pub(super) async fn record(&self, run: u32, kinds: Vec<EventKind>) -> Result<(), Error> {
        let now = Timestamp::now();
        let kinds = kinds.into_iter().map(|kind| (now, kind)).collect();
        self.record_with(run, kinds, Vec::new()).await
    }

    /// The same with their times, and with cursors in the same commit.
    pub(super) async fn record_with(
        &self,
        run: u32,
        kinds: Vec<(Timestamp, EventKind)>,
        cursors: Vec<(CursorKey, Cursor)>,
    ) -> Result<(), Error> {
        self.addr
            .send(Record {
                run,
                kinds,
                cursors,
            })
            .await
            .map_err(|_| over())?
            .map(|_| ())
    }
}

fn over() -> Error {
    Error::new(ErrorCode::Stopping, "the session's actor is gone")
}

/// Events of a run, from its driver.
#[derive(Message, Clone)]
#[rtype(result = "Result<u64, Error>")]
pub(super) struct Record {
    pub(super) run: u32,
    pub(super) kinds: Vec<(Timestamp, EventKind)>,
    pub(super) cursors: Vec<(CursorKey, Cursor)>,
}

/// A further prompt.
#[derive(Message, Clone)]
#[rtype(result = "Result<ResumeResponse, Error>")]
pub(super) struct AddRun {
    pub(super) prompt: Blob,
    pub(super) env: Vec<String>,
    /// It begins a conversation of its own.
    pub(super) fresh: Option<Fresh>,
    /// Or it leaves the session's.
    pub(super) branch: Option<Branch>,
    pub(super) bounds: Bounds,
    pub(super) how: ResumeHow,
    pub(super) id: Ulid,
    pub(super) hash: [u8; 32],
    /// The answer but for the event's number. Its run is the one that is
    /// expected: the run's values lie in a file of that name.
    pub(super) response: ResumeResponse,
}

/// Asks the current run to stop.
#[derive(Message, Clone)]
#[rtype(result = "Result<Option<u32>, Error>")]
pub(super) struct Stop {
    pub(super) run: Option<u32>,
    pub(super) grace: Duration,
    pub(super) by: &'static str,
}

/// Sends a signal to the current run.
#[derive(Message, Clone)]
#[rtype(result = "Result<Option<u32>, Error>")]
pub(super) struct Kill {
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) request: RequestRow,
}

/// Nothing is left to do, says the driver.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Idle;

/// Nobody is sent here any more, says the supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Dismissed;

/// A signal on its way to the shim.
pub(super) struct Signal {
    pub(super) id: Ulid,
    pub(super) run: u32,
    pub(super) number: i32,
}

/// What a new generation begins with.
pub(super) struct Birth {
    pub(super) shared: Arc<Shared>,
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) claim: Claim,
    pub(super) record: SessionRecord,
    pub(super) last: Timestamp,
    /// So often in a row it was made again in this process.
    pub(super) restarts: u32,
}

/// The actor.
pub(super) struct Session {
    core: Core,
    recorder: Recorder,
    published: watch::Sender<Published>,
    signals: mpsc::UnboundedSender<Signal>,
    for_driver: Option<mpsc::UnboundedReceiver<Signal>>,
    /// Appends that are not answered yet; the actor stays for them.
    in_flight: u32,
    dismissed: bool,
    /// Read in `stopped`; stays `Crashed` when a panic brought us there.
    exit: Exit,
    /// Cancels the driver when this actor is dropped, however that comes about.
    _driver: DropGuard,
    token: CancellationToken,
}

struct Core {
    shared: Arc<Shared>,
    supervisor: Addr<Supervisor>,
    claim: Arc<Claim>,
    ulid: Ulid,
    again: bool,
}

impl Session {
    pub(super) fn new(birth: Birth) -> Self {
        let Birth {
            shared,
            supervisor,
            claim,
            record,
            last,
            restarts,
        } = birth;
        let ulid = record.ulid;
        let seq = claim.next_seq - 1;
        let (signals, for_driver) = mpsc::unbounded_channel();
        let token = shared.leaving.child_token();
        Self {
            published: watch::Sender::new(Published {
                record: Arc::new(record.clone()),
                seq,
            }),
            recorder: Recorder::resume(record, claim.next_seq, last),
            core: Core {
                shared,
                supervisor,
                claim: Arc::new(claim),
                ulid,
                again: restarts > 0,
            },
            signals,
            for_driver: Some(for_driver),
            in_flight: 0,
            dismissed: false,
            exit: Exit::Crashed,
            _driver: token.clone().drop_guard(),
            token,
        }
    }

    fn append(
        &mut self,
        run: u32,
        kinds: Vec<(Timestamp, EventKind)>,
        cursors: Vec<(CursorKey, Cursor)>,
        requests: Vec<RequestRow>,
    ) -> ResponseActFuture<Self, Result<u64, Error>> {
        let staged = match self.recorder.stage(run, kinds) {
            Ok(staged) => staged,
            Err(illegal) => {
                let error = Error::new(ErrorCode::Internal, illegal.to_string());
                return Box::pin(fut::ready(Err(error)));
            }
        };
        self.commit(staged, cursors, requests)
    }

    fn commit(
        &mut self,
        staged: Staged,
        cursors: Vec<(CursorKey, Cursor)>,
        requests: Vec<RequestRow>,
    ) -> ResponseActFuture<Self, Result<u64, Error>> {
        let Staged { events, record } = staged;
        #[cfg(feature = "failpoints")]
        if let Some(record) = self.recorder.record() {
            fail_point!("session.append", record.pod.as_str());
        }
        let seq = events.last().map_or(0, |event: &Event| event.seq);
        let append = Append {
            session: self.core.ulid,
            generation: self.core.claim.generation,
            events,
            cursors,
            record: record.clone(),
            requests,
        };
        self.in_flight += 1;
        let journal = self.core.shared.journal.clone();
        let commit = async move {
            match journal.append(vec![append]).await?.pop() {
                Some(Ok(committed)) => Ok(committed.last_seq),
                // Another generation is the session's now; whoever asked may ask that one.
                Some(Err(refused @ (AppendError::Stale { .. } | AppendError::RequestDone(_)))) => {
                    Err(Error::new(ErrorCode::TryLater, refused.to_string()))
                }
                Some(Err(refused)) => Err(Error::new(ErrorCode::Internal, refused.to_string())),
                None => Err(over()),
            }
        };
        Box::pin(commit.into_actor(self).map(move |result, actor, ctx| {
            actor.in_flight -= 1;
            match result {
                Ok(last) => {
                    actor.publish(record, last);
                    actor.leave_if_done(ctx);
                    Ok(seq)
                }
                Err(error) => {
                    tracing::warn!(session = %actor.core.ulid, %error, "an append failed");
                    actor.exit = Exit::after(&error);
                    ctx.stop();
                    Err(error)
                }
            }
        }))
    }

    fn leave_if_done(&mut self, ctx: &mut Context<Self>) {
        if !self.dismissed || self.in_flight > 0 {
            return;
        }
        let live = self.recorder.record().is_some_and(SessionRecord::is_live);
        self.exit = if live { Exit::Again } else { Exit::Finished };
        ctx.stop();
    }

    fn publish(&self, record: Option<SessionRecord>, seq: u64) {
        self.published.send_if_modified(|published| {
            let Some(record) = record.filter(|_| seq > published.seq) else {
                return false;
            };
            self.core.shared.directory.put(&record);
            *published = Published {
                record: Arc::new(record),
                seq,
            };
            true
        });
    }

    /// The run that a stop or a signal means, if it is not over.
    fn target(&self, wanted: Option<u32>) -> Option<(u32, bool)> {
        let record = self.recorder.record()?;
        let run = match wanted {
            Some(number) => record
                .runs
                .get(number as usize)
                .filter(|run| !run.state.is_ended()),
            None => record.live_run(),
        }?;
        match &run.state {
            RunState::Live {
                phase: Phase::Over { .. },
                ..
            }
            | RunState::Ended { .. } => None,
            RunState::Live { phase, .. } => {
                let runs = matches!(phase, Phase::Accepted { .. } | Phase::Running { .. });
                Some((run.number, runs))
            }
        }
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(signals) = self.for_driver.take() else {
            return;
        };
        let link = Link {
            shared: self.core.shared.clone(),
            addr: ctx.address(),
            supervisor: self.core.supervisor.clone(),
            claim: self.core.claim.clone(),
            published: self.published.subscribe(),
            ulid: self.core.ulid,
            again: self.core.again,
        };
        let token = self.token.clone();
        let driving = tokio::spawn(async move {
            token
                .run_until_cancelled(driver::drive(link, signals))
                .await
        });
        // Without a driver nothing would ever happen again: this generation is over.
        let over = driving.into_actor(self).map(|ended, actor, ctx| {
            actor.exit = match ended {
                // The daemon leaves, and the driver let go.
                Ok(None) => return,
                Ok(Some(error)) => Exit::after(&error),
                Err(_) => Exit::Crashed,
            };
            ctx.stop();
        });
        ctx.spawn(over);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let generation = self.core.claim.generation;
        let ended = Ended {
            session: self.core.ulid,
            generation,
            exit: self.exit,
            fate: self.recorder.record().and_then(Fate::of),
        };
        self.core.supervisor.do_send(ended);
    }
}

impl Handler<Record> for Session {
    type Result = ResponseActFuture<Self, Result<u64, Error>>;

    fn handle(&mut self, message: Record, _: &mut Self::Context) -> Self::Result {
        self.append(message.run, message.kinds, message.cursors, Vec::new())
    }
}

impl Handler<AddRun> for Session {
    type Result = ResponseActFuture<Self, Result<ResumeResponse, Error>>;

    fn handle(&mut self, message: AddRun, _: &mut Self::Context) -> Self::Result {
        let run = self
            .recorder
            .record()
            .map_or(0, |record| record.runs.len() as u32);
        if run != message.response.run {
            let error = Error::new(
                ErrorCode::TryLater,
                "another run was added at the same moment",
            );
            return Box::pin(fut::ready(Err(error)));
        }
        let own = message.fresh.is_some() || message.branch.is_some() || !message.bounds.is_empty();
        let steered = match (message.how, self.recorder.record()) {
            (ResumeHow::Auto, Some(record)) => {
                let waiting = record
                    .runs
                    .iter()
                    .any(|run| run.state.step() == Step::AwaitSlot);
                !waiting && steerable(record, &message.prompt, own).is_ok()
            }
            (ResumeHow::Steer, Some(record)) => match steerable(record, &message.prompt, own) {
                Ok(()) => true,
                Err(refused) => return Box::pin(fut::ready(Err(refused))),
            },
            (ResumeHow::Next | ResumeHow::Exec, _) | (_, None) => false,
        };
        let how = if steered { How::Steer } else { How::Next };
        let reason = (!steered && run > 0 && self.target(None).is_some())
            .then(|| "the session is running; this is its next run".to_owned());
        let queued = EventKind::Queued {
            how,
            prompt: message.prompt,
            task: None,
            env: message.env,
            fresh: message.fresh,
            branch: message.branch,
            bounds: message.bounds,
            task_at: 0,
            retry: None,
            position: None,
            reason,
        };
        let response = ResumeResponse {
            seq: self.recorder.next_seq(),
            how,
            ..message.response
        };
        let request = match handle::row(message.id, message.hash, &response) {
            Ok(request) => request,
            Err(error) => return Box::pin(fut::ready(Err(error))),
        };
        let appended = self.append(
            run,
            vec![(Timestamp::now(), queued)],
            Vec::new(),
            vec![request],
        );
        Box::pin(appended.map(move |result, _, _| result.map(|_| response)))
    }
}

impl Handler<Stop> for Session {
    type Result = ResponseActFuture<Self, Result<Option<u32>, Error>>;

    fn handle(&mut self, message: Stop, _: &mut Self::Context) -> Self::Result {
        let Some((run, _)) = self.target(message.run) else {
            return Box::pin(fut::ready(Ok(None)));
        };
        let now = Timestamp::now();
        let deadline = now.plus(message.grace);
        let current = self
            .recorder
            .record()
            .and_then(|record| record.runs.get(run as usize));
        let earlier = current
            .and_then(|run| run.state.stop())
            .map(|stop| stop.deadline);
        if earlier.is_some_and(|earlier| earlier <= deadline) {
            // A stop is under way that is at least as quick: this one joins it.
            return Box::pin(fut::ready(Ok(Some(run))));
        }
        let behind = self
            .recorder
            .record()
            .and_then(SessionRecord::live_run)
            .is_some_and(|first| first.number != run);
        // A message may be on its way: who sends it says what becomes of it.
        let is_message = current.and_then(|run| run.state.message()).is_some();
        if behind && !is_message {
            // It waits for the run before it: there is nobody to tell and nothing to undo.
            let dir = self.core.shared.session_dir(self.core.ulid);
            let appended = self.append(
                run,
                driver::taken_back(now, driver::TAKEN_BACK),
                Vec::new(),
                Vec::new(),
            );
            // Only what is recorded to be over needs its values no more.
            return Box::pin(appended.map(move |result, _, _| {
                result.map(|_| {
                    super::environment::forget(&dir, run);
                    Some(run)
                })
            }));
        }
        let signal = if message.grace.is_zero() {
            "SIGKILL"
        } else {
            "SIGTERM"
        };
        let stopping = EventKind::Stopping {
            signal: signal.to_owned(),
            deadline,
            by: message.by.to_owned(),
            id: Ulid::generate(),
        };
        let appended = self.append(run, vec![(now, stopping)], Vec::new(), Vec::new());
        Box::pin(appended.map(move |result, _, _| result.map(|_| Some(run))))
    }
}

impl Handler<Kill> for Session {
    type Result = ResponseActFuture<Self, Result<Option<u32>, Error>>;

    fn handle(&mut self, message: Kill, _: &mut Self::Context) -> Self::Result {
        let Some((run, runs)) = self.target(None) else {
            return Box::pin(fut::ready(Ok(None)));
        };
        if !runs {
            let error = Error::new(
                ErrorCode::Refused,
                "the session has not started its program yet",
            )
            .hint("`cldpd stop` takes it back");
            return Box::pin(fut::ready(Err(error)));
        }
        let id = Ulid::generate();
        let Kill {
            name,
            number,
            request,
        } = message;
        let signalled = EventKind::Signalled { signal: name, id };
        let kinds = vec![(Timestamp::now(), signalled)];
        let appended = self.append(run, kinds, Vec::new(), vec![request]);
        Box::pin(appended.map(move |result, actor, _| {
            result?;
            // The driver is gone only when this actor is about to be.
            let _ = actor.signals.send(Signal { id, run, number });
            Ok(Some(run))
        }))
    }
}

impl Handler<Idle> for Session {
    type Result = ();

    fn handle(&mut self, _: Idle, _: &mut Self::Context) {
        if self.recorder.record().is_some_and(SessionRecord::is_live) {
            return;
        }
        // The supervisor forgets us first, so that nobody is sent to an actor that leaves.
        let generation = self.core.claim.generation;
        let session = self.core.ulid;
        self.core.supervisor.do_send(Dismiss {
            session,
            generation,
        });
    }
}

impl Handler<Dismissed> for Session {
    type Result = ();

    fn handle(&mut self, _: Dismissed, ctx: &mut Self::Context) {
        self.dismissed = true;
        self.leave_if_done(ctx);
    }
}
