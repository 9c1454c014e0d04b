//! Files of plain processes are files of this machine, as the daemon's user may use them.

use crate::archive::{Chunks, Packer, Root, consume, produce, unpack};
use crate::model::Timestamp;
use crate::model::api::{PathKind, PathStat};
use crate::runtime::{Result, RuntimeError, Upload};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is at `path`, if anything is. Blocking.
pub(super) fn stat(name: &str, path: &str) -> Result<Option<PathStat>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failed(name, path, &error)),
    };
    let kind = match meta.file_type() {
        kind if kind.is_dir() => PathKind::Directory,
        kind if kind.is_symlink() => PathKind::Link,
        kind if kind.is_file() => PathKind::File,
        _ => PathKind::Other,
    };
    let nanos = meta.mtime().saturating_mul(1_000_000_000);
    Ok(Some(PathStat {
        path: path.to_owned(),
        kind,
        size: meta.len(),
        mode: meta.mode() & 0o777,
        modified: Some(Timestamp(nanos.saturating_add(meta.mtime_nsec()))),
        link_target: (kind == PathKind::Link).then(|| leads_to(Path::new(path))),
    }))
}

/// Where a link leads in the end, or as far as there is something.
fn leads_to(link: &Path) -> String {
    let end = link.canonicalize().unwrap_or_else(|_| {
        let target = fs::read_link(link).unwrap_or_default();
        link.parent().unwrap_or(Path::new("/")).join(target)
    });
    end.display().to_string()
}

/// An archive of what is at `path`.
pub(super) fn read(path: &str) -> Chunks {
    let path = PathBuf::from(path);
    produce(move |to| {
        let name = path.file_name().unwrap_or(OsStr::new("root")).to_owned();
        let mut packer = Packer::new(to, None);
        packer.add(&path, Path::new(&name))?;
        packer.finish()
    })
}

/// Takes an archive apart in the directory `path`.
pub(super) async fn write(name: &str, path: &str, upload: Upload) -> Result<()> {
    let into = PathBuf::from(path);
    let owners = upload.keep_owners;
    let done = consume(upload.chunks, move |from| {
        unpack(from, &into, &Root::AsNamed, owners)
    });
    let done = done.await.map_err(|error| failed(name, path, &error))?;
    if done.left_out > 0 {
        tracing::info!(
            path,
            left_out = done.left_out,
            "an archive had what is no file"
        );
    }
    Ok(())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failed(name: &str, path: &str, error: &io::Error) -> RuntimeError {
    RuntimeError::Path {
        container: name.to_owned(),
        path: path.to_owned(),
        cause: error.to_string(),
        missing: error.kind() == io::ErrorKind::NotFound,
    }
}
