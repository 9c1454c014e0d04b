//! Whether anybody wants anything of the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Requests and streams that are under way, and when the last one ended.
pub(super) struct Activity {
    born: Instant,
    active: AtomicUsize,
    /// Milliseconds since `born`.
    last: AtomicU64,
}

/// One of them; it counts until it is dropped.
pub(super) struct Active(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            born: Instant::now(),
            active: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// Begins one.
    pub(super) fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::SeqCst);
        Active(self.clone())
    }

    /// How long nobody has wanted anything; none while somebody does.
    pub(super) fn idle(&self) -> Option<Duration> {
        if self.active.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let last = Duration::from_millis(self.last.load(Ordering::SeqCst));
        Some(self.born.elapsed().saturating_sub(last))
    }

    /// Somebody, or a session, wanted something just now.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::SeqCst);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.touch();
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}
