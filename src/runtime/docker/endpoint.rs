//! Where the engine listens: found as the docker command finds it.
//!
//! Nothing here opens a connection; the file system is read for docker's
//! contexts and for sockets that are there.

use super::contexts;
use super::tls::Tls;
use super::unreachable::unavailable;
use crate::runtime::Result;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// What decides which engine is used. The environment is read at the edge and
/// passed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerConfig {
    /// `--docker-host`, or the configuration's.
    pub host: Option<String>,
    /// `DOCKER_HOST`.
    pub env_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub env_context: Option<String>,
    /// `DOCKER_TLS_VERIFY` is set: TLS, with an engine that proves who it is.
    pub tls_verify: bool,
    /// `DOCKER_TLS` is set: TLS with whoever answers.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`.
    pub cert_path: Option<PathBuf>,
    /// `DOCKER_CONFIG`; else `~/.docker`.
    pub docker_config_dir: Option<PathBuf>,
    /// The user's home directory.
    pub user_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// Where it is written down which images were built here; beside the
    /// sessions' directory when absent.
    pub ledger: Option<PathBuf>,
    /// `DOCKER_BUILDKIT` says no: images are built with the classic builder.
    pub classic: bool,
}

impl DockerConfig {
    /// What the variables say, `host` going before them. What is empty is not set.
    #[must_use]
    pub fn read(
        host: Option<String>,
        user_home: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        Self {
            host,
            env_host: text("DOCKER_HOST"),
            env_context: text("DOCKER_CONTEXT"),
            tls_verify: set("DOCKER_TLS_VERIFY").is_some(),
            tls: set("DOCKER_TLS").is_some(),
            cert_path: set("DOCKER_CERT_PATH").map(PathBuf::from),
            docker_config_dir: set("DOCKER_CONFIG").map(PathBuf::from),
            user_home,
            runtime_dir: set("XDG_RUNTIME_DIR").map(PathBuf::from),
            ledger: None,
            classic: set("DOCKER_BUILDKIT").is_some_and(|value| {
                let no = ["0", "f", "F", "false", "FALSE", "False"];
                no.iter().any(|no| value == *no)
            }),
        }
    }

    /// The address of the engine that this leads to, without asking whether one
    /// answers there: of the usual sockets the first that exists.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        match candidates(self).ok()? {
            Candidates::Chosen(chosen) => Some(chosen.endpoint.to_string()),
            Candidates::Usual(list) => list
                .iter()
                .find(|endpoint| endpoint.exists())
                .map(ToString::to_string),
        }
    }

    pub(super) fn config_dir(&self) -> Option<PathBuf> {
        self.docker_config_dir
            .clone()
            .or_else(|| Some(self.user_home.as_ref()?.join(".docker")))
    }

    /// What the variables say about TLS, for addresses that do not come with their own.
    fn env_tls(&self) -> Option<Tls> {
        if !self.tls_verify && !self.tls {
            return None;
        }
        let dir = self.cert_path.clone().or_else(|| self.config_dir());
        let dir = dir.unwrap_or_default();
        let mut tls = Tls::found_in(&dir, self.tls_verify);
        // The authority has to be there to verify with; that it is not is said
        // when it is opened.
        tls.authority = Some(dir.join("ca.pem"));
        Some(tls)
    }
}

/// An address that an engine may listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`, with or without encryption.
    Tcp(String, Option<Tls>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address, _) => write!(f, "tcp://{address}"),
        }
    }
}

/// An address that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Why.
    pub cause: String,
    /// What to do.
    pub hint: String,
}

impl Endpoint {
    /// Reads an address as docker writes it.
    pub(super) fn parse(host: &str, tls: Option<Tls>) -> Result<Self, Refused> {
        let host = host.trim();
        let path = host
            .strip_prefix("unix://")
            .or_else(|| host.starts_with('/').then_some(host));
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let tcp = host
            .strip_prefix("tcp://")
            .or_else(|| host.strip_prefix("http://"));
        if let Some(address) = tcp {
            let address = address.trim_end_matches('/');
            let named = address
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let usual_port = if tls.is_some() { 2376 } else { 2375 };
            let address = match named {
                true => address.to_owned(),
                false => format!("{address}:{usual_port}"),
            };
            return Ok(Self::Tcp(address, tls));
        }
        let shown = host.escape_debug();
        if let Some(there) = host.strip_prefix("ssh://") {
            return Err(Refused {
                cause: format!(
                    "{shown} is on another machine, and its engine does not see the files of sessions, which are on this one"
                ),
                hint: format!(
                    "run cldpd where the engine is: ssh {} cldpd …",
                    there.escape_debug()
                ),
            });
        }
        Err(Refused {
            cause: format!("the address \"{shown}\" is not one that can be used"),
            hint: "unix:///path and tcp://host:port are".to_owned(),
        })
    }

    /// Whether there is something to try.
    pub(super) fn exists(&self) -> bool {
        match self {
            Self::Unix(path) => path.exists(),
            Self::Tcp(..) => true,
        }
    }
}

/// Where to look, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Where.
    pub endpoint: Endpoint,
    /// Who said so.
    pub by: String,
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// Somebody said where.
    Chosen(Chosen),
    /// Nobody did: the usual sockets, the likeliest first.
    Usual(Vec<Endpoint>),
}

/// Where to look for the engine.
///
/// # Errors
/// What is wrong with the address or context that was chosen.
pub(super) fn candidates(config: &DockerConfig) -> Result<Candidates> {
    let given = |value: &Option<String>| value.clone().filter(|v| !v.trim().is_empty());
    let chosen = |host: &str, by: &str| match Endpoint::parse(host, config.env_tls()) {
        Ok(endpoint) => Ok(Candidates::Chosen(Chosen {
            endpoint,
            by: by.to_owned(),
        })),
        Err(Refused { cause, hint }) => Err(unavailable(format!("{by}: {cause}"), Some(hint))),
    };
    if let Some(host) = given(&config.host) {
        return chosen(&host, "the configured docker host");
    }
    if let Some(host) = given(&config.env_host) {
        return chosen(&host, "DOCKER_HOST");
    }
    if let Some(chosen) = contexts::current(config)? {
        return Ok(Candidates::Chosen(chosen));
    }
    Ok(Candidates::Usual(usual(config)))
}

/// Rootful before rootless, Docker before what stands in for it.
fn usual(config: &DockerConfig) -> Vec<Endpoint> {
    let beneath = |dir: &Option<PathBuf>, paths: &[&str]| -> Vec<PathBuf> {
        let join = |dir: &Path| paths.iter().map(|path| dir.join(path)).collect();
        dir.as_deref().map(join).unwrap_or_default()
    };
    let mut paths = vec![PathBuf::from("/var/run/docker.sock")];
    paths.extend(beneath(&config.runtime_dir, &["docker.sock"]));
    paths.extend(beneath(
        &config.user_home,
        &[
            ".docker/run/docker.sock",
            ".docker/desktop/docker.sock",
            ".colima/default/docker.sock",
            ".config/colima/default/docker.sock",
            ".orbstack/run/docker.sock",
            ".rd/docker.sock",
        ],
    ));
    paths.extend(beneath(&config.runtime_dir, &["podman/podman.sock"]));
    paths.push("/run/podman/podman.sock".into());
    paths.into_iter().map(Endpoint::Unix).collect()
}

#[cfg(test)]
#[path = "endpoint/tests.rs"]
mod tests;
