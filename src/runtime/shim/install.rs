//! Putting the shim where a container can be started with it.

use super::BINARY;
use crate::model::RuntimeName;
use crate::runtime::session_dir::{CONTAINER_BIN, CONTAINER_RUN, RunDir, SessionDir};
use crate::runtime::{Result, RuntimeError};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes the shim into the session's directory. What is there already and is
/// the same is left; a running container keeps the one that it has.
///
/// # Errors
/// When it cannot be written, or there is none for this machine.
pub fn install(dir: &SessionDir) -> Result<()> {
    if BINARY.is_empty() {
        return Err(RuntimeError::Unavailable {
            runtime: RuntimeName::Local,
            cause: "this build has no shim, because it was not made for Linux".to_owned(),
            hint: Some("run the daemon on Linux, or in a Linux virtual machine".to_owned()),
        });
    }
    make_directory(dir.path(), 0o755)?;
    make_directory(&dir.bin(), 0o755)?;
    let path = dir.shim();
    if fs::read(&path).is_ok_and(|there| there == BINARY) {
        return set_mode(&path, 0o755);
    }
    // Made aside and renamed, so that nobody ever meets half of it.
    let aside = dir.bin().join(".shim.new");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&aside);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(&aside)?;
        file.write_all(BINARY)?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        drop(file);
        fs::rename(&aside, &path)
    };
    write().map_err(|source| RuntimeError::Io {
        action: "cannot write",
        path: path.clone(),
        source,
    })
}

/// Makes the directory of an attempt, writable for whoever the container runs
/// as; the home around it is closed to others.
///
/// # Errors
/// When it cannot be made.
pub fn prepare_run(dir: &RunDir) -> Result<()> {
    make_directory(dir.session.path(), 0o755)?;
    make_directory(&dir.path(), 0o777)
}

/// The command of a container in which the shim is the first process.
#[must_use]
pub fn container_command(dir: &RunDir) -> Vec<String> {
    let mut command = vec![format!("{CONTAINER_BIN}/shim"), "serve".to_owned()];
    command.extend(identity(dir, CONTAINER_RUN));
    command
}

/// The arguments of a shim that is a plain process of this machine. It puts
/// itself into the background and has exited with 0 when the shim is ready.
#[must_use]
pub fn local_arguments(dir: &RunDir) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), "--local".to_owned()];
    arguments.extend(identity(dir, &dir.path().to_string_lossy()));
    arguments
}

fn identity(dir: &RunDir, place: &str) -> [String; 8] {
    [
        "--dir".to_owned(),
        place.to_owned(),
        "--session".to_owned(),
        dir.session.session().to_string(),
        "--run".to_owned(),
        dir.run.to_string(),
        "--attempt".to_owned(),
        dir.attempt.to_string(),
    ]
}

/// Makes a directory of that mode, whatever the umask.
fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let make = || -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        if !fs::symlink_metadata(path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(())
    };
    make().map_err(|source| RuntimeError::Io {
        action: "cannot make the directory",
        path: path.to_owned(),
        source,
    })?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|source| RuntimeError::Io {
        action: "cannot set the permissions of",
        path: path.to_owned(),
        source,
    })
}
