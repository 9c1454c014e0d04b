//! Emptying a directory in which a container may have made anything.
//!
//! Links are removed, never followed. A directory that is not empty is moved up
//! to the top before it is looked into: so depth costs nothing, neither stack nor
//! descriptors nor path length.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Deletes everything in `top`, but not `top` itself. Nobody may be at work in it.
///
/// # Errors
/// The first thing that could not be deleted, after everything else was.
pub fn purge(top: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(top)?;
    if !meta.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    let mut moved = 0u64;
    let mut failed = None;
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        let mut result = empty(top, &directory, &mut moved, &mut open);
        if result.is_ok() && directory != top {
            result = fs::remove_dir(&directory).map_err(|error| named(&directory, error));
        }
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failed.get_or_insert(error);
            }
            _ => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Removes what can be removed from `directory`, and moves the directories that
/// are not empty to the top.
fn empty(top: &Path, directory: &Path, moved: &mut u64, open: &mut Vec<PathBuf>) -> io::Result<()> {
    // Its owner may have closed it to himself.
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    let mut failed = None;
    let entries = fs::read_dir(directory).map_err(|error| named(directory, error))?;
    for entry in entries {
        let path = entry.map_err(|error| named(directory, error))?.path();
        let result = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => leave(top, directory, &path, moved, open),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failed.get_or_insert(named(&path, error));
            }
            _ => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

fn leave(
    top: &Path,
    directory: &Path,
    path: &Path,
    moved: &mut u64,
    open: &mut Vec<PathBuf>,
) -> io::Result<()> {
    if fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    if directory == top {
        open.push(path.to_owned());
        return Ok(());
    }
    // Moving a directory writes its "..": it has to be writable itself.
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    loop {
        let to = top.join(format!(".purge.{moved}"));
        *moved += 1;
        // Renaming onto an empty directory would take its place: that is fine.
        match fs::rename(path, &to) {
            Ok(()) => {
                open.push(to);
                return Ok(());
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::AlreadyExists
                        | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
