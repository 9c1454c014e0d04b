//! Bringing a home to life: opens the journal, takes over what is under way, lets the queue go.

use super::admission::Demand;
use super::context::{Settings, Shared};
use super::damage::Damage;
use super::directory::Directory;
use super::handle::Handle;
use super::hub::Hub;
use super::journal::JournalHandle;
use super::search::Searchers;
use super::session_root;
use super::space::Upkeep;
use super::supervisor::{Child, Enqueue, Leave, Occupy, Open, Settle, Supervisor};
use super::tally::Tally;
use super::view;
use super::vital;
use crate::model::{Error, ErrorCode, Result, RuntimeName, SessionRecord, Timestamp};
use crate::pod::Pods;
use crate::runtime::Runtime;
use crate::runtime::docker::{Docker, DockerConfig};
use crate::runtime::fake::Fake;
use crate::runtime::local::Local;
use crate::runtime::shim;
use crate::store::{Journal, Options, StoreError};
use actix::Actor as _;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The journal's share of memory for its cache, in bytes.
const CACHE_BYTES: u64 = 32 << 20;
/// How often what is due is removed, at the least.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// And at the most.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A home that is alive in this process.
pub struct System {
    handle: Handle,
}

impl System {
    /// Runs `work` on a runtime with room for actors, and gives its result.
    /// Blocks; everything that was spawned is gone when it returns.
    ///
    /// # Errors
    /// `internal` when the system gives no threads.
    pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
        let runtime = runtime().map_err(|error| {
            Error::new(
                ErrorCode::Internal,
                format!("cannot start threads: {error}"),
            )
        })?;
        let runner = actix::System::with_tokio_rt(move || runtime);
        Ok(runner.block_on(work))
    }

    /// Opens the home: its journal is locked for this process from here on.
    /// To be called within [`System::block_on`].
    ///
    /// # Errors
    /// `journal_failed`, naming what and where.
    pub async fn open(settings: Settings) -> Result<Self> {
        let opened = Journal::open(
            &settings.home.join("journal"),
            Options {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                cache_bytes: CACHE_BYTES,
                now: Timestamp::now(),
            },
        )?;
        for warning in &opened.warnings {
            tracing::warn!("{warning}");
        }
        let journal = opened.journal;
        let (home, reader) = (journal.home(), journal.reader());
        let hub = Arc::new(Hub::new(reader.watermark()));
        let tally = Arc::new(Tally::default());
        let upkeep = Arc::new(Upkeep::default());
        let sessions = session_root::settle(&settings.home, settings.session_dir.as_deref(), home)?;
        let pods = Pods::new(settings.home.join("pods"), settings.user_home.clone());
        let shared = Arc::new(Shared {
            home,
            pods,
            needed: [RuntimeName::Docker, RuntimeName::Local, RuntimeName::Fake]
                .map(|name| (name, tokio_util::sync::CancellationToken::new()))
                .into(),
            runtimes: runtimes(&settings, &sessions, home),
            sessions,
            journal: JournalHandle::start(journal, hub.clone(), tally.clone(), upkeep.clone()),
            tally,
            reader,
            hub,
            directory: Directory::default(),
            searchers: Searchers::new(),
            upkeep,
            damage: Damage::default(),
            leaving: tokio_util::sync::CancellationToken::new(),
            settings,
        });
        let supervisor = Supervisor::new(shared.clone()).start();
        let adopted = adopt(&shared, &supervisor).await?;
        let handle = Handle::new(shared, supervisor, adopted);
        for name in handle.shared.runtimes.keys() {
            vital::spawn(super::watch::watch(handle.clone(), *name));
        }
        vital::spawn(sweep(handle.clone()));
        vital::spawn(super::space::keep(handle.clone()));
        Ok(Self { handle })
    }

    /// The way to its sessions.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets go of everything: what was sent to the journal is durable, and
    /// sessions work on without this process.
    pub async fn leave(self) {
        self.handle.shared.leaving.cancel();
        let _ = self.handle.supervisor.send(Leave).await;
        self.handle.shared.journal.close().await;
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("cldpd")
        .enable_all()
        .build()
}

fn runtimes(
    settings: &Settings,
    sessions: &std::path::Path,
    home: crate::model::HomeId,
) -> HashMap<RuntimeName, Arc<dyn Runtime>> {
    let mut config = DockerConfig::read(
        settings.docker_host.clone(),
        settings.user_home.clone(),
        |name| std::env::var_os(name),
    );
    // The sessions' directories may be elsewhere, where others have files too.
    config.ledger = Some(settings.home.join("images.json"));
    let local: Arc<dyn Runtime> = Arc::new(Local::new(sessions.to_owned(), home));
    let mut runtimes: HashMap<RuntimeName, Arc<dyn Runtime>> = HashMap::new();
    runtimes.insert(
        RuntimeName::Docker,
        Arc::new(Docker::new(config, sessions.to_owned(), home, shim::BINARY)),
    );
    runtimes.insert(
        RuntimeName::Fake,
        Arc::new(Fake::new(local.clone(), settings.home.join("pods"))),
    );
    runtimes.insert(RuntimeName::Local, local);
    runtimes
}

/// Makes the actors of all live sessions, in the order in which they were asked
/// for, and only then lets the queue go. Each goes on with what its record says.
async fn adopt(shared: &Arc<Shared>, supervisor: &actix::Addr<Supervisor>) -> Result<u32> {
    let gone = |_| Error::new(ErrorCode::Stopping, "the daemon is stopping");
    let mut live = Vec::new();
    for record in shared.reader.sessions() {
        let Some(record) = mended(shared, record).await? else {
            continue;
        };
        shared.directory.put(&record);
        if record.is_live() {
            live.push(record);
        }
    }
    live.sort_by_key(|record| record.live_run().map(|run| (run.queued, record.ulid)));
    let mut adopted = 0;
    for record in &live {
        let Some(run) = record.live_run() else {
            continue;
        };
        adopted += u32::from(view::is_under_way(run));
        let session = record.ulid;
        let spec = match shared.spec(session) {
            Ok(spec) => spec,
            Err(error) => {
                tracing::error!(%session, %error, "it cannot be taken over");
                continue;
            }
        };
        let demand = Demand::new(session, &spec, run.number, run.queued);
        if run.state.name() == "queued" {
            let after = demand.after.clone();
            supervisor.send(Enqueue(demand)).await.map_err(gone)?;
            for awaited in after {
                if let Some(fate) = shared.fate(awaited)? {
                    supervisor.send(Settle(awaited, fate)).await.map_err(gone)?;
                }
            }
        } else {
            supervisor.send(Occupy(demand)).await.map_err(gone)?;
        }
        fail_point!("adopt.session");
        if let Err(error) = supervisor.send(Child(session)).await.map_err(gone)? {
            tracing::error!(%session, %error, "it cannot be taken over now");
        }
    }
    fail_point!("adopt.open");
    supervisor.send(Open).await.map_err(gone)?;
    Ok(adopted)
}

/// A record that can be read, or can be made again; nothing for one that cannot,
/// which is no reason to do without all others.
async fn mended(
    shared: &Shared,
    record: Result<SessionRecord, StoreError>,
) -> Result<Option<SessionRecord>> {
    let error = match record {
        Ok(record) => return Ok(Some(record)),
        Err(error) => error,
    };
    let Some(session) = error.damaged_session() else {
        return Err(error.into());
    };
    match shared.journal.rebuild(session).await {
        Ok(record) => {
            tracing::warn!(%session, %error, "its projection was made again from its events");
            shared.damage.mended(record.id.to_string());
            Ok(Some(record))
        }
        Err(why) => {
            tracing::error!(%session, %error, %why, "it is damaged, and left alone");
            shared.damage.lost(session, why);
            Ok(None)
        }
    }
}

async fn sweep(handle: Handle) {
    let leaving = handle.shared.leaving.clone();
    let work = async {
        loop {
            let next = handle.sweep().await.unwrap_or(SWEEP_EVERY);
            let wait = next.clamp(SWEEP_PAUSE, SWEEP_EVERY);
            let sooner = handle.shared.upkeep.sooner.notified();
            let _ = tokio::time::timeout(wait, sooner).await;
        }
    };
    leaving.run_until_cancelled(work).await;
}
