//! Why an engine cannot be used, in words that say what to do.

use super::endpoint::Endpoint;
use super::tls;
use crate::model::spec::RuntimeName;
use crate::runtime::RuntimeError;
use bollard::errors::Error as EngineError;
use std::io::ErrorKind;
use std::time::Duration;

/// What to do about an engine that does not see the files of sessions.
pub(super) const BLIND_HINT: &str = "run cldpd where the engine runs, or set `[docker] session_dir` in config.toml to a directory that both see; `cldpd doctor` tries it";

/// No engine, with the reason and the way out.
pub(super) fn unavailable(cause: String, hint: Option<String>) -> RuntimeError {
    RuntimeError::Unavailable {
        runtime: RuntimeName::Docker,
        cause,
        hint,
    }
}

/// It takes connections and says nothing.
pub(super) fn silent(endpoint: &Endpoint, limit: Duration) -> RuntimeError {
    unavailable(
        format!(
            "the engine at {endpoint} did not answer within {} s",
            limit.as_secs()
        ),
        Some("is the docker daemon in trouble? its own log says more".to_owned()),
    )
}

/// Something else listens there.
pub(super) fn not_an_engine(endpoint: &Endpoint, cause: &str) -> RuntimeError {
    unavailable(
        format!("what answers at {endpoint} is no docker engine: {cause}"),
        None,
    )
}

/// The engine cannot be reached: in words that say what to do.
pub(super) fn unreachable_engine(endpoint: &Endpoint, error: &EngineError) -> RuntimeError {
    let running = || Some("is the docker daemon running?".to_owned());
    if matches!(error, EngineError::SocketNotFoundError(_)) {
        // Also what is found when a directory above it may not be searched.
        if let Endpoint::Unix(path) = endpoint
            && let Err(error) = path.symlink_metadata()
            && error.kind() == ErrorKind::PermissionDenied
        {
            return not_permitted(endpoint);
        }
        return unavailable(format!("there is no socket {endpoint}"), running());
    }
    if let EngineError::DockerResponseServerError {
        status_code: 401 | 403,
        message,
    } = error
    {
        let cause = format!("the engine at {endpoint} refuses: {}", short(message));
        return unavailable(cause, None);
    }
    if let EngineError::DockerResponseServerError { message, .. } = error
        && message.contains("HTTP request to an HTTPS server")
    {
        return unavailable(
            format!("the engine at {endpoint} wants TLS"),
            Some(
                "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem"
                    .to_owned(),
            ),
        );
    }
    if let Some((cause, hint)) = tls::explain(error) {
        return unavailable(format!("the engine at {endpoint}: {cause}"), Some(hint));
    }
    let stranger = match error {
        EngineError::DockerResponseServerError { message, .. }
        | EngineError::JsonDataError { message, .. } => Some(message.clone()),
        EngineError::JsonSerdeError { err } => Some(err.to_string()),
        _ => None,
    };
    if let Some(said) = stranger {
        return not_an_engine(endpoint, &short(&said));
    }
    let mut innermost: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(io) = innermost.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::PermissionDenied => return not_permitted(endpoint),
                ErrorKind::ConnectionRefused => {
                    return unavailable(format!("nothing listens at {endpoint}"), running());
                }
                ErrorKind::NotFound => {
                    return unavailable(format!("there is no socket {endpoint}"), running());
                }
                _ => {}
            }
        }
        match innermost.source() {
            Some(inner) => innermost = inner,
            None => break,
        }
    }
    let cause = short(&innermost.to_string());
    // The HTTP client's words for an answer that is none.
    if cause.starts_with("invalid HTTP") {
        return not_an_engine(endpoint, &cause);
    }
    unavailable(
        format!("the connection to {endpoint} failed: {cause}"),
        running(),
    )
}

fn not_permitted(endpoint: &Endpoint) -> RuntimeError {
    unavailable(
        format!("no permission to open {endpoint}"),
        Some(
            "may you use docker at all? usually: sudo usermod -aG docker \"$USER\", then log in again"
                .to_owned(),
        ),
    )
}

/// What a stranger said, fit for one line.
pub(super) fn short(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.escape_debug().take(200).collect()
}
