//! A home in numbers, for whoever watches it.

use super::handle::{Handle, blocking};
use super::tally::Counted;
use crate::model::{Result, RuntimeName};
use std::path::Path;
use std::time::Duration;

/// How long the engine may take to answer before it counts as away.
const ENGINE_MAX: Duration = Duration::from_secs(2);

/// The numbers at one moment.
#[derive(Clone, Debug)]
pub struct Measures {
    /// Sessions by state and, where no run is live, their last run's outcome.
    pub sessions: Vec<(&'static str, Option<&'static str>, u64)>,
    /// What was recorded since the journal was opened.
    pub counted: Counted,
    /// Bytes of the journal's files.
    pub journal_bytes: u64,
    /// Who follows a session or waits for its end.
    pub session_followers: usize,
    /// Who follows all sessions.
    pub firehose_followers: usize,
    /// Whether the Docker engine answers.
    pub engine: bool,
}

impl Handle {
    /// Takes the numbers. Asks the engine whether it is there.
    ///
    /// # Errors
    /// When the daemon is leaving.
    pub async fn measures(&self) -> Result<Measures> {
        let shared = &self.shared;
        let engine = match shared.runtime(RuntimeName::Docker) {
            Ok(docker) => tokio::time::timeout(ENGINE_MAX, docker.answers()).await,
            Err(_) => Ok(Ok(())),
        };
        let journal = shared.settings.home.join("journal");
        let journal_bytes = blocking(move || Ok(size_of(&journal))).await?;
        let census = shared.directory.census().into_iter();
        let (session_followers, firehose_followers) = shared.hub.followers();
        Ok(Measures {
            sessions: census
                .map(|((state, outcome), count)| (state, outcome, count))
                .collect(),
            counted: shared.tally.counted(),
            journal_bytes,
            session_followers,
            firehose_followers,
            engine: matches!(engine, Ok(Ok(()))),
        })
    }
}

/// Bytes of the files beneath `dir`; what goes meanwhile is not counted.
pub(super) fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
