//! Starting the daemon.
//!
//! The daemon is a process of its own from its first moment: it takes nothing
//! of ours but a few variables, and it tells that it is ready with one line of
//! JSON on its standard output, `{"ready":true}` or `{"error":{…}}`. Two that
//! are started at once are told apart by the home's lock; the one that loses
//! says `refused`, and its client uses the other.

use super::connection::open;
use super::home::{HOME_VARIABLE, Home};
use crate::model::{Error, ErrorCode, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// What of our environment the daemon gets, besides `CLDPD_*`.
const VARIABLES: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_BUILDKIT",
];
/// How long it may take until it is ready: it takes over what runs first.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long another one may take to be ready, or to be gone.
const OTHER_MAX: Duration = Duration::from_secs(30);
/// Longest line it may say that it is ready with.
const LINE_MAX: u64 = 64 * 1024;
/// How much of the end of its log is shown.
const LOG_TAIL: u64 = 4096;

/// How to start the daemon of a home.
#[derive(Clone, Debug)]
pub struct Launcher {
    exe: PathBuf,
    docker_host: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    error: Option<Error>,
}

impl Launcher {
    /// Starts `exe daemon run`.
    #[must_use]
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        Self {
            exe: exe.into(),
            docker_host: None,
        }
    }

    /// The same, with the engine to use.
    #[must_use]
    pub fn docker_host(mut self, host: Option<String>) -> Self {
        self.docker_host = host;
        self
    }

    /// Sees that a daemon answers, and starts one when none does. Returns
    /// when it is ready.
    ///
    /// # Errors
    /// `daemon_unavailable`, or what the daemon says is wrong.
    pub(super) async fn ensure(&self, home: &Home) -> Result<()> {
        let deadline = Instant::now() + OTHER_MAX;
        let mut pause = Duration::from_millis(10);
        loop {
            if open(home).await.is_ok() {
                return Ok(());
            }
            let error = match self.launch(home).await {
                Ok(()) => return Ok(()),
                Err(error) if open(home).await.is_ok() => {
                    tracing::debug!("another daemon was faster: {error}");
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.code != ErrorCode::Refused || Instant::now() >= deadline {
                return Err(error);
            }
            // Another process holds the lock. It is about to listen or to
            // leave, and no handle of it tells which.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn launch(&self, home: &Home) -> Result<()> {
        home.make()?;
        let mut log = open_log(home)?;
        let from = log.seek(SeekFrom::End(0)).unwrap_or(0);
        let mut child = self.command(home, log).spawn().map_err(|e| {
            Error::new(
                ErrorCode::DaemonUnavailable,
                format!("cannot start the daemon {}: {e}", self.exe.display()),
            )
        })?;
        match tokio::time::timeout(READY_MAX, ready(&mut child)).await {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => {
                let ended = match child.wait().await {
                    Ok(status) => status.to_string(),
                    Err(e) => e.to_string(),
                };
                Err(failed(
                    home,
                    from,
                    &format!("the daemon ended while it started ({ended})"),
                ))
            }
            Err(_) => {
                let seconds = READY_MAX.as_secs();
                Err(failed(
                    home,
                    from,
                    &format!("the daemon was not ready after {seconds} s"),
                ))
            }
        }
    }

    /// What of `ours` the daemon gets.
    pub fn environment(
        ours: impl Iterator<Item = (OsString, OsString)>,
    ) -> impl Iterator<Item = (OsString, OsString)> {
        ours.filter(|(name, _)| {
            let known = |name: &str| name.starts_with("CLDPD_") || VARIABLES.contains(&name);
            name.to_str().is_some_and(known)
        })
    }

    fn command(&self, home: &Home, log: File) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg("--home").arg(home.root());
        if let Some(host) = &self.docker_host {
            command.arg("--docker-host").arg(host);
        }
        command
            .args(["daemon", "run", "--detached"])
            .current_dir("/")
            .env_clear()
            .envs(Self::environment(std::env::vars_os()))
            .env(HOME_VARIABLE, home.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }
}

/// What it says about being ready; nothing when it ends without a word.
async fn ready(child: &mut Child) -> Option<Result<()>> {
    let stdout = child.stdout.take()?;
    let mut text = String::new();
    let mut reader = BufReader::new(stdout.take(LINE_MAX));
    reader.read_line(&mut text).await.ok()?;
    match serde_json::from_str(&text).ok()? {
        Line { error: Some(e), .. } => Some(Err(e)),
        Line { ready: true, .. } => Some(Ok(())),
        Line { .. } => None,
    }
}

fn open_log(home: &Home) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .open(home.log())
        .map_err(|e| {
            Error::new(
                ErrorCode::DaemonUnavailable,
                format!(
                    "cannot write the daemon's log {}: {e}",
                    home.log().display()
                ),
            )
        })
}

fn failed(home: &Home, from: u64, what: &str) -> Error {
    let mut message = what.to_owned();
    for line in log_tail(home, from).lines() {
        message.push_str("\n  ");
        message.push_str(line);
    }
    Error::new(ErrorCode::DaemonUnavailable, message)
        .hint(format!("its log is {}", home.log().display()))
}

/// The end of what was logged after `from`.
fn log_tail(home: &Home, from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut log = File::open(home.log())?;
        let end = log.seek(SeekFrom::End(0))?;
        let start = from.max(end.saturating_sub(LOG_TAIL));
        log.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        log.take(LOG_TAIL).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let skip = usize::from(start > from);
        let lines: Vec<&str> = text.lines().skip(skip).collect();
        Ok(lines[lines.len().saturating_sub(10)..].join("\n"))
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::{Answer, Server, runtime_error};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn script(dir: &Path, text: &str) -> Result<PathBuf> {
        let path = dir.join("daemon.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).map_err(runtime_error)?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).map_err(runtime_error)?;
        Ok(path)
    }

    async fn launch(text: &str) -> Result<Result<()>> {
        let dir = tempfile::tempdir().map_err(runtime_error)?;
        let home = Home::new(dir.path().join("home"))?;
        let launcher = Launcher::new(script(dir.path(), text)?);
        let result = launcher.launch(&home).await;
        let mode = std::fs::metadata(home.root())
            .map_err(runtime_error)?
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
        let mode = std::fs::metadata(home.log())
            .map_err(runtime_error)?
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        Ok(result)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_is_ready_is_waited_for() -> Result<()> {
        launch("echo '{\"ready\":true}'").await?
    }

    #[tokio::test(flavor = "current_thread")]
    async fn its_error_is_the_clients() -> Result<()> {
        let told = Error::new(
            ErrorCode::JournalFailed,
            "the journal is of a newer version",
        );
        let line = serde_json::json!({ "error": told });
        assert_eq!(launch(&format!("echo '{line}'")).await?, Err(told));
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_dies_is_told_with_its_last_words() -> Result<()> {
        let result = launch("echo 'no room' >&2; exit 3").await?;
        let error = result
            .err()
            .ok_or_else(|| runtime_error(std::io::Error::other("ready")))?;
        assert_eq!(error.code, ErrorCode::DaemonUnavailable);
        assert_eq!(
            error.message,
            "the daemon ended while it started (exit status: 3)\n  no room"
        );
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_is_there_is_used() -> Result<()> {
        let server = Server::start([Answer::json(&serde_json::json!([]))])?;
        let client = server.launching(Launcher::new("/nonexistent/cldpd"));
        assert!(client.pods().await?.is_empty());
        Ok(())
    }

    #[test]
    fn the_environment_is_clean() {
        let ours = [
            ("PATH", "/bin"),
            ("ANTHROPIC_API_KEY", "k"),
            ("CLDPD_LOG", "debug"),
        ];
        let ours = ours.map(|(k, v)| (OsString::from(k), OsString::from(v)));
        let names: Vec<OsString> = Launcher::environment(ours.into_iter())
            .map(|(k, _)| k)
            .collect();
        assert_eq!(names, ["PATH", "CLDPD_LOG"]);
    }
}
