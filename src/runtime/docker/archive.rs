//! Files in and out of containers, by the engine's archives. They work on
//! containers that run and on those that were never started or have ended.

use super::account::{self, Account};
use super::container::look;
use super::engine::{Engine, Failure, QUICK};
use crate::archive::{Chunks, consume, rewrite, transform};
use crate::model::Timestamp;
use crate::model::api::{PathKind, PathStat};
use crate::runtime::{Result, RuntimeError, Upload};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use futures::StreamExt as _;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

/// Largest file of accounts that is read, in bytes.
const ACCOUNTS_MAX: u64 = 4 << 20;
/// The bits of the engine's modes that are no permissions (Go's `fs.FileMode`).
const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
const OTHER: u32 = (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19);

/// What is at `path`, if anything is. A link at its end is not followed.
pub(super) async fn stat(engine: &Engine, container: &str, path: &str) -> Result<Option<PathStat>> {
    let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    let asked = engine
        .client
        .get_container_archive_info(container, Some(options));
    let found = match engine.call(QUICK, asked).await {
        Ok(found) => found,
        Err(failure) if failure.is_missing() => return Ok(None),
        Err(failure) => return Err(refused(failure, container, path)),
    };
    let kind = match found.file_mode {
        mode if mode & DIRECTORY != 0 => PathKind::Directory,
        mode if mode & LINK != 0 => PathKind::Link,
        mode if mode & OTHER != 0 => PathKind::Other,
        _ => PathKind::File,
    };
    let modified = found.modification_time.as_deref();
    Ok(Some(PathStat {
        path: path.to_owned(),
        kind,
        size: u64::try_from(found.size).unwrap_or(0),
        mode: found.file_mode & 0o777,
        modified: modified.and_then(|time| Timestamp::parse(time).ok()),
        link_target: Some(found.link_target).filter(|target| !target.is_empty()),
    }))
}

/// An archive of what is at `path`, its root named as the path's last part.
pub(super) fn read(engine: Arc<Engine>, container: &str, path: &str) -> Chunks {
    let options = DownloadFromContainerOptionsBuilder::new()
        .path(path)
        .build();
    let chunks = engine
        .client
        .download_from_container(container, Some(options));
    chunks
        .map(move |chunk| {
            chunk.map_err(|error| match engine.failure(&error) {
                Failure::Refused { message, .. } => io::Error::other(message),
                Failure::Unreachable(error) => io::Error::other(error.to_string()),
            })
        })
        .boxed()
}

/// Takes an archive apart in the directory `path`. What is in it belongs to the
/// container's user, unless it is to keep its owners.
pub(super) async fn write(
    engine: &Arc<Engine>,
    container: &str,
    path: &str,
    upload: Upload,
) -> Result<()> {
    let owner = match upload.keep_owners {
        true => None,
        false => Some(user(engine, container).await?.account.owner),
    };
    let checked = transform(upload.chunks, move |from, to| rewrite(from, to, owner));
    put(engine, container, path, checked).await
}

/// Hands the engine an archive that is to be taken apart in the directory `path`.
pub(super) async fn put(
    engine: &Engine,
    container: &str,
    path: &str,
    chunks: Chunks,
) -> Result<()> {
    // Why an archive breaks off is known here only: the engine sees that it does.
    let broke: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = Arc::clone(&broke);
    let chunks = chunks.inspect(move |chunk| {
        if let Err(error) = chunk {
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            *noted = Some(error.to_string());
        }
    });
    let options = UploadToContainerOptionsBuilder::new()
        .path(path)
        .no_overwrite_dir_non_dir("true")
        .build();
    let body = bollard::body_try_stream(chunks);
    // However long it takes: nobody knows how much it is.
    let sent = engine
        .client
        .upload_to_container(container, Some(options), body)
        .await;
    let broke = broke.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (sent, broke) {
        (Ok(()), None) => Ok(()),
        (_, Some(cause)) => Err(RuntimeError::Path {
            container: container.to_owned(),
            path: path.to_owned(),
            cause,
            missing: false,
        }),
        (Err(error), None) => Err(refused(engine.failure(&error), container, path)),
    }
}

/// Whom a container runs its first process as.
pub(super) struct User {
    pub(super) account: Account,
    /// `HOME` of the container's configuration.
    pub(super) home_variable: Option<String>,
}

/// Looks up a container's user in its own files.
pub(super) async fn user(engine: &Arc<Engine>, container: &str) -> Result<User> {
    let config = look(engine, container)
        .await?
        .and_then(|found| found.config);
    let config = config.unwrap_or_default();
    let passwd = small(engine, container, "/etc/passwd").await?;
    let group = small(engine, container, "/etc/group").await?;
    let user = config.user.unwrap_or_default();
    let account =
        account::find(&user, &passwd, &group).map_err(|cause| RuntimeError::Container {
            container: container.to_owned(),
            cause,
        })?;
    let variables = config.env.unwrap_or_default();
    let home = variables.iter().find_map(|one| one.strip_prefix("HOME="));
    Ok(User {
        account,
        home_variable: home.map(str::to_owned),
    })
}

/// A small file of a container's; empty when it is not there.
async fn small(engine: &Arc<Engine>, container: &str, path: &str) -> Result<Vec<u8>> {
    let Some(found) = stat(engine, container, path).await? else {
        return Ok(Vec::new());
    };
    let path = found.link_target.as_deref().unwrap_or(path);
    let read = consume(read(Arc::clone(engine), container, path), |from| {
        let mut bytes = Vec::new();
        if let Some(entry) = tar::Archive::new(from).entries()?.next() {
            entry?.take(ACCOUNTS_MAX).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    });
    let read = tokio::time::timeout(QUICK, read).await;
    read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| RuntimeError::Path {
            container: container.to_owned(),
            path: path.to_owned(),
            cause: error.to_string(),
            missing: false,
        })
}

fn refused(failure: Failure, container: &str, path: &str) -> RuntimeError {
    match failure {
        Failure::Refused { status, message } => RuntimeError::Path {
            container: container.to_owned(),
            path: path.to_owned(),
            missing: status == 404,
            cause: match message.is_empty() {
                // What only asks what is there is answered without words.
                true => format!("the engine answers {status}"),
                false => message,
            },
        },
        Failure::Unreachable(error) => error,
    }
}
