//! Keeping the journal small: compaction, and retention.
//!
//! Both are looked after when a session has ended or was removed, at the start,
//! and when the next session's time is up; nobody asks in between.

use super::context::Shared;
use super::handle::{Handle, blocking, detached};
use crate::model::api::{
    CompactResponse, CompactionEnd, CompactionState, JournalQuery, JournalStats, RemoveRequest,
    RetentionState,
};
use crate::model::{Error, ErrorCode, Result, RunState, SessionRecord, Timestamp, Ulid};
use crate::store::{self, Stats};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// When the journal's sessions go by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So long after their end.
    pub age: Option<Duration>,
    /// When there are more ended ones.
    pub count: Option<u64>,
    /// When the journal needs more bytes.
    pub size: Option<u64>,
}

impl Retention {
    const fn is_off(&self) -> bool {
        self.age.is_none() && self.count.is_none() && self.size.is_none()
    }
}

/// What keeps the journal small, and how it stands.
#[derive(Default)]
pub(super) struct Upkeep {
    /// A session ended or was removed.
    pub(super) changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    compaction: CompactionState,
    removed: u64,
    /// Why the journal cannot be written now.
    degraded: Option<String>,
    /// It is not compacted by itself before it takes so many bytes: the last
    /// time it did not help, or could not be done.
    not_below: u64,
}

impl Upkeep {
    /// The journal cannot be written, and why; or can be again.
    pub(super) fn degrade(&self, why: Option<String>) {
        self.state().degraded = why;
    }

    /// Why the journal cannot be written now: live sessions wait for it.
    pub(super) fn degraded(&self) -> Option<String> {
        self.state().degraded.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// The journal in numbers, and what retention would remove by `query`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn journal_stats(&self, query: JournalQuery) -> Result<JournalStats> {
        let shared = self.shared.clone();
        blocking(move || {
            let found = shared.reader.stats().map_err(Error::from)?;
            let settled = shared.settings.retention;
            let asked = Retention {
                age: query.age.map(Duration::from_secs),
                count: query.count,
                size: query.size,
            };
            let limits = if asked.is_off() { settled } else { asked };
            let due = plan(&shared, limits, &found)?.due;
            let (compaction, removed) = {
                let state = shared.upkeep.state();
                (state.compaction.clone(), state.removed)
            };
            let retention = RetentionState {
                age: settled.age.map(|age| age.as_secs()),
                count: settled.count,
                size: settled.size,
                removed,
                due: due.into_iter().map(|record| record.id).collect(),
            };
            let min_free = min_free(&shared)?.0;
            Ok(told(found, min_free, compaction, retention))
        })
        .await
    }

    /// Copies what counts of the journal to a new database and removes the old
    /// one; work goes on meanwhile. Goes on if the caller leaves.
    ///
    /// # Errors
    /// `refused` when one is under way, `try_later` when the disk has no room
    /// for the copy, `journal_failed`.
    pub async fn compact_journal(&self) -> Result<CompactResponse> {
        let this = self.clone();
        detached(async move { this.compact_now().await }).await
    }

    async fn compact_now(&self) -> Result<CompactResponse> {
        let upkeep = &self.shared.upkeep;
        {
            let mut state = upkeep.state();
            if state.compaction.running.is_some() {
                let message = "the journal is being compacted already";
                return Err(Error::new(ErrorCode::Refused, message)
                    .hint("`cldpd journal stats` says since when"));
            }
            state.compaction.running = Some(Timestamp::now());
        }
        let done = self.shared.journal.compact(&self.shared.leaving).await;
        let mut state = upkeep.state();
        state.compaction.running = None;
        state.compaction.last = Some(CompactionEnd {
            at: Timestamp::now(),
            compacted: done.as_ref().ok().copied(),
            error: done.as_ref().err().map(|error| error.message.clone()),
        });
        match &done {
            Ok(done) => {
                state.not_below = done.after + done.after / 2;
                let CompactResponse { before, after, .. } = *done;
                tracing::info!(before, after, "the journal was compacted");
            }
            Err(error) => tracing::warn!(%error, "the journal was not compacted"),
        }
        done
    }

    /// What keeps sessions from going on, whatever they do themselves.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.shared.upkeep.degraded().into_iter().collect()
    }

    /// Whether the disk has the room that is to be left for what runs.
    ///
    /// # Errors
    /// `try_later` when it has not.
    pub(super) async fn check_disk(&self) -> Result<()> {
        let shared = self.shared.clone();
        blocking(move || {
            let (least, free) = min_free(&shared)?;
            if free >= least {
                return Ok(());
            }
            let mib = |bytes: u64| bytes >> 20;
            let message = format!(
                "the disk of {} has {} MiB free; below {} MiB nothing new is dispatched",
                shared.settings.home.display(),
                mib(free),
                mib(least)
            );
            Err(Error::new(ErrorCode::TryLater, message).hint(
                "make room, or set journal.min_free in config.toml; what runs goes on meanwhile",
            ))
        })
        .await
    }
}

/// What is to be left free on the journal's disk, and what is.
fn min_free(shared: &Shared) -> Result<(u64, u64)> {
    let (free, all) = store::free(&shared.settings.home).map_err(Error::from)?;
    // On a small disk the default would refuse everything.
    let least = shared
        .settings
        .min_free
        .unwrap_or((256 << 20).min(all / 20));
    Ok((least, free))
}

fn told(
    found: Stats,
    min_free: u64,
    compaction: CompactionState,
    retention: RetentionState,
) -> JournalStats {
    JournalStats {
        events: found.events,
        sessions: found.sessions,
        blocks: found.blocks,
        raw_bytes: found.raw_bytes,
        stored_bytes: found.stored_bytes,
        disk_bytes: found.disk_bytes,
        garbage_bytes: found.garbage_bytes,
        free_bytes: found.free_bytes,
        min_free,
        last_commit: found.last_commit,
        schema: found.schema,
        home: found.home,
        database: found.database,
        created_by: found.created_by,
        opened_by: found.opened_by,
        oldest: found.oldest,
        newest: found.newest,
        compaction,
        retention,
    }
}

/// What retention has to do.
struct Plan {
    due: Vec<SessionRecord>,
    /// When the next one's time is up.
    next: Option<Duration>,
}

/// Which sessions go: the oldest first, and none that is live or still has
/// something that its `keep` wants: what can be resumed is not forgotten.
fn plan(shared: &Shared, limits: Retention, found: &Stats) -> Result<Plan> {
    let mut plan = Plan {
        due: Vec::new(),
        next: None,
    };
    if limits.is_off() {
        return Ok(plan);
    }
    let now = Timestamp::now();
    let mut ended = Vec::new();
    for record in shared.reader.sessions() {
        // One that cannot be read is left alone.
        let Ok(record) = record else { continue };
        if let Some(at) = end_of(&record) {
            ended.push((at, record));
        }
    }
    ended.sort_by_key(|(at, record)| (*at, record.ulid));
    let mut left = ended.len() as u64;
    let mut needs = found.disk_bytes.saturating_sub(found.garbage_bytes);
    for (at, record) in ended {
        let age = now.since(at);
        let old = limits.age.is_some_and(|limit| age > limit);
        let many = limits.count.is_some_and(|limit| left > limit);
        let large = limits.size.is_some_and(|limit| needs > limit);
        if !(old || many || large) {
            let wait = limits.age.map(|limit| limit.saturating_sub(age));
            plan.next = match (plan.next, wait) {
                (Some(next), Some(wait)) => Some(next.min(wait)),
                (next, wait) => next.or(wait),
            };
            continue;
        }
        if record.removed != Some(true) {
            continue;
        }
        left -= 1;
        if limits.size.is_some() {
            let size = shared.reader.stored_size(record.ulid);
            needs = needs.saturating_sub(size.map_err(Error::from)?);
        }
        plan.due.push(record);
    }
    Ok(plan)
}

/// When a session ended; none while it is live.
fn end_of(record: &SessionRecord) -> Option<Timestamp> {
    if record.is_live() {
        return None;
    }
    match &record.runs.last()?.state {
        RunState::Ended { at, .. } => Some(*at),
        RunState::Live { .. } => None,
    }
}

/// Longest wait for a session's time: a timer of months is none.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Looks after the journal's size until the daemon leaves.
pub(super) async fn keep(handle: Handle) {
    let leaving = handle.shared.leaving.clone();
    let work = async {
        loop {
            let changed = handle.shared.upkeep.changed.notified();
            let next = match handle.retain().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "nothing is removed by retention now");
                    None
                }
            };
            handle.compact_if_due().await;
            match next {
                Some(next) => {
                    let next = next.clamp(Duration::from_secs(1), WAIT_MAX);
                    let _ = tokio::time::timeout(next, changed).await;
                }
                None => changed.await,
            }
        }
    };
    leaving.run_until_cancelled(work).await;
}

impl Handle {
    /// Removes what retention says. Returns when to look again.
    async fn retain(&self) -> Result<Option<Duration>> {
        let limits = self.shared.settings.retention;
        if limits.is_off() {
            return Ok(None);
        }
        let shared = self.shared.clone();
        let plan = blocking(move || {
            let found = shared.reader.stats().map_err(Error::from)?;
            plan(&shared, limits, &found)
        });
        let Plan { due, next } = plan.await?;
        for record in due {
            self.forget(record.ulid).await?;
            self.shared.upkeep.state().removed += 1;
            tracing::info!(session = %record.id, "its history was removed by retention");
        }
        Ok(next)
    }

    /// Removes a session with its history, as `cldpd rm --history` does.
    async fn forget(&self, ulid: Ulid) -> Result<()> {
        let request = RemoveRequest {
            request: Ulid::generate(),
            force: false,
            history: true,
        };
        let answer = self.remove(&ulid.to_string(), request).await?;
        match answer.message {
            None => Ok(()),
            Some(left) => Err(Error::new(ErrorCode::Internal, left)),
        }
    }

    async fn compact_if_due(&self) {
        let reader = self.shared.reader.clone();
        let Ok(found) = blocking(move || reader.stats().map_err(Error::from)).await else {
            return;
        };
        let not_below = self.shared.upkeep.state().not_below;
        if !found.wants_compaction() || found.disk_bytes < not_below {
            return;
        }
        if self.compact_journal().await.is_err() {
            let again = found.disk_bytes + found.disk_bytes / 4;
            self.shared.upkeep.state().not_below = again;
        }
    }
}
