//! What the user settled: flags, `CLDPD_*` variables, `config.toml`, defaults.
//!
//! Every setting is a line of [`KEYS`]. `config.toml` is read, never written.

use super::log::LogFormat;
use super::settings::{Key, Origin, Setting, Source};
use crate::actors::{Retention, Settings, Silence};
use crate::client::Home;
use crate::model::{Result, RuntimeName};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Live runs at once, at least, whatever the machine's memory.
const PARALLEL_MIN: u32 = 8;
/// Memory that a run is thought to need, for the default of `max_parallel`.
const MEMORY_PER_RUN: u64 = 1 << 30;
const QUEUED_MAX: u32 = 10_000;
const SESSION_PIDS: u32 = 4096;
const IDLE_EXIT: Duration = Duration::from_secs(15 * 60);
/// How long before the first retry of a run.
const RETRY_AFTER: Duration = Duration::from_secs(10);
const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);

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
    /// `[daemon] log_format`.
    pub log_format: LogFormat,
    /// `[docker] host`.
    pub docker_host: Option<String>,
    /// `[docker] session_dir`: where sessions have their directories; none for the home.
    pub session_dir: Option<PathBuf>,
    /// `runtime`: where sessions run by default.
    pub runtime: Option<RuntimeName>,
    /// `[cli] detach_on_interrupt`: Ctrl+C leaves sessions working.
    pub detach_on_interrupt: bool,
    /// `[journal] min_free`: bytes; none for the default.
    pub min_free: Option<u64>,
    /// `[retention]`.
    pub retention: Retention,
    /// `[agents]`: what is done about those that say nothing.
    pub silence: Silence,
    /// How long before the first retry of a run.
    pub retry_after: Duration,
    /// Where what is not a default came from, by the key's name.
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

/// The settings, in the order in which they are shown.
pub(super) const KEYS: [Key; 19] = [
    Key {
        name: "runtime",
        variable: "CLDPD_RUNTIME",
        about: "where sessions run whose pod does not say: docker or local",
        of_commands: true,
        read: |config, text| {
            config.runtime = Some(match text {
                "docker" => RuntimeName::Docker,
                "local" => RuntimeName::Local,
                "fake" => RuntimeName::Fake,
                _ => return Err("is neither docker nor local".to_owned()),
            });
            Ok(())
        },
        show: |config| config.runtime().to_string().into(),
    },
    Key {
        name: "limits.max_parallel",
        variable: "CLDPD_MAX_PARALLEL",
        about: "live runs at once; by default one for each GiB of memory, at least 8",
        of_commands: false,
        read: |config, text| {
            config.max_parallel = number(text)?;
            if config.max_parallel == 0 {
                return Err("would let nothing run".to_owned());
            }
            Ok(())
        },
        show: |config| config.max_parallel.into(),
    },
    Key {
        name: "limits.memory",
        variable: "CLDPD_MEMORY",
        about: "memory that live runs may claim together; 0 for any; by default nine tenths of this machine's",
        of_commands: false,
        read: |config, text| {
            config.memory = size(text)?;
            Ok(())
        },
        show: |config| size_in_words(config.memory).into(),
    },
    Key {
        name: "limits.max_queued",
        variable: "CLDPD_MAX_QUEUED",
        about: "runs that may wait; more are refused",
        of_commands: false,
        read: |config, text| {
            config.max_queued = number(text)?;
            if config.max_queued == 0 {
                return Err("would let nothing wait".to_owned());
            }
            Ok(())
        },
        show: |config| config.max_queued.into(),
    },
    Key {
        name: "limits.session_memory",
        variable: "CLDPD_SESSION_MEMORY",
        about: "memory of a container whose pod does not say; 0 for any; by default half of this machine's",
        of_commands: false,
        read: |config, text| {
            config.session_memory = size(text)?;
            Ok(())
        },
        show: |config| size_in_words(config.session_memory).into(),
    },
    Key {
        name: "limits.session_pids",
        variable: "CLDPD_SESSION_PIDS",
        about: "processes and threads of a container whose pod does not say; 0 for any number",
        of_commands: false,
        read: |config, text| {
            config.session_pids = number(text)?;
            Ok(())
        },
        show: |config| config.session_pids.into(),
    },
    Key {
        name: "agents.silent_after",
        variable: "CLDPD_SILENT_AFTER",
        about: "how long an agent may say nothing before that is noted; or never",
        of_commands: false,
        read: |config, text| {
            config.silence.after = duration_or_never(text)?;
            Ok(())
        },
        show: |config| match config.silence.after {
            Some(time) => in_words(time).into(),
            None => "never".into(),
        },
    },
    Key {
        name: "agents.linger_after",
        variable: "CLDPD_LINGER_AFTER",
        about: "the same of an agent that has given its result; or never",
        of_commands: false,
        read: |config, text| {
            config.silence.linger = duration_or_never(text)?;
            Ok(())
        },
        show: |config| match config.silence.linger {
            Some(time) => in_words(time).into(),
            None => "never".into(),
        },
    },
    Key {
        name: "agents.on_silence",
        variable: "CLDPD_ON_SILENCE",
        about: "what is done then: note or stop",
        of_commands: false,
        read: |config, text| {
            config.silence.stop = match text {
                "note" => false,
                "stop" => true,
                _ => return Err("is neither note nor stop".to_owned()),
            };
            Ok(())
        },
        show: |config| match config.silence.stop {
            true => "stop".into(),
            false => "note".into(),
        },
    },
    Key {
        name: "agents.retry_after",
        variable: "CLDPD_RETRY_AFTER",
        about: "how long before the first retry of a run; twice as long before each further one, at most 10m",
        of_commands: false,
        read: |config, text| {
            config.retry_after = duration(text).ok_or("is no duration such as \"10s\"")?;
            Ok(())
        },
        show: |config| in_words(config.retry_after).into(),
    },
    Key {
        name: "daemon.idle_exit",
        variable: "CLDPD_IDLE_EXIT",
        about: "how long the daemon stays with nothing to do; or never",
        of_commands: false,
        read: |config, text| {
            config.idle_exit = duration_or_never(text)?;
            Ok(())
        },
        show: |config| match config.idle_exit {
            Some(time) => in_words(time).into(),
            None => "never".into(),
        },
    },
    Key {
        name: "daemon.log_format",
        variable: "CLDPD_LOG_FORMAT",
        about: "how the daemon's log is written: logfmt or json",
        of_commands: false,
        read: |config, text| {
            config.log_format = text.parse()?;
            Ok(())
        },
        show: |config| config.log_format.name().into(),
    },
    Key {
        name: "journal.min_free",
        variable: "CLDPD_MIN_FREE",
        about: "with less free on the home's disk nothing new is dispatched; by default 256m, or a twentieth of a small disk, but no less than agents leave free",
        of_commands: false,
        read: |config, text| {
            config.min_free = Some(size(text)?);
            Ok(())
        },
        show: |config| config.min_free.map(size_in_words).into(),
    },
    Key {
        name: "retention.age",
        variable: "CLDPD_RETENTION_AGE",
        about: "histories go so long after their session's end, as in 90d; or never",
        of_commands: false,
        read: |config, text| {
            config.retention.age = unless_never(text, |text| {
                duration(text).ok_or("is no duration such as \"90d\", nor \"never\"".to_owned())
            })?;
            Ok(())
        },
        show: |config| config.retention.age.map(in_words).into(),
    },
    Key {
        name: "retention.count",
        variable: "CLDPD_RETENTION_COUNT",
        about: "so many ended sessions are left, the newest; or never",
        of_commands: false,
        read: |config, text| {
            config.retention.count = unless_never(text, |text| number(text).map(u64::from))?;
            Ok(())
        },
        show: |config| config.retention.count.into(),
    },
    Key {
        name: "retention.size",
        variable: "CLDPD_RETENTION_SIZE",
        about: "the oldest histories go while the journal needs more, as in 10g; or never",
        of_commands: false,
        read: |config, text| {
            config.retention.size = unless_never(text, size)?;
            Ok(())
        },
        show: |config| config.retention.size.map(size_in_words).into(),
    },
    Key {
        name: "docker.host",
        variable: "CLDPD_DOCKER_HOST",
        about: "the engine's address; by default found as the docker command finds it",
        of_commands: false,
        read: |config, text| {
            config.docker_host = Some(text.to_owned());
            Ok(())
        },
        show: |config| config.docker_host.clone().into(),
    },
    Key {
        name: "docker.session_dir",
        variable: "CLDPD_SESSION_DIR",
        about: "where sessions have their files, for an engine that does not see the home",
        of_commands: false,
        read: |config, text| {
            let dir = PathBuf::from(text);
            if !dir.is_absolute() {
                return Err("is no absolute path".to_owned());
            }
            config.session_dir = Some(dir);
            Ok(())
        },
        show: |config| {
            let dir = config.session_dir.as_ref();
            dir.map(|dir| dir.display().to_string()).into()
        },
    },
    Key {
        name: "cli.detach_on_interrupt",
        variable: "CLDPD_DETACH_ON_INTERRUPT",
        about: "whether Ctrl+C leaves the sessions of start and resume working",
        of_commands: true,
        read: |config, text| {
            config.detach_on_interrupt = truth(text)?;
            Ok(())
        },
        show: |config| config.detach_on_interrupt.into(),
    },
];

impl Default for Config {
    fn default() -> Self {
        Self {
            max_parallel: default_parallel(),
            memory: machine_memory() / 10 * 9,
            max_queued: QUEUED_MAX,
            session_memory: machine_memory() / 2,
            session_pids: SESSION_PIDS,
            idle_exit: Some(IDLE_EXIT),
            log_format: LogFormat::default(),
            docker_host: None,
            session_dir: None,
            runtime: None,
            detach_on_interrupt: false,
            min_free: None,
            retention: Retention::default(),
            silence: Silence {
                after: Some(SILENT_AFTER),
                linger: Some(SILENT_AFTER),
                stop: false,
            },
            retry_after: RETRY_AFTER,
            origins: BTreeMap::new(),
        }
    }
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
            runtime: self.runtime(),
            docker_host: self.docker_host.clone(),
            session_dir: self.session_dir.clone(),
            retention: self.retention,
            min_free: self.min_free,
            silence: self.silence,
            retry_after: self.retry_after,
        }
    }

    /// What a daemon of `home` goes by: its `config.toml`, under this
    /// process's variables. Those that commands read for themselves do not
    /// count: whoever happened to start the daemon would decide for all.
    ///
    /// # Errors
    /// `usage`, with file, line and column, or the variable, for what cannot
    /// be understood.
    pub fn read(home: &Home) -> Result<Self> {
        let variables = |key: &Key| (!key.of_commands).then(|| own(key.variable)).flatten();
        Source::of(home)?.read(&variables)
    }

    /// What a command goes by that is called from here.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn of_command(home: &Home) -> Result<Self> {
        Source::of(home)?.read(&|key: &Key| own(key.variable))
    }

    /// The same with the engine that `--docker-host` names, if it does.
    #[must_use]
    pub fn with_docker_host(mut self, host: Option<String>) -> Self {
        if let Some(host) = host {
            self.docker_host = Some(host);
            let flag = Origin::Flag("--docker-host");
            self.origins.insert("docker.host", flag);
        }
        self
    }

    /// Every setting, with where its value came from.
    #[must_use]
    pub fn effective(&self) -> Vec<Setting> {
        let setting = |key: &Key| Setting {
            key: key.name,
            value: (key.show)(self),
            origin: self.origins.get(key.name).cloned().unwrap_or_default(),
            variable: key.variable,
            about: key.about,
        };
        KEYS.iter().map(setting).collect()
    }

    /// Where sessions run, whatever their pods say: the variable goes over
    /// `pod.json`, the file does not.
    #[must_use]
    pub fn runtime_over_pods(&self) -> Option<RuntimeName> {
        let origin = self.origins.get("runtime");
        self.runtime
            .filter(|_| matches!(origin, Some(Origin::Variable(_))))
    }

    /// Where sessions run by default.
    #[must_use]
    pub fn runtime(&self) -> RuntimeName {
        self.runtime.unwrap_or(RuntimeName::Docker)
    }
}

fn own(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "is no whole number".to_owned())
}

/// Bytes, as in `512m`, `12g` or `12GiB`; the units are powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "is no size such as \"512m\" or \"12g\"".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = lower.split_at(split.unwrap_or(lower.len()));
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A size in the largest unit that says it exactly.
fn size_in_words(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    let unit = units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    let (shift, name) = unit.unwrap_or((0, ""));
    format!("{}{name}", bytes >> shift)
}

/// What `read` makes of a text that is not "never".
fn unless_never<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match text {
        "never" => Ok(None),
        text => read(text).map(Some),
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
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

fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    unless_never(text, |text| {
        duration(text).ok_or("is no duration such as \"15m\", nor \"never\"".to_owned())
    })
}

/// A duration in the largest unit that says it exactly.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() > 0 {
        return format!("{}ms", duration.as_millis());
    }
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let unit = units
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (size, name) = unit.unwrap_or((1, 's'));
    format!("{}{name}", seconds / size)
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
mod tests;
