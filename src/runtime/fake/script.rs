//! What the scripted engine is told: `fake.json`, gates, the log of calls.
//!
//! ```json
//! {
//!   "unavailable": "connection refused",
//!   "architecture": "arm64",
//!   "missing": true,
//!   "build": { "steps": ["line 1", { "gate": "/tmp/fifo" }, "line 2"],
//!              "fail": { "code": 2, "text": "no such package" } },
//!   "command": ["/bin/agent"], "workdir": "/w", "user": "agent",
//!   "calls": { "create": { "gate": "/tmp/fifo", "conflict": true },
//!              "start": { "error": "no such device", "times": 1 } },
//!   "exit": { "code": 137, "oom_killed": true, "error": "…", "finished": "2026-11-21T00:00:00Z" }
//! }
//! ```
//!
//! All is optional. In a pod's directory it is for that pod, in the directory
//! of all pods for the engine as a whole (`check`, `list`, `remove_session`,
//! `purge`, and `unavailable`, which then holds for every call). A gate is a FIFO:
//! the call waits until it was opened for writing and closed again. `times` says
//! how often an error happens before the call succeeds. With `gone` a `create`
//! finds no image any more.

use crate::model::{RuntimeName, Timestamp};
use crate::runtime::{ExitInfo, Result, RuntimeError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use tokio::net::unix::pipe;

/// What a call says whose image is gone.
pub(super) const NO_IMAGE: &str = "there is no such image";

const FILE: &str = "fake.json";
const LOG: &str = "fake.log";
/// Stands for an image in a pod's directory.
pub(super) const BUILT: &str = ".fake-built";
/// What is ours in a pod's directory, and no part of the build's context.
pub(super) const OURS: [&str; 3] = [FILE, LOG, BUILT];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Script {
    pub(super) unavailable: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) missing: bool,
    pub(super) build: Build,
    pub(super) command: Option<Vec<String>>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    calls: BTreeMap<String, Call>,
    exit: Option<Exit>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Build {
    pub(super) steps: Vec<Step>,
    pub(super) fail: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Step {
    Line(String),
    Gate { gate: PathBuf },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failure {
    pub(super) code: i64,
    #[serde(default)]
    pub(super) text: String,
}

/// What happens to one kind of call.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Call {
    pub(super) gate: Option<PathBuf>,
    pub(super) error: Option<String>,
    pub(super) conflict: bool,
    pub(super) gone: bool,
    pub(super) times: Option<u32>,
}

impl Call {
    /// What it fails with.
    pub(super) fn cause(&self) -> Option<String> {
        if self.conflict {
            return Some("its name is taken by a container that is not cldpd's".to_owned());
        }
        if self.gone {
            return Some(NO_IMAGE.to_owned());
        }
        self.error.clone()
    }
}

/// What the engine says of an ended container, in place of the truth.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exit {
    code: Option<i64>,
    oom_killed: Option<bool>,
    error: Option<String>,
    finished: Option<Timestamp>,
}

impl Script {
    /// What the directory's file says now.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound) => return Ok(Self::default()),
            Err(source) => return Err(failed("cannot read", path, source)),
        };
        serde_json::from_slice(&text)
            .map_err(|error| failed("cannot understand", path, io::Error::other(error)))
    }

    pub(super) fn call(&self, name: &str) -> Call {
        self.calls.get(name).cloned().unwrap_or_default()
    }

    /// The engine's error, if it cannot be reached.
    pub(super) fn reachable(&self) -> Result<()> {
        self.unavailable.as_ref().map_or(Ok(()), |cause| {
            Err(RuntimeError::Unavailable {
                runtime: RuntimeName::Fake,
                cause: cause.clone(),
                hint: Some("change fake.json".to_owned()),
            })
        })
    }

    /// The truth, with what the script says over it.
    pub(super) fn retell(&self, truth: ExitInfo) -> ExitInfo {
        let Some(exit) = &self.exit else {
            return truth;
        };
        ExitInfo {
            code: exit.code.unwrap_or(truth.code),
            oom_killed: exit.oom_killed.unwrap_or(truth.oom_killed),
            finished: exit.finished.or(truth.finished),
            error: exit.error.clone().or(truth.error),
        }
    }
}

/// Adds a line to the directory's log of calls. A directory that is gone needs none.
pub(super) fn log(dir: &Path, line: &str) -> Result<()> {
    let path = dir.join(LOG);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    // One write: lines of several processes do not mix.
    match file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| failed("cannot write", path, source)),
    }
}

/// Waits until the FIFO was opened for writing and closed again. Holds no
/// thread while it waits, and gives up with its future.
pub(super) async fn gate(path: &Path) -> Result<()> {
    let failed = |source| failed("cannot wait at", path.to_owned(), source);
    let fifo = pipe::OpenOptions::new()
        .open_receiver(path)
        .map_err(failed)?;
    let mut rest = [0; 256];
    loop {
        fifo.readable().await.map_err(failed)?;
        match fifo.try_read(&mut rest) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

pub(super) fn failed(action: &'static str, path: PathBuf, source: io::Error) -> RuntimeError {
    RuntimeError::Io {
        action,
        path,
        source,
    }
}
