//! Docker's contexts: named places of engines, kept by the docker command.
//!
//! ```text
//! ~/.docker/config.json                         currentContext
//! ~/.docker/contexts/meta/<sha256>/meta.json    Endpoints.docker.Host, SkipTLSVerify
//! ~/.docker/contexts/tls/<sha256>/docker/       ca.pem, cert.pem, key.pem
//! ```

use super::endpoint::{Chosen, DockerConfig, Endpoint};
use super::tls::Tls;
use super::unreachable::unavailable;
use crate::runtime::{Result, RuntimeError};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
struct CliConfig {
    #[serde(rename = "currentContext", default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints", default)]
    endpoints: BTreeMap<String, MetaEndpoint>,
}

#[derive(Deserialize)]
struct MetaEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// What the current context leads to; nothing without one. The context named
/// `default` stands for having none.
///
/// # Errors
/// When it is not known, or what is written of it cannot be used.
pub(super) fn current(config: &DockerConfig) -> Result<Option<Chosen>> {
    let Some(dir) = config.config_dir() else {
        return Ok(None);
    };
    let (name, source) = match config.env_context.clone().filter(|name| !name.is_empty()) {
        Some(name) => (name, "DOCKER_CONTEXT"),
        None => (configured(&dir)?, "docker context use"),
    };
    if name.is_empty() || name == "default" {
        return Ok(None);
    }
    let by = format!("the docker context \"{}\"", name.escape_debug());
    let id = format!("{:x}", Sha256::digest(name.as_bytes()));
    let contexts = dir.join("contexts");
    let path = contexts.join("meta").join(&id).join("meta.json");
    let wrong = |cause: String, hint: &str| -> RuntimeError {
        unavailable(format!("{by} ({source}): {cause}"), Some(hint.to_owned()))
    };
    let known = "`docker context ls` lists the contexts; DOCKER_HOST goes before them";
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong("there is no such context".to_owned(), known),
        _ => wrong(format!("cannot read {}: {error}", path.display()), known),
    })?;
    let meta: Meta = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("cannot read {}: {error}", path.display()), known))?;
    let Some(endpoint) = meta.endpoints.get("docker").filter(|e| !e.host.is_empty()) else {
        return Err(wrong("it has no docker endpoint".to_owned(), known));
    };
    let material = contexts.join("tls").join(&id).join("docker");
    let tls = (endpoint.skip_tls_verify || material.exists())
        .then(|| Tls::found_in(&material, !endpoint.skip_tls_verify));
    let endpoint = Endpoint::parse(&endpoint.host, tls)
        .map_err(|refused| wrong(refused.cause, &refused.hint))?;
    Ok(Some(Chosen { endpoint, by }))
}

fn configured(dir: &Path) -> Result<String> {
    let path = dir.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Without its configuration, or without permission to it (another
        // user's), docker works with its defaults; so do we.
        Err(_) => return Ok(String::new()),
    };
    serde_json::from_slice::<CliConfig>(&text)
        .map(|config| config.current_context)
        .map_err(|error| unavailable(format!("cannot read {}: {error}", path.display()), None))
}
