//! Serving the API over the socket, until told to end or idle for long enough.

use super::activity::Activity;
use super::config::Config;
use super::respond::Failure;
use super::{leaving, metrics, routes};
use crate::actors::Handle;
use crate::client::Home;
use crate::model::api::{ENGINE_HEADER, VERSION_HEADER};
use crate::model::{Error, ErrorCode, Result, Timestamp};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream, unix};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Largest body of a request: prompts are in it.
const BODY_MAX: usize = 256 << 20;
/// How long requests that are under way may take when the daemon is told to end.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// This daemon's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// By a signal or a request.
    Asked,
    /// Nothing was live and nobody asked for anything.
    Idle,
}

/// What every route sees.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) handle: Handle,
    pub(super) home: Home,
    pub(super) max_parallel: u32,
    /// Where the log is; none for standard error.
    pub(super) log: Option<PathBuf>,
    pub(super) since: Timestamp,
    pub(super) activity: Arc<Activity>,
    /// Streams end when this is cancelled.
    pub(super) streams: CancellationToken,
    /// Cancelled before that when no other daemon is to follow.
    pub(super) stopped: CancellationToken,
    /// Cancelled by the request to end.
    pub(super) asked: CancellationToken,
}

/// The server of one socket.
pub(super) struct Server {
    context: Context,
    idle_exit: Option<Duration>,
}

impl Server {
    pub(super) fn new(
        home: Home,
        config: &Config,
        log: Option<PathBuf>,
        handle: Handle,
        activity: Arc<Activity>,
    ) -> Self {
        let context = Context {
            handle,
            home,
            max_parallel: config.max_parallel,
            log,
            since: Timestamp::now(),
            activity,
            streams: CancellationToken::new(),
            stopped: CancellationToken::new(),
            asked: CancellationToken::new(),
        };
        Self {
            context,
            idle_exit: config.idle_exit,
        }
    }

    /// Serves; returns when nothing listens any more.
    pub(super) async fn run(self, listener: UnixListener) -> Result<Why> {
        let context = self.context.clone();
        let router = routes::router()
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .layer(middleware::from_fn_with_state(context.clone(), around))
            .with_state(context.clone());
        let end = CancellationToken::new();
        let serving = axum::serve(OwnUser(listener), router)
            .with_graceful_shutdown(end.clone().cancelled_owned());
        let serving = tokio::spawn(serving.into_future());
        let why = self.why().await?;
        end.cancel();
        context.streams.cancel();
        match tokio::time::timeout(DRAIN, serving).await {
            Ok(_) => {}
            Err(_) => tracing::warn!("requests were still under way after {DRAIN:?}"),
        }
        Ok(why)
    }

    async fn why(&self) -> Result<Why> {
        let unusable = |error: io::Error| {
            Error::new(
                ErrorCode::Internal,
                format!("cannot wait for signals: {error}"),
            )
        };
        let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(unusable)?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(Why::Asked),
                _ = interrupt.recv() => return Ok(Why::Asked),
                // Whose terminal it was does not concern it.
                _ = hangup.recv() => {}
                () = self.context.asked.cancelled() => return Ok(Why::Asked),
                () = self.idle() => return Ok(Why::Idle),
            }
        }
    }

    async fn idle(&self) {
        let Some(limit) = self.idle_exit else {
            return std::future::pending().await;
        };
        loop {
            if self.context.handle.is_busy() {
                self.context.activity.touch();
            }
            match self.context.activity.idle() {
                Some(idle) if idle >= limit => return,
                Some(idle) => tokio::time::sleep(limit - idle).await,
                None => tokio::time::sleep(limit).await,
            }
        }
    }
}

use std::future::IntoFuture as _;

/// What is done around every request: versions, and that somebody is there.
async fn around(State(context): State<Context>, request: Request, next: Next) -> Response {
    // Who only watches does not keep the daemon from leaving.
    let watches = request.uri().path() == metrics::PATH;
    let _active = (!watches).then(|| context.activity.begin());
    let theirs = request
        .headers()
        .get(VERSION_HEADER)
        .and_then(|value| value.to_str().ok());
    let of_daemon = request.uri().path().starts_with("/v1/daemon");
    let mut response = match theirs {
        Some(theirs) if theirs != VERSION && !of_daemon => {
            let message = format!("the daemon is cldpd {VERSION}, the command is {theirs}");
            let error = Error::new(ErrorCode::VersionMismatch, message);
            Failure(error.hint("`cldpd daemon restart`; sessions go on meanwhile")).into_response()
        }
        _ if context.asked.is_cancelled() && !of_daemon => Failure(leaving()).into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    let engine = context.handle.engine_address();
    if let Some(engine) = engine.and_then(|engine| HeaderValue::try_from(engine).ok()) {
        headers.insert(ENGINE_HEADER, engine);
    }
    response
}

/// Accepts only connections of our own user, and of root.
struct OwnUser(UnixListener);

impl Listener for OwnUser {
    type Io = UnixStream;
    type Addr = unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    let ours = rustix::process::geteuid().as_raw();
                    match stream.peer_cred() {
                        Ok(peer) if peer.uid() == ours || peer.uid() == 0 => {
                            return (stream, address);
                        }
                        Ok(peer) => tracing::warn!(uid = peer.uid(), "a stranger was turned away"),
                        Err(error) => tracing::warn!(%error, "an unknown peer was turned away"),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
