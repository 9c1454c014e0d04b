//! Deleting what containers made in a directory of ours.
//!
//! First as the user. What is not the user's to delete goes with a helper
//! container: the shim as `purge`, as root, with that directory and nothing
//! else. It and its image are removed afterwards.

use super::engine::{Engine, SLOW};
use super::labels;
use super::removal::remove_image;
use crate::model::{HomeId, Ulid};
use crate::runtime::{Result, RuntimeError};
use bollard::errors::Error as EngineError;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures::StreamExt;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Where the directory is in the helper.
const TARGET: &str = "/.cldpd/purge";
/// For deleting a great many files.
const LONG: Duration = Duration::from_secs(3600);
/// The label of what belongs to a purge.
const PURGE: &str = "cldpd.purge";

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
        let image = import(engine, home, shim, &name).await?;
        let ended = run(engine, home, &image, &name, &self.dir).await;
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        // Both are labelled; what cannot be removed now is seen by whoever looks.
        let removed = engine.client.remove_container(&name, Some(options));
        let _ = engine.call(SLOW, removed).await;
        let _ = remove_image(engine, &image, true).await;
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

/// An image of nothing but the shim, which is for whoever made it to remove.
pub(super) async fn import(
    engine: &Engine,
    home: HomeId,
    shim: &[u8],
    name: &str,
) -> Result<String> {
    let archive = archive(shim).map_err(|error| RuntimeError::Image {
        tag: name.to_owned(),
        cause: format!("cannot make it: {error}"),
        hint: None,
    })?;
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .message("cldpd helper")
        .changes(vec![format!("LABEL {}={home} {PURGE}=1", labels::HOME)])
        .build();
    let body = bollard::body_full(archive.into());
    let mut messages = engine.client.create_image(Some(options), Some(body), None);
    let imported = async {
        let mut id = None;
        while let Some(message) = messages.next().await {
            id = message?.status.or(id);
        }
        Ok::<_, EngineError>(id)
    };
    match engine.call(SLOW, imported).await {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(RuntimeError::Image {
            tag: name.to_owned(),
            cause: "the engine did not say what it imported".to_owned(),
            hint: None,
        }),
        Err(failure) => Err(failure.of_image(name)),
    }
}

fn archive(shim: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(shim.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, "shim", shim)?;
    archive.into_inner()
}

async fn run(engine: &Engine, home: HomeId, image: &str, name: &str, dir: &Path) -> Result<i64> {
    let labels = HashMap::from([
        (labels::HOME.to_owned(), home.to_string()),
        (PURGE.to_owned(), "1".to_owned()),
    ]);
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["/shim".to_owned()]),
        cmd: Some(vec!["purge".to_owned(), TARGET.to_owned()]),
        user: Some("0:0".to_owned()),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".to_owned()),
                config: None,
            }),
            mounts: Some(vec![Mount {
                typ: Some(MountType::BIND),
                source: Some(dir.to_string_lossy().into_owned()),
                target: Some(TARGET.to_owned()),
                read_only: Some(false),
                ..Mount::default()
            }]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let failed = |failure: super::engine::Failure| failure.of_container(name);
    let created = engine.client.create_container(Some(options), body);
    engine.call(SLOW, created).await.map_err(failed)?;
    let started = engine
        .client
        .start_container(name, None::<StartContainerOptions>);
    engine.call(SLOW, started).await.map_err(failed)?;
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
