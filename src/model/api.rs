//! The wire types of the API: what clients send and what they get.
//!
//! HTTP/1.1 and JSON over the home's Unix socket, below `/v1`. Every answer
//! carries `Cldpd-Version`. A failed request is answered with an
//! [`Error`](super::Error) and a status that fits its code. Requests that
//! change something carry a request id made by the client: the same id with the
//! same body is answered as before, with another body it is refused.
//!
//! | request | body → answer |
//! |---|---|
//! | `POST /v1/sessions` | [`StartRequest`] → [`StartResponse`] |
//! | `GET /v1/sessions?…` | [`ListQuery`] → `[SessionView]`, newest first |
//! | `GET /v1/sessions/{ref}` | → [`Inspection`] |
//! | `DELETE /v1/sessions/{ref}` | [`RemoveRequest`] → [`RemoveResponse`] |
//! | `POST /v1/sessions/{ref}/runs` | [`ResumeRequest`] → [`ResumeResponse`] |
//! | `POST /v1/sessions/{ref}/stop` | [`StopRequest`] → [`StopResponse`] |
//! | `POST /v1/sessions/{ref}/kill` | [`KillRequest`] → [`StopResponse`] |
//! | `POST /v1/sessions/{ref}/exec` | [`ExecRequest`] → the connection, see [`exec`](super::exec) |
//! | `GET /v1/sessions/{ref}/wait?run=N` | → [`WaitResponse`], when that run (default: all) is over |
//! | `GET /v1/sessions/{ref}/events?…` | [`EventsQuery`] → [`SessionEvent`]s, NDJSON or SSE |
//! | `GET /v1/sessions/{ref}/blocks?…` | [`EventsQuery`] → the same as the journal has them, see [`block::stream`](crate::block::stream) |
//! | `GET /v1/sessions/{ref}/archive?path=…` | → a tar archive of that file or directory |
//! | `PUT /v1/sessions/{ref}/archive?path=…` | [`UploadQuery`], a tar archive → [`PathStat`] of the directory |
//! | `GET /v1/sessions/{ref}/archive/stat?path=…` | → [`PathStat`] |
//! | `GET /v1/events?…` | [`FirehoseQuery`] → [`FirehoseEvent`]s, NDJSON or SSE |
//! | `GET /v1/search?…` | [`SearchQuery`] → [`SearchItem`]s, newest first, NDJSON or SSE; leaving ends it |
//! | `GET /v1/stats?…` | [`StatsQuery`] → `[StatsRow]` |
//! | `GET /v1/pods` | → `[PodView]` |
//! | `GET /v1/pods/{name}` | → [`PodView`] |
//! | `POST /v1/pods/{name}/build` | [`PodBuildRequest`] → [`PodBuildEvent`]s, NDJSON or SSE; leaving cancels it |
//! | `GET /v1/daemon` | → [`DaemonStatus`] |
//! | `POST /v1/daemon/stop` | [`DaemonStopRequest`] → [`DaemonStatus`] |
//! | `GET /v1/journal/verify` | → [`VerifyEvent`]s, NDJSON or SSE |
//! | `GET /v1/journal/export?session=…` | [`ExportQuery`] → lines of JSON, ended by [`Exported`] |
//! | `POST /v1/journal/import` | these lines → [`Imported`] |
//! | `GET /v1/doctor` | → `[Check]` |
//! | `GET /v1/gc`, `POST /v1/gc` | → [`GcReport`]: what would go, what went |

mod files;
mod gc;
mod journal;
mod pods;
mod queries;
mod search;
mod sessions;
mod space;
mod stats;

pub use files::{PathKind, PathQuery, PathStat, UploadQuery};
pub use gc::{GcItem, GcKind, GcReport};
pub use journal::{Exported, Finding, Imported, Rebuilt, Verified, VerifyEvent};
pub use pods::{PodBuildEvent, PodBuildRequest, PodView};
pub(crate) use queries::SEPARATOR;
pub use queries::{EventsQuery, ExportQuery, FirehoseQuery, ListQuery};
pub use search::{Finds, SearchHit, SearchItem, SearchPlace, SearchQuery};
pub use sessions::{Inspection, SessionView};
pub use space::{
    CompactResponse, CompactionEnd, CompactionState, JournalQuery, JournalStats, RetentionState,
};
pub use stats::{StatsBy, StatsQuery, StatsRow};

use super::bounds::Bounds;
use super::bytes::Blob;
use super::event::{How, SessionEvent};
use super::ids::{SessionId, Ulid};
use super::outcome::Outcome;
use super::schema::UlidText;
use super::spec::{AgentKind, RuntimeName};
use super::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The header of answers that carries the address of the engine that the daemon
/// uses, once it has used one.
pub const ENGINE_HEADER: &str = "cldpd-engine";

/// The header that carries the version of the speaker, both ways.
pub const VERSION_HEADER: &str = "cldpd-version";

/// The proxy variables: a client sends those that are set where it runs.
pub const PROXY_VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// What the agent is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// "Work on this GitHub issue: URL".
    Issue(String),
    /// These bytes.
    Prompt(Blob),
}

impl Task {
    /// What stands in the prompt for it.
    #[must_use]
    pub fn text(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Issue(url) => format!("Work on this GitHub issue: {url}")
                .into_bytes()
                .into(),
            Self::Prompt(prompt) => prompt.0.as_slice().into(),
        }
    }
}

/// Dispatches `count` sessions of each pod: all of them or, on an error, none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartRequest {
    /// Made by the client.
    #[schemars(with = "UlidText")]
    pub request: Ulid,
    /// Names of pods.
    pub pods: Vec<String>,
    /// Sessions of each, at least 1.
    #[serde(default = "one")]
    pub count: u32,
    /// What the agent is told; the pod's template is put before it.
    pub task: Task,
    /// A name for the only session.
    #[serde(default)]
    pub name: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--env`: values from whoever dispatches. Never recorded.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The caller's values of the names in the pods' `inheritEnv`, and of those
    /// that their `secrets` are read from. Never recorded.
    #[serde(default)]
    pub inherited: BTreeMap<String, String>,
    /// Where to run; the daemon's default when absent.
    #[serde(default)]
    pub runtime: Option<RuntimeName>,
    /// Which agent; the pod's when absent.
    #[serde(default)]
    pub agent: Option<AgentKind>,
    /// Which model; the pod's when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Build the image even if nothing changed.
    #[serde(default)]
    pub build: bool,
    /// Build without the builder's cache.
    #[serde(default)]
    pub no_cache: bool,
    /// Ask the registry for newer base images.
    #[serde(default)]
    pub pull: bool,
    /// Remove the container when the run is over.
    #[serde(default)]
    pub remove: bool,
    /// Seconds that a run's program may take; the pod's when absent.
    #[serde(default)]
    pub timeout: Option<u32>,
    /// How far its agent may go; the pod's where nothing is said, 0 for no limit.
    #[serde(flatten)]
    pub bounds: Bounds,
    /// Runs of a higher priority leave the queue first; 0 is usual.
    #[serde(default)]
    pub priority: i32,
    /// Sessions that have to succeed first.
    #[serde(default)]
    pub after: Vec<String>,
    /// The caller's time zone, as a name of the zone database.
    #[serde(default)]
    pub zone: Option<String>,
    /// The caller's proxy variables (`HTTP_PROXY`, `no_proxy`, ...). Never recorded.
    #[serde(default)]
    pub proxy: BTreeMap<String, String>,
}

const fn one() -> u32 {
    1
}

// Values of variables are credentials more often than not: only their names are shown.
impl fmt::Debug for StartRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartRequest")
            .field("request", &self.request)
            .field("pods", &self.pods)
            .field("count", &self.count)
            .field("task", &self.task)
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("env", &self.env.keys())
            .field("inherited", &self.inherited.keys())
            .field("runtime", &self.runtime)
            .field("agent", &self.agent)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

/// What was dispatched, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartResponse {
    /// In the order of the request's pods, `count` of each.
    pub sessions: Vec<Dispatched>,
    /// What the user should know, such as names of `inheritEnv` that are not set.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One session that was dispatched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dispatched {
    /// Its id.
    pub id: SessionId,
    /// Its ULID.
    #[schemars(with = "UlidText")]
    pub ulid: Ulid,
    /// Place in the queue, from 1, when it has to wait.
    #[serde(default)]
    pub position: Option<u32>,
}

/// A further prompt to a session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResumeRequest {
    /// Made by the client.
    #[schemars(with = "UlidText")]
    pub request: Ulid,
    /// What the agent is told.
    pub prompt: Blob,
    /// `auto`, or insisting on a way.
    #[serde(default)]
    pub how: ResumeHow,
    /// Begin a new conversation in the same place, where that one is gone.
    #[serde(default)]
    pub fresh: bool,
    /// On a fork of the conversation: no later run knows what is said in this one.
    #[serde(default)]
    pub fork: bool,
    /// Go on with the fork that this run made.
    #[serde(default)]
    pub from_fork: Option<u32>,
    /// How far the agent may go in this run; the session's where nothing is said.
    #[serde(flatten)]
    pub bounds: Bounds,
    /// `--env`: values from whoever resumes. Never recorded.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The caller's values of the names in the pod's `inheritEnv`, and of those
    /// that its `secrets` are read from. Never recorded.
    #[serde(default)]
    pub inherited: BTreeMap<String, String>,
    /// The caller's proxy variables. Never recorded.
    #[serde(default)]
    pub proxy: BTreeMap<String, String>,
}

impl fmt::Debug for ResumeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeRequest")
            .field("request", &self.request)
            .field("prompt", &self.prompt)
            .field("how", &self.how)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// How a further prompt is to reach the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResumeHow {
    /// As the session's state allows.
    #[default]
    Auto,
    /// To the working process.
    Steer,
    /// As the next run.
    Next,
    /// Beside the main run.
    Exec,
}

/// A run that was asked for, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResumeResponse {
    /// The session's id.
    pub id: SessionId,
    /// Its ULID.
    #[schemars(with = "UlidText")]
    pub ulid: Ulid,
    /// The run's number.
    pub run: u32,
    /// How it comes about.
    pub how: How,
    /// The run's first event.
    pub seq: u64,
    /// What the user should know, such as variables that are missing.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Asks a session to stop: SIGTERM, then SIGKILL after the grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopRequest {
    /// Made by the client.
    #[schemars(with = "UlidText")]
    pub request: Ulid,
    /// Seconds between SIGTERM and SIGKILL. At most 3600; 0 kills at once.
    pub grace: u32,
    /// Only this run, and nothing if it is over. Without it the current run is
    /// stopped, and those that wait behind it are taken back.
    #[serde(default)]
    pub run: Option<u32>,
    /// Answer when the run is over, not when the stop is recorded.
    #[serde(default)]
    pub wait: bool,
}

/// Sends one signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KillRequest {
    /// Made by the client.
    #[schemars(with = "UlidText")]
    pub request: Ulid,
    /// A name with or without SIG, or a number.
    pub signal: String,
}

/// What a stop or a signal met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopResponse {
    /// The session's id.
    pub id: SessionId,
    /// False when there was nothing to stop.
    pub was_live: bool,
    /// How the run ended, if it has.
    #[serde(default)]
    pub ended: Option<RunEnd>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunEnd {
    /// The run.
    pub run: u32,
    /// How.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The exit code of the agent's process, where it had one.
    #[serde(default)]
    pub code: Option<u8>,
    /// What `start`, `wait` and `logs -f` exit with.
    pub exit_code: u8,
    /// Why it did not succeed, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was wrong, when it did not end by itself.
    #[serde(default)]
    pub error: Option<super::Error>,
    /// The run that tries it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
}

/// Answer to a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitResponse {
    /// The session's id.
    pub id: SessionId,
    /// How it ended.
    #[serde(flatten)]
    pub end: RunEnd,
}

/// Removes what a session has; its history stays unless asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoveRequest {
    /// Made by the client.
    #[schemars(with = "UlidText")]
    pub request: Ulid,
    /// Stop it first if it is live.
    #[serde(default)]
    pub force: bool,
    /// The journal's record too.
    #[serde(default)]
    pub history: bool,
}

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoveResponse {
    /// The session's id.
    pub id: SessionId,
    /// False when something is left; it is tried again later.
    pub complete: bool,
    /// What is left, and why.
    #[serde(default)]
    pub message: Option<String>,
}

/// A command beside the agent, in the same container.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecRequest {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working directory, else that of the container.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables. Never recorded.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecRequest")
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// An event of the firehose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirehoseEvent {
    /// Where it stands in the order over all sessions; opaque.
    pub cursor: String,
    /// The event.
    #[serde(flatten)]
    pub event: SessionEvent,
}

/// The daemon, as `daemon status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its socket.
    pub socket: String,
    /// Its home.
    pub home: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// Live runs that are not queued.
    pub live: u32,
    /// Queued runs.
    pub queued: u32,
    /// Runs it found running when it started, and took over.
    pub adopted: u32,
    /// At most so many live runs at once.
    pub max_parallel: u32,
    /// Bytes of memory that live runs may claim together by their pods' `memory`.
    #[serde(default)]
    pub memory: u64,
    /// Bytes of it that are claimed.
    #[serde(default)]
    pub memory_claimed: u64,
    /// The engine that it uses, as an address; none before it was needed.
    #[serde(default)]
    pub engine: Option<String>,
    /// Its log; none when it goes to the standard error of who started it.
    #[serde(default)]
    pub log: Option<String>,
    /// The number of the journal's last commit.
    pub commits: u64,
    /// What is not as it should be, such as an engine that does not answer.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// Asks the daemon to end. Sessions go on without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStopRequest {
    /// Stop all sessions first.
    #[serde(default)]
    pub stop_sessions: bool,
    /// Another daemon follows at once: those who follow sessions wait for it.
    /// Otherwise they are told that this one was stopped, and start none.
    #[serde(default)]
    pub restart: bool,
}

/// One thing that `doctor` looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Check {
    /// It is as it should be.
    #[must_use]
    pub fn ok(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state: CheckState::Ok,
            message: message.into(),
            hint: None,
        }
    }

    /// It works; `hint` says what to do about it all the same.
    #[must_use]
    pub fn warning(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            state: CheckState::Warning,
            hint: Some(hint.into()),
            ..Self::ok(name, message)
        }
    }

    /// It does not work, for that reason.
    #[must_use]
    pub fn failed(name: &str, error: super::Error) -> Self {
        Self {
            state: CheckState::Failed,
            hint: error.hint,
            ..Self::ok(name, error.message)
        }
    }
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Failed,
}
