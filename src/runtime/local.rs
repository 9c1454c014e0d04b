//! Sessions as plain processes of this machine. It isolates nothing.
//!
//! What stands for a container is an attempt's directory with a shim. Nothing
//! is kept in memory: who it is lies in its file `place`, which process it is in
//! `pid`, whom it keeps in `keepers`, how it ended in `exit`; the shim writes the
//! last three. A process is only ever touched when pid, start time and boot agree.

use super::session_dir::{RunDir, SessionDir};
use super::shim::{self, ARCHITECTURE, BINARY, files, purge, stat};
use super::{
    CreateRequest, EngineInfo, ExitInfo, Found, Image, ImageConfig, Owner, PlaceState, Result,
    Runtime, RuntimeError,
};
use crate::model::spec::{BuildOptions, PodSpec};
use crate::model::{HomeId, RuntimeName, SessionId, Timestamp, Ulid};
use async_trait::async_trait;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::sync::mpsc;

/// So often a shim that is still open somewhere is tried.
const BUSY_TRIES: u32 = 10_000;
/// The only image there is.
const IMAGE: &str = "local";
/// What of the daemon's environment a session gets.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];
/// Longest file that is read of a place.
const SMALL: u64 = 64 * 1024;
/// A keeper has killed its tree within this, or is killed.
const KEEPER: Duration = Duration::from_secs(3);

/// Plain processes of this machine.
#[derive(Clone, Debug)]
pub struct Local {
    sessions: PathBuf,
    home: HomeId,
}

/// The file `place`.
#[derive(Serialize, Deserialize)]
struct Label {
    home: HomeId,
    session: Ulid,
    id: SessionId,
    run: u32,
    attempt: u32,
    name: String,
}

/// A process, told from one that gets its pid later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    pid: u32,
    start: u64,
}

impl Local {
    /// Sessions beneath `sessions`, of the home `home`.
    #[must_use]
    pub fn new(sessions: PathBuf, home: HomeId) -> Self {
        Self { sessions, home }
    }

    fn dir(&self, owner: &Owner) -> RunDir {
        SessionDir::new(&self.sessions, owner.session).run(owner.run, owner.attempt)
    }

    /// The place of this owner and name, if there is one.
    async fn state(&self, owner: &Owner, name: &str) -> Result<Option<PlaceState>> {
        let (dir, owner, name) = (self.dir(owner), owner.clone(), name.to_owned());
        blocking(move || {
            let found = look(&dir.path())?;
            Ok(found
                .filter(|found| found.owner == owner && found.name == name)
                .map(|found| found.state))
        })
        .await
    }

    async fn take_away(&self, dir: &RunDir) -> Result<()> {
        let path = dir.path();
        let read = path.clone();
        let (shim, kept) = blocking(move || {
            let Some(directory) = open(&read)? else {
                return Ok((None, Vec::new()));
            };
            let shim = shim_of(who(&directory).as_ref());
            Ok((shim, kept_by(&directory)))
        })
        .await?;
        if let Some(shim) = shim {
            shim.kill_and_wait(&path).await?;
        }
        for (keeper, program) in kept {
            // With its shim gone a keeper kills its tree and ends by itself.
            if let Some(keeper_fd) = keeper.open() {
                let ended = ended(keeper_fd);
                if tokio::time::timeout(KEEPER, ended).await.is_err() {
                    keeper.kill_and_wait(&path).await?;
                }
            }
            program.kill_and_wait(&path).await?;
        }
        blocking(move || match fs::remove_file(path.join("place")) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RuntimeError::Io {
                action: "cannot remove",
                path: path.join("place"),
                source,
            }),
            _ => Ok(()),
        })
        .await
    }
}

#[async_trait]
impl Runtime for Local {
    fn name(&self) -> RuntimeName {
        RuntimeName::Local
    }

    async fn check(&self) -> Result<EngineInfo> {
        if BINARY.is_empty() {
            return Err(RuntimeError::Unavailable {
                runtime: RuntimeName::Local,
                cause: "this build has no shim, because it was not made for Linux".to_owned(),
                hint: None,
            });
        }
        Ok(EngineInfo {
            description: "plain processes of this machine, not isolated".to_owned(),
            architecture: ARCHITECTURE.to_owned(),
        })
    }

    async fn build(
        &self,
        _home: HomeId,
        _pod: &PodSpec,
        _options: BuildOptions,
        _lines: mpsc::Sender<Vec<u8>>,
    ) -> Result<Image> {
        Ok(Image {
            id: IMAGE.to_owned(),
            cached: true,
            created: None,
        })
    }

    async fn image_created(&self, _tag: &str) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn image_config(&self, _image: &str) -> Result<ImageConfig> {
        let user = rustix::process::geteuid();
        Ok(ImageConfig {
            command: Vec::new(),
            workdir: None,
            user: if user.is_root() {
                String::new()
            } else {
                user.as_raw().to_string()
            },
        })
    }

    async fn create(&self, request: &CreateRequest) -> Result<String> {
        let label = Label {
            home: request.owner.home,
            session: request.owner.session,
            id: request.owner.id.clone(),
            run: request.owner.run,
            attempt: request.owner.attempt,
            name: request.name.clone(),
        };
        let (dir, owner) = (self.dir(&request.owner), request.owner.clone());
        let name = request.name.clone();
        blocking(move || {
            shim::install(&dir.session)?;
            shim::prepare_run(&dir)?;
            match look(&dir.path())? {
                Some(found) if found.owner == owner && found.name == label.name => Ok(()),
                Some(found) => Err(RuntimeError::Container {
                    container: label.name.clone(),
                    cause: format!("its directory belongs to {}", found.name),
                }),
                None => write_label(&dir.path(), &label),
            }
        })
        .await?;
        Ok(name)
    }

    async fn start(&self, request: &CreateRequest) -> Result<()> {
        let failed = |cause: String| RuntimeError::Container {
            container: request.name.clone(),
            cause,
        };
        match self.state(&request.owner, &request.name).await? {
            Some(PlaceState::Created) => {}
            Some(PlaceState::Running { .. }) => return Ok(()),
            Some(PlaceState::Exited(info)) => {
                let word = info.error.map(|error| format!(": {error}"));
                return Err(failed(format!(
                    "it has ended already{}",
                    word.unwrap_or_default()
                )));
            }
            Some(PlaceState::Gone) | None => return Err(failed("it is not there".to_owned())),
        }
        let dir = self.dir(&request.owner);
        let workdir = request
            .workdir
            .clone()
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from("/"));
        if !tokio::fs::metadata(&workdir)
            .await
            .is_ok_and(|meta| meta.is_dir())
        {
            let shown = workdir.display();
            return Err(failed(format!(
                "its working directory {shown} is not there"
            )));
        }
        let inherited = INHERITED
            .iter()
            .filter_map(|name| std::env::var_os(name).map(|value| (name, value)));
        let mut command = tokio::process::Command::new(dir.session.shim());
        command
            .args(shim::local_arguments(&dir))
            .env_clear()
            .envs(inherited)
            .current_dir(&workdir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut tries = 0;
        let output = loop {
            tries += 1;
            match command.output().await {
                // Another thread forked while the shim was being written: its
                // child has the file open until it executes something, at once.
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
                {
                    tokio::task::yield_now().await;
                }
                result => {
                    break result
                        .map_err(|error| failed(format!("its shim cannot be started: {error}")))?;
                }
            }
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("shim: ");
        Err(failed(format!("its shim did not begin: {said}")))
    }

    async fn find(&self, owner: &Owner, name: &str) -> Result<Option<Found>> {
        let state = self.state(owner, name).await?;
        Ok(state.map(|state| Found {
            owner: owner.clone(),
            name: name.to_owned(),
            id: name.to_owned(),
            state,
            volumes: Vec::new(),
        }))
    }

    async fn list(&self, home: HomeId) -> Result<Vec<Found>> {
        let sessions = self.sessions.clone();
        blocking(move || {
            let mut all = Vec::new();
            for session in directories(&sessions)? {
                for place in places(&session)? {
                    all.extend(look(&place)?.filter(|found| found.owner.home == home));
                }
            }
            Ok(all)
        })
        .await
    }

    async fn wait(&self, owner: &Owner, name: &str) -> Result<Option<ExitInfo>> {
        let path = self.dir(owner).path();
        let broken = |source| RuntimeError::Io {
            action: "cannot watch",
            path: path.clone(),
            source,
        };
        if self.state(owner, name).await?.is_none() {
            return Ok(None);
        }
        let mut watch = files::Watch::new(&path).map_err(broken)?;
        loop {
            match self.state(owner, name).await? {
                None | Some(PlaceState::Gone) => return Ok(None),
                Some(PlaceState::Exited(info)) => return Ok(Some(info)),
                // Not started yet: its shim leaves its pid there when it is.
                Some(PlaceState::Created) => watch.changed().await.map_err(broken)?,
                Some(PlaceState::Running { .. }) => {
                    let read = path.clone();
                    let shim = blocking(move || {
                        let said = open(&read)?.and_then(|directory| who(&directory));
                        Ok(shim_of(said.as_ref()))
                    })
                    .await?;
                    if let Some(fd) = shim.and_then(Identity::open) {
                        ended(fd).await.map_err(broken)?;
                    }
                }
            }
        }
    }

    async fn unpause(&self, _owner: &Owner, _name: &str) -> Result<()> {
        Ok(())
    }

    async fn snapshot(&self, _owner: &Owner, _name: &str, _tag: &str) -> Result<String> {
        // Files stay where they are: the next run finds them as the last one left them.
        Ok(IMAGE.to_owned())
    }

    async fn remove(&self, owner: &Owner, name: &str, _volumes: bool) -> Result<()> {
        if self.state(owner, name).await?.is_none() {
            return Ok(());
        }
        self.take_away(&self.dir(owner)).await
    }

    async fn remove_session(&self, home: HomeId, session: Ulid) -> Result<()> {
        if home != self.home {
            return Ok(());
        }
        let root = SessionDir::new(&self.sessions, session).path().to_owned();
        let found = blocking(move || {
            let mut all = Vec::new();
            for place in places(&root)? {
                all.extend(look(&place)?);
            }
            Ok(all)
        })
        .await?;
        for found in found.iter().filter(|found| found.owner.home == home) {
            self.take_away(&self.dir(&found.owner)).await?;
        }
        Ok(())
    }

    async fn purge(&self, dir: &Path) -> Result<()> {
        let dir = dir.to_owned();
        let ours = dir.strip_prefix(&self.sessions).is_ok_and(|rest| {
            let mut parts = rest.components();
            parts.next().is_some()
                && rest
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)))
        });
        blocking(move || {
            let failed = |source| RuntimeError::Io {
                action: "cannot delete",
                path: dir.clone(),
                source,
            };
            if !ours {
                return Err(failed(io::Error::other("it is no session's directory")));
            }
            match purge::purge(&dir).and_then(|()| fs::remove_dir(&dir)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            }
        })
        .await
    }
}

/// What stands in an attempt's directory. Its files were in an agent's hands:
/// what makes no sense there is as good as nothing.
fn look(path: &Path) -> Result<Option<Found>> {
    let Some(directory) = open(path)? else {
        return Ok(None);
    };
    let Some(label) =
        small(&directory, "place").and_then(|text| serde_json::from_str::<Label>(&text).ok())
    else {
        return Ok(None);
    };
    Ok(Some(Found {
        owner: Owner {
            home: label.home,
            session: label.session,
            id: label.id,
            run: label.run,
            attempt: label.attempt,
        },
        id: label.name.clone(),
        name: label.name,
        state: state_of(&directory),
        volumes: Vec::new(),
    }))
}

fn state_of(directory: &OwnedFd) -> PlaceState {
    // The process first: whoever ends leaves its word before it does.
    let mut said = who(directory);
    loop {
        if let Some(shim) = shim_of(said.as_ref())
            && shim.is_alive()
        {
            return PlaceState::Running {
                pid: Some(shim.pid),
                paused: false,
            };
        }
        // While it begins its process changes: who is dead may have been succeeded.
        let now = who(directory);
        if now == said {
            break;
        }
        said = now;
    }
    if let Some(info) = small(directory, "exit").and_then(|text| exit_of(&text)) {
        return PlaceState::Exited(info);
    }
    if let Some(word) = small(directory, "fail") {
        return PlaceState::Exited(ExitInfo {
            code: i64::from(shim::SHIM_FAILED),
            error: Some(word.trim_end().to_owned()),
            ..ExitInfo::default()
        });
    }
    // Not born, or not so far that it said who it is: that comes at once.
    if said.is_none() {
        return PlaceState::Created;
    }
    PlaceState::Exited(ExitInfo {
        code: 137,
        error: Some("its shim was killed".to_owned()),
        ..ExitInfo::default()
    })
}

fn exit_of(text: &str) -> Option<ExitInfo> {
    let (code, time) = text.trim_end().split_once(' ')?;
    Some(ExitInfo {
        code: code.parse().ok()?,
        finished: time.parse().ok().map(Timestamp),
        ..ExitInfo::default()
    })
}

/// The shim, by its own word; none of an earlier boot.
fn shim_of(said: Option<&(Identity, String)>) -> Option<Identity> {
    let (identity, boot) = said?;
    (*boot == stat::boot_text()).then_some(*identity)
}

/// Who the shim is, and in which boot. While it begins, the process that it
/// will come out of.
fn who(directory: &OwnedFd) -> Option<(Identity, String)> {
    let text = small(directory, "pid").or_else(|| small(directory, "born"))?;
    let mut words = text.split_ascii_whitespace();
    let identity = Identity::parse(words.next()?, words.next()?)?;
    Some((identity, words.next()?.to_owned()))
}

/// The keepers and programs of its runs.
fn kept_by(directory: &OwnedFd) -> Vec<(Identity, Identity)> {
    if shim_of(who(directory).as_ref()).is_none() {
        return Vec::new();
    }
    let text = small(directory, "keepers").unwrap_or_default();
    let pair = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let mut next = || Identity::parse(words.next()?, words.next()?);
        Some((next()?, next()?))
    };
    text.lines().filter_map(pair).collect()
}

impl Identity {
    fn parse(pid: &str, start: &str) -> Option<Self> {
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    fn is_alive(self) -> bool {
        stat::read(self.pid).is_some_and(|now| now.start == self.start && !now.zombie)
    }

    /// A handle on this very process, if it lives. Looked at after it was
    /// opened: what the handle holds cannot be replaced any more.
    fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(fd)
    }

    async fn kill_and_wait(self, path: &Path) -> Result<()> {
        let Some(fd) = self.open() else {
            return Ok(());
        };
        let failed = |source| RuntimeError::Io {
            action: "cannot kill the process of",
            path: path.to_owned(),
            source,
        };
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(failed(error.into())),
        }
        ended(fd).await.map_err(failed)
    }
}

/// Completes when the process of that handle has ended.
async fn ended(fd: OwnedFd) -> io::Result<()> {
    files::readable(fd)?.readable().await
}

fn write_label(path: &Path, label: &Label) -> Result<()> {
    let (aside, place) = (path.join("place.new"), path.join("place"));
    let write = || -> io::Result<()> {
        fs::write(&aside, serde_json::to_vec(label)?)?;
        fs::rename(&aside, &place)
    };
    write().map_err(|source| RuntimeError::Io {
        action: "cannot write",
        path: place.clone(),
        source,
    })
}

fn small(directory: &OwnedFd, name: &str) -> Option<String> {
    files::small_text(directory, name, SMALL).ok().flatten()
}

fn open(path: &Path) -> Result<Option<OwnedFd>> {
    match files::directory(path) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RuntimeError::Io {
            action: "cannot open",
            path: path.to_owned(),
            source,
        }),
    }
}

/// The attempts' directories of a session's.
fn places(session: &Path) -> Result<Vec<PathBuf>> {
    let is_place = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let numbers = name.and_then(|name| name.strip_prefix('r')?.split_once('.'));
        let number = |text: &str| text.parse::<u32>().is_ok();
        numbers.is_some_and(|(run, attempt)| number(run) && number(attempt))
    };
    Ok(directories(session)?.into_iter().filter(is_place).collect())
}

fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let broken = |source| RuntimeError::Io {
        action: "cannot list",
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(broken(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(broken)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.push(entry.path());
        }
    }
    Ok(all)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RuntimeError::Unavailable {
            runtime: RuntimeName::Local,
            cause: error.to_string(),
            hint: None,
        }),
    }
}
