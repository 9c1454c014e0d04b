//! The home's lock and socket.
//!
//! The lock is held for life, so there is never a second daemon, and whatever
//! lies at the socket's place while we hold it is stale, or not ours.

use crate::client::Home;
use crate::model::{Error, ErrorCode, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Takes the home's lock; it is given back when the file is dropped.
///
/// # Errors
/// `refused` when another daemon has it, with its pid.
pub(crate) fn lock(home: &Home) -> Result<File> {
    let dir = home.run();
    let failed = |path: &Path, error: &io::Error| {
        let message = format!("cannot use {}: {error}", path.display());
        Error::new(ErrorCode::DaemonUnavailable, message)
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)))
        .map_err(|error| failed(&dir, &error))?;
    // As made by hand it may be open to others; what lies in it is its owner's alone.
    let root = home.root();
    fs::metadata(root)
        .and_then(|found| match found.permissions().mode() & 0o077 {
            0 => Ok(()),
            _ => fs::set_permissions(root, fs::Permissions::from_mode(0o700)),
        })
        .map_err(|error| failed(root, &error))?;
    let path = home.lock();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&path).map_err(|error| failed(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let message = format!(
                "another daemon (pid {}) has the home {}",
                pid.trim(),
                home.root().display()
            );
            return Err(Error::new(ErrorCode::Refused, message)
                .hint("`cldpd daemon stop` ends it; sessions go on"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&path, &error)),
    }
    let write = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(|error| failed(&path, &error))?;
    Ok(file)
}

/// A socket's file that was made here, told from one that takes its place later.
pub(super) struct Made {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens at the home's socket. A stale one is removed; only the lock's holder calls this.
///
/// # Errors
/// `daemon_unavailable` when somebody else listens there, or it cannot be made.
pub(super) fn listen(home: &Home) -> Result<(UnixListener, Made)> {
    let path = home.socket();
    let failed = |what: String| Error::new(ErrorCode::DaemonUnavailable, what);
    let io_failed =
        |error: io::Error| failed(format!("cannot listen at {}: {error}", path.display()));
    let dir = File::open(home.run()).map_err(io_failed)?;
    // Through the directory's descriptor: a path of any length is short enough.
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io_failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            let message = format!("{} is not a socket", path.display());
            return Err(failed(message).hint("move it away"));
        }
        Ok(_) => match UnixStream::connect(&short) {
            Ok(_) => {
                let message = format!("somebody else listens at {}", path.display());
                return Err(failed(message).hint("end that program, or choose another home"));
            }
            Err(_) => fs::remove_file(&path).map_err(io_failed)?,
        },
    }
    let listener = UnixListener::bind(&short).map_err(io_failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io_failed)?;
    let found = fs::symlink_metadata(&path).map_err(io_failed)?;
    let made = Made {
        device: found.dev(),
        inode: found.ino(),
        path,
    };
    Ok((listener, made))
}

impl Made {
    /// Removes it. What a service manager, say, put in its place is not ours to remove.
    pub(super) fn remove(self) {
        let same = |found: &fs::Metadata| found.dev() == self.device && found.ino() == self.inode;
        let removed = match fs::symlink_metadata(&self.path) {
            Ok(found) if same(&found) => fs::remove_file(&self.path),
            Ok(_) => return tracing::warn!("the socket is another's now, and left alone"),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "the socket cannot be removed");
            }
            _ => {}
        }
    }
}
