//! Where things lie in a session's directory, on the host and in its container.
//!
//! ```text
//! $CLDPD_HOME/sessions/<ULID>/
//!   bin/shim             mounted read-only at /.cldpd/bin
//!   env.r<run>           values that came with a run, 0600, until the shim has them
//!   r<run>.<attempt>/    mounted at /.cldpd/run
//!     ctl.sock  spool.NNNN  born  fail
//! ```

use crate::model::Ulid;
use std::path::{Path, PathBuf};

/// Where the shim's directory is mounted in a container.
pub const CONTAINER_BIN: &str = "/.cldpd/bin";
/// Where the attempt's directory is mounted in a container.
pub const CONTAINER_RUN: &str = "/.cldpd/run";
/// Where a container has the files of its secrets: in memory, written by the shim.
pub const CONTAINER_SECRETS: &str = "/run/secrets";

/// A session's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDir {
    root: PathBuf,
    session: Ulid,
}

impl SessionDir {
    /// The directory of `session` beneath `sessions`, the directory of all of them.
    #[must_use]
    pub fn new(sessions: &Path, session: Ulid) -> Self {
        Self {
            root: sessions.join(session.to_string()),
            session,
        }
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> Ulid {
        self.session
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What is mounted at [`CONTAINER_BIN`].
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The shim.
    #[must_use]
    pub fn shim(&self) -> PathBuf {
        self.root.join("bin").join("shim")
    }

    /// The values that came with a run.
    #[must_use]
    pub fn env(&self, run: u32) -> PathBuf {
        self.root.join(format!("env.r{run}"))
    }

    /// The directory of one attempt at a run.
    #[must_use]
    pub fn run(&self, run: u32, attempt: u32) -> RunDir {
        RunDir {
            session: self.clone(),
            run,
            attempt,
        }
    }
}

/// The directory of one attempt at a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    /// The session's.
    pub session: SessionDir,
    /// The run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
}

impl RunDir {
    /// What is mounted at [`CONTAINER_RUN`].
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.session
            .root
            .join(format!("r{}.{}", self.run, self.attempt))
    }

    /// The shim's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join("ctl.sock")
    }
}
