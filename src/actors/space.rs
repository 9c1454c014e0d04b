//! Keeping the journal small: compaction, and retention.
//!
//! Both are looked after when a session has ended or was removed, at the start,
//! and when the next session's time is up; nobody asks in between.

use super::disk::Disk;
use super::handle::{Handle, blocking, detached};
use crate::model::api::{
    CompactResponse, CompactionEnd, CompactionState, JournalQuery, JournalStats, RemoveRequest,
    RetentionState,
};
use crate::model::{Error, ErrorCode, Result, RunState, SessionId, SessionRecord, Timestamp, Ulid};
use crate::store::{Reader, Stats, StoreError};
use std::path::Path;
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
    /// A session ended whose container goes soon.
    pub(super) sooner: Notify,
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
    /// Retention by size was of no use when it was looked at last.
    in_vain: bool,
}

impl Upkeep {
    /// The journal cannot be written, and why; or can be again.
    pub(super) fn degrade(&self, why: Option<String>) {
        self.state().degraded = why;
    }

    /// How many sessions the last compaction found damaged.
    pub(super) fn damaged(&self) -> u64 {
        let state = self.state();
        let last = state.compaction.last.as_ref();
        let compacted = last.and_then(|last| last.compacted.as_ref());
        compacted.map_or(0, |compacted| compacted.damaged)
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
            let settings = &shared.settings;
            let limits = (settings.retention, settings.min_free);
            let mut stats = offline_stats(&shared.reader, &shared.journal_dir(), query, limits)?;
            let state = shared.upkeep.state();
            stats.compaction = state.compaction.clone();
            stats.retention.removed = state.removed;
            drop(state);
            Ok(stats)
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
                if done.damaged > 0 {
                    let sessions = done.damaged;
                    tracing::warn!(sessions, "damaged sessions were copied as they are");
                }
            }
            Err(error) => tracing::warn!(%error, "the journal was not compacted"),
        }
        done
    }
}

/// What the journal in `dir` says of itself, where no daemon has anything to add. `limits`
/// are those that were settled, and what is to be left free.
///
/// # Errors
/// When it cannot be read.
pub fn offline_stats(
    reader: &Reader,
    dir: &Path,
    query: JournalQuery,
    limits: (Retention, Option<u64>),
) -> Result<JournalStats> {
    let found = reader.stats().map_err(Error::from)?;
    let (settled, least) = limits;
    let asked = Retention {
        age: query.age.map(Duration::from_secs),
        count: query.count,
        size: query.size,
    };
    let by = if asked.is_off() { settled } else { asked };
    let due = plan(reader, by, &found)?.due;
    let retention = RetentionState {
        age: settled.age.map(|age| age.as_secs()),
        count: settled.count,
        size: settled.size,
        removed: 0,
        due: due.into_iter().map(|ended| ended.id).collect(),
    };
    let min_free = Disk::of(dir, least)?.least;
    Ok(told(found, min_free, retention))
}

fn told(found: Stats, min_free: u64, retention: RetentionState) -> JournalStats {
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
        compaction: CompactionState::default(),
        retention,
    }
}

/// An ended session, as far as retention goes.
#[derive(Clone, Debug)]
struct Ended {
    at: Timestamp,
    ulid: Ulid,
    id: SessionId,
    /// Nothing of it is left that could be resumed.
    may_go: bool,
}

/// What retention has to do.
#[derive(Debug, Default)]
struct Plan {
    due: Vec<Ended>,
    /// When the next one's time is up.
    next: Option<Duration>,
    /// The journal is too large, and nothing that may go would make it small enough.
    in_vain: bool,
}

/// Which sessions go: none that is live or still has something that its `keep`
/// wants, since what can be resumed is not forgotten.
fn plan(reader: &Reader, limits: Retention, found: &Stats) -> Result<Plan> {
    if limits.is_off() {
        return Ok(Plan::default());
    }
    let mut ended = Vec::new();
    for record in reader.sessions() {
        // One that cannot be read is left alone.
        let Ok(record) = record else { continue };
        if let Some(at) = end_of(&record) {
            ended.push(Ended {
                at,
                ulid: record.ulid,
                may_go: record.removed == Some(true),
                id: record.id,
            });
        }
    }
    let needs = found.disk_bytes.saturating_sub(found.garbage_bytes);
    choose(ended, limits, needs, Timestamp::now(), &|ulid| {
        match reader.stored_size(ulid) {
            // Somebody else removes it.
            Err(StoreError::Gone { .. }) => Ok(0),
            size => size.map_err(Error::from),
        }
    })
}

/// Which of the ended sessions go: those that are too old, those beyond the
/// newest `count`, and as many of the oldest as have to go that the journal,
/// which needs so many bytes, keeps to its size. If all of them would not be
/// enough for that, none goes for it.
fn choose(
    mut ended: Vec<Ended>,
    limits: Retention,
    mut needs: u64,
    now: Timestamp,
    size: &dyn Fn(Ulid) -> Result<u64>,
) -> Result<Plan> {
    ended.sort_by_key(|ended| (ended.at, ended.ulid));
    let mut plan = Plan::default();
    let all = ended.len() as u64;
    let mut for_size = Vec::new();
    for (before, ended) in (0..).zip(ended) {
        let age = now.since(ended.at);
        let old = limits.age.is_some_and(|limit| age > limit);
        let many = limits.count.is_some_and(|limit| all - before > limit);
        let large = limits.size.is_some_and(|limit| needs > limit);
        if ended.may_go && (old || many || large) {
            if limits.size.is_some() {
                needs = needs.saturating_sub(size(ended.ulid)?);
            }
            let goes = if old || many {
                &mut plan.due
            } else {
                &mut for_size
            };
            goes.push(ended);
        }
        if let Some(limit) = limits.age.filter(|_| !old) {
            let wait = limit.saturating_sub(age);
            plan.next = Some(plan.next.map_or(wait, |next| next.min(wait)));
        }
    }
    plan.in_vain = limits.size.is_some_and(|limit| needs > limit);
    if !plan.in_vain {
        plan.due.append(&mut for_size);
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
            plan(&shared.reader, limits, &found)
        });
        let Plan { due, next, in_vain } = plan.await?;
        let told = std::mem::replace(&mut self.shared.upkeep.state().in_vain, in_vain);
        if in_vain && !told {
            tracing::warn!(
                "retention.size cannot be kept to: too much belongs to sessions that are live or \
                 can be resumed, so nothing is removed for it"
            );
        }
        for ended in due {
            self.forget(ended.ulid).await?;
            self.shared.upkeep.state().removed += 1;
            tracing::info!(session = %ended.id, "its history was removed by retention");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodName;

    /// Sessions that ended one after the other, each of 10 bytes; which of them may go.
    fn ended(may_go: &[bool]) -> Vec<Ended> {
        let pod = PodName::new("p").unwrap();
        let one = |(n, may_go): (u128, &bool)| Ended {
            at: Timestamp(n as i64 * 1_000_000_000),
            ulid: Ulid(n),
            id: SessionId::new(&pod, Ulid(n)),
            may_go: *may_go,
        };
        (1..).zip(may_go).map(one).collect()
    }

    fn chosen(may_go: &[bool], limits: Retention) -> (Vec<u128>, bool) {
        let now = Timestamp(100_000_000_000);
        let needs = 10 * may_go.len() as u64;
        let plan = choose(ended(may_go), limits, needs, now, &|_| Ok(10)).unwrap();
        let due = plan.due.iter().map(|ended| ended.ulid.0).collect();
        (due, plan.in_vain)
    }

    #[test]
    fn the_newest_stay_whatever_else_cannot_go() {
        let count = |count| Retention {
            count: Some(count),
            ..Retention::default()
        };
        let all = [true; 5];
        assert_eq!(chosen(&all, count(2)), (vec![1, 2, 3], false));
        assert_eq!(chosen(&all, count(5)), (vec![], false));
        // Old ones that can be resumed push out no newer ones.
        let kept = [false, false, false, true, true];
        assert_eq!(chosen(&kept, count(2)), (vec![], false));
        assert_eq!(chosen(&kept, count(1)), (vec![4], false));
    }

    #[test]
    fn nothing_goes_for_a_size_that_cannot_be_reached() {
        let size = |size| Retention {
            size: Some(size),
            ..Retention::default()
        };
        assert_eq!(chosen(&[true; 5], size(30)), (vec![1, 2], false));
        assert_eq!(
            chosen(&[false, true, true, true], size(10)),
            (vec![2, 3, 4], false)
        );
        assert_eq!(
            chosen(&[false, false, true, true], size(10)),
            (vec![], true)
        );
        // What goes anyway counts.
        let both = Retention {
            count: Some(1),
            ..size(10)
        };
        assert_eq!(chosen(&[true; 3], both), (vec![1, 2], false));
        assert_eq!(chosen(&[false, false, true, true], both), (vec![3], true));
    }

    #[test]
    fn old_ones_go_and_the_next_is_waited_for() {
        let limits = Retention {
            age: Some(Duration::from_secs(97)),
            ..Retention::default()
        };
        let now = Timestamp(100_000_000_000);
        let plan = choose(ended(&[false, true, true, true]), limits, 0, now, &|_| {
            Ok(10)
        })
        .unwrap();
        let due: Vec<_> = plan.due.iter().map(|ended| ended.ulid.0).collect();
        assert_eq!(due, [2]);
        assert_eq!(plan.next, Some(Duration::ZERO));
    }
}
