//! `config.toml`: read once at start, never written.

use crate::actors::Settings;
use crate::client::Home;
use crate::model::{Error, ErrorCode, Result, RuntimeName};
use serde::Deserialize;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// Live runs at once, at least, whatever the machine's memory.
const PARALLEL_MIN: u32 = 8;
/// Memory that a run is thought to need, for the default of `max_parallel`.
const MEMORY_PER_RUN: u64 = 1 << 30;
const QUEUED_MAX: u32 = 10_000;
const SESSION_PIDS: u32 = 4096;
const IDLE_EXIT: Duration = Duration::from_secs(15 * 60);

/// What the user settled, with defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[limits] max_parallel`: live runs at once.
    pub max_parallel: u32,
    /// `[limits] memory`: bytes that live runs may claim together by their pods' `memory`.
    pub memory: u64,
    /// `[limits] max_queued`: runs that may wait.
    pub max_queued: u32,
    /// `[limits] session_memory`: for containers whose pod says nothing; 0 is unlimited.
    pub session_memory: u64,
    /// `[limits] session_pids`: for containers whose pod says nothing; 0 is unlimited.
    pub session_pids: u32,
    /// `[daemon] idle_exit`: how long it stays with nothing to do; none for ever.
    pub idle_exit: Option<Duration>,
    /// `[docker] host`.
    pub docker_host: Option<String>,
    /// `runtime`: where sessions run by default.
    pub runtime: Option<RuntimeName>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    runtime: Option<RuntimeName>,
    limits: Limits,
    daemon: Daemon,
    docker: Docker,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    max_parallel: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Daemon {
    idle_exit: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Docker {
    host: Option<String>,
}

impl Config {
    /// What the actors of `home` are set up with. `user_home` is for `~` in pods.
    #[must_use]
    pub fn settings(&self, home: &Home, user_home: Option<PathBuf>) -> Settings {
        Settings {
            home: home.root().to_owned(),
            user_home,
            max_parallel: self.max_parallel,
            memory: self.memory,
            max_queued: self.max_queued,
            session_memory: self.session_memory,
            session_pids: self.session_pids,
            runtime: self.runtime.unwrap_or(RuntimeName::Docker),
            docker_host: self.docker_host.clone(),
        }
    }

    /// Reads the home's `config.toml`; defaults where there is none.
    ///
    /// # Errors
    /// `usage`, with file, line and column, for what cannot be understood.
    pub fn read(home: &Home) -> Result<Self> {
        let path = home.root().join("config.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                return Err(Error::new(ErrorCode::Usage, message));
            }
        };
        let wrong = |what: String| {
            Error::new(ErrorCode::Usage, format!("{}: {what}", path.display()))
                .hint("correct the file, or move it away for the defaults")
        };
        let file: File = toml::from_str(&text).map_err(|error| wrong(describe(&text, &error)))?;
        let idle_exit = match file.daemon.idle_exit.as_deref() {
            None => Some(IDLE_EXIT),
            Some("never") => None,
            Some(text) => Some(duration(text).ok_or_else(|| {
                wrong(format!(
                    "daemon.idle_exit = \"{text}\" is no duration such as \"15m\", nor \"never\""
                ))
            })?),
        };
        if file.limits.max_parallel == Some(0) {
            return Err(wrong(
                "limits.max_parallel = 0 would let nothing run".to_owned(),
            ));
        }
        Ok(Self {
            max_parallel: file.limits.max_parallel.unwrap_or_else(default_parallel),
            memory: machine_memory() / 10 * 9,
            max_queued: QUEUED_MAX,
            session_memory: machine_memory() / 2,
            session_pids: SESSION_PIDS,
            idle_exit,
            docker_host: file.docker.host,
            runtime: file.runtime,
        })
    }
}

fn describe(text: &str, error: &toml::de::Error) -> String {
    let Some(span) = error.span() else {
        return error.message().to_owned();
    };
    let before = &text[..span.start.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("{line}:{column}: {}", error.message())
}

fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    let seconds = match &text[split..] {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn default_parallel() -> u32 {
    u32::try_from(machine_memory() / MEMORY_PER_RUN)
        .unwrap_or(u32::MAX)
        .max(PARALLEL_MIN)
}

/// This machine's memory in bytes; 0 when it does not say.
fn machine_memory() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Config::read(&Home::new(dir.path()).unwrap())
    }

    #[test]
    fn defaults_and_values() {
        let config = read("").unwrap();
        assert!(config.max_parallel >= PARALLEL_MIN);
        assert_eq!(config.idle_exit, Some(IDLE_EXIT));
        let text = "[limits]\nmax_parallel = 3\n[daemon]\nidle_exit = \"90s\"\n";
        let config = read(text).unwrap();
        assert_eq!(
            (config.max_parallel, config.idle_exit),
            (3, Some(Duration::from_secs(90)))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let error = read("[limits]\nmax_paralel = 3\n").unwrap_err();
        assert!(
            error
                .message
                .contains("config.toml: 2:1: unknown field `max_paralel`"),
            "{error}"
        );
        assert!(read("[daemon]\nidle_exit = \"soon\"\n").is_err());
        assert!(read("[limits]\nmax_parallel = 0\n").is_err());
    }
}
