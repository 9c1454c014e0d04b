//! What a run asks of admission, and what it is told.

use super::Lane;
use crate::actors::directory::Directory;
use crate::model::{
    PodName, RunState, RuntimeName, SessionRecord, Spec, Timestamp, Ulid, WaitsFor,
};

/// What a run needs before it may go.
#[derive(Clone, Debug)]
pub(in crate::actors) struct Demand {
    /// Whose run it is.
    pub(in crate::actors) session: Ulid,
    /// When it was asked for.
    pub(in crate::actors) asked: Timestamp,
    /// The higher leaves first.
    pub(in crate::actors) priority: i32,
    /// Its pod.
    pub(in crate::actors) pod: PodName,
    /// How many of the pod may run at once.
    pub(in crate::actors) pod_max: Option<u32>,
    /// Bytes that it claims.
    pub(in crate::actors) memory: u64,
    /// Sessions that have to succeed first.
    pub(in crate::actors) after: Vec<Ulid>,
}

impl Demand {
    /// What run `number` of a session needs.
    pub(in crate::actors) fn new(
        session: Ulid,
        spec: &Spec,
        number: u32,
        asked: Timestamp,
    ) -> Self {
        // A plain process is not held to a limit, so it claims nothing.
        let memory = match spec.runtime {
            RuntimeName::Docker | RuntimeName::Fake => spec.pod.memory.unwrap_or(0),
            RuntimeName::Local => 0,
        };
        Self {
            session,
            asked,
            priority: spec.priority,
            pod: spec.pod.name.clone(),
            pod_max: spec.pod.max_parallel,
            memory,
            after: match number {
                0 => spec.after.clone(),
                _ => Vec::new(),
            },
        }
    }

    pub(super) const fn lane(&self) -> Lane {
        (self.pod_max, self.memory > 0)
    }
}

/// What a run that waits is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actors) enum Verdict {
    /// It may go.
    Go,
    /// It will never run, and why.
    Never(String),
}

/// How a session stands that is not live, for those that come after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actors) enum Fate {
    /// They may run.
    Succeeded,
    /// They may not; who it was and what became of it, in words.
    Otherwise(String),
}

impl Fate {
    /// How a session stands by its record; nothing while it is live.
    pub(in crate::actors) fn of(record: &SessionRecord) -> Option<Self> {
        if record.is_live() {
            return None;
        }
        let Some(RunState::Ended { outcome, code, .. }) =
            record.current_run().map(|run| &run.state)
        else {
            return None;
        };
        if *outcome == crate::model::Outcome::Success {
            return Some(Self::Succeeded);
        }
        let code = code.map(|code| format!(" (exit code {code})"));
        let outcome = outcome.name().replace('_', " ");
        let (id, code) = (&record.id, code.unwrap_or_default());
        Some(Self::Otherwise(format!(
            "{id}, which ended: {outcome}{code}"
        )))
    }

    /// The history of the session is gone.
    pub(in crate::actors) fn removed(name: &str) -> Self {
        Self::Otherwise(format!("{name}, which was removed"))
    }
}

/// Why a run waits, and its place among those that wait for room, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actors) enum Waits {
    /// As many run as may.
    Room {
        /// Its place.
        place: u32,
        /// How many may.
        max: u32,
    },
    /// As many of its pod run as may.
    Pod {
        /// Its place.
        place: u32,
        /// How many may.
        max: u32,
    },
    /// The memory that it claims is not free, or one before it waits for that.
    Memory {
        /// Its place.
        place: u32,
        /// Bytes.
        claims: u64,
    },
    /// These sessions have not ended; none when one of them did not succeed.
    After(Vec<Ulid>),
}

impl Waits {
    /// Its place in the queue; none while it comes after sessions that go on.
    pub(in crate::actors) const fn place(&self) -> Option<u32> {
        match self {
            Self::Room { place, .. } | Self::Pod { place, .. } | Self::Memory { place, .. } => {
                Some(*place)
            }
            Self::After(_) => None,
        }
    }

    /// The reason as users see it, with the names of sessions.
    pub(in crate::actors) fn shown(&self, directory: &Directory) -> WaitsFor {
        match self {
            Self::Room { max, .. } => WaitsFor::Room { max: *max },
            Self::Pod { max, .. } => WaitsFor::Pod { max: *max },
            Self::Memory { claims, .. } => WaitsFor::Memory { claims: *claims },
            Self::After(sessions) => WaitsFor::After {
                sessions: sessions.iter().map(|s| directory.name(*s)).collect(),
            },
        }
    }
}
