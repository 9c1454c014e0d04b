//! Whether an engine sees the files of sessions, tried with a real container.
//!
//! A directory like a session's, an image of nothing but the shim, and a
//! greeting over the shim's socket: an engine elsewhere has no such directory,
//! one in a virtual machine may share files but not sockets. All of it is
//! removed again.

use super::engine::Engine;
use super::helper::{self, Helper};
use super::unreachable::BLIND_HINT;
use crate::model::api::Check;
use crate::model::{Error, ErrorCode, HomeId, Ulid};
use crate::runtime::session_dir::{CONTAINER_RUN, RunDir, SessionDir};
use crate::runtime::shim::{self, Peer, Shim};
use crate::runtime::{Result, RuntimeError};
use std::path::Path;
use std::time::Duration;

/// As long as a session's shim has.
const PATIENCE: Duration = Duration::from_secs(5);
const NAME: &str = "docker files";
/// The label of what belongs to a probe.
pub(super) const PROBE: &str = "cldpd.probe";

/// Starts a container with a directory beneath `sessions`, and greets it there.
pub(super) async fn files(engine: &Engine, home: HomeId, shim: &[u8], sessions: &Path) -> Check {
    let shown = sessions.display();
    let ours = &engine.info.architecture;
    if !ours.is_empty() && *ours != shim::ARCHITECTURE {
        let message = format!(
            "the engine runs {ours}, and this cldpd is for {}",
            shim::ARCHITECTURE
        );
        return Check::failed(NAME, Error::new(ErrorCode::RuntimeUnavailable, message));
    }
    let run = SessionDir::new(sessions, Ulid::generate()).run(0, 0);
    let greeted = greet(engine, home, shim, &run).await;
    // Ours, and what is in it is one socket and one spool.
    let _ = std::fs::remove_dir_all(run.session.path());
    match greeted {
        Ok(()) => Check::ok(NAME, format!("containers see {shown}, and are seen there")),
        Err(error) => {
            let error = Error::from(error);
            let message = format!("containers do not work with {shown}: {}", error.message);
            let hint = error.hint.unwrap_or_else(|| BLIND_HINT.to_owned());
            let error = Error::new(ErrorCode::RuntimeUnavailable, message);
            Check::failed(NAME, error.hint(hint))
        }
    }
}

async fn greet(engine: &Engine, home: HomeId, shim: &[u8], run: &RunDir) -> Result<()> {
    shim::prepare_run(run)?;
    let session = run.session.session();
    let name = format!("cldpd-probe-{}", session.to_string().to_lowercase());
    let helper = Helper {
        name: &name,
        label: PROBE,
        arguments: shim::container_command(run).split_off(1),
        user: None,
        dir: &run.path(),
        target: CONTAINER_RUN,
    };
    let image = helper::import(engine, home, shim, &name).await?;
    let met = match helper.start(engine, home, &image).await {
        Ok(()) => meet(&name, run).await,
        Err(error) => Err(error),
    };
    helper.put_away(engine, &image).await;
    met
}

async fn meet(name: &str, run: &RunDir) -> Result<()> {
    let peer = Peer::Container { pid: None };
    match Shim::connect(run, peer, 1, PATIENCE).await {
        Ok(_) => Ok(()),
        Err(error) => Err(RuntimeError::Container {
            container: name.to_owned(),
            cause: format!("it started, and its shim cannot be reached: {error}"),
        }),
    }
}
