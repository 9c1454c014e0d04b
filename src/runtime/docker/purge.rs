//! Deleting what containers made in a directory of ours.
//!
//! First as the user. What is not the user's to delete goes with a helper
//! container: the shim as `purge`, as root, with that directory and nothing
//! else. It and its image are removed afterwards.

use super::engine::Engine;
use super::helper::{self, Helper};
use crate::model::{HomeId, Ulid};
use crate::runtime::{Result, RuntimeError};
use bollard::errors::Error as EngineError;
use bollard::query_parameters::WaitContainerOptionsBuilder;
use futures::StreamExt;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Where the directory is in the helper.
const TARGET: &str = "/.cldpd/purge";
/// For deleting a great many files.
const LONG: Duration = Duration::from_secs(3600);
/// The label of what belongs to a purge.
pub(super) const PURGE: &str = "cldpd.purge";

/// Deletes `dir`, which has to lie in `sessions`.
pub(super) async fn beneath(sessions: &Path, dir: &Path) -> Result<Option<Refused>> {
    let (sessions, dir) = (sessions.to_owned(), dir.to_owned());
    let path = dir.clone();
    let deleted = tokio::task::spawn_blocking(move || {
        let beneath = dir.strip_prefix(&sessions).ok();
        let plain = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
        if !beneath.is_some_and(|path| plain(path) && path.components().next().is_some()) {
            let cause = format!("it is not in {}", sessions.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, cause));
        }
        match std::fs::symlink_metadata(&dir) {
            // A link is no directory of ours: it goes, and what it leads to stays.
            Ok(found) if !found.is_dir() => std::fs::remove_file(&dir),
            Ok(_) => std::fs::remove_dir_all(&dir),
            Err(error) => Err(error),
        }
    });
    let deleted = deleted
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    match deleted {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Some(Refused {
            dir: path,
            source: error,
        })),
        Err(source) => Err(undeletable(path, source)),
    }
}

/// Something in a directory is not the user's to delete.
pub(super) struct Refused {
    dir: PathBuf,
    source: io::Error,
}

impl Refused {
    /// For want of a helper, that is the answer.
    pub(super) fn into_error(self) -> RuntimeError {
        undeletable(self.dir, self.source)
    }

    /// Empties the directory with a helper, and deletes it.
    pub(super) async fn with_helper(
        self,
        engine: &Engine,
        home: HomeId,
        shim: &[u8],
    ) -> Result<()> {
        let name = format!(
            "cldpd-purge-{}",
            Ulid::generate().to_string().to_lowercase()
        );
        let helper = Helper {
            name: &name,
            label: PURGE,
            arguments: vec!["purge".to_owned(), TARGET.to_owned()],
            user: Some("0:0"),
            dir: &self.dir,
            target: TARGET,
        };
        let image = helper::import(engine, home, shim, &name).await?;
        let ended = match helper.start(engine, home, &image).await {
            Ok(()) => ended(engine, &name).await,
            Err(error) => Err(error),
        };
        helper.put_away(engine, &image).await;
        let code = ended?;
        match std::fs::remove_dir_all(&self.dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(undeletable(
                self.dir,
                io::Error::new(
                    error.kind(),
                    format!("{error}, also after a helper container (exit code {code})"),
                ),
            )),
        }
    }
}

/// The exit code of a helper, once it has ended.
async fn ended(engine: &Engine, name: &str) -> Result<i64> {
    let failed = |failure: super::engine::Failure| failure.of_container(name);
    let options = WaitContainerOptionsBuilder::new()
        .condition("not-running")
        .build();
    let mut answers = engine.client.wait_container(name, Some(options));
    let ended = async {
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            Some(Err(EngineError::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(error),
            None => Ok(-1),
        }
    };
    engine.call(LONG, ended).await.map_err(failed)
}

fn undeletable(path: PathBuf, source: io::Error) -> RuntimeError {
    RuntimeError::Io {
        action: "cannot delete",
        path,
        source,
    }
}
