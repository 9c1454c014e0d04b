//! The API's verbs, as methods of [`Client`].
//!
//! Sessions are named in any way a user may name them; the daemon finds out
//! which is meant. Every method fails with the daemon's error, or with
//! `daemon_unavailable` or `version_mismatch`.

use super::blocks::{Chunk, chunks};
use super::connection::{Client, Exchange, Failure, daemon_end};
use super::stream::{
    BuildFeed, EventStream, Firehose, Patience, SearchFeed, SessionFeed, follow, once,
};
use crate::model::api::{
    Check, DaemonStatus, DaemonStopRequest, EventsQuery, FirehoseEvent, FirehoseQuery, GcReport,
    Inspection, KillRequest, ListQuery, PodBuildEvent, PodBuildRequest, PodView, RemoveRequest,
    RemoveResponse, ResumeRequest, ResumeResponse, SearchItem, SearchQuery, SessionView,
    StartRequest, StartResponse, StatsQuery, StatsRow, StopRequest, StopResponse, WaitResponse,
};
use crate::model::{Error, ErrorCode, Result, SessionEvent};
use hyper::Method;
use serde::Serialize;
use std::time::Duration;

/// How long a daemon may take to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct WaitQuery {
    run: Option<u32>,
}

impl Client {
    /// Dispatches sessions.
    ///
    /// # Errors
    /// As the module says.
    pub async fn start(&self, request: &StartRequest) -> Result<StartResponse> {
        self.call(&Exchange::new(Method::POST, &["sessions"]).json(request)?)
            .await
    }

    /// A further prompt to a session.
    ///
    /// # Errors
    /// As the module says.
    pub async fn resume(&self, session: &str, request: &ResumeRequest) -> Result<ResumeResponse> {
        let exchange = Exchange::new(Method::POST, &["sessions", session, "runs"]);
        self.call(&exchange.json(request)?).await
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// As the module says.
    pub async fn sessions(&self, query: &ListQuery) -> Result<Vec<SessionView>> {
        self.call(&Exchange::new(Method::GET, &["sessions"]).query(query)?)
            .await
    }

    /// Everything known of a session.
    ///
    /// # Errors
    /// As the module says.
    pub async fn session(&self, session: &str) -> Result<Inspection> {
        self.call(&Exchange::new(Method::GET, &["sessions", session]))
            .await
    }

    /// A session's events. When the connection breaks the stream ends with an error.
    ///
    /// # Errors
    /// As the module says.
    pub async fn events(
        &self,
        session: &str,
        query: EventsQuery,
    ) -> Result<EventStream<SessionEvent>> {
        once(self, SessionFeed::new(session, query)).await
    }

    /// A session's events. When the connection breaks, or the daemon is started
    /// again, the stream goes on after the last event that was given.
    ///
    /// # Errors
    /// As the module says.
    pub async fn events_following(
        &self,
        session: &str,
        query: EventsQuery,
    ) -> Result<EventStream<SessionEvent>> {
        follow(self, SessionFeed::new(session, query)).await
    }

    /// A session's events, as they lie in the journal: much faster than
    /// [`Client::events_following`], which they are otherwise the same as.
    ///
    /// # Errors
    /// As the module says; `journal_failed` in the stream for what is damaged.
    pub async fn blocks(&self, session: &str, query: EventsQuery) -> Result<EventStream<Chunk>> {
        chunks(self, session, query).await
    }

    /// Events of all sessions. When the connection breaks, or the daemon is
    /// started again, the stream goes on after the last event that was given.
    ///
    /// # Errors
    /// As the module says.
    pub async fn firehose(&self, query: FirehoseQuery) -> Result<EventStream<FirehoseEvent>> {
        follow(self, Firehose::new(query)).await
    }

    /// Lines that match a pattern, through all that is recorded, newest first.
    /// Dropping the stream ends the search. When the connection breaks it ends
    /// with an error.
    ///
    /// # Errors
    /// As the module says; `usage` for a pattern that is none, `try_later` when
    /// many searches run.
    pub async fn search(&self, query: &SearchQuery) -> Result<EventStream<SearchItem>> {
        once(self, SearchFeed::new(query)).await
    }

    /// What agents used, added up over runs.
    ///
    /// # Errors
    /// As the module says.
    pub async fn stats(&self, query: &StatsQuery) -> Result<Vec<StatsRow>> {
        self.call(&Exchange::new(Method::GET, &["stats"]).query(query)?)
            .await
    }

    /// Waits until a session's run (default: all of them) is over, also across
    /// restarts of the daemon.
    ///
    /// # Errors
    /// As the module says.
    pub async fn wait(&self, session: &str, run: Option<u32>) -> Result<WaitResponse> {
        let exchange = Exchange::new(Method::GET, &["sessions", session, "wait"]);
        let exchange = exchange.query(&WaitQuery { run })?;
        let mut patience = Patience::default();
        loop {
            patience.begin();
            match self.whole(&exchange).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Broken(error)) => patience.broke(self, error).await?,
                Err(Failure::Answered(error)) => patience.refused(self, error).await?,
            }
        }
    }

    /// Asks a session to stop.
    ///
    /// # Errors
    /// As the module says.
    pub async fn stop(&self, session: &str, request: &StopRequest) -> Result<StopResponse> {
        let exchange = Exchange::new(Method::POST, &["sessions", session, "stop"]);
        self.call(&exchange.json(request)?).await
    }

    /// Sends one signal.
    ///
    /// # Errors
    /// As the module says.
    pub async fn kill(&self, session: &str, request: &KillRequest) -> Result<StopResponse> {
        let exchange = Exchange::new(Method::POST, &["sessions", session, "kill"]);
        self.call(&exchange.json(request)?).await
    }

    /// Removes what a session has.
    ///
    /// # Errors
    /// As the module says.
    pub async fn remove(&self, session: &str, request: &RemoveRequest) -> Result<RemoveResponse> {
        let exchange = Exchange::new(Method::DELETE, &["sessions", session]);
        self.call(&exchange.json(request)?).await
    }

    /// The pods.
    ///
    /// # Errors
    /// As the module says.
    pub async fn pods(&self) -> Result<Vec<PodView>> {
        self.call(&Exchange::new(Method::GET, &["pods"])).await
    }

    /// One pod.
    ///
    /// # Errors
    /// As the module says.
    pub async fn pod(&self, name: &str) -> Result<PodView> {
        self.call(&Exchange::new(Method::GET, &["pods", name]))
            .await
    }

    /// Builds a pod's image, or finds it unchanged. Dropping the stream cancels it.
    ///
    /// # Errors
    /// As the module says; that the build fails is its last event.
    pub async fn build_pod(
        &self,
        name: &str,
        request: &PodBuildRequest,
    ) -> Result<EventStream<PodBuildEvent>> {
        once(self, BuildFeed::new(name, request)).await
    }

    /// The daemon, of whatever version.
    ///
    /// # Errors
    /// As the module says.
    pub async fn status(&self) -> Result<DaemonStatus> {
        self.call(&Exchange::new(Method::GET, &["daemon"]).any_version())
            .await
    }

    /// Ends the daemon, of whatever version, and waits until its process is gone.
    ///
    /// # Errors
    /// As the module says.
    pub async fn shutdown(&self, request: &DaemonStopRequest) -> Result<DaemonStatus> {
        let exchange = Exchange::new(Method::POST, &["daemon", "stop"]).any_version();
        let exchange = exchange.json(request)?;
        // One that a service manager starts for who connects listens from now on.
        self.status().await?;
        // Taken before it is told: afterwards there is nobody to ask.
        let end = daemon_end(self.home()).await;
        let status = self.call(&exchange).await?;
        let Some(end) = end else { return Ok(status) };
        if tokio::time::timeout(SHUTDOWN_MAX, end).await.is_err() {
            let seconds = SHUTDOWN_MAX.as_secs();
            return Err(Error::new(
                ErrorCode::StopFailed,
                format!("the daemon was told to end and has not in {seconds} s"),
            )
            .hint(format!("see its log, {}", self.home().log().display())));
        }
        Ok(status)
    }

    /// What the daemon looked at, and how it stands.
    ///
    /// # Errors
    /// As the module says.
    pub async fn doctor(&self) -> Result<Vec<Check>> {
        self.call(&Exchange::new(Method::GET, &["doctor"])).await
    }

    /// What nobody needs any more. Removes nothing.
    ///
    /// # Errors
    /// As the module says.
    pub async fn gc_plan(&self) -> Result<GcReport> {
        self.call(&Exchange::new(Method::GET, &["gc"])).await
    }

    /// Removes it.
    ///
    /// # Errors
    /// As the module says. What could not be removed is no error of the request.
    pub async fn gc(&self) -> Result<GcReport> {
        self.call(&Exchange::new(Method::POST, &["gc"])).await
    }
}
