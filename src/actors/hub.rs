//! Who wants to know that something became durable.
//!
//! The hub hands out positions, never events: a follower reads the journal from
//! its own cursor ([`follow`](super::follow)). So a slow one costs nobody
//! anything and nothing is dropped for it. Memory: one channel of two words for
//! each session that is live or followed, whatever the number of followers.

use crate::model::Ulid;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// Positions of what is durable.
pub(super) struct Hub {
    sessions: Mutex<HashMap<Ulid, watch::Sender<u64>>>,
    commits: watch::Sender<u64>,
}

impl Hub {
    /// Begins at commit number `commit`.
    pub(super) fn new(commit: u64) -> Self {
        Self {
            sessions: Mutex::default(),
            commits: watch::Sender::new(commit),
        }
    }

    /// Events of `session` up to `seq` are durable.
    pub(super) fn committed(&self, session: Ulid, seq: u64) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sessions.get(&session) else {
            return;
        };
        if sender.receiver_count() == 0 {
            sessions.remove(&session);
            return;
        }
        sender.send_if_modified(|last| {
            let newer = seq > *last;
            *last = seq.max(*last);
            newer
        });
    }

    /// Commits up to `number` are durable.
    pub(super) fn commit(&self, number: u64) {
        self.commits.send_if_modified(|last| {
            let newer = number > *last;
            *last = number.max(*last);
            newer
        });
    }

    /// A session's record is no more: its followers are woken to find that out.
    pub(super) fn forget(&self, session: Ulid) {
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&session);
    }

    /// Registers for `session`; to be called before reading the journal.
    pub(super) fn follow(&self, session: Ulid) -> watch::Receiver<u64> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is committed any more to sessions that are over: their channels
        // would stay. Looking when the map would grow anyway costs little.
        if sessions.len() == sessions.capacity() {
            sessions.retain(|_, sender| sender.receiver_count() > 0);
        }
        sessions
            .entry(session)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// How many follow a session (or wait for its end), and how many follow all.
    pub(super) fn followers(&self) -> (usize, usize) {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_sessions = sessions.values().map(watch::Sender::receiver_count).sum();
        (of_sessions, self.commits.receiver_count())
    }

    /// Registers for all sessions.
    pub(super) fn follow_all(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }
}
