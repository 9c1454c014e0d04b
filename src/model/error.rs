//! The one error that every caller sees, with a closed set of codes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A result with cldpd's own error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in a form that programs can tell apart.
///
/// The codes are part of the API: more may be added, none changes its meaning.
/// Exit codes are chosen from them ([`ErrorCode::exit_code`]), never from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No such pod.
    PodNotFound,
    /// The pod is there, but something in it is wrong.
    InvalidPod,
    /// The image could not be built.
    BuildFailed,
    /// The container, or the command in it, could not be run.
    ContainerFailed,
    /// No such session.
    SessionNotFound,
    /// The engine (or the place where sessions run) cannot be used.
    RuntimeUnavailable,
    /// The session could not be stopped.
    StopFailed,
    /// Wrong usage: nothing was tried.
    Usage,
    /// A name fits several sessions.
    Ambiguous,
    /// Refused, because something would be lost or is in use.
    Refused,
    /// The command in the container was not found.
    CommandNotFound,
    /// The command in the container could not be executed.
    CommandNotExecutable,
    /// It was taken back before it ran.
    Cancelled,
    /// The daemon cannot be reached or started.
    DaemonUnavailable,
    /// The daemon is of another version than the caller.
    VersionMismatch,
    /// The daemon is going away; ask again.
    Stopping,
    /// The journal cannot be read or written.
    JournalFailed,
    /// What is in the journal cannot be what was written.
    JournalDamaged,
    /// What was asked for is no longer kept.
    Gone,
    /// No such file or directory in the session.
    PathNotFound,
    /// Something could not be copied into or out of a session.
    CopyFailed,
    /// Try later: the queue is full or there is no room.
    TryLater,
    /// What the session may cost is used up.
    Budget,
    /// Credentials are missing or expired.
    Credentials,
    /// A fault of cldpd's own.
    Internal,
}

impl ErrorCode {
    /// The exit code of a command that fails with this.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        use super::exit;
        match self {
            Self::Usage | Self::Ambiguous => exit::USAGE,
            Self::PodNotFound | Self::SessionNotFound | Self::Gone | Self::PathNotFound => {
                exit::NOT_FOUND
            }
            Self::Refused => exit::REFUSED,
            Self::JournalDamaged => exit::DAMAGED,
            Self::RuntimeUnavailable
            | Self::DaemonUnavailable
            | Self::VersionMismatch
            | Self::Stopping => exit::UNAVAILABLE,
            Self::InvalidPod
            | Self::BuildFailed
            | Self::ContainerFailed
            | Self::JournalFailed
            | Self::Internal => exit::CLDPD_FAILED,
            Self::StopFailed | Self::CopyFailed => exit::FAILED,
            Self::Cancelled => exit::INTERRUPTED,
            Self::CommandNotExecutable => exit::NOT_EXECUTABLE,
            Self::CommandNotFound => exit::COMMAND_NOT_FOUND,
            Self::TryLater | Self::Budget => exit::TRY_LATER,
            Self::Credentials => exit::CREDENTIALS,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => f.write_str(&name),
            _ => f.write_str("internal"),
        }
    }
}

/// What is wrong, what it was about, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub code: ErrorCode,
    /// One lower-case sentence that names the thing and the place; further
    /// lines may follow (the end of a build's output, candidates).
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Error {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
