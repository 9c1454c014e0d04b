//! The library's front door: dispatching sessions and following them, through
//! the home's daemon or in this process.

mod requests;
mod streams;

pub use requests::{Dispatch, Resume};
pub use streams::{AllEvents, Events, Found};

use crate::actors::{Handle, System};
use crate::client::{Client, Home, Launcher};
use crate::daemon::Config;
use crate::model::api::{
    EventsQuery, FirehoseQuery, Inspection, ListQuery, RemoveRequest, RemoveResponse,
    ResumeRequest, RunEnd, SearchQuery, SessionView, StatsQuery, StatsRow, StopRequest,
    StopResponse,
};
use crate::model::{Error, ErrorCode, Result, SessionId, Ulid};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use streams::{AllFeed, Feed, Finder};
use tokio::sync::oneshot;

/// Dispatches sessions of one home. Cheap to clone.
///
/// Dropping it stops nothing: sessions go on, and whoever opens the home next
/// takes them over.
#[derive(Clone)]
pub struct Dispatcher {
    inner: Inner,
}

#[derive(Clone)]
enum Inner {
    Daemon(Arc<Client>),
    Here(Arc<Host>),
}

impl Dispatcher {
    /// Through the home's daemon, which is started from `cldpd` (a path, or a
    /// name that `PATH` has) if none runs.
    ///
    /// # Errors
    /// `daemon_unavailable`, `version_mismatch`.
    pub async fn connect(home: impl AsRef<Path>, cldpd: impl Into<PathBuf>) -> Result<Self> {
        let home = Home::new(home)?;
        let client = Client::connect_or_start(&home, Launcher::new(cldpd)).await?;
        Ok(Self {
            inner: Inner::Daemon(Arc::new(client)),
        })
    }

    /// In this process, without a daemon. While it lives no daemon can have the home.
    ///
    /// # Errors
    /// `refused` when a daemon has the home; `journal_failed`.
    pub async fn open(home: impl AsRef<Path>) -> Result<Self> {
        let home = Home::new(home)?;
        let host = tokio::task::spawn_blocking(move || Host::start(&home)).await;
        let host = host.map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))??;
        Ok(Self {
            inner: Inner::Here(Arc::new(host)),
        })
    }

    /// Dispatches sessions; returns when their intent is durable.
    ///
    /// # Errors
    /// What is wrong with the pods or the runtime; nothing is made then.
    pub async fn start(&self, dispatch: Dispatch) -> Result<Vec<Session>> {
        let mut request = dispatch.request;
        request.request = Ulid::generate();
        let response = match &self.inner {
            Inner::Daemon(client) => client.start(&request).await?,
            Inner::Here(host) => host.handle.start(request).await?,
        };
        let sessions = response.sessions.into_iter();
        Ok(sessions
            .map(|session| self.named(session.id, session.ulid))
            .collect())
    }

    /// A session by its id, its name, its pod, a unique prefix or its ULID.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`.
    pub async fn session(&self, target: &str) -> Result<Session> {
        let found = self.inspect(target).await?;
        Ok(self.named(found.view.id, found.view.ulid))
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// When the daemon or the journal fails.
    pub async fn sessions(&self, query: ListQuery) -> Result<Vec<SessionView>> {
        match &self.inner {
            Inner::Daemon(client) => client.sessions(&query).await,
            Inner::Here(host) => host.handle.list(query).await,
        }
    }

    /// What agents used, added up over the runs that `query` asks for.
    ///
    /// # Errors
    /// When the daemon or the journal fails.
    pub async fn stats(&self, query: StatsQuery) -> Result<Vec<StatsRow>> {
        match &self.inner {
            Inner::Daemon(client) => client.stats(&query).await,
            Inner::Here(host) => host.handle.stats(query).await,
        }
    }

    /// Events of all sessions that `query` asks for, in the order in which they
    /// became durable. With `follow`, and neither `from` nor `since`, what comes
    /// from now on: nothing that is dispatched afterwards is missed.
    ///
    /// # Errors
    /// `usage` for a cursor that is none.
    pub async fn events(&self, query: FirehoseQuery) -> Result<AllEvents> {
        Ok(AllEvents(match &self.inner {
            Inner::Daemon(client) => AllFeed::Daemon(Box::new(client.firehose(query).await?)),
            Inner::Here(host) => AllFeed::Here {
                firehose: Box::new(host.handle.firehose(query)?),
                batch: Vec::new().into_iter(),
            },
        }))
    }

    /// Searches all that is recorded now, newest first. Dropping it ends the search.
    ///
    /// # Errors
    /// `usage` for a pattern that is none; `try_later` when many searches run.
    pub async fn search(&self, query: SearchQuery) -> Result<Found> {
        Ok(Found(match &self.inner {
            Inner::Daemon(client) => Finder::Daemon(client.search(&query).await?),
            Inner::Here(host) => Finder::Here {
                search: Box::new(host.handle.search(query).await?),
                batch: Vec::new().into_iter(),
            },
        }))
    }

    /// Lets go of a home that was opened in this process, once everything that
    /// was begun is durable. Does nothing when others still use it, or for a daemon's.
    pub async fn close(self) {
        if let Inner::Here(host) = self.inner
            && let Some(host) = Arc::into_inner(host)
        {
            let _ = tokio::task::spawn_blocking(move || drop(host)).await;
        }
    }

    async fn inspect(&self, target: &str) -> Result<Inspection> {
        match &self.inner {
            Inner::Daemon(client) => client.session(target).await,
            Inner::Here(host) => host.handle.inspect(target).await,
        }
    }

    fn named(&self, id: SessionId, ulid: Ulid) -> Session {
        Session {
            dispatcher: self.clone(),
            id,
            ulid,
        }
    }
}

/// A session, wherever it is in its life.
#[derive(Clone)]
pub struct Session {
    dispatcher: Dispatcher,
    id: SessionId,
    ulid: Ulid,
}

impl Session {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &SessionId {
        &self.id
    }

    /// Its ULID.
    #[must_use]
    pub const fn ulid(&self) -> Ulid {
        self.ulid
    }

    /// Its events, from the first on and then live until it is over. None is
    /// left out, however slow the reader.
    ///
    /// # Errors
    /// `session_not_found` when its history was removed.
    pub async fn events(&self) -> Result<Events> {
        self.events_of(EventsQuery {
            follow: true,
            ..EventsQuery::default()
        })
        .await
    }

    /// Those of its events that `query` asks for.
    ///
    /// # Errors
    /// `session_not_found` when its history was removed.
    pub async fn events_of(&self, query: EventsQuery) -> Result<Events> {
        let target = self.ulid.to_string();
        Ok(Events(match &self.dispatcher.inner {
            Inner::Daemon(client) if query.follow => {
                Feed::Daemon(Box::new(client.events_following(&target, query).await?))
            }
            Inner::Daemon(client) => Feed::Daemon(Box::new(client.events(&target, query).await?)),
            Inner::Here(host) => Feed::Here {
                follow: Box::new(host.handle.events(&target, query).await?),
                batch: Vec::new().into_iter(),
            },
        }))
    }

    /// Waits until it is over. To be had by any number of waiters, also afterwards.
    ///
    /// # Errors
    /// `session_not_found` when its history was removed.
    pub async fn wait(&self) -> Result<RunEnd> {
        let target = self.ulid.to_string();
        let ended = match &self.dispatcher.inner {
            Inner::Daemon(client) => client.wait(&target, None).await?,
            Inner::Here(host) => host.handle.wait(&target, None).await?,
        };
        Ok(ended.end)
    }

    /// Stops it: SIGTERM, then SIGKILL after `grace`; returns when it is over.
    /// Stopping what is over does nothing.
    ///
    /// # Errors
    /// `session_not_found` when its history was removed.
    pub async fn stop(&self, grace: Duration) -> Result<StopResponse> {
        let target = self.ulid.to_string();
        let grace = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let request = StopRequest {
            request: Ulid::generate(),
            grace,
            run: None,
            wait: true,
        };
        match &self.dispatcher.inner {
            Inner::Daemon(client) => client.stop(&target, &request).await,
            Inner::Here(host) => host.handle.stop(&target, request).await,
        }
    }

    /// Goes on with its conversation; returns the run's number. A prompt is enough;
    /// [`Resume`] says more.
    ///
    /// # Errors
    /// `refused` when nothing is kept to resume from, or what is asked for cannot be
    /// done with this session; `usage` for what contradicts itself.
    pub async fn resume(&self, further: impl Into<Resume>) -> Result<u32> {
        let target = self.ulid.to_string();
        let request = ResumeRequest {
            request: Ulid::generate(),
            ..further.into().request
        };
        let response = match &self.dispatcher.inner {
            Inner::Daemon(client) => client.resume(&target, &request).await?,
            Inner::Here(host) => host.handle.resume(&target, request).await?,
        };
        Ok(response.run)
    }

    /// Everything known of it.
    ///
    /// # Errors
    /// `session_not_found` when its history was removed.
    pub async fn inspect(&self) -> Result<Inspection> {
        self.dispatcher.inspect(&self.ulid.to_string()).await
    }

    /// Removes what it has, and with `history` its record too.
    ///
    /// # Errors
    /// `refused` while it is live.
    pub async fn remove(&self, history: bool) -> Result<RemoveResponse> {
        let target = self.ulid.to_string();
        let request = RemoveRequest {
            request: Ulid::generate(),
            force: false,
            history,
        };
        match &self.dispatcher.inner {
            Inner::Daemon(client) => client.remove(&target, &request).await,
            Inner::Here(host) => host.handle.remove(&target, request).await,
        }
    }
}

/// A home that is open in this process, on threads of its own.
struct Host {
    handle: Handle,
    close: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    /// Blocks until the home is open.
    fn start(home: &Home) -> Result<Self> {
        home.make()?;
        let config = Config::read(home)?;
        let lock = crate::daemon::socket::lock(home)?;
        let settings = config.settings(home, std::env::var_os("HOME").map(PathBuf::from));
        let (opened, told) = oneshot::channel();
        let (close, closing) = oneshot::channel::<()>();
        let life = async move {
            let system = match System::open(settings).await {
                Ok(system) => system,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(system.handle())).is_ok() {
                // An error means that the host was dropped: the same.
                let _ = closing.await;
            }
            system.leave().await;
        };
        let thread = std::thread::Builder::new()
            .name("cldpd-actors".to_owned())
            .spawn(move || {
                if let Err(error) = System::block_on(life) {
                    tracing::error!(%error, "the home is closed again");
                }
                drop(lock);
            })
            .map_err(|error| Error::new(ErrorCode::Internal, format!("no thread: {error}")))?;
        let handle = told.blocking_recv().map_err(|_| {
            Error::new(
                ErrorCode::Internal,
                "the actors' thread ended before it began",
            )
        })??;
        Ok(Self {
            handle,
            close: Some(close),
            thread: Some(thread),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(close) = self.close.take() {
            let _ = close.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic over there was reported there.
            let _ = thread.join();
        }
    }
}
