//! One request and its answer.
//!
//! Each exchange has a connection of its own: on a Unix socket that costs less
//! than keeping one, and a stream can be left by dropping it.

use super::home::Home;
use super::launch::Launcher;
use super::{VERSION, socket};
use crate::model::api::{ENGINE_HEADER, VERSION_HEADER};
use crate::model::{Error, ErrorCode, Result};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;

/// The body of a request.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// Largest answer that is taken whole.
const ANSWER_MAX: usize = 256 * 1024 * 1024;
/// How long a daemon that is going away may take to be gone.
const LEAVING_MAX: Duration = Duration::from_secs(20);

/// A client of the daemon of one home.
#[derive(Clone, Debug)]
pub struct Client {
    home: Home,
    launcher: Option<Arc<Launcher>>,
    /// What the last answer said about it.
    engine: Arc<Mutex<Option<String>>>,
}

/// A request, in a form that can be sent again.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    method: Method,
    target: String,
    body: Option<Bytes>,
    accept: &'static str,
    any_version: bool,
    upgrade: Option<&'static str>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody took the request, or the connection broke before the answer.
    Broken(Error),
    /// The daemon refused it, or its answer cannot be used.
    Answered(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(error) | Failure::Answered(error) => error,
        }
    }
}

impl Exchange {
    /// A request to the path made of `segments`, below `/v1`.
    pub(super) fn new(method: Method, segments: &[&str]) -> Self {
        let mut target = "/v1".to_owned();
        for segment in segments {
            target.push('/');
            percent_encode(segment, &mut target);
        }
        Self {
            method,
            target,
            body: None,
            accept: "application/json",
            any_version: false,
            upgrade: None,
        }
    }

    /// With the fields of `query` that are set.
    pub(super) fn query(mut self, query: &impl Serialize) -> Result<Self> {
        let fields = serde_json::to_value(query).map_err(|e| internal("a query", &e))?;
        let mut separator = '?';
        for (key, value) in fields.as_object().into_iter().flatten() {
            let values = match value {
                serde_json::Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            for value in values {
                let text = match value {
                    serde_json::Value::Null | serde_json::Value::Bool(false) => continue,
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                self.target.push(separator);
                percent_encode(key, &mut self.target);
                self.target.push('=');
                percent_encode(&text, &mut self.target);
                separator = '&';
            }
        }
        Ok(self)
    }

    /// With a body.
    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec(body).map_err(|e| internal("a request", &e))?;
        self.body = Some(bytes.into());
        Ok(self)
    }

    /// Asks for a stream of lines.
    pub(super) const fn streamed(self) -> Self {
        self.accepting("application/x-ndjson")
    }

    /// Asks for an answer of this type.
    pub(super) const fn accepting(mut self, kind: &'static str) -> Self {
        self.accept = kind;
        self
    }

    /// Understood by a daemon of any version.
    pub(super) const fn any_version(mut self) -> Self {
        self.any_version = true;
        self
    }

    /// Asks for the connection itself, for this protocol.
    pub(super) const fn upgraded(mut self, protocol: &'static str) -> Self {
        self.upgrade = Some(protocol);
        self
    }

    fn request(&self, body: Outgoing) -> Result<Request<Outgoing>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.target)
            .header(header::HOST, "cldpd")
            .header(header::ACCEPT, self.accept)
            .header(VERSION_HEADER, VERSION);
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(protocol) = self.upgrade {
            request = request
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, protocol);
        }
        request.body(body).map_err(|e| internal("a request", &e))
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

impl Client {
    /// A client of the daemon that runs for `home`.
    ///
    /// # Errors
    /// `daemon_unavailable` when none runs.
    pub async fn connect(home: &Home) -> Result<Self> {
        open(home).await?;
        Ok(Self {
            home: home.clone(),
            launcher: None,
            engine: Arc::default(),
        })
    }

    /// The same; nothing when no daemon runs.
    ///
    /// # Errors
    /// `daemon_unavailable` when its socket may not or cannot be used.
    pub async fn find(home: &Home) -> Result<Option<Self>> {
        match socket::connect(home).await {
            Err(e) if nobody(&e) => Ok(None),
            Ok(_) | Err(_) => Self::connect(home).await.map(Some),
        }
    }

    /// A client of the daemon of `home`, which is started when none runs, now
    /// and whenever a later request finds none.
    ///
    /// # Errors
    /// `daemon_unavailable` when it cannot be started, with what it said last;
    /// or the daemon's own error.
    pub async fn connect_or_start(home: &Home, launcher: Launcher) -> Result<Self> {
        launcher.ensure(home).await?;
        Ok(Self {
            home: home.clone(),
            launcher: Some(Arc::new(launcher)),
            engine: Arc::default(),
        })
    }

    /// A client that has not looked whether a daemon is there.
    #[cfg(test)]
    pub(super) fn unchecked(home: &Home, launcher: Option<Launcher>) -> Self {
        Self {
            home: home.clone(),
            launcher: launcher.map(Arc::new),
            engine: Arc::default(),
        }
    }

    /// The home.
    #[must_use]
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// The address of the engine that the daemon uses, as its last answer said
    /// it; none before the daemon has used one.
    #[must_use]
    pub fn engine(&self) -> Option<String> {
        let engine = self.engine.lock();
        engine.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request and takes the answer whole.
    pub(super) async fn call<T: DeserializeOwned>(&self, exchange: &Exchange) -> Result<T> {
        match self.whole(exchange).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.recover(exchange, failure).await?;
                Ok(self.whole(exchange).await?)
            }
        }
    }

    /// Sends a request and gives the answer's body as it comes.
    pub(super) async fn open_stream(&self, exchange: &Exchange) -> Result<Incoming> {
        let response = match self.answer(exchange).await {
            Ok(response) => response,
            Err(failure) => {
                self.recover(exchange, failure).await?;
                self.answer(exchange).await?
            }
        };
        Ok(response.into_body())
    }

    /// One attempt, with nothing done about a failure.
    pub(super) async fn whole<T: DeserializeOwned>(
        &self,
        exchange: &Exchange,
    ) -> Result<T, Failure> {
        let response = self.answer(exchange).await?;
        self.read_whole(exchange, response).await
    }

    /// An answer's JSON.
    pub(super) async fn read_whole<T: DeserializeOwned>(
        &self,
        exchange: &Exchange,
        response: Response<Incoming>,
    ) -> Result<T, Failure> {
        let bytes = collect(response)
            .await
            .map_err(|cause| Failure::Broken(self.broke(exchange, &cause)))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Failure::Answered(Error::new(
                ErrorCode::Internal,
                format!(
                    "the daemon's answer to {} is not understood: {e}",
                    exchange.name()
                ),
            ))
        })
    }

    /// Looks that a daemon is there, and starts one where this client may.
    pub(super) async fn revive(&self) -> Result<()> {
        match &self.launcher {
            Some(launcher) => launcher.ensure(&self.home).await,
            None => Ok(()),
        }
    }

    /// The error of a connection that broke.
    pub(super) fn broke(&self, exchange: &Exchange, cause: &str) -> Error {
        Error::new(
            ErrorCode::DaemonUnavailable,
            format!(
                "the connection to the daemon broke during {}: {cause}",
                exchange.name()
            ),
        )
        .hint(format!("its log is {}", self.home.log().display()))
    }

    /// Decides whether a request that met `failure` may be sent once more.
    async fn recover(&self, exchange: &Exchange, failure: Failure) -> Result<()> {
        match failure {
            Failure::Broken(error) => tracing::debug!("{error}"),
            Failure::Answered(error)
                if error.code == ErrorCode::Stopping && self.launcher.is_some() =>
            {
                if let Some(end) = daemon_end(&self.home).await {
                    let _ = tokio::time::timeout(LEAVING_MAX, end).await;
                }
            }
            Failure::Answered(error) => return Err(error),
        }
        tracing::debug!("sending {} once more", exchange.name());
        self.revive().await
    }

    pub(super) async fn answer(&self, exchange: &Exchange) -> Result<Response<Incoming>, Failure> {
        let body = Full::new(exchange.body.clone().unwrap_or_default());
        let body = body.map_err(|never| match never {}).boxed_unsync();
        self.answer_to(exchange, body).await
    }

    /// The answer to a request with a body of its own.
    pub(super) async fn answer_to(
        &self,
        exchange: &Exchange,
        body: Outgoing,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = open(&self.home).await.map_err(Failure::Broken)?;
        let response = send(stream, exchange.request(body).map_err(Failure::Answered)?)
            .await
            .map_err(|e| match e.is_parse() {
                true => Failure::Answered(foreign(&self.home)),
                false => Failure::Broken(self.broke(exchange, &e.to_string())),
            })?;
        let engine = response.headers().get(ENGINE_HEADER);
        let engine = engine.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = engine;
        if !exchange.any_version {
            check_version(&response, &self.home).map_err(Failure::Answered)?;
        }
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if response.status().is_success() || (switched && exchange.upgrade.is_some()) {
            return Ok(response);
        }
        let status = response.status();
        let body = collect(response).await.unwrap_or_default();
        let error = serde_json::from_slice(&body).unwrap_or_else(|_| {
            Error::new(
                ErrorCode::Internal,
                format!("the daemon answered {} with {status}", exchange.name()),
            )
        });
        Err(Failure::Answered(error))
    }
}

/// What resolves when the daemon that runs for `home` now has ended; nothing
/// when none answers, or the system cannot tell.
pub(super) async fn daemon_end(
    home: &Home,
) -> Option<impl Future<Output = io::Result<()>> + use<>> {
    let stream = open(home).await.ok()?;
    socket::peer_end(&stream)
}

/// Connects to the daemon of `home`.
pub(super) async fn open(home: &Home) -> Result<UnixStream> {
    let stream = socket::connect(home)
        .await
        .map_err(|e| unreachable(home, &e))?;
    let path = socket::path(home);
    // Prompts and secrets go through it: nobody else may be at its other end.
    if let Ok(peer) = stream.peer_cred() {
        let own = rustix::process::geteuid().as_raw();
        if peer.uid() != own && peer.uid() != 0 {
            return Err(Error::new(
                ErrorCode::DaemonUnavailable,
                format!(
                    "the socket {} is served by another user (uid {})",
                    path.display(),
                    peer.uid()
                ),
            )
            .hint("choose a home of your own with --home or CLDPD_HOME"));
        }
    }
    Ok(stream)
}

/// Whether a connection failed because nobody listens.
fn nobody(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn unreachable(home: &Home, cause: &io::Error) -> Error {
    let path = socket::path(home);
    match cause.kind() {
        _ if nobody(cause) => Error::new(
            ErrorCode::DaemonUnavailable,
            format!("no daemon runs for {}", home.root().display()),
        )
        .hint("start it with `cldpd daemon start`"),
        io::ErrorKind::PermissionDenied => Error::new(
            ErrorCode::DaemonUnavailable,
            format!(
                "not permitted to use the daemon's socket {}",
                path.display()
            ),
        )
        .hint("it is for its owner only; choose a home of your own with --home or CLDPD_HOME"),
        _ => Error::new(
            ErrorCode::DaemonUnavailable,
            format!(
                "the daemon's socket {} cannot be used: {cause}",
                path.display()
            ),
        )
        .hint("see `cldpd doctor`"),
    }
}

async fn send(stream: UnixStream, request: Request<Outgoing>) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the answer has been read or is dropped.
    tokio::spawn(async move {
        if let Err(e) = connection.with_upgrades().await {
            tracing::debug!("a connection to the daemon ended: {e}");
        }
    });
    sender.send_request(request).await
}

fn check_version(response: &Response<Incoming>, home: &Home) -> Result<()> {
    let theirs = response
        .headers()
        .get(VERSION_HEADER)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match theirs {
        Some(version) if version == VERSION => Ok(()),
        Some(version) => Err(Error::new(
            ErrorCode::VersionMismatch,
            format!("the daemon is version {version}, and this is {VERSION}"),
        )
        .hint("`cldpd daemon restart` (sessions go on)")),
        None => Err(foreign(home)),
    }
}

/// The error of a socket where something else answers.
fn foreign(home: &Home) -> Error {
    let path = socket::path(home);
    Error::new(
        ErrorCode::DaemonUnavailable,
        format!("what listens at {} is no cldpd daemon", path.display()),
    )
    .hint("end it, or remove the socket, or set CLDPD_HOME to another directory")
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, String> {
    Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|e| e.to_string())
}

fn internal(what: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("{what} cannot be made: {cause}"),
    )
}

/// Everything but RFC 3986's unreserved characters, as UTF-8.
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Answer, Server, runtime_error};
    use crate::model::api::{EventsQuery, ListQuery};
    use crate::model::{Stream, Timestamp};

    #[test]
    fn queries_carry_what_is_set_and_nothing_else() -> Result<()> {
        let query = EventsQuery {
            after: Some(7),
            since: Some(Timestamp(0)),
            stream: Some(Stream::Stderr),
            follow: true,
            ..EventsQuery::default()
        };
        let exchange = Exchange::new(Method::GET, &["sessions", "a/b", "events"]).query(&query)?;
        assert_eq!(
            exchange.target,
            "/v1/sessions/a%2Fb/events?after=7&follow=true\
             &since=1970-01-01T00%3A00%3A00.000000000Z&stream=stderr"
        );
        let empty = Exchange::new(Method::GET, &["sessions"]).query(&ListQuery::default())?;
        assert_eq!(empty.target, "/v1/sessions");
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_daemon_is_said_so() -> Result<()> {
        let dir = tempfile::tempdir().map_err(runtime_error)?;
        let home = Home::new(dir.path())?;
        let error = Client::connect(&home).await.err();
        assert_eq!(error.map(|e| e.code), Some(ErrorCode::DaemonUnavailable));
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_request_whose_connection_breaks_is_sent_once_more() -> Result<()> {
        let server = Server::start([
            Answer::Break,
            Answer::json(&serde_json::json!([])),
            Answer::Break,
            Answer::Break,
        ])?;
        let client = server.client();
        assert!(client.pods().await?.is_empty());
        let error = client.pods().await.err();
        assert_eq!(error.map(|e| e.code), Some(ErrorCode::DaemonUnavailable));
        assert_eq!(server.requests().len(), 4);
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_error_comes_through_as_it_was_sent() -> Result<()> {
        let sent = Error::new(ErrorCode::PodNotFound, "no pod \"x\"").hint("make it");
        let server = Server::start([Answer::error(404, &sent)])?;
        assert_eq!(server.client().pod("x").await.err(), Some(sent));
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn another_version_is_refused_except_by_those_who_manage_the_daemon() -> Result<()> {
        let old = Answer::json(&serde_json::json!([])).version("0.0.1");
        let foreign = Answer::json(&serde_json::json!([])).no_version();
        let server = Server::start([old.clone(), foreign, old])?;
        let client = server.client();
        let error = client.pods().await.err();
        assert_eq!(
            error,
            Some(
                Error::new(
                    ErrorCode::VersionMismatch,
                    format!("the daemon is version 0.0.1, and this is {VERSION}"),
                )
                .hint("`cldpd daemon restart` (sessions go on)")
            )
        );
        let error = client.pods().await.err();
        assert_eq!(error.map(|e| e.code), Some(ErrorCode::DaemonUnavailable));
        // `status` gets past the version: its answer is looked at (and is no status).
        let error = client.status().await.err();
        assert_eq!(error.map(|e| e.code), Some(ErrorCode::Internal));
        Ok(())
    }
}
