//! What the daemon's routes and the library call: plain async methods.
//!
//! What changes something runs in a task of its own, so that a caller who goes
//! away does not leave it half done. A repeated request id is answered as before.

use super::admission::{Demand, Fate};
use super::cleanup;
use super::context::Shared;
use super::directory;
use super::dispatch::{self, Plan, Planned};
use super::session::{Kill, Record, Session, Stop};
use super::supervisor::{Child, LookAtQueue, Release, Reserve, Settle, Supervisor};
use super::view;
use crate::model::api::{
    KillRequest, RemoveRequest, RemoveResponse, StartRequest, StartResponse, StopRequest,
    StopResponse,
};
use crate::model::{Error, ErrorCode, Result, SessionRecord, Timestamp, Ulid, signal};
use crate::store::RequestRow;
use actix::Addr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest grace of a stop.
const GRACE_MAX: u32 = 3600;
/// Times that something is tried again when an actor left, or another came in,
/// at the same moment.
pub(super) const TRIES: usize = 16;

/// The way to a home's sessions. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) adopted: u32,
    /// Requests that are being carried out.
    requests: Turns,
    /// Sessions that are being resumed.
    pub(super) resumes: Turns,
    /// Whoever dispatches under a name looks for it and takes it alone.
    naming: Arc<tokio::sync::Mutex<()>>,
    /// Whoever imports looks what is here, and is alone then.
    pub(super) imports: Arc<tokio::sync::Mutex<()>>,
    /// Whoever cleans up, or says what would go, is alone.
    pub(super) cleanups: Arc<tokio::sync::Mutex<()>>,
    /// Whoever looks through the journal is alone.
    pub(super) looks: Arc<tokio::sync::Mutex<()>>,
}

/// Who works at what, one after the other.
pub(super) type Turns = Arc<Mutex<HashMap<Ulid, Arc<tokio::sync::Mutex<()>>>>>;

pub(super) fn turn(turns: &Turns, id: Ulid) -> Arc<tokio::sync::Mutex<()>> {
    let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    turns.entry(id).or_default().clone()
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, supervisor: Addr<Supervisor>, adopted: u32) -> Self {
        Self {
            shared,
            supervisor,
            adopted,
            requests: Turns::default(),
            resumes: Turns::default(),
            imports: Arc::default(),
            cleanups: Arc::default(),
            looks: Arc::default(),
            naming: Arc::default(),
        }
    }

    /// Dispatches sessions; returns when their intent is durable.
    ///
    /// # Errors
    /// What is wrong with the request, its pods or the runtime; nothing is made then.
    pub async fn start(&self, request: StartRequest) -> Result<StartResponse> {
        let this = self.clone();
        let (id, hash) = (request.request, hash("start", &request)?);
        self.once(id, hash, async move { this.start_now(request, hash).await })
            .await
    }

    async fn start_now(&self, request: StartRequest, hash: [u8; 32]) -> Result<StartResponse> {
        let id = request.request;
        let now = Timestamp::now();
        let _naming = match request.name {
            Some(_) => Some(self.naming.lock().await),
            None => None,
        };
        let shared = self.shared.clone();
        let plan = blocking(move || dispatch::plan(&shared, &request, now)).await?;
        self.check_disk().await?;
        for name in dispatch::runtimes(&plan) {
            self.shared
                .runtime(name)?
                .answers()
                .await
                .map_err(Error::from)?;
        }
        let shared = self.shared.clone();
        let plan = blocking(move || dispatch::write_values(&shared, &plan).map(|()| plan)).await?;
        fail_point!("dispatch.written");
        let ulids: Vec<Ulid> = plan.sessions.iter().map(|session| session.ulid).collect();
        if let Err(error) = self.reserve(&plan, now).await {
            for ulid in ulids {
                self.ask(Release(ulid, None)).await?;
            }
            let shared = self.shared.clone();
            let discard = move || {
                dispatch::discard(&shared, &plan);
                Err(error)
            };
            return blocking(discard).await;
        }
        // What was let go already is not told before it is recorded.
        let recorded = self.record(plan, &ulids, (id, hash), now).await;
        fail_point!("dispatch.recorded");
        let (records, response) = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                for ulid in ulids {
                    // What a journal holds that failed is known when it is open
                    // again: who is in it goes on then, and who is not, gives up
                    // its place.
                    match error.code {
                        ErrorCode::JournalFailed => self.supervisor.do_send(Child(ulid)),
                        _ => self.ask(Release(ulid, None)).await?,
                    }
                }
                return Err(error);
            }
        };
        for record in &records {
            self.shared.directory.put(record);
            // It is recorded: an actor that cannot be made now is made later, and
            // those of the others all the same.
            if let Err(error) = self.ask(Child(record.ulid)).await? {
                tracing::warn!(session = %record.ulid, %error, "its actor is made later");
            }
        }
        Ok(response)
    }

    /// Puts what is about to be recorded in the queue.
    async fn reserve(&self, plan: &Plan, now: Timestamp) -> Result<()> {
        let demand = |session: &Planned| Demand::new(session.ulid, &session.spec, 0, now);
        self.ask(Reserve(plan.sessions.iter().map(demand).collect()))
            .await??;
        let mut awaited: Vec<Ulid> = Vec::new();
        for session in &plan.sessions {
            awaited.extend(&session.spec.after);
        }
        awaited.sort_unstable();
        awaited.dedup();
        // Looked at only now: an end that comes later is told to the queue by itself.
        for awaited in awaited {
            if let Some(fate) = self.shared.fate(awaited)? {
                self.ask(Settle(awaited, fate)).await?;
            }
        }
        Ok(())
    }

    async fn record(
        &self,
        plan: Plan,
        ulids: &[Ulid],
        request: (Ulid, [u8; 32]),
        now: Timestamp,
    ) -> Result<(Vec<SessionRecord>, StartResponse)> {
        let waits = self.ask(LookAtQueue(Some(ulids.to_vec()))).await?;
        // All at once: a journal that is reopened in between voids all of them or none.
        let claims = self.shared.journal.claim_all(ulids.to_vec()).await?;
        let generations: Vec<u64> = claims.iter().map(|claim| claim.generation).collect();
        let shown = |ulid: &Ulid| {
            let waits = waits.get(ulid)?;
            Some((waits.place(), waits.shown(&self.shared.directory)))
        };
        let waits = ulids.iter().map(shown).collect();
        let (appends, records, response) =
            dispatch::appends(plan, &generations, waits, request, now)?;
        for result in self.shared.journal.append(appends).await? {
            result.map_err(|refused| Error::new(ErrorCode::Internal, refused.to_string()))?;
        }
        Ok((records, response))
    }

    /// Asks a session to stop: its current run, and those that wait behind it;
    /// or one run, where the request names it.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`, `usage`.
    pub async fn stop(&self, target: &str, request: StopRequest) -> Result<StopResponse> {
        if request.grace > GRACE_MAX {
            let message = format!("a grace of {} s is more than {GRACE_MAX}", request.grace);
            return Err(Error::new(ErrorCode::Usage, message));
        }
        let ulid = self.shared.directory.resolve(target)?;
        let this = self.clone();
        detached(async move {
            let grace = Duration::from_secs(u64::from(request.grace));
            this.stop_now(ulid, request.run, grace, "user", request.wait)
                .await
        })
        .await
    }

    async fn stop_now(
        &self,
        ulid: Ulid,
        run: Option<u32>,
        grace: Duration,
        by: &'static str,
        wait: bool,
    ) -> Result<StopResponse> {
        let record = self.load(ulid)?;
        let ended = |record: &SessionRecord| {
            let run = match run {
                Some(number) => record.runs.get(number as usize),
                None => record.current_run(),
            };
            run.and_then(view::end)
        };
        let over = StopResponse {
            id: record.id.clone(),
            was_live: false,
            ended: ended(&record),
        };
        if !record.is_live() {
            return Ok(over);
        }
        // The last first, so that none begins when the one before it ends.
        let wanted: Vec<u32> = match run {
            Some(number) => vec![number],
            None => {
                let live = record.runs.iter().filter(|run| !run.state.is_ended());
                live.rev().map(|run| run.number).collect()
            }
        };
        let mut stopping = None;
        for number in wanted {
            let run = Some(number);
            stopping = self.tell(ulid, Stop { run, grace, by }).await?.or(stopping);
        }
        let Some(stopping) = stopping else {
            return Ok(StopResponse {
                ended: ended(&self.load(ulid)?),
                ..over
            });
        };
        let ended = match wait {
            true => Some(self.wait_for(ulid, Some(stopping)).await?.end),
            false => None,
        };
        Ok(StopResponse {
            id: record.id,
            was_live: true,
            ended,
        })
    }

    /// Sends a signal to the current run.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`, `usage`, `refused` when its program does not run yet.
    pub async fn kill(&self, target: &str, request: KillRequest) -> Result<StopResponse> {
        let number = signal::number(&request.signal).ok_or_else(|| {
            let message = format!("unknown signal \"{}\"", request.signal.escape_debug());
            Error::new(ErrorCode::Usage, message).hint("a name such as SIGINT, or a number to 31")
        })?;
        let ulid = self.shared.directory.resolve(target)?;
        let this = self.clone();
        let (id, hash) = (request.request, hash(&format!("kill {target}"), &request)?);
        let name = super::tracker::signal_name(number);
        let work = async move {
            let record = this.load(ulid)?;
            let response = StopResponse {
                id: record.id.clone(),
                was_live: record.is_live(),
                ended: None,
            };
            if !record.is_live() {
                return Ok(response);
            }
            let kill = Kill {
                name,
                number,
                request: row(id, hash, &response)?,
            };
            let signalled = this.tell(ulid, kill).await?;
            Ok(StopResponse {
                was_live: signalled.is_some(),
                ..response
            })
        };
        self.once(id, hash, work).await
    }

    /// Removes what a session has, and its history if asked for.
    ///
    /// # Errors
    /// `refused` for a live one without force.
    pub async fn remove(&self, target: &str, request: RemoveRequest) -> Result<RemoveResponse> {
        let ulid = self.shared.directory.resolve(target)?;
        let this = self.clone();
        detached(async move { this.remove_now(ulid, request).await }).await
    }

    async fn remove_now(&self, ulid: Ulid, request: RemoveRequest) -> Result<RemoveResponse> {
        let record = self.load(ulid)?;
        if record.is_live() && !request.force {
            let message = format!("{} is live", record.id);
            return Err(Error::new(ErrorCode::Refused, message)
                .hint("stop it first, or remove it with --force"));
        }
        while self.load(ulid)?.is_live() {
            self.stop_now(ulid, None, Duration::from_secs(10), "rm", true)
                .await?;
        }
        let left = self.remove_things(ulid).await?;
        if request.history && left.is_none() {
            fail_point!("remove.noted");
            self.shared.journal.delete(ulid).await?;
            fail_point!("remove.deleted");
            self.shared.directory.remove(ulid);
            let fate = Fate::removed(record.id.as_str());
            self.ask(Settle(ulid, fate)).await?;
        }
        Ok(RemoveResponse {
            id: record.id,
            complete: left.is_none(),
            message: left,
        })
    }

    pub(super) async fn remove_things(&self, ulid: Ulid) -> Result<Option<String>> {
        let record = self.load(ulid)?;
        if record.removed == Some(true) {
            return Ok(None);
        }
        self.note(ulid, cleanup::removed(&record, false, None))
            .await?;
        fail_point!("remove.begun");
        let left = cleanup::sweep_session(&self.shared, &record).await.err();
        let left = left.map(|error| error.to_string());
        fail_point!("remove.swept");
        self.note(
            ulid,
            cleanup::removed(&record, left.is_none(), left.clone()),
        )
        .await?;
        Ok(left)
    }

    /// Records something of a session that may not be live.
    pub(super) async fn note(&self, ulid: Ulid, record: Record) -> Result<()> {
        self.tell(ulid, record).await.map(|_| ())
    }

    /// Stops every live session, and waits for their ends.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn stop_all(&self, grace: Duration) -> Result<()> {
        let live = self.shared.directory.live();
        let stops = live.into_iter().map(|ulid| async move {
            while self.load(ulid)?.is_live() {
                self.stop_now(ulid, None, grace, "daemon", true).await?;
            }
            Ok(())
        });
        futures::future::try_join_all(stops).await.map(|_| ())
    }

    /// Removes what is due, as `keep` and unfinished removals have it. Returns how
    /// long it is until the next.
    pub(super) async fn sweep(&self) -> Option<Duration> {
        let _turn = self.cleanups.lock().await;
        cleanup::sweep(&self.shared).await;
        let now = Timestamp::now();
        let reader = self.shared.reader.clone();
        let due = blocking(move || {
            let (mut due, mut next) = (Vec::new(), None::<Duration>);
            for record in reader.sessions().filter_map(Result::ok) {
                match cleanup::due_in(&record, now) {
                    Some(Duration::ZERO) => due.push(record.ulid),
                    Some(wait) => next = Some(next.map_or(wait, |next| next.min(wait))),
                    None => {}
                }
            }
            Ok((due, next))
        });
        let (due, next) = due.await.unwrap_or_default();
        for ulid in due {
            if let Err(error) = self.remove_things(ulid).await {
                tracing::warn!(session = %ulid, %error, "left behind until later");
            }
        }
        next
    }

    pub(super) async fn ask<M>(&self, message: M) -> Result<M::Result>
    where
        M: actix::Message + Send + 'static,
        M::Result: Send,
        Supervisor: actix::Handler<M>,
    {
        self.supervisor.send(message).await.map_err(|_| leaving())
    }

    pub(super) fn load(&self, ulid: Ulid) -> Result<SessionRecord> {
        let record = self.shared.reader.session(ulid).map_err(Error::from)?;
        record.ok_or_else(|| directory::not_found(&ulid.to_string()))
    }

    /// Does `work` once for a request id; a repetition gets the recorded answer.
    pub(super) async fn once<T, F>(&self, id: Ulid, hash: [u8; 32], work: F) -> Result<T>
    where
        T: DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let this = self.clone();
        detached(async move {
            let turn = turn(&this.requests, id);
            let _turn = turn.lock().await;
            match this.answered(id, hash)? {
                None => work.await,
                Some(answer) => Ok(answer),
            }
        })
        .await
    }

    /// The answer to a request that was carried out already.
    pub(super) fn answered<T: DeserializeOwned>(
        &self,
        id: Ulid,
        hash: [u8; 32],
    ) -> Result<Option<T>> {
        match self.shared.reader.request(id).map_err(Error::from)? {
            None => Ok(None),
            Some(row) if row.hash == hash => serde_json::from_value(row.answer)
                .map(Some)
                .map_err(|error| Error::new(ErrorCode::Internal, error.to_string())),
            Some(_) => {
                let message = format!("request {id} was made before, with another body");
                Err(Error::new(ErrorCode::Refused, message).hint("use a new request id"))
            }
        }
    }

    /// Tells a session's actor something. One that leaves at this moment has not
    /// heard it, or not been heard: the next one is told.
    async fn tell<M, T>(&self, ulid: Ulid, message: M) -> Result<T>
    where
        M: actix::Message<Result = Result<T>> + Clone + Send + 'static,
        T: Send + 'static,
        Session: actix::Handler<M>,
    {
        for _ in 0..TRIES {
            let session = self.ask(Child(ulid)).await??;
            match session.send(message.clone()).await {
                Ok(Err(error)) if error.code == ErrorCode::TryLater => {}
                Ok(answer) => return answer,
                Err(_) => {}
            }
        }
        Err(leaving())
    }
}

fn leaving() -> Error {
    Error::new(ErrorCode::Stopping, "the daemon is stopping").hint("try again in a moment")
}

pub(super) fn hash<T: Serialize>(verb: &str, body: &T) -> Result<[u8; 32]> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    let mut digest = Sha256::new();
    digest.update(verb.as_bytes());
    digest.update([0]);
    digest.update(&body);
    Ok(digest.finalize().into())
}

pub(super) fn row<T: Serialize>(id: Ulid, hash: [u8; 32], answer: &T) -> Result<RequestRow> {
    let answer = serde_json::to_value(answer)
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
    Ok(RequestRow {
        id,
        hash,
        answer,
        at: Timestamp::now(),
    })
}

/// Runs `work` to its end even if whoever asked goes away.
pub(super) async fn detached<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    tokio::spawn(work).await.unwrap_or_else(|error| {
        Err(Error::new(
            ErrorCode::Internal,
            format!("a task of the daemon's broke off: {error}"),
        ))
    })
}

pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(
                ErrorCode::Internal,
                format!("a task of the daemon's broke off: {error}"),
            ))
        })
}
