//! The supervisor: one child for each live session, and who may run.
//!
//! A child's end arrives as a message from its `stopped` hook, which runs on a
//! panic too. Ends of old generations are ignored. A child that crashed, or
//! whose journal failed, is made again from what is durable, after a delay that
//! doubles; after too many crashes in a row its runs are recorded as failed, the
//! container untouched. A journal that cannot be written is waited for
//! however long it takes. `actix::Supervisor` does neither.

#[cfg(test)]
mod tests;

use super::admission::{Admission, Bounds, Demand, Fate, Load, Verdict, Waits};
use super::context::Shared;
use super::giving_up::give_up;
use super::handle::blocking;
use super::session::{Birth, Dismissed, Session};
use super::vital::Vital;
use crate::model::{Error, ErrorCode, Ulid};
use actix::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Restarts in a row before a session's supervision is given up.
const RESTARTS_MAX: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Restarts that count for the delay while the journal cannot be written: what
/// waits goes on within two seconds when it can.
const WAITING: u32 = 4;
/// A child that lived this long begins to count from nothing again.
const WINDOW: Duration = Duration::from_secs(60);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It had nothing left to do.
    Finished,
    /// Work came in while it left.
    Again,
    /// What it needs failed it, the journal above all. That passes.
    Failed,
    /// It panicked, or did what it must not.
    Crashed,
}

impl Exit {
    /// How a child ends that met `error`.
    pub(super) fn after(error: &Error) -> Self {
        match error.code {
            ErrorCode::Internal => Self::Crashed,
            _ => Self::Failed,
        }
    }
}

/// A child's last word.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Ended {
    pub(super) session: Ulid,
    pub(super) generation: u64,
    pub(super) exit: Exit,
    /// How its session stands, if that is over.
    pub(super) fate: Option<Fate>,
}

/// A child has nothing left to do.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Dismiss {
    pub(super) session: Ulid,
    pub(super) generation: u64,
}

/// The session's actor, made if there is none.
#[derive(Message)]
#[rtype(result = "Result<Addr<Session>, Error>")]
pub(super) struct Child(pub(super) Ulid);

/// Puts a run in the queue.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Enqueue(pub(super) Demand);

/// Puts runs in the queue that are about to be recorded: all of them, or none
/// when it is full.
#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub(super) struct Reserve(pub(super) Vec<Demand>);

/// Whether a further run may wait, behind so many others of its session.
#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
pub(super) struct Room(pub(super) usize);

/// How a session stands for those that come after it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Settle(pub(super) Ulid, pub(super) Fate);

/// The receiver completes when the run may go, or never will.
#[derive(Message)]
#[rtype(result = "Acquired")]
pub(super) struct Acquire(pub(super) Ulid);

/// See [`Acquire`].
#[derive(MessageResponse)]
pub(super) struct Acquired(pub(super) oneshot::Receiver<Verdict>);

/// Counts a run that is under way already.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Occupy(pub(super) Demand);

/// A run is over, or was taken back; and how its session stands, if that is
/// over with it.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Release(pub(super) Ulid, pub(super) Option<Fate>);

/// Lets queued runs go from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Open;

/// Why runs wait: all of them, or those asked for.
#[derive(Message)]
#[rtype(result = "HashMap<Ulid, Waits>")]
pub(super) struct LookAtQueue(pub(super) Option<Vec<Ulid>>);

/// How many runs there are.
#[derive(Message)]
#[rtype(result = "Load")]
pub(super) struct CountRuns;

/// Ends all children; their containers work on.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Leave;

/// Somebody who waits for a child to be made.
type Asker = oneshot::Sender<Result<Addr<Session>, Error>>;

struct ChildRecord {
    addr: Addr<Session>,
    generation: u64,
    restarts: u32,
    born: std::time::Instant,
}

/// The actor.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    admission: Admission,
    children: HashMap<Ulid, ChildRecord>,
    /// Asked for while the first asker's is being made.
    births: HashMap<Ulid, Vec<Asker>>,
    /// Made again after a while, and how often that was.
    delayed: HashMap<Ulid, u32>,
    /// Nobody else could look after sessions.
    _vital: Vital,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let settings = &shared.settings;
        let admission = Admission::new(Bounds {
            runs: settings.max_parallel,
            memory: settings.memory,
            queued: settings.max_queued,
        });
        Self {
            shared,
            admission,
            children: HashMap::new(),
            births: HashMap::new(),
            delayed: HashMap::new(),
            _vital: Vital,
        }
    }

    /// Makes the next generation of a session's actor from what is durable.
    fn bear(&mut self, session: Ulid, restarts: u32, ctx: &mut Context<Self>) {
        self.births.entry(session).or_default();
        self.delayed.remove(&session);
        let shared = self.shared.clone();
        let supervisor = ctx.address();
        let load = async move { load(shared, supervisor, session, restarts).await };
        ctx.spawn(load.into_actor(self).map(move |loaded, actor, ctx| {
            let waiting = actor.births.remove(&session).unwrap_or_default();
            match loaded {
                Ok(birth) => {
                    let generation = birth.claim.generation;
                    // Known already, but when its recording seemed to have failed.
                    actor.shared.directory.put(&birth.record);
                    let addr = Session::new(birth).start();
                    for asker in waiting {
                        let _ = asker.send(Ok(addr.clone()));
                    }
                    let born = std::time::Instant::now();
                    let child = ChildRecord {
                        addr,
                        generation,
                        restarts,
                        born,
                    };
                    actor.children.insert(session, child);
                }
                Err(error) => {
                    let retry = error.code == ErrorCode::JournalFailed;
                    if error.code == ErrorCode::SessionNotFound {
                        // It was not recorded after all, and waits no longer.
                        actor.admission.release(session, None);
                    }
                    for asker in waiting {
                        let _ = asker.send(Err(error.clone()));
                    }
                    if retry {
                        actor.bear_later(session, (restarts + 1).min(WAITING), ctx);
                    }
                }
            }
        }));
    }

    fn bear_later(&mut self, session: Ulid, restarts: u32, ctx: &mut Context<Self>) {
        if self.shared.leaving.is_cancelled() {
            return;
        }
        if restarts > RESTARTS_MAX {
            tracing::error!(%session, "given up: its actor fails again and again; its container is untouched");
            return self.give_up(session, ctx);
        }
        let delay = FIRST_DELAY
            .saturating_mul(1 << restarts.min(16))
            .min(LONGEST_DELAY);
        self.delayed.insert(session, restarts);
        ctx.run_later(delay, move |actor, ctx| {
            // Somebody may have asked for it before.
            if actor.delayed.get(&session) == Some(&restarts) {
                actor.bear(session, restarts, ctx);
            }
        });
    }

    /// Records that nobody looks after the session any more. Who asks for its
    /// actor meanwhile gets one that has nothing to do.
    fn give_up(&mut self, session: Ulid, ctx: &mut Context<Self>) {
        self.births.entry(session).or_default();
        let shared = self.shared.clone();
        let supervisor = ctx.address();
        let work = async move {
            let birth = load(shared, supervisor, session, RESTARTS_MAX).await?;
            give_up(birth).await
        };
        ctx.spawn(work.into_actor(self).map(move |done, actor, ctx| {
            let askers = actor.births.remove(&session).unwrap_or_default();
            match done {
                Ok(record) => {
                    actor.shared.directory.put(&record);
                    actor.admission.release(session, Fate::of(&record).as_ref());
                }
                Err(error) => {
                    tracing::warn!(%session, %error, "it cannot be given up now");
                    actor.bear_later(session, RESTARTS_MAX, ctx);
                }
            }
            if !askers.is_empty() {
                actor.births.insert(session, askers);
                actor.bear(session, RESTARTS_MAX, ctx);
            }
        }));
    }
}

async fn load(
    shared: Arc<Shared>,
    supervisor: Addr<Supervisor>,
    session: Ulid,
    restarts: u32,
) -> Result<Birth, Error> {
    let claim = shared.journal.claim(session).await?;
    fail_point!("supervisor.claimed");
    let before_last = claim.next_seq.saturating_sub(2);
    let reader = shared.reader.clone();
    // Readers wait while the journal is reopened; the thread of all actors must not.
    let (record, last) = blocking(move || {
        let record = reader.session(session).map_err(Error::from)?;
        let record = record.ok_or_else(|| super::directory::not_found(&session.to_string()))?;
        let last = reader.events(session, before_last, 1);
        let last = last.map_err(Error::from)?;
        let last = last.last().map_or(record.created, |event| event.time);
        Ok((record, last))
    })
    .await?;
    Ok(Birth {
        shared,
        supervisor,
        claim,
        record,
        last,
        restarts,
    })
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4096);
    }
}

impl Handler<Child> for Supervisor {
    type Result = ResponseFuture<Result<Addr<Session>, Error>>;

    fn handle(&mut self, Child(session): Child, ctx: &mut Self::Context) -> Self::Result {
        if let Some(child) = self.children.get(&session)
            && child.addr.connected()
        {
            return Box::pin(futures::future::ready(Ok(child.addr.clone())));
        }
        let (asker, answer) = oneshot::channel();
        let first = !self.births.contains_key(&session);
        self.births.entry(session).or_default().push(asker);
        if first {
            // What is asked for before its time has failed as often as it has.
            let restarts = self.delayed.get(&session).copied().unwrap_or(0);
            self.bear(session, restarts, ctx);
        }
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorCode::Stopping, "the daemon is stopping")))
        })
    }
}

impl Handler<Dismiss> for Supervisor {
    type Result = ();

    fn handle(
        &mut self,
        Dismiss {
            session,
            generation,
        }: Dismiss,
        _: &mut Self::Context,
    ) {
        let current = self
            .children
            .get(&session)
            .is_some_and(|c| c.generation == generation);
        if current && let Some(child) = self.children.remove(&session) {
            child.addr.do_send(Dismissed);
        }
    }
}

impl Handler<Ended> for Supervisor {
    type Result = ();

    fn handle(&mut self, ended: Ended, ctx: &mut Self::Context) {
        let Ended {
            session,
            generation,
            exit,
            fate,
        } = ended;
        let current = self.children.get(&session).map(|child| child.generation);
        let replaced = current.is_some_and(|current| current != generation)
            || self.births.contains_key(&session);
        if replaced {
            return;
        }
        let restarts = match self.children.remove(&session) {
            Some(child) if child.born.elapsed() <= WINDOW => child.restarts + 1,
            Some(_) | None => 0,
        };
        match exit {
            // Its driver may have been cancelled before it could say so itself.
            Exit::Finished => self.admission.release(session, fate.as_ref()),
            Exit::Again => self.bear(session, 0, ctx),
            Exit::Failed => {
                tracing::warn!(%session, "a session's actor could not go on; it is made again");
                // A full disk is full for as long as it is: that is no reason to give up.
                self.bear_later(session, restarts.min(WAITING), ctx);
            }
            Exit::Crashed => {
                tracing::warn!(%session, restarts, "a session's actor crashed; it is made again");
                self.bear_later(session, restarts, ctx);
            }
        }
    }
}

impl Handler<Enqueue> for Supervisor {
    type Result = ();

    fn handle(&mut self, Enqueue(demand): Enqueue, _: &mut Self::Context) {
        self.admission.enqueue(demand);
    }
}

impl Handler<Reserve> for Supervisor {
    type Result = Result<(), Error>;

    fn handle(&mut self, Reserve(demands): Reserve, _: &mut Self::Context) -> Self::Result {
        self.admission.reserve(demands)
    }
}

impl Handler<Room> for Supervisor {
    type Result = Result<(), Error>;

    fn handle(&mut self, Room(others): Room, _: &mut Self::Context) -> Self::Result {
        self.admission.room(others)
    }
}

impl Handler<Settle> for Supervisor {
    type Result = ();

    fn handle(&mut self, Settle(awaited, fate): Settle, _: &mut Self::Context) {
        self.admission.settle(awaited, &fate);
    }
}

impl Handler<Acquire> for Supervisor {
    type Result = Acquired;

    fn handle(&mut self, Acquire(session): Acquire, _: &mut Self::Context) -> Self::Result {
        Acquired(self.admission.acquire(session))
    }
}

impl Handler<Occupy> for Supervisor {
    type Result = ();

    fn handle(&mut self, Occupy(demand): Occupy, _: &mut Self::Context) {
        self.admission.occupy(demand);
    }
}

impl Handler<Release> for Supervisor {
    type Result = ();

    fn handle(&mut self, Release(session, fate): Release, _: &mut Self::Context) {
        self.admission.release(session, fate.as_ref());
    }
}

impl Handler<Open> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Open, _: &mut Self::Context) {
        self.admission.open();
    }
}

impl Handler<LookAtQueue> for Supervisor {
    type Result = MessageResult<LookAtQueue>;

    fn handle(&mut self, LookAtQueue(of): LookAtQueue, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.admission.waits(of.as_deref()))
    }
}

impl Handler<CountRuns> for Supervisor {
    type Result = MessageResult<CountRuns>;

    fn handle(&mut self, _: CountRuns, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.admission.load())
    }
}

impl Handler<Leave> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.children.clear();
        ctx.stop();
    }
}
