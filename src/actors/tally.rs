//! What the journal's writer has done since it was opened, in numbers.
//!
//! Counted where the work is done, in a few atomics; read by whoever asks.

use crate::model::{EventKind, Outcome};
use crate::store::Append;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram of commits, in seconds.
pub const COMMIT_BOUNDS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// The counters.
#[derive(Default)]
pub(super) struct Tally {
    failed: AtomicU64,
    events: AtomicU64,
    output_bytes: AtomicU64,
    run_ends: [AtomicU64; Outcome::NAMES.len()],
    /// One for each bound, and one beyond them.
    commits: [AtomicU64; COMMIT_BOUNDS.len() + 1],
    commit_nanos: AtomicU64,
}

/// What an append adds to the counters.
#[derive(Default)]
pub(super) struct Contents {
    events: u64,
    output_bytes: u64,
    /// Indices in [`Outcome::NAMES`].
    run_ends: Vec<usize>,
    removed: bool,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Commits that failed.
    pub commits_failed: u64,
    /// Events that were recorded.
    pub events: u64,
    /// Bytes of agents' output that were recorded, newlines too.
    pub output_bytes: u64,
    /// Runs that ended, by outcome.
    pub run_ends: Vec<(&'static str, u64)>,
    /// Commits that took at most as long as each of [`COMMIT_BOUNDS`], and longer.
    pub commits: Vec<u64>,
    /// How long all commits took.
    pub commit_time: Duration,
}

impl Contents {
    /// Whether a run ended with it, or what a session had is gone.
    pub(super) const fn has_end(&self) -> bool {
        !self.run_ends.is_empty() || self.removed
    }

    pub(super) fn of(append: &Append) -> Self {
        let mut contents = Self {
            events: append.events.len() as u64,
            ..Self::default()
        };
        for event in &append.events {
            match &event.kind {
                EventKind::Output(output) => {
                    let newline = u64::from(!output.continued);
                    contents.output_bytes += output.data.len() as u64 + newline;
                }
                EventKind::RunEnded { outcome, .. } => {
                    let names = Outcome::NAMES.iter();
                    let at = names.clone().position(|name| *name == outcome.name());
                    contents.run_ends.extend(at);
                }
                EventKind::Removed { .. } => contents.removed = true,
                _ => {}
            }
        }
        contents
    }
}

impl Tally {
    /// A commit is durable.
    pub(super) fn committed(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let fits = COMMIT_BOUNDS.iter().position(|bound| seconds <= *bound);
        add(&self.commits[fits.unwrap_or(COMMIT_BOUNDS.len())], 1);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.commit_nanos, nanos);
    }

    /// A commit failed.
    pub(super) fn failed(&self) {
        add(&self.failed, 1);
    }

    /// An append is durable.
    pub(super) fn appended(&self, contents: Contents) {
        add(&self.events, contents.events);
        add(&self.output_bytes, contents.output_bytes);
        for at in contents.run_ends {
            add(&self.run_ends[at], 1);
        }
    }

    /// The counters now.
    pub(super) fn counted(&self) -> Counted {
        let ends = Outcome::NAMES.into_iter().zip(&self.run_ends);
        Counted {
            commits_failed: get(&self.failed),
            events: get(&self.events),
            output_bytes: get(&self.output_bytes),
            run_ends: ends.map(|(name, count)| (name, get(count))).collect(),
            commits: self.commits.iter().map(get).collect(),
            commit_time: Duration::from_nanos(get(&self.commit_nanos)),
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
