//! Places where a shim can be put, and the client that talks to it there.
//!
//! A [`Runtime`] makes images and containers (or what stands for them) and
//! nothing else: what the agent says, its exit code and its signals go through
//! the shim ([`shim`]), the same for every runtime.

pub mod docker;
pub mod fake;
pub mod local;
pub mod session_dir;
pub mod shim;

pub use crate::archive::Chunks;
use crate::model::api::{Check, PathStat};
pub use crate::model::spec::ImageConfig;
use crate::model::spec::{BuildOptions, Limits, PodSpec};
use crate::model::{HomeId, RuntimeName, SessionId, Timestamp, Ulid};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// A result of a runtime.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// What a runtime could not do.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine cannot be reached, is too old or does not permit it. May pass.
    #[error("{runtime} is not available: {cause}")]
    Unavailable {
        /// The runtime's name.
        runtime: RuntimeName,
        /// Why.
        cause: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The image could not be built.
    #[error("the image {tag} could not be built: {cause}")]
    Build {
        /// Its tag.
        tag: String,
        /// The builder's word, with its exit code where it has one, and the last lines of its output.
        cause: String,
    },
    /// The image is missing, or not for this machine.
    #[error("the image {tag} cannot be used: {cause}")]
    Image {
        /// Its tag.
        tag: String,
        /// Why.
        cause: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The container could not be created, started or changed.
    #[error("container {container}: {cause}")]
    Container {
        /// Its name.
        container: String,
        /// Why.
        cause: String,
    },
    /// A path of a container that is not there, or cannot be read or written.
    #[error("{container}: {path}: {cause}")]
    Path {
        /// The container's name.
        container: String,
        /// The path.
        path: String,
        /// Why.
        cause: String,
        /// Because it is not there.
        missing: bool,
    },
    /// Something on this machine's file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot write".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl From<RuntimeError> for crate::model::Error {
    fn from(error: RuntimeError) -> Self {
        use crate::model::{Error, ErrorCode};
        let text = error.to_string();
        match error {
            RuntimeError::Unavailable { hint, .. } => Error {
                code: ErrorCode::RuntimeUnavailable,
                message: text,
                hint,
            },
            RuntimeError::Build { .. } => Error::new(ErrorCode::BuildFailed, text),
            RuntimeError::Image { hint, .. } => Error {
                code: ErrorCode::ContainerFailed,
                message: text,
                hint,
            },
            RuntimeError::Path { missing, .. } => match missing {
                true => Error::new(ErrorCode::PathNotFound, text),
                false => Error::new(ErrorCode::CopyFailed, text),
            },
            RuntimeError::Container { .. } | RuntimeError::Io { .. } => {
                Error::new(ErrorCode::ContainerFailed, text)
            }
        }
    }
}

/// Whose something is; every object of an engine carries it as labels
/// (`cldpd.home`, `cldpd.session`, `cldpd.pod`, `cldpd.run`, `cldpd.attempt`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The home.
    pub home: HomeId,
    /// The session.
    pub session: Ulid,
    /// The session's id.
    pub id: SessionId,
    /// The run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
}

/// What an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// One line: name, version, API, where.
    pub description: String,
    /// The machine's architecture, as images name it (`amd64`, `arm64`).
    pub architecture: String,
}

/// What an image is made from.
#[derive(Clone)]
pub struct BuildRequest {
    /// Whose.
    pub home: HomeId,
    /// The pod.
    pub pod: PodSpec,
    /// How.
    pub options: BuildOptions,
    /// Build secrets by id. They reach the builder and nobody else.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Proxy variables of whoever dispatches, for the build.
    pub proxy: BTreeMap<String, String>,
}

impl BuildRequest {
    /// A build without secrets, and without a proxy.
    #[must_use]
    pub fn new(home: HomeId, pod: PodSpec, options: BuildOptions) -> Self {
        Self {
            home,
            pod,
            options,
            secrets: BTreeMap::new(),
            proxy: BTreeMap::new(),
        }
    }
}

/// An image, ready to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id: what containers are created from.
    pub id: String,
    /// Nothing had to be built.
    pub cached: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// What a container is created with.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// Whose.
    pub owner: Owner,
    /// The container's name.
    pub name: String,
    /// The image's id.
    pub image: String,
    /// What of the pod concerns the container.
    pub pod: PodSpec,
    /// Working directory; the image's when absent.
    pub workdir: Option<String>,
    /// User; the image's when absent.
    pub user: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// Whether `pod.copy` is to be put in: not into a container made of a snapshot.
    pub copy: bool,
    /// The session's directory on the host.
    pub dirs: session_dir::RunDir,
    /// Volumes by name that an earlier container of the session had, with their targets.
    pub volumes: Vec<(String, String)>,
}

/// Something happened to a container of a home's that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Whose container.
    pub owner: Owner,
    /// When, by the engine's clock.
    pub at: Timestamp,
    /// What.
    pub what: Incident,
}

/// What happens to containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// The kernel killed one of its processes because it had reached its limit of memory.
    OutOfMemory,
}

/// What happens, as it happens. It ends when the engine goes away.
pub type Happenings = BoxStream<'static, Result<Happening>>;

/// An archive on its way into a container.
pub struct Upload {
    /// The archive.
    pub chunks: Chunks,
    /// What is in it keeps its owners, and does not belong to the container's user.
    pub keep_owners: bool,
}

/// How a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceState {
    /// Not there.
    Gone,
    /// Created, never started.
    Created,
    /// Runs; `pid` is its first process on this machine, where that is known.
    Running {
        /// Host pid of the shim.
        pid: Option<u32>,
        /// Frozen by the engine.
        paused: bool,
    },
    /// Ended.
    Exited(ExitInfo),
}

/// What an engine says about an ended container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Its exit code.
    pub code: i64,
    /// The engine's flag; also set for a child's death.
    pub oom_killed: bool,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The engine's own error.
    pub error: Option<String>,
}

/// A container, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is, by its labels.
    pub owner: Owner,
    /// The name that it was made with.
    pub name: String,
    /// The engine's id.
    pub id: String,
    /// How it stands.
    pub state: PlaceState,
    /// Volumes by name, with their targets.
    pub volumes: Vec<(String, String)>,
}

/// Something in an engine that carries a home's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging {
    /// The engine's id of it; of a volume its name.
    pub id: String,
    /// Its name as people know it.
    pub name: String,
    /// What it is.
    pub what: Belongs,
    /// Ids of what rests on it, of whomever that is: it cannot go before them.
    pub users: Vec<String>,
}

/// What belongs to a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// A session's container.
    Container(Found),
    /// An image of a session's container.
    Snapshot(Ulid),
    /// An image that was built here, of this pod; `replaced` by a newer one.
    Image {
        /// The pod's name.
        pod: String,
        /// It has no name any more.
        replaced: bool,
    },
    /// A session's volume.
    Volume(Ulid),
    /// A container for looking or deleting, of a daemon that died over it.
    Helper,
    /// The image that such a container was made of.
    Helped,
}

/// A place where sessions run.
///
/// Every call may be repeated: what is there already is found by its labels,
/// what is gone already is gone. Objects of other homes are never touched.
/// Dropping a call's future abandons it (a build is cancelled by that).
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Its name.
    fn name(&self) -> RuntimeName;

    /// Whether it can be used, and what it is.
    async fn check(&self) -> Result<EngineInfo>;

    /// Whether it can be used now, asked as cheaply as it can be.
    async fn answers(&self) -> Result<()> {
        self.check().await.map(drop)
    }

    /// What it is, and each thing that could keep sessions from running there,
    /// with what to do about it. May take some seconds.
    async fn examine(&self) -> Vec<Check> {
        let name = self.name().to_string();
        vec![match self.check().await {
            Ok(info) => Check::ok(&name, info.description),
            Err(error) => Check::failed(&name, error.into()),
        }]
    }

    /// The address of the engine that it used last; none before it used one.
    fn address(&self) -> Option<String> {
        None
    }

    /// The pod's image: what is there if its context and arguments have not
    /// changed, else built, its output lines sent to `lines` while it runs.
    async fn build(&self, request: &BuildRequest, lines: mpsc::Sender<Vec<u8>>) -> Result<Image>;

    /// When the image `tag` was made, if it is there.
    async fn image_created(&self, tag: &str) -> Result<Option<Timestamp>>;

    /// What the image says about how it is to be run.
    async fn image_config(&self, image: &str) -> Result<ImageConfig>;

    /// Creates the container, or finds the one that an earlier call created
    /// (all labels agree). Returns the engine's id. A name that somebody else
    /// holds is an error.
    async fn create(&self, request: &CreateRequest) -> Result<String>;

    /// Puts the pod's `copy` into a container that was created and not started.
    /// Returns what was left out, and why.
    async fn copy_in(&self, _request: &CreateRequest) -> Result<Vec<String>> {
        let name = self.name();
        let why = format!("nothing of \"copy\" is put in: {name} has this machine's own files");
        Ok(vec![why])
    }

    /// Starts it: the shim runs when this returns, or has failed to.
    async fn start(&self, request: &CreateRequest) -> Result<()>;

    /// The container of this owner and name, if there is one.
    async fn find(&self, owner: &Owner, name: &str) -> Result<Option<Found>>;

    /// All containers of this home.
    async fn list(&self, home: HomeId) -> Result<Vec<Found>>;

    /// All that this home has there.
    async fn belongings(&self, home: HomeId) -> Result<Vec<Belonging>> {
        let belonging = |found: Found| Belonging {
            id: found.id.clone(),
            name: found.name.clone(),
            what: Belongs::Container(found),
            users: Vec::new(),
        };
        let all = self.list(home).await?;
        Ok(all.into_iter().map(belonging).collect())
    }

    /// Removes one of them, if it is still what it was and nobody uses it.
    async fn discard(&self, one: &Belonging) -> Result<()> {
        match &one.what {
            Belongs::Container(found) => self.remove(&found.owner, &found.name, false).await,
            Belongs::Snapshot(_)
            | Belongs::Image { .. }
            | Belongs::Volume(_)
            | Belongs::Helper
            | Belongs::Helped => Ok(()),
        }
    }

    /// Waits until it has ended, and says how. `None` when it is gone.
    async fn wait(&self, owner: &Owner, name: &str) -> Result<Option<ExitInfo>>;

    /// What is at an absolute path of a container of that name, if anything is. A
    /// link at its end is not followed.
    async fn stat(&self, name: &str, path: &str) -> Result<Option<PathStat>>;

    /// An archive of what is at the path, its root named as the path's last part.
    async fn read_archive(&self, name: &str, path: &str) -> Result<Chunks>;

    /// Takes an archive apart in the directory at the path.
    async fn write_archive(&self, name: &str, path: &str, upload: Upload) -> Result<()>;

    /// What happens to containers of this home from `since` on, as far back as
    /// the engine remembers. Nothing ever, where nobody watches.
    async fn watch(&self, _home: HomeId, _since: Timestamp) -> Result<Happenings> {
        Ok(futures::stream::pending().boxed())
    }

    /// Unfreezes a paused container.
    async fn unpause(&self, owner: &Owner, name: &str) -> Result<()>;

    /// Makes an image of an ended container's file system; returns its id. The
    /// image is labelled with `owner`.
    async fn snapshot(&self, owner: &Owner, name: &str, tag: &str) -> Result<String>;

    /// Kills and removes the container, and its volumes without a name when `volumes`.
    async fn remove(&self, owner: &Owner, name: &str, volumes: bool) -> Result<()>;

    /// Removes all that this session has in the engine: containers, snapshots, volumes.
    async fn remove_session(&self, home: HomeId, session: Ulid) -> Result<()>;

    /// Removes a pod's image, if it is this home's and nothing uses it.
    /// Where nothing is built there is none.
    async fn remove_image(&self, _home: HomeId, _tag: &str) -> Result<()> {
        Ok(())
    }

    /// Deletes a directory of ours in which containers may have made files that are not ours.
    async fn purge(&self, dir: &Path) -> Result<()>;
}

/// Further labels of the user's, without those that are ours.
#[must_use]
pub fn user_labels(pod: &PodSpec) -> BTreeMap<String, String> {
    let ours = |key: &str| key == "cldpd" || key.starts_with("cldpd.");
    pod.labels
        .iter()
        .filter(|(key, _)| !ours(key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}
