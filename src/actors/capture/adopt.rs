//! Meeting the shim of a run that another daemon, or another generation, launched.
//!
//! Whoever listens at its socket has to be the container's first process, as the
//! engine knows it: an agent can take the socket, and would be told to stop in
//! its shim's place. An engine that does not say keeps no run from being read.

use super::super::driver::{Driver, ENGINE_RETRY, Over, gone};
use super::FAILURES_MAX;
use crate::model::run::Place;
use crate::model::{RuntimeName, Ulid};
use crate::runtime::PlaceState;
use crate::runtime::session_dir::RunDir;
use crate::runtime::shim::{Shim, ShimError, Spool, SpoolError};
use std::time::Duration;

/// How long a shim that should be there is waited for, and an engine's word on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a shim is met.
pub(super) enum Met {
    /// It answers.
    Shim(Shim),
    /// It is there, but does not answer, or cannot be asked: frozen, or busy.
    Mute,
    /// Nobody listens any more.
    Dead,
}

/// Takes over a run that another generation or daemon launched. Gives what is
/// to be noted about it.
pub(super) async fn adopt(
    driver: &Driver,
    number: u32,
    place: &Place,
) -> Result<(Met, Option<String>), Over> {
    let (met, message) = match connect(driver, number, place, PATIENCE).await {
        Ok(shim) => {
            let who = match driver.link.again {
                true => "what looked after this run failed; it goes on",
                false => "a daemon that started later goes on with this run",
            };
            (Met::Shim(shim), who.to_owned())
        }
        Err(ShimError::Dead { .. }) => (Met::Dead, "the run ended while no daemon ran".to_owned()),
        Err(ShimError::Displaced { .. }) => return Err(gone()),
        Err(error) => {
            let message = format!("the shim cannot be talked to yet ({error}); it is tried again");
            (Met::Mute, message)
        }
    };
    Ok((met, Some(message)))
}

/// Meets a shim again that was lost.
pub(super) async fn meet(driver: &Driver, number: u32, place: &Place) -> Result<Met, Over> {
    match connect(driver, number, place, Duration::ZERO).await {
        Ok(shim) => Ok(Met::Shim(shim)),
        Err(ShimError::Displaced { .. }) => Err(gone()),
        Err(ShimError::Dead { .. }) => Ok(Met::Dead),
        Err(error) => {
            tracing::warn!(session = %driver.link.ulid, %error, "a shim does not answer");
            Ok(Met::Mute)
        }
    }
}

/// Opens the spool. That this machine is short of something passes, and says
/// nothing of what is in there.
pub(super) async fn open(
    dir: &RunDir,
    expect: (Ulid, u32, u32),
) -> Result<Result<Spool, SpoolError>, Over> {
    let mut failures = 0;
    loop {
        let dir = dir.clone();
        let opened = tokio::task::spawn_blocking(move || Spool::open(&dir, expect));
        match opened.await.map_err(|_| gone())? {
            Err(SpoolError::Io { source, .. }) if failures < FAILURES_MAX => {
                tracing::warn!(%source, "a spool cannot be opened now");
                failures += 1;
                tokio::time::sleep(ENGINE_RETRY).await;
            }
            other => return Ok(other),
        }
    }
}

async fn connect(
    driver: &Driver,
    number: u32,
    place: &Place,
    patience: Duration,
) -> Result<Shim, ShimError> {
    let peer = driver.peer(first_process(driver, number, place).await);
    let dirs = driver.link.shared.session_dir(driver.link.ulid);
    let dir = dirs.run(number, place.attempt);
    Shim::connect(&dir, peer, driver.link.claim.generation, patience).await
}

/// The container's first process; nothing where the engine does not say.
async fn first_process(driver: &Driver, number: u32, place: &Place) -> Option<u32> {
    if driver.spec.runtime != RuntimeName::Docker {
        return None;
    }
    let owner = driver.owner(number, place.attempt);
    let found = driver.runtime.find(&owner, &place.container);
    match tokio::time::timeout(PATIENCE, found)
        .await
        .ok()?
        .ok()??
        .state
    {
        PlaceState::Running { pid, .. } => pid,
        PlaceState::Gone | PlaceState::Created | PlaceState::Exited(_) => None,
    }
}
