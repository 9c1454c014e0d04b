//! The journal's actor: the one writer, on a thread of its own.
//!
//! Appends that wait together become one commit: the mailbox is drained into
//! `pending` before the commit that the first of them asked for runs. Everybody
//! is answered after the barrier, and the hub hears of it then, never before.
//!
//! After a store error nothing is retried from memory: the store is reopened,
//! and sessions come back as new generations that load what is durable. Without
//! room on the disk nothing is begun, and the store stays open.

mod compaction;

use super::hub::Hub;
use super::space::Upkeep;
use super::tally::{Contents, Tally};
use super::vital::Vital;
use crate::model::{Error, ErrorCode, SessionRecord, Ulid};
use crate::store::{Append, AppendError, Batch, Claim, Committed, Journal as Store, StoreError};
use actix::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes that one commit takes, and one session's batch more at most: what waits
/// beyond goes into the next. Compressed, that is well within a segment of sled's.
const COMMIT_BYTES: usize = 512 << 10;
/// How long after a failure to open it the store is tried again, when somebody asks for it.
const REOPEN_DELAY: Duration = Duration::from_millis(500);

/// The way to the journal from anywhere.
#[derive(Clone)]
pub(super) struct JournalHandle {
    addr: Addr<Journal>,
}

impl JournalHandle {
    /// Starts the actor on a thread of its own.
    pub(super) fn start(
        store: Store,
        hub: Arc<Hub>,
        tally: Arc<Tally>,
        upkeep: Arc<Upkeep>,
    ) -> Self {
        let arbiter = Arbiter::new();
        let addr = Journal::start_in_arbiter(&arbiter.handle(), move |ctx| {
            ctx.set_mailbox_capacity(1024);
            Journal {
                store,
                hub,
                tally,
                upkeep,
                pending: Vec::new(),
                pending_bytes: 0,
                short: false,
                refused: None,
                _vital: Vital,
                closed: None,
            }
        });
        Self { addr }
    }

    /// Appends; returns when it is durable. All of `appends` are in one commit.
    pub(super) async fn append(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<Result<Committed, AppendError>>, Error> {
        let (reply, answer) = oneshot::channel();
        let message = Write { appends, reply };
        self.addr.send(message).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Fences all earlier generations of a session and says where it stands.
    pub(super) async fn claim(&self, session: Ulid) -> Result<Claim, Error> {
        let claims = self.claim_all(vec![session]).await?;
        claims.into_iter().next().ok_or_else(stopped)
    }

    /// The same for several sessions, with nothing in between.
    pub(super) async fn claim_all(&self, sessions: Vec<Ulid>) -> Result<Vec<Claim>, Error> {
        self.addr
            .send(ClaimSessions(sessions))
            .await
            .map_err(|_| stopped())?
    }

    /// Records a part of an imported session; returns when it is durable.
    pub(super) async fn import(&self, batch: Batch) -> Result<(), Error> {
        self.addr
            .send(ImportBatch(batch))
            .await
            .map_err(|_| stopped())?
    }

    /// Makes a session's projection again from its events.
    pub(super) async fn rebuild(&self, session: Ulid) -> Result<SessionRecord, Error> {
        self.addr
            .send(RebuildSession(session))
            .await
            .map_err(|_| stopped())?
    }

    /// Deletes a session's record.
    pub(super) async fn delete(&self, session: Ulid) -> Result<(), Error> {
        self.addr
            .send(DeleteSession(session))
            .await
            .map_err(|_| stopped())?
    }

    /// The next commit fails: once it is `written`, or before.
    #[cfg(test)]
    pub(super) async fn fail_once(&self, written: bool) {
        let _ = self.addr.send(FailOnce(written)).await;
    }

    /// Ends the actor once all that was sent before is committed; returns when
    /// the store is closed.
    pub(super) async fn close(&self) {
        let (sender, closed) = oneshot::channel();
        if self.addr.send(Close(sender)).await.is_ok() {
            // Nothing is ever sent: it is dropped with the actor, after its store.
            let _ = closed.await;
        }
    }
}

fn stopped() -> Error {
    Error::new(ErrorCode::Stopping, "the daemon is stopping")
}

type Answer = Result<Vec<Result<Committed, AppendError>>, Error>;

#[derive(Message)]
#[rtype(result = "()")]
struct Write {
    appends: Vec<Append>,
    reply: oneshot::Sender<Answer>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

#[derive(Message)]
#[rtype(result = "Result<Vec<Claim>, Error>")]
struct ClaimSessions(Vec<Ulid>);

#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
struct DeleteSession(Ulid);

/// Some of what removed sessions had is to go.
#[derive(Message)]
#[rtype(result = "()")]
struct GoOnRemoving;

#[derive(Message)]
#[rtype(result = "Result<(), Error>")]
struct ImportBatch(Batch);

#[derive(Message)]
#[rtype(result = "Result<SessionRecord, Error>")]
struct RebuildSession(Ulid);

#[derive(Message)]
#[rtype(result = "()")]
struct Close(oneshot::Sender<()>);

#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
struct FailOnce(bool);

#[cfg(test)]
impl Handler<FailOnce> for Journal {
    type Result = ();

    fn handle(&mut self, FailOnce(written): FailOnce, _: &mut Context<Self>) {
        self.store.fail_once(written);
    }
}

struct Journal {
    store: Store,
    hub: Arc<Hub>,
    tally: Arc<Tally>,
    upkeep: Arc<Upkeep>,
    pending: Vec<Write>,
    pending_bytes: usize,
    /// Something waits for room on the disk.
    short: bool,
    /// When opening it again was tried last, and why that failed.
    refused: Option<(Instant, Error)>,
    /// Without its journal this process can promise nothing.
    _vital: Vital,
    /// Dropped after the store, so that whoever waits for it knows the store is closed.
    closed: Option<oneshot::Sender<()>>,
}

impl Actor for Journal {
    type Context = Context<Self>;
}

impl Journal {
    fn commit(&mut self, ctx: &mut Context<Self>) {
        let writes = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if writes.is_empty() {
            return;
        }
        if let Err(error) = self.ready() {
            refuse(writes, &error);
            return;
        }
        let writes = self.with_room(writes, ctx);
        if writes.is_empty() {
            return;
        }
        let mut counts = Vec::with_capacity(writes.len());
        let mut replies = Vec::with_capacity(writes.len());
        let mut appends = Vec::new();
        for write in writes {
            counts.push(write.appends.len());
            replies.push(write.reply);
            appends.extend(write.appends);
        }
        let sessions: Vec<Ulid> = appends.iter().map(|append| append.session).collect();
        let contents: Vec<Contents> = appends.iter().map(Contents::of).collect();
        let begun = Instant::now();
        fail_point!("journal.commit");
        match self.store.commit(appends) {
            Ok(results) => {
                fail_point!("journal.committed");
                self.tally.committed(begun.elapsed());
                for (contents, result) in contents.into_iter().zip(&results) {
                    if result.is_ok() {
                        if contents.has_end() {
                            self.upkeep.changed.notify_one();
                        }
                        self.tally.appended(contents);
                    }
                }
                self.publish(&sessions, &results);
                let mut results = results.into_iter();
                for (count, reply) in counts.into_iter().zip(replies) {
                    // Whoever asked may be gone; what is durable stays durable.
                    let _ = reply.send(Ok(results.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                self.tally.failed();
                let error = self.note(&error);
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    fn publish(&self, sessions: &[Ulid], results: &[Result<Committed, AppendError>]) {
        let mut last = 0;
        for (session, result) in sessions.iter().zip(results) {
            if let Ok(committed) = result {
                self.hub.committed(*session, committed.last_seq);
                last = last.max(committed.number);
            }
        }
        if last > 0 {
            self.hub.commit(last);
        }
    }

    /// Those that the disk has room for. On a full one what was said has to wait,
    /// so that sessions can be stopped and removed.
    fn with_room(&mut self, writes: Vec<Write>, ctx: &mut Context<Self>) -> Vec<Write> {
        let Err(error) = self.store.check_room() else {
            if std::mem::take(&mut self.short) {
                self.upkeep.degrade(None);
                // Nor could removals go on.
                ctx.notify(GoOnRemoving);
                tracing::info!("the journal has room again");
            }
            return writes;
        };
        let says = |write: &Write| write.appends.iter().any(Append::has_output);
        let (wait, go): (Vec<_>, Vec<_>) = writes.into_iter().partition(says);
        for append in wait.iter().flat_map(|write| &write.appends) {
            // What comes behind it may not be recorded before it.
            self.store.release(append.session);
        }
        if !wait.is_empty() {
            refuse(wait, &self.wait_for_room(&error));
        }
        go
    }

    /// What to answer who asked for something that the disk has no room for, which
    /// is made known. Nothing was begun.
    fn wait_for_room(&mut self, error: &StoreError) -> Error {
        let answer = unusable(error);
        if !std::mem::replace(&mut self.short, true) {
            tracing::error!(%error, "the journal waits for room");
        }
        self.upkeep.degrade(Some(answer.message.clone()));
        answer
    }

    /// What to answer to an error of the store; if it has failed, that is made known.
    fn note(&self, error: &StoreError) -> Error {
        let answer = unusable(error);
        if self.store.has_failed() {
            tracing::error!(%error, "the journal failed; it will be reopened");
            self.upkeep.degrade(Some(answer.message.clone()));
        }
        answer
    }

    /// To be called before anything is done with the store.
    fn ready(&mut self) -> Result<(), Error> {
        if self.store.has_failed() {
            self.reopen()?;
        }
        Ok(())
    }

    /// Opens the store again. One failed disk must not make this thread spin on
    /// that: whoever asks too soon after a failure gets its error.
    fn reopen(&mut self) -> Result<(), Error> {
        if let Some((at, error)) = &self.refused
            && at.elapsed() < REOPEN_DELAY
        {
            return Err(error.clone());
        }
        match self.store.reopen() {
            Ok(warnings) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                self.refused = None;
                self.short = false;
                self.upkeep.degrade(None);
                tracing::info!("the journal is open again");
                Ok(())
            }
            Err(error) => {
                let error = unusable(&error);
                self.upkeep.degrade(Some(error.message.clone()));
                self.refused = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

fn refuse(writes: Vec<Write>, error: &Error) {
    for write in writes {
        // Whoever asked may be gone.
        let _ = write.reply.send(Err(error.clone()));
    }
}

fn unusable(error: &StoreError) -> Error {
    Error::new(
        ErrorCode::JournalFailed,
        format!("the journal cannot be written: {error}"),
    )
    .hint("is the disk full? `cldpd doctor` looks")
}

impl Handler<Write> for Journal {
    type Result = ();

    fn handle(&mut self, write: Write, ctx: &mut Context<Self>) {
        if self.pending.is_empty() {
            ctx.notify(Commit);
        }
        self.pending_bytes += write.appends.iter().map(Append::weight).sum::<usize>();
        self.pending.push(write);
        if self.pending_bytes > COMMIT_BYTES {
            self.commit(ctx);
        }
    }
}

impl Handler<Commit> for Journal {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Context<Self>) {
        self.commit(ctx);
    }
}

impl Handler<ClaimSessions> for Journal {
    type Result = Result<Vec<Claim>, Error>;

    fn handle(
        &mut self,
        ClaimSessions(sessions): ClaimSessions,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        self.commit(ctx);
        self.ready()?;
        let mut claims = Vec::with_capacity(sessions.len());
        for session in sessions {
            let claim = self.store.claim(session);
            claims.push(claim.map_err(|error| self.note(&error))?);
        }
        Ok(claims)
    }
}

impl Handler<DeleteSession> for Journal {
    type Result = Result<(), Error>;

    fn handle(
        &mut self,
        DeleteSession(session): DeleteSession,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        self.commit(ctx);
        self.ready()?;
        let begun = self.store.begin_removal(session);
        begun.map_err(|error| self.note(&error))?;
        ctx.notify(GoOnRemoving);
        self.hub.forget(session);
        self.upkeep.changed.notify_one();
        Ok(())
    }
}

impl Handler<GoOnRemoving> for Journal {
    type Result = ();

    fn handle(&mut self, _: GoOnRemoving, ctx: &mut Context<Self>) {
        if self.store.has_failed() {
            // Opening it again finishes what was begun.
            return;
        }
        match self.store.go_on_removing() {
            // Whatever else waits is done in between.
            Ok(true) => ctx.notify(GoOnRemoving),
            Ok(false) => {}
            // It is gone on with when there is.
            Err(StoreError::NoRoom { .. }) => self.short = true,
            Err(error) => {
                self.note(&error);
            }
        }
    }
}

impl Handler<ImportBatch> for Journal {
    type Result = Result<(), Error>;

    fn handle(&mut self, ImportBatch(batch): ImportBatch, ctx: &mut Context<Self>) -> Self::Result {
        self.commit(ctx);
        self.ready()?;
        let done = self.store.import(batch);
        done.map_err(|error| self.note(&error))?;
        self.hub.commit(self.store.reader().watermark());
        Ok(())
    }
}

impl Handler<RebuildSession> for Journal {
    type Result = Result<SessionRecord, Error>;

    fn handle(
        &mut self,
        RebuildSession(session): RebuildSession,
        _: &mut Context<Self>,
    ) -> Self::Result {
        self.ready()?;
        self.store.rebuild(session).map_err(Error::from)
    }
}

impl Handler<Close> for Journal {
    type Result = ();

    fn handle(&mut self, Close(closed): Close, ctx: &mut Context<Self>) {
        self.commit(ctx);
        self.closed = Some(closed);
        ctx.stop();
    }
}
