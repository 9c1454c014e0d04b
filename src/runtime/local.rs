//! Sessions as plain processes of this machine. It isolates nothing.
//!
//! What stands for a container is an attempt's directory with a shim. Nothing
//! is kept in memory: who it is lies in its file `place`, which process it is in
//! `pid`, whom it keeps in `keepers`, how it ended in `exit`; the shim writes the
//! last three. A process is only ever touched when pid, start time and boot agree.

mod own_files;
mod place;

use super::session_dir::{RunDir, SessionDir};
use super::shim::{self, ARCHITECTURE, BINARY, files, purge};
use super::{
    BuildRequest, Chunks, CreateRequest, EngineInfo, ExitInfo, Found, Image, ImageConfig, Owner,
    PlaceState, Result, Runtime, RuntimeError, Upload,
};
use crate::model::api::PathStat;
use crate::model::{HomeId, RuntimeName, Timestamp, Ulid};
use async_trait::async_trait;
use place::{
    Identity, Label, directories, ended, kept_by, look, open, places, shim_of, who, write_label,
};
use std::fs;
use std::io;
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
/// A keeper has killed its tree within this, or is killed.
const KEEPER: Duration = Duration::from_secs(3);

/// Plain processes of this machine.
#[derive(Clone, Debug)]
pub struct Local {
    sessions: PathBuf,
    home: HomeId,
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

    async fn build(&self, _request: &BuildRequest, _lines: mpsc::Sender<Vec<u8>>) -> Result<Image> {
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
        // One that was on its way for a daemon that died may have come first.
        let state = self.state(&request.owner, &request.name).await?;
        if matches!(state, Some(PlaceState::Running { .. })) {
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

    async fn stat(&self, name: &str, path: &str) -> Result<Option<PathStat>> {
        let (name, path) = (name.to_owned(), path.to_owned());
        blocking(move || own_files::stat(&name, &path)).await
    }

    async fn read_archive(&self, _name: &str, path: &str) -> Result<Chunks> {
        Ok(own_files::read(path))
    }

    async fn write_archive(&self, name: &str, path: &str, upload: Upload) -> Result<()> {
        own_files::write(name, path, upload).await
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
