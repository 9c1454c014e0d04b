//! What every actor and driver of one home shares.

use super::admission::Fate;
use super::damage::Damage;
use super::directory::Directory;
use super::hub::Hub;
use super::journal::JournalHandle;
use super::search::Searchers;
use super::space::{Retention, Upkeep};
use super::tally::Tally;
use crate::model::{Error, ErrorCode, EventKind, HomeId, RuntimeName, Spec, Ulid};
use crate::pod::Pods;
use crate::runtime::Runtime;
use crate::runtime::session_dir::SessionDir;
use crate::store::Reader;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the user settled for a home.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `$CLDPD_HOME`, absolute.
    pub home: PathBuf,
    /// The user's own home, for `~` in mounts.
    pub user_home: Option<PathBuf>,
    /// At most so many live runs at once.
    pub max_parallel: u32,
    /// Bytes of memory that live runs may claim together by their pods' `memory`.
    pub memory: u64,
    /// At most so many runs may wait.
    pub max_queued: u32,
    /// Bytes of memory that a container may use whose pod says nothing; 0 is unlimited.
    pub session_memory: u64,
    /// Processes and threads that a container may have whose pod says nothing; 0 is unlimited.
    pub session_pids: u32,
    /// Where sessions run unless the dispatch or the pod says otherwise.
    pub runtime: RuntimeName,
    /// The engine's address, over all others.
    pub docker_host: Option<String>,
    /// Where sessions have their directories instead of in the home, absolute.
    pub session_dir: Option<PathBuf>,
    /// When sessions' histories go by themselves.
    pub retention: Retention,
    /// Bytes to be left free on the home's disk, and those of the journal and
    /// of sessions' files: with less, nothing new is dispatched. By default 256 MiB, or a
    /// twentieth of a small disk, but what agents leave free at least.
    pub min_free: Option<u64>,
    /// What is done about agents that say nothing.
    pub silence: Silence,
    /// How long before the first retry; twice as long before each further one.
    pub retry_after: Duration,
}

/// What is done about agents that say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// It is noted after this long; none for never.
    pub after: Option<Duration>,
    /// The same of those that have given their result already.
    pub linger: Option<Duration>,
    /// The run is stopped then.
    pub stop: bool,
}

/// Shared by all actors of a home.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) home: HomeId,
    /// The directory of all sessions' directories.
    pub(super) sessions: PathBuf,
    pub(super) pods: Pods,
    /// Cancelled when a session first needs that runtime: it is watched from then on.
    pub(super) needed: HashMap<RuntimeName, CancellationToken>,
    pub(super) runtimes: HashMap<RuntimeName, Arc<dyn Runtime>>,
    pub(super) reader: Reader,
    pub(super) journal: JournalHandle,
    pub(super) hub: Arc<Hub>,
    pub(super) tally: Arc<Tally>,
    pub(super) directory: Directory,
    pub(super) searchers: Searchers,
    pub(super) upkeep: Arc<Upkeep>,
    /// What was found damaged when the journal was opened.
    pub(super) damage: Damage,
    /// Cancelled when the daemon leaves: drivers let go, containers work on.
    pub(super) leaving: CancellationToken,
}

impl Shared {
    /// The directory of a session.
    pub(super) fn session_dir(&self, session: Ulid) -> SessionDir {
        SessionDir::new(&self.sessions, session)
    }

    /// What was frozen when a session was dispatched.
    ///
    /// # Errors
    /// When the journal cannot be read, or has no such session.
    pub(super) fn spec(&self, session: Ulid) -> Result<Spec, Error> {
        let events = self.reader.events(session, 0, 1).map_err(Error::from)?;
        match events.into_iter().next().map(|event| event.kind) {
            Some(EventKind::Created { spec }) => Ok(*spec),
            _ => Err(Error::new(
                ErrorCode::JournalFailed,
                format!("session {session} has no first event"),
            )),
        }
    }

    /// How a session stands for those that come after it; nothing while it is live.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(super) fn fate(&self, session: Ulid) -> Result<Option<Fate>, Error> {
        let record = self.reader.session(session).map_err(Error::from)?;
        Ok(match record {
            Some(record) => Fate::of(&record),
            None => Some(Fate::removed(&session.to_string())),
        })
    }

    /// The runtime of that name.
    pub(super) fn runtime(&self, name: RuntimeName) -> Result<&Arc<dyn Runtime>, Error> {
        self.runtimes.get(&name).ok_or_else(|| {
            Error::new(
                ErrorCode::RuntimeUnavailable,
                format!("{name} is not available: not set up"),
            )
        })
    }
}
