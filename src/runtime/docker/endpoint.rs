//! Where the engine listens: found as the docker command finds it.
//!
//! Nothing here opens a connection; the file system is read for docker's
//! contexts only.

use serde::Deserialize;
use sha2::{Digest, Sha256};
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
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub docker_config_dir: Option<PathBuf>,
    /// The user's home directory.
    pub user_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

/// An address that an engine may listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `host:port`, without encryption.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// Reads an address as docker writes it.
    pub(super) fn parse(host: &str) -> Result<Self, String> {
        let host = host.trim();
        if let Some(path) = host.strip_prefix("unix://") {
            return match path {
                "" => Err("the address \"unix://\" names no socket".to_owned()),
                _ => Ok(Self::Unix(path.into())),
            };
        }
        if host.starts_with('/') {
            return Ok(Self::Unix(host.into()));
        }
        let tcp = host
            .strip_prefix("tcp://")
            .or_else(|| host.strip_prefix("http://"));
        if let Some(address) = tcp {
            let address = address.trim_end_matches('/');
            let port = address.rsplit_once(':').map(|(_, port)| port);
            return Ok(match port {
                Some(port) if port.parse::<u16>().is_ok() => Self::Tcp(address.to_owned()),
                _ => Self::Tcp(format!("{address}:2375")),
            });
        }
        Err(format!(
            "the address \"{}\" is not one that can be used: unix:///path and tcp://host:port are",
            host.escape_debug()
        ))
    }
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// Somebody said where; nothing else is tried.
    Chosen {
        /// Where.
        endpoint: Endpoint,
        /// Who said so.
        by: String,
    },
    /// Nobody did: the usual sockets, the likeliest first.
    Usual(Vec<Endpoint>),
}

/// Where to look for the engine.
///
/// # Errors
/// What is wrong with the address or context that was chosen.
pub(super) fn candidates(config: &DockerConfig) -> Result<Candidates, String> {
    let given = |value: &Option<String>| value.clone().filter(|v| !v.trim().is_empty());
    if let Some(host) = given(&config.host) {
        return chosen(&host, "the configured docker host".to_owned());
    }
    if let Some(host) = given(&config.env_host) {
        return chosen(&host, "DOCKER_HOST".to_owned());
    }
    if let Some((host, by)) = from_context(config)? {
        return chosen(&host, by);
    }
    Ok(Candidates::Usual(usual(config)))
}

fn chosen(host: &str, by: String) -> Result<Candidates, String> {
    let endpoint = Endpoint::parse(host).map_err(|cause| format!("{by}: {cause}"))?;
    Ok(Candidates::Chosen { endpoint, by })
}

#[derive(Deserialize)]
struct CliConfig {
    #[serde(rename = "currentContext", default)]
    current_context: String,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
}

/// The current docker context's address. The context named `default` stands
/// for having none.
fn from_context(config: &DockerConfig) -> Result<Option<(String, String)>, String> {
    let Some(dir) = config
        .docker_config_dir
        .clone()
        .or_else(|| Some(config.user_home.as_ref()?.join(".docker")))
    else {
        return Ok(None);
    };
    let name = match config.env_context.clone().filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => current_context(&dir)?,
    };
    if name.is_empty() || name == "default" {
        return Ok(None);
    }
    let id = format!("{:x}", Sha256::digest(name.as_bytes()));
    let by = format!("the docker context \"{}\"", name.escape_debug());
    let path = dir
        .join("contexts")
        .join("meta")
        .join(&id)
        .join("meta.json");
    let text = std::fs::read(&path)
        .map_err(|error| format!("{by}: cannot read {}: {error}", path.display()))?;
    let meta: ContextMeta = serde_json::from_slice(&text)
        .map_err(|error| format!("{by}: cannot read {}: {error}", path.display()))?;
    let Some(endpoint) = meta.endpoints.get("docker").filter(|e| !e.host.is_empty()) else {
        return Err(format!("{by} has no docker endpoint"));
    };
    if dir.join("contexts").join("tls").join(&id).exists() {
        return Err(format!(
            "{by} uses TLS, which is not supported yet: {}",
            endpoint.host
        ));
    }
    Ok(Some((endpoint.host.clone(), by)))
}

fn current_context(dir: &Path) -> Result<String, String> {
    let path = dir.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Without its configuration, or without permission to it (another
        // user's), docker works with its defaults; so do we.
        Err(_) => return Ok(String::new()),
    };
    serde_json::from_slice::<CliConfig>(&text)
        .map(|config| config.current_context)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn usual(config: &DockerConfig) -> Vec<Endpoint> {
    let mut paths = vec![PathBuf::from("/var/run/docker.sock")];
    if let Some(run) = &config.runtime_dir {
        paths.push(run.join("docker.sock"));
    }
    if let Some(home) = &config.user_home {
        for path in [
            ".docker/run/docker.sock",
            ".docker/desktop/docker.sock",
            ".colima/default/docker.sock",
            ".config/colima/default/docker.sock",
            ".rd/docker.sock",
        ] {
            paths.push(home.join(path));
        }
    }
    if let Some(run) = &config.runtime_dir {
        paths.push(run.join("podman/podman.sock"));
    }
    paths.push("/run/podman/podman.sock".into());
    paths.into_iter().map(Endpoint::Unix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Endpoint {
        Endpoint::Unix(path.into())
    }

    #[test]
    fn addresses_are_read_as_docker_writes_them() {
        assert_eq!(Endpoint::parse("unix:///a/b.sock"), Ok(unix("/a/b.sock")));
        assert_eq!(
            Endpoint::parse("tcp://10.0.0.1:99"),
            Ok(Endpoint::Tcp("10.0.0.1:99".into()))
        );
        assert_eq!(
            Endpoint::parse("tcp://box/"),
            Ok(Endpoint::Tcp("box:2375".into()))
        );
        for bad in ["ssh://me@box", "https://box", "unix://", "box"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_flag_goes_before_the_environment_and_that_before_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let name = "elsewhere";
        let id = format!("{:x}", Sha256::digest(name.as_bytes()));
        let meta = dir.path().join("contexts/meta").join(id);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"elsewhere","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///ctx.sock","SkipTLSVerify":false}}}"#,
        )
        .unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"auths":{},"currentContext":"elsewhere"}"#,
        )
        .unwrap();
        let mut config = DockerConfig {
            docker_config_dir: Some(dir.path().into()),
            ..DockerConfig::default()
        };
        let endpoint = |config: &DockerConfig| match candidates(config) {
            Ok(Candidates::Chosen { endpoint, .. }) => endpoint,
            other => panic!("{other:?}"),
        };
        assert_eq!(endpoint(&config), unix("/ctx.sock"));
        config.env_host = Some("unix:///env.sock".into());
        assert_eq!(endpoint(&config), unix("/env.sock"));
        config.host = Some("unix:///flag.sock".into());
        assert_eq!(endpoint(&config), unix("/flag.sock"));

        config.host = None;
        config.env_host = None;
        config.env_context = Some("default".into());
        assert!(matches!(candidates(&config), Ok(Candidates::Usual(_))));
        config.env_context = Some("missing".into());
        let error = candidates(&config).unwrap_err();
        assert!(error.contains("the docker context \"missing\""), "{error}");
    }

    #[test]
    fn without_a_choice_the_usual_sockets_are_tried() {
        let config = DockerConfig {
            user_home: Some("/home/me".into()),
            runtime_dir: Some("/run/user/7".into()),
            ..DockerConfig::default()
        };
        let Ok(Candidates::Usual(list)) = candidates(&config) else {
            panic!("a context was found");
        };
        assert_eq!(list[0], unix("/var/run/docker.sock"));
        assert!(list.contains(&unix("/run/user/7/docker.sock")));
        assert!(list.contains(&unix("/home/me/.docker/run/docker.sock")));
        assert!(list.contains(&unix("/run/user/7/podman/podman.sock")));
    }
}
