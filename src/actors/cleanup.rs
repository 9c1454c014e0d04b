//! Removing what is no longer needed, without losing what is.
//!
//! A container goes when a later run of its session has one, when `keep` no
//! longer wants it, or when the user says so. That it is to go is recorded
//! before anything is deleted, so a removal that fails half way is finished later.

use super::context::Shared;
use super::driver::{Driver, gone};
use super::handle::blocking;
use super::session::Record;
use crate::model::spec::Keep;
use crate::model::{Error, EventKind, RunState, RuntimeName, SessionRecord, Timestamp, Ulid};
use crate::runtime::Found;
use crate::runtime::session_dir::RunDir;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Nothing is on its way from its files to its record for so long.
const DISPATCHING: Duration = Duration::from_secs(600);

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
    // The next look may be an hour away.
    if let Keep::Seconds(_) = record.keep {
        driver.link.shared.upkeep.sooner.notify_one();
    }
    let Some((last, _)) = record.last_place() else {
        return;
    };
    for run in record.runs.iter().take(last.number as usize) {
        let Some(place) = run.state.place().filter(|_| run.started.is_some()) else {
            continue;
        };
        let owner = driver.owner(run.number, place.attempt);
        fail_point!("cleanup.earlier");
        if let Err(error) = driver.runtime.remove(&owner, &place.container, false).await {
            tracing::warn!(session = %record.ulid, %error, "left behind until later");
        }
    }
}

async fn remove(driver: &Driver, record: &SessionRecord) -> Result<(), Error> {
    let link = &driver.link;
    let begins = link.addr.send(removed(record, false, None)).await;
    begins.map_err(|_| gone())??;
    fail_point!("remove.begun");
    let left = sweep_session(&link.shared, record).await.err();
    let left = left.map(|error| error.to_string());
    fail_point!("remove.swept");
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

/// The name of the image that a session's pod had.
pub(super) fn spec_image(shared: &Shared, record: &SessionRecord) -> Option<String> {
    let first = shared
        .reader
        .events(record.ulid, 0, 1)
        .ok()?
        .into_iter()
        .next()?;
    match first.kind {
        EventKind::Created { spec } => Some(spec.pod.image),
        _ => None,
    }
}

/// Deletes all that an ended session has, but for its record.
pub(super) async fn sweep_session(shared: &Shared, record: &SessionRecord) -> Result<(), Error> {
    if record.imported.is_some() {
        // Whatever bears its name here is another home's.
        return Ok(());
    }
    let runtime = shared.runtime(record.runtime)?;
    runtime.remove_session(shared.home, record.ulid).await?;
    fail_point!("remove.containers");
    let dir = shared.session_dir(record.ulid);
    if dir.path().try_exists().unwrap_or(true) {
        runtime.purge(dir.path()).await?;
    }
    let pod = shared.pods.root().join(record.pod.as_str());
    // A link that leads nowhere now is a pod all the same.
    let gone = pod.symlink_metadata();
    if gone.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        // Of a pod that is gone, the image goes with the last session that used it.
        let image = spec_image(shared, record);
        if let Some(image) = image {
            runtime.remove_image(shared.home, &image).await?;
        }
    }
    Ok(())
}

/// Once at start, and then from time to time: containers of this home that no
/// run needs, sessions whose time is up, removals that were not finished.
pub(super) async fn sweep(shared: &Arc<Shared>) {
    let all = shared.clone();
    let read = blocking(move || {
        let mut records = HashMap::new();
        for record in all.reader.sessions() {
            let record = match record {
                Ok(record) => record,
                // Nothing is known of what it needs: nothing of it is touched.
                Err(error) if error.damaged_session().is_some() => continue,
                Err(error) => return Err(error.into()),
            };
            records.insert(record.ulid, record);
        }
        sweep_files(&all.sessions, &records);
        Ok(records)
    });
    let records = match read.await {
        Ok(records) => records,
        Err(error) => return tracing::warn!(%error, "nothing is cleaned up"),
    };
    let mut used: Vec<RuntimeName> = Vec::new();
    for record in records.values() {
        if !used.contains(&record.runtime) {
            used.push(record.runtime);
        }
    }
    for name in used {
        if let Err(error) = sweep_runtime(shared, name, &records).await {
            tracing::warn!(runtime = %name, %error, "nothing is cleaned up there");
        }
    }
}

/// What a daemon that died left behind: values of runs that are over, or that
/// were never recorded, and spools that are recorded to their end.
fn sweep_files(sessions: &Path, records: &HashMap<Ulid, SessionRecord>) {
    let ended = |record: &SessionRecord, run: u32| {
        let run = record.runs.get(run as usize);
        run.is_some_and(|run| run.state.is_ended())
    };
    for (ulid, dir) in entries(sessions) {
        let Ok(ulid) = ulid.parse::<Ulid>() else {
            continue;
        };
        let record = records.get(&ulid);
        for (name, path) in entries(&dir) {
            if let Some(run) = name.strip_prefix("env.r").and_then(|n| n.parse().ok()) {
                let live = record.is_some_and(|record| record.needs_values(run));
                // What is being dispatched was not recorded when the records were read.
                if !live && is_old(&path) {
                    discard(std::fs::remove_file(&path), &path);
                }
                continue;
            }
            let numbers = name.strip_prefix('r').and_then(|rest| rest.split_once('.'));
            let run = numbers.and_then(|(run, _)| run.parse().ok());
            if run.is_some_and(|run| record.is_some_and(|record| ended(record, run))) {
                for (name, path) in entries(&path) {
                    if name.starts_with("spool.") {
                        discard(std::fs::remove_file(&path), &path);
                    }
                }
            }
        }
        if record.is_none() && is_old(&dir) && entries(&dir).is_empty() {
            discard(std::fs::remove_dir(&dir), &dir);
        }
    }
}

pub(super) fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect()
}

pub(super) fn is_old(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > DISPATCHING))
}

fn discard(removed: std::io::Result<()>, path: &Path) {
    if let Err(error) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "left behind");
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
        // An imported session has nothing here; what bears its name is not its.
        let is_ours = record.runtime == name && record.imported.is_none();
        if !is_ours || is_needed(record, &found) {
            continue;
        }
        tracing::info!(container = %found.name, "removed: no run needs it");
        runtime.remove(&found.owner, &found.name, false).await?;
    }
    Ok(())
}

pub(super) fn is_needed(record: &SessionRecord, found: &Found) -> bool {
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
    due_in(record, now) == Some(Duration::ZERO)
}

/// How long it is until then; none where nothing is to go.
pub(super) fn due_in(record: &SessionRecord, now: Timestamp) -> Option<Duration> {
    match record.removed {
        Some(true) => return None,
        Some(false) => return Some(Duration::ZERO),
        None => {}
    }
    let Some(RunState::Ended { at, .. }) = record.runs.last().map(|run| &run.state) else {
        return None;
    };
    let seconds = match record.keep {
        _ if record.remove => 0,
        Keep::Never => 0,
        Keep::Always => return None,
        Keep::Days(days) => u64::from(days) * 86_400,
        Keep::Seconds(seconds) => u64::from(seconds),
    };
    Some(Duration::from_secs(seconds).saturating_sub(now.since(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    fn put(path: &Path, old: bool) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "secret").unwrap();
        if old {
            age(path);
        }
    }

    fn age(path: &Path) {
        let file = fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * DISPATCHING)
            .unwrap();
    }

    fn record(ulid: Ulid) -> SessionRecord {
        let run = |number: u32, state: serde_json::Value| {
            serde_json::json!({"number": number, "how": "new", "prompt": "", "queued_seq": 2,
                "queued": "1970-01-01T00:00:00Z", "state": state})
        };
        let ended = serde_json::json!({"state": "ended", "outcome": {"outcome": "success"},
            "code": 0, "at": "1970-01-01T00:00:00Z", "place": null});
        let live = serde_json::json!({"state": "live", "phase": {"phase": "queued"}});
        let json = serde_json::json!({"ulid": ulid, "id": "a-00000001", "pod": "a",
            "runtime": "local", "agent": "command", "created": "1970-01-01T00:00:00Z",
            "keep": Keep::Always, "runs": [run(0, ended), run(1, live)]});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn values_and_spools_that_a_crash_left_go() {
        let root = tempfile::tempdir().unwrap();
        let (known, unknown, fresh) = (Ulid(1 << 80), Ulid(2 << 80), Ulid(3 << 80));
        let dir = |ulid: Ulid| root.path().join(ulid.to_string());
        for name in [
            "env.r0",
            "env.r1",
            "env.r2",
            "r0.1/spool.0000",
            "r1.1/spool.0000",
            "bin/shim",
        ] {
            put(&dir(known).join(name), true);
        }
        put(&dir(known).join("env.r3"), false);
        put(&dir(unknown).join("env.r0"), true);
        put(&dir(fresh).join("env.r0"), false);
        let records = HashMap::from([(known, record(known))]);
        sweep_files(root.path(), &records);
        age(&dir(unknown));
        sweep_files(root.path(), &records);
        let there = |ulid, name: &str| dir(ulid).join(name).exists();
        assert!(!there(known, "env.r0"), "its run is over");
        assert!(there(known, "env.r1"), "its run is to come");
        assert!(!there(known, "env.r2"), "its run was never recorded");
        assert!(there(known, "env.r3"), "it may be recorded right now");
        assert!(!there(known, "r0.1/spool.0000") && there(known, "r1.1/spool.0000"));
        assert!(there(known, "bin/shim"));
        assert!(!dir(unknown).exists(), "it was never recorded");
        assert!(there(fresh, "env.r0"));
    }
}
