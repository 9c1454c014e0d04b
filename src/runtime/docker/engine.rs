//! One engine: the connection, what it is, and what its errors mean.
//!
//! Every call has a limit, but those that take as long as they take (build,
//! wait, commit). A failure to reach the engine marks it as lost, and the next
//! call looks for it again.

use super::endpoint::{Candidates, Chosen, DockerConfig, Endpoint, candidates};
use super::tls;
use super::unreachable::{not_an_engine, silent, unavailable, unreachable_engine};
use crate::runtime::{EngineInfo, Result, RuntimeError};
use bollard::errors::Error as EngineError;
use bollard::{API_DEFAULT_VERSION, ClientVersion};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The oldest API that is spoken: engine 20.10.
const OLDEST_API: ClientVersion = ClientVersion {
    major_version: 1,
    minor_version: 41,
};
/// For finding out whether somebody answers.
const HELLO: Duration = Duration::from_secs(10);
/// For calls that only read.
pub(super) const QUICK: Duration = Duration::from_secs(30);
/// For calls that move files: create, start, remove.
pub(super) const SLOW: Duration = Duration::from_secs(180);
/// bollard's own limit, which holds for all calls alike: out of the way.
const NEVER: u64 = 10 * 365 * 24 * 3600;

/// An engine that answered.
pub(super) struct Engine {
    /// The client, with an API version that the engine speaks.
    pub client: bollard::Docker,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it is.
    pub info: EngineInfo,
    /// Why it is looked for there, in words.
    pub by: String,
    /// It builds with BuildKit.
    pub buildkit: bool,
    /// It is Podman.
    pub podman: bool,
    lost: AtomicBool,
}

impl Engine {
    /// Finds the engine that the docker command would find.
    pub(super) async fn find(config: &DockerConfig) -> Result<Self> {
        let list = match candidates(config)? {
            Candidates::Chosen(Chosen { endpoint, by }) => {
                return Self::connect(endpoint, &format!("{by} says so"))
                    .await
                    .map_err(|error| match error {
                        RuntimeError::Unavailable { cause, hint, .. } => {
                            unavailable(format!("{cause} ({by} says so)"), hint)
                        }
                        other => other,
                    });
            }
            Candidates::Usual(list) => list,
        };
        // The first that answers. Otherwise the first that is there says why
        // not: a socket that may not be opened tells more than one that is missing.
        let mut there = None;
        let mut missing = None;
        for endpoint in list {
            let exists = endpoint.exists();
            let slot = match exists {
                true => &mut there,
                false => &mut missing,
            };
            if !exists && slot.is_some() {
                continue;
            }
            match Self::connect(endpoint, "the first of the usual sockets that answers").await {
                Ok(engine) => return Ok(engine),
                Err(error) => {
                    slot.get_or_insert(error);
                }
            }
        }
        Err(there
            .or(missing)
            .unwrap_or_else(|| unavailable("there is no place to look for it".to_owned(), None)))
    }

    /// Connects, and agrees on the API's version.
    async fn connect(endpoint: Endpoint, by: &str) -> Result<Self> {
        let client = open(&endpoint, API_DEFAULT_VERSION)?;
        let version = match tokio::time::timeout(HELLO, client.version()).await {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Err(unreachable_engine(&endpoint, &error)),
            Err(_) => return Err(silent(&endpoint, HELLO)),
        };
        let api = version.api_version.as_deref().unwrap_or_default();
        let Some(offered) = parse_version(api) else {
            return Err(not_an_engine(&endpoint, "it names no API version"));
        };
        if offered < OLDEST_API {
            return Err(unavailable(
                format!(
                    "the engine at {endpoint} speaks API {api}, and at least {OLDEST_API} is needed"
                ),
                Some("upgrade it to Docker 20.10 or newer".to_owned()),
            ));
        }
        let os = version.os.as_deref().unwrap_or("linux");
        if os != "linux" {
            return Err(unavailable(
                format!("the engine at {endpoint} runs {os} containers, and linux ones are needed"),
                None,
            ));
        }
        let podman = version
            .components
            .iter()
            .flatten()
            .any(|component| component.name.to_lowercase().contains("podman"));
        let spoken = match offered < *API_DEFAULT_VERSION {
            true => offered,
            false => *API_DEFAULT_VERSION,
        };
        let description = format!(
            "{} {} (API {api}) at {endpoint}",
            if podman { "Podman" } else { "Docker" },
            version.version.as_deref().unwrap_or("of unknown version"),
        );
        Ok(Self {
            client: open(&endpoint, &spoken)?,
            info: EngineInfo {
                description,
                architecture: version.arch.unwrap_or_default(),
            },
            by: by.to_owned(),
            // Podman has its own builder behind the same route.
            buildkit: !podman,
            podman,
            endpoint,
            lost: AtomicBool::new(false),
        })
    }

    /// Whether it is the first that would be asked.
    pub(super) fn is_chosen(&self, config: &DockerConfig) -> bool {
        match candidates(config) {
            Ok(Candidates::Chosen(chosen)) => chosen.endpoint == self.endpoint,
            Ok(Candidates::Usual(list)) => list.first() == Some(&self.endpoint),
            Err(_) => false,
        }
    }

    /// Whether it answers.
    pub(super) async fn ping(&self) -> bool {
        self.call(HELLO, self.client.ping()).await.is_ok()
    }

    /// Whether a call failed to reach it.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// A call that has to answer within `limit`.
    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| self.failure(&error)),
            Err(_) => {
                self.lost.store(true, Ordering::Relaxed);
                Err(Failure::Unreachable(silent(&self.endpoint, limit)))
            }
        }
    }

    /// What an error of a call means.
    pub(super) fn failure(&self, error: &EngineError) -> Failure {
        match error {
            EngineError::DockerResponseServerError {
                status_code,
                message,
            } => Failure::Refused {
                status: *status_code,
                message: message.trim().to_owned(),
            },
            EngineError::DockerStreamError { error } => Failure::Refused {
                status: 500,
                message: error.trim().to_owned(),
            },
            other => {
                self.lost.store(true, Ordering::Relaxed);
                Failure::Unreachable(unreachable_engine(&self.endpoint, other))
            }
        }
    }
}

/// Why a call did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine said no.
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The engine said nothing that can be understood.
    Unreachable(RuntimeError),
}

impl Failure {
    /// The thing does not exist.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Refused { status: 404, .. } => true,
            // Where it goes while it is looked at: a container of Podman's; an image of an
            // engine 20.10, which later ones answer with 404.
            Self::Refused {
                status: 500,
                message,
            } => {
                message.ends_with("no such container")
                    || message.starts_with("unrecognized image ID")
            }
            Self::Refused { .. } | Self::Unreachable(_) => false,
        }
    }

    /// The thing is held by something else, or is not in a state for this.
    pub(super) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// As an error about a container.
    pub(super) fn of_container(self, name: &str) -> RuntimeError {
        match self {
            Self::Refused { message, .. } => RuntimeError::Container {
                container: name.to_owned(),
                cause: message,
            },
            Self::Unreachable(error) => error,
        }
    }

    /// As an error about an image.
    pub(super) fn of_image(self, tag: &str) -> RuntimeError {
        match self {
            Self::Refused { message, .. } => RuntimeError::Image {
                tag: tag.to_owned(),
                cause: message,
                hint: None,
            },
            Self::Unreachable(error) => error,
        }
    }
}

fn open(endpoint: &Endpoint, version: &ClientVersion) -> Result<bollard::Docker> {
    let client = match endpoint {
        Endpoint::Unix(path) => {
            bollard::Docker::connect_with_unix(&path.to_string_lossy(), NEVER, version)
        }
        Endpoint::Tcp(address, None) => bollard::Docker::connect_with_http(address, NEVER, version),
        Endpoint::Tcp(address, Some(tls)) => return tls::open(address, tls, NEVER, version),
    };
    client.map_err(|error| unreachable_engine(endpoint, &error))
}

fn parse_version(text: &str) -> Option<ClientVersion> {
    let (major, minor) = text.split_once('.')?;
    Some(ClientVersion {
        major_version: major.parse().ok()?,
        minor_version: minor.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> Failure {
        let message = message.to_owned();
        Failure::Refused { status, message }
    }

    #[test]
    fn what_goes_while_it_is_looked_at_is_missing() {
        let podmans = "container f630 does not exist in database: no such container";
        assert!(refused(500, podmans).is_missing());
        assert!(refused(404, "No such image: x").is_missing());
        assert!(!refused(500, "no space left on device").is_missing());
        assert!(!refused(409, podmans).is_missing());
    }
}
