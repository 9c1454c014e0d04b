//! Removing what is no longer needed, without losing what is.
//!
//! A container goes when a later run of its session has one, when `keep` no
//! longer wants it, or when the user says so. That it is to go is recorded
//! before anything is deleted, so a removal that fails half way is finished later.

use super::context::Shared;
use super::driver::{Driver, gone};
use super::session::Record;
use crate::model::spec::Keep;
use crate::model::{Error, EventKind, RunState, RuntimeName, SessionRecord, Timestamp, Ulid};
use crate::runtime::Found;
use crate::runtime::session_dir::RunDir;
use std::collections::HashMap;
use std::time::Duration;

/// Deletes the spool of a run that is recorded to its end. A shim that still
/// writes its last word into it does not mind.
pub(super) async fn spool(dir: RunDir) {
    let delete = move || -> std::io::Result<()> {
        for entry in std::fs::read_dir(dir.path())? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b"spool.") {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    match tokio::task::spawn_blocking(delete).await {
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "a spool is left behind");
        }
        _ => {}
    }
}

/// After a run: earlier containers go, and the last one when nothing is kept.
pub(super) async fn after_runs(driver: &Driver, record: &SessionRecord) {
    if record.removed.is_some() {
        return;
    }
    if record.remove || record.keep == Keep::Never {
        if let Err(error) = remove(driver, record).await {
            tracing::warn!(session = %record.ulid, %error, "left behind until later");
        }
        return;
    }
    let Some((last, _)) = record.last_place() else {
        return;
    };
    for run in record.runs.iter().take(last.number as usize) {
        let Some(place) = run.state.place().filter(|_| run.started.is_some()) else {
            continue;
        };
        let owner = driver.owner(run.number, place.attempt);
        if let Err(error) = driver.runtime.remove(&owner, &place.container, false).await {
            tracing::warn!(session = %record.ulid, %error, "left behind until later");
        }
    }
}

async fn remove(driver: &Driver, record: &SessionRecord) -> Result<(), Error> {
    let link = &driver.link;
    let begins = link.addr.send(removed(record, false, None)).await;
    begins.map_err(|_| gone())??;
    let left = sweep_session(&link.shared, record).await.err();
    let left = left.map(|error| error.to_string());
    let ends = link.addr.send(removed(record, left.is_none(), left)).await;
    ends.map_err(|_| gone())?.map(|_| ())
}

/// The note of a removal: first that it begins, then how it went.
pub(super) fn removed(record: &SessionRecord, complete: bool, message: Option<String>) -> Record {
    Record {
        run: u32::try_from(record.runs.len().saturating_sub(1)).unwrap_or(0),
        kinds: vec![(Timestamp::now(), EventKind::Removed { complete, message })],
        cursors: Vec::new(),
    }
}

/// Deletes all that an ended session has, but for its record.
pub(super) async fn sweep_session(shared: &Shared, record: &SessionRecord) -> Result<(), Error> {
    let runtime = shared.runtime(record.runtime)?;
    runtime.remove_session(shared.home, record.ulid).await?;
    let dir = shared.session_dir(record.ulid);
    if dir.path().try_exists().unwrap_or(true) {
        runtime.purge(dir.path()).await?;
    }
    Ok(())
}

/// Once at start, and then from time to time: containers of this home that no
/// run needs, sessions whose time is up, removals that were not finished.
pub(super) async fn sweep(shared: &Shared) {
    let mut records = HashMap::new();
    let mut used = Vec::new();
    for record in shared.reader.sessions() {
        match record {
            Ok(record) => {
                if !used.contains(&record.runtime) {
                    used.push(record.runtime);
                }
                records.insert(record.ulid, record);
            }
            Err(error) => return tracing::warn!(%error, "nothing is cleaned up"),
        }
    }
    for name in used {
        if let Err(error) = sweep_runtime(shared, name, &records).await {
            tracing::warn!(runtime = %name, %error, "nothing is cleaned up there");
        }
    }
}

async fn sweep_runtime(
    shared: &Shared,
    name: RuntimeName,
    records: &HashMap<Ulid, SessionRecord>,
) -> Result<(), Error> {
    let runtime = shared.runtime(name)?;
    for found in runtime.list(shared.home).await? {
        // What was dispatched since the records were read is none of ours.
        let Some(record) = records.get(&found.owner.session) else {
            continue;
        };
        if record.runtime != name || is_needed(record, &found) {
            continue;
        }
        tracing::info!(container = %found.name, "removed: no run needs it");
        runtime.remove(&found.owner, &found.name, false).await?;
    }
    Ok(())
}

fn is_needed(record: &SessionRecord, found: &Found) -> bool {
    let (run, attempt) = (found.owner.run, found.owner.attempt);
    if record.removed.is_some() {
        return false;
    }
    let of_run = record.runs.get(run as usize);
    let live = of_run.is_none_or(|run| match &run.state {
        RunState::Live { .. } => true,
        RunState::Ended { .. } => false,
    });
    let last = record.last_place();
    live || last.is_some_and(|(last, place)| last.number == run && place.attempt == attempt)
}

/// Sessions whose kept containers are due, and removals that were not finished.
pub(super) fn due(record: &SessionRecord, now: Timestamp) -> bool {
    match record.removed {
        Some(true) => return false,
        Some(false) => return true,
        None => {}
    }
    let Some(RunState::Ended { at, .. }) = record.runs.last().map(|run| &run.state) else {
        return false;
    };
    match record.keep {
        _ if record.remove => true,
        Keep::Never => true,
        Keep::Always => false,
        Keep::Days(days) => now.since(*at) > Duration::from_secs(u64::from(days) * 86_400),
    }
}
