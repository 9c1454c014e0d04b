//! The writer.

use super::{Append, AppendError, Claim, Committed, Options, Reader, StoreError};
use crate::model::{HomeId, Ulid};
use std::path::{Path, PathBuf};

/// A journal that was opened, and what there is to say about it.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// What was mended or is amiss, one sentence each.
    pub warnings: Vec<String>,
}

/// The journal's writer. It lives on one thread.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    home: HomeId,
}

impl Journal {
    fn closed<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::Closed {
            path: self.dir.clone(),
        })
    }

    /// Opens the journal in `dir`, or makes it.
    ///
    /// # Errors
    /// When it is in use, damaged, newer or not ours. It is never begun anew.
    pub fn open(dir: &Path, options: Options) -> Result<Opened, StoreError> {
        let _ = options;
        Err(StoreError::Closed {
            path: dir.to_owned(),
        })
    }

    /// Drops the database after an error and opens it again. All claims are void.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn reopen(&mut self) -> Result<Vec<String>, StoreError> {
        self.closed()
    }

    /// The home that this journal belongs to, made with it.
    #[must_use]
    pub const fn home(&self) -> HomeId {
        self.home
    }

    /// A reader.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {}
    }

    /// Makes the caller the only one who may append to `session`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn claim(&mut self, session: Ulid) -> Result<Claim, StoreError> {
        let _ = session;
        self.closed()
    }

    /// Records what can be recorded of `appends`, and returns when it is on disk.
    ///
    /// # Errors
    /// Nothing of it may be called durable then; [`Journal::reopen`] is next.
    pub fn commit(
        &mut self,
        appends: Vec<Append>,
    ) -> Result<Vec<Result<Committed, AppendError>>, StoreError> {
        let _ = appends;
        self.closed()
    }

    /// Removes everything that is recorded of `session`.
    ///
    /// # Errors
    /// When it cannot be removed; what was begun is finished at the next opening.
    pub fn delete_session(&mut self, session: Ulid) -> Result<(), StoreError> {
        let _ = session;
        self.closed()
    }
}
