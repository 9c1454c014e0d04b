//! What engines say of sessions' containers becomes notes in their records.
//!
//! An engine is watched from the moment when a session first needs it. It
//! repeats what it remembers, so nothing is missed while nobody watched; what is
//! recorded already is known by its words, which have the engine's own time.

use super::driver::ENGINE_RETRY;
use super::handle::{Handle, blocking};
use super::session::Record;
use crate::model::units::exact_size;
use crate::model::{Error, EventKind, Result, RuntimeName, Timestamp, Ulid};
use crate::runtime::{Happening, Incident};
use futures::StreamExt as _;
use std::time::Duration;

/// The engine's clock may be another.
const SLACK: Duration = Duration::from_secs(60);
/// Events that are looked through at once.
const BATCH: usize = 1024;

/// Watches an engine from when it is first needed until the daemon leaves.
pub(super) async fn watch(handle: Handle, name: RuntimeName) {
    let leaving = handle.shared.leaving.clone();
    leaving.run_until_cancelled(watching(&handle, name)).await;
}

async fn watching(handle: &Handle, name: RuntimeName) {
    let (Some(needed), Ok(runtime)) = (
        handle.shared.needed.get(&name),
        handle.shared.runtime(name).cloned(),
    ) else {
        return;
    };
    needed.cancelled().await;
    let mut since = begin(handle);
    loop {
        match runtime.watch(handle.shared.home, since).await {
            Ok(mut happenings) => {
                while let Some(happening) = happenings.next().await {
                    match happening {
                        Ok(happening) => {
                            since = since.max(happening.at);
                            if let Err(error) = record(handle, &happening).await {
                                tracing::warn!(session = %happening.owner.session, %error, "what the engine says is not recorded");
                            }
                        }
                        Err(error) => tracing::warn!(runtime = %name, %error, "not watched now"),
                    }
                }
            }
            Err(error) => tracing::debug!(runtime = %name, %error, "not watched now"),
        }
        tokio::time::sleep(ENGINE_RETRY).await;
    }
}

/// Before the first of the sessions that are under way.
fn begin(handle: &Handle) -> Timestamp {
    let dispatched = |ulid: Ulid| i64::try_from(ulid.timestamp_ms()).unwrap_or(i64::MAX);
    let live = handle.shared.directory.live().into_iter();
    let first = live
        .map(dispatched)
        .min()
        .map(|millis| millis.saturating_mul(1_000_000));
    let slack = i64::try_from(SLACK.as_nanos()).unwrap_or(0);
    Timestamp(
        first
            .unwrap_or(Timestamp::now().0)
            .saturating_sub(slack)
            .max(0),
    )
}

async fn record(handle: &Handle, happening: &Happening) -> Result<()> {
    let (ulid, run) = (happening.owner.session, happening.owner.run);
    let at = happening.at.min(Timestamp::now());
    let this = handle.clone();
    let Incident::OutOfMemory = happening.what;
    let time = happening.at;
    let note = blocking(move || {
        let Some(record) = this.shared.reader.session(ulid).map_err(Error::from)? else {
            return Ok(None);
        };
        if record.runs.len() <= run as usize {
            return Ok(None);
        }
        let memory = this.shared.spec(ulid)?.limits.memory;
        let note = EventKind::Note {
            code: "oom_kill".to_owned(),
            message: out_of_memory(time, memory),
        };
        Ok((!is_recorded(&this, ulid, at, &note)?).then_some(note))
    });
    let Some(note) = note.await? else {
        return Ok(());
    };
    let kinds = vec![(at, note)];
    let cursors = Vec::new();
    handle
        .note(
            ulid,
            Record {
                run,
                kinds,
                cursors,
            },
        )
        .await
}

/// Whether this very note was recorded at `at` or later.
fn is_recorded(handle: &Handle, ulid: Ulid, at: Timestamp, note: &EventKind) -> Result<bool> {
    let reader = &handle.shared.reader;
    let mut after = reader.since(ulid, at).map_err(Error::from)?;
    loop {
        let events = reader.events(ulid, after, BATCH).map_err(Error::from)?;
        let Some(last) = events.last() else {
            return Ok(false);
        };
        after = last.seq;
        if events.iter().any(|event| event.kind == *note) {
            return Ok(true);
        }
    }
}

fn out_of_memory(at: Timestamp, limit: u64) -> String {
    let limit = match limit {
        0 => "no limit but the machine's is set".to_owned(),
        bytes => format!("the limit is {}", exact_size(bytes)),
    };
    format!("a process was killed for want of memory at {at}; {limit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_named() {
        let at = Timestamp(1_500_000_000);
        assert_eq!(
            out_of_memory(at, 512 << 20),
            "a process was killed for want of memory at 1970-01-01T00:00:01.500000000Z; the limit is 512 MiB"
        );
        assert!(out_of_memory(at, 0).ends_with("no limit but the machine's is set"));
    }
}
