//! Where things lie in a home (`$CLDPD_HOME`, by default `~/.cldpd`).
//!
//! Only names are made here; nothing is read, written or created, except by
//! [`Home::make`], which makes the directory itself and lets nobody else in.

use crate::model::{Error, ErrorCode, Result};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The variable that names the home.
pub const HOME_VARIABLE: &str = "CLDPD_HOME";

/// A home: one daemon, one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home at `root`, made absolute against the working directory.
    ///
    /// # Errors
    /// `usage` when `root` is empty, or is relative and there is no working directory.
    pub fn new(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        std::path::absolute(root)
            .map(|root| Self { root })
            .map_err(|e| {
                Error::new(
                    ErrorCode::Usage,
                    format!("\"{}\" cannot be the home: {e}", root.display()),
                )
                .hint("name a directory with --home or CLDPD_HOME")
            })
    }

    /// The home that is named by `named` (a flag or [`HOME_VARIABLE`]), else
    /// `.cldpd` in the user's home directory. What is empty is not set.
    ///
    /// # Errors
    /// `usage` when neither is known.
    pub fn find(named: Option<&Path>, user_home: Option<OsString>) -> Result<Self> {
        if let Some(root) = named.filter(|root| !root.as_os_str().is_empty()) {
            return Self::new(root);
        }
        match user_home.filter(|home| !home.is_empty()) {
            Some(home) => Self::new(Path::new(&home).join(".cldpd")),
            None => Err(
                Error::new(ErrorCode::Usage, "there is no home: HOME is not set")
                    .hint("set HOME, or name a directory with --home or CLDPD_HOME"),
            ),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `pods/`.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// `run/`: the socket and the lock.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The daemon's socket, unless [`Home::socket_record`] names another.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("cldpd.sock")
    }

    /// The file that holds the path of the socket where it had to be a shorter one.
    #[must_use]
    pub fn socket_record(&self) -> PathBuf {
        self.run().join("socket")
    }

    /// The lock that the daemon holds for life.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// The daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log").join("daemon.log")
    }

    /// Makes the home and its `log/` where they are not there, for their owner only.
    ///
    /// # Errors
    /// `daemon_unavailable`, naming the directory.
    pub fn make(&self) -> Result<()> {
        for dir in [self.root.clone(), self.root.join("log")] {
            private_dir(&dir).map_err(|e| {
                Error::new(
                    ErrorCode::DaemonUnavailable,
                    format!("cannot make the directory {}: {e}", dir.display()),
                )
                .hint("make it writable, or choose another home with --home or CLDPD_HOME")
            })?;
        }
        Ok(())
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(_) if dir.is_dir() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_home_goes_before_the_users() -> Result<()> {
        let home = Home::find(Some(Path::new("/srv/cldpd")), Some("/home/u".into()))?;
        assert_eq!(home.socket(), Path::new("/srv/cldpd/run/cldpd.sock"));
        let home = Home::find(None, Some("/home/u".into()))?;
        assert_eq!(home.log(), Path::new("/home/u/.cldpd/log/daemon.log"));
        Ok(())
    }

    #[test]
    fn no_home_is_wrong_usage() {
        for result in [
            Home::find(None, None),
            Home::find(None, Some("".into())),
            Home::new(""),
        ] {
            assert_eq!(result.map_err(|e| e.code), Err(ErrorCode::Usage));
        }
    }

    #[test]
    fn a_relative_home_is_made_absolute() -> Result<()> {
        assert!(Home::new("somewhere")?.root().is_absolute());
        Ok(())
    }
}
