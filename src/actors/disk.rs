//! Room on the disks that sessions need: the home's, the journal's, and the one
//! that has the spools. They are looked at when somebody asks how things stand
//! or wants something dispatched, and never in between.

use super::context::Shared;
use super::handle::{Handle, blocking};
use crate::model::{Error, ErrorCode, Result};
use crate::runtime::shim::spool::left_free;
use crate::store;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// How it stands with the disk of some directory.
pub(super) struct Disk {
    pub(super) path: PathBuf,
    /// Free bytes.
    pub(super) free: u64,
    /// What is to be left free of them.
    pub(super) least: u64,
}

impl Disk {
    /// How it stands with the disk of `path`, of which so much is to be left free.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn of(path: &Path, least: Option<u64>) -> Result<Self> {
        let (free, all) = store::free(path).map_err(Error::from)?;
        // On a small disk 256 MiB would refuse everything; with less than agents leave
        // free they would wait from the beginning.
        let by_default = (256 << 20).min(all / 20).max(left_free(all));
        Ok(Self {
            path: path.to_owned(),
            free,
            least: least.unwrap_or(by_default),
        })
    }
}

impl Shared {
    /// The journal's directory.
    pub(super) fn journal_dir(&self) -> PathBuf {
        self.settings.home.join("journal")
    }

    /// How it stands with the disk of `path`.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn disk(&self, path: &Path) -> Result<Disk> {
        Disk::of(path, self.settings.min_free)
    }

    /// How it stands with all disks that sessions need. They are mostly one.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn disks(&self) -> Result<[Disk; 3]> {
        let home = self.disk(&self.settings.home)?;
        let journal = self.disk(&self.journal_dir())?;
        Ok([home, journal, self.disk(&self.sessions)?])
    }

    /// Why nothing of live sessions can be recorded now. Either the journal
    /// cannot be written; or shims cannot write what is to go there, which
    /// nobody hears of: they wait, and so do their agents.
    pub(super) fn degraded(&self) -> Option<String> {
        let of_journal = self.upkeep.degraded();
        of_journal.or_else(|| self.not_writable()).or_else(|| {
            let (free, all) = store::free(&self.sessions).ok()?;
            let needed = left_free(all);
            (free < needed).then(|| {
                format!(
                    "the disk of {} has {} MiB free: agents wait with what they say until there \
                     are {} MiB",
                    self.sessions.display(),
                    free >> 20,
                    (needed >> 20) + 1
                )
            })
        })
    }

    /// Why nothing can be written where the spools are: a file system in which the
    /// kernel found an error is read-only, and need not say so by itself.
    fn not_writable(&self) -> Option<String> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let touched = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let touched = utimensat(CWD, &self.sessions, &touched, AtFlags::empty());
        let error = touched
            .err()
            .filter(|error| matches!(*error, Errno::ROFS | Errno::IO))?;
        Some(format!(
            "{} cannot be written ({}): agents wait with what they say",
            self.sessions.display(),
            std::io::Error::from(error)
        ))
    }
}

impl Handle {
    /// What keeps sessions from going on, whatever they do themselves.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.shared.degraded().into_iter().collect()
    }

    /// Whether the disks have the room that is to be left for what runs.
    ///
    /// # Errors
    /// `try_later` when one has not.
    pub(super) async fn check_disk(&self) -> Result<()> {
        let shared = self.shared.clone();
        blocking(move || {
            if let Some(why) = shared.not_writable() {
                return Err(Error::new(ErrorCode::TryLater, why)
                    .hint("look at its file system; nothing that was recorded is lost"));
            }
            let disks = shared.disks()?;
            let Some(disk) = disks.into_iter().find(|disk| disk.free < disk.least) else {
                return Ok(());
            };
            let mib = |bytes: u64| bytes >> 20;
            let message = format!(
                "the disk of {} has {} MiB free; below {} MiB nothing new is dispatched",
                disk.path.display(),
                mib(disk.free),
                mib(disk.least)
            );
            Err(Error::new(ErrorCode::TryLater, message).hint(
                "make room, or set journal.min_free in config.toml; what runs goes on meanwhile",
            ))
        })
        .await
    }
}
