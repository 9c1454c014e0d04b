//! Whether a run's shim was told to run it: a second attempt is made only when it was not.

use super::{Failure, Placed};
use crate::actors::driver::Driver;
use crate::actors::order::run_id;
use crate::model::run::Place;
use crate::model::{Error, ErrorCode, Ulid};
use crate::runtime::Owner;
use crate::runtime::session_dir::RunDir;
use crate::runtime::shim::{Control, Record, RecordBody, Shim, ShimError, Spool, SpoolError};
use std::time::Duration;

/// Bytes of a dead shim's spool that are looked through at once.
const SCAN: usize = 1 << 20;

/// A dead shim either had the run, or nothing happened and another attempt is
/// safe. When its spool cannot tell, the agent may have worked: no other attempt.
pub(super) async fn after_death(dir: &RunDir, owner: &Owner, id: Ulid) -> Result<Placed, Failure> {
    let (dir, expect) = (dir.clone(), (owner.session, owner.run, owner.attempt));
    let accepted = tokio::task::spawn_blocking(move || has_accepted(&dir, expect, id)).await;
    let why = match accepted {
        Ok(Ok(true)) => return Ok(Placed::Accepted(None)),
        Ok(Ok(false)) => return Ok(Placed::Again),
        Ok(Err(error @ SpoolError::Io { .. })) => {
            return Err(Failure::Unavailable(error.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let message = format!("whether the agent was told anything is not known: {why}");
    Err(Failure::Run(Error::new(ErrorCode::Gone, message)))
}

/// Whether a shim that is dead had accepted a command, as far as its spool tells.
pub(in crate::actors) async fn has_taken(dir: &RunDir, owner: &Owner, id: Ulid) -> bool {
    let (dir, expect) = (dir.clone(), (owner.session, owner.run, owner.attempt));
    let accepted = tokio::task::spawn_blocking(move || has_accepted(&dir, expect, id)).await;
    // What cannot be told may have been: it is not sent again without a word.
    !matches!(accepted, Ok(Ok(false)))
}

fn has_accepted(dir: &RunDir, expect: (Ulid, u32, u32), id: Ulid) -> Result<bool, SpoolError> {
    let mut spool = match Spool::open(dir, expect) {
        Err(SpoolError::Missing { .. }) => return Ok(false),
        opened => opened?,
    };
    loop {
        let records = spool.read(None, SCAN)?;
        if records.is_empty() {
            return Ok(false);
        }
        let of_run = |record: &Record| match &record.body {
            RecordBody::Control {
                control: Control::Accepted { id: known },
                ..
            } => *known == id,
            RecordBody::Control { .. } | RecordBody::Output { .. } => false,
        };
        if records.iter().any(of_run) {
            return Ok(true);
        }
    }
}

/// Whether the agent of a run that is being created was told anything, so that
/// it cannot be said to have been taken back before it ran.
pub(in crate::actors) async fn was_told(driver: &Driver, number: u32, place: &Place) -> bool {
    let owner = driver.owner(number, place.attempt);
    let id = run_id(driver.link.ulid, number, place.attempt);
    let dirs = driver.link.shared.session_dir(driver.link.ulid);
    let dir = dirs.run(number, place.attempt);
    let generation = driver.link.claim.generation;
    match Shim::connect(&dir, driver.peer(None), generation, Duration::ZERO).await {
        Ok(shim) => shim.hello().knows(id),
        Err(ShimError::Dead { .. }) => {
            matches!(after_death(&dir, &owner, id).await, Ok(Placed::Accepted(_)))
        }
        Err(_) => false,
    }
}
