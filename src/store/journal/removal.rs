//! Removing sessions.
//!
//! A row that says so is what makes a session gone: from then on nobody sees
//! anything of it. What it had may be a great deal, so that goes in steps, with
//! other work in between.

use super::{Journal, sight};
use crate::model::Ulid;
use crate::store::error::StoreError;
use crate::store::reserve::TO_REMOVE;
use crate::store::rows::CommitRow;
use crate::store::shared::call;
use crate::store::{keys, open, parts};
use sled::{Batch, Db};

impl Journal {
    /// Removes everything that is recorded of `session`, and its claim.
    ///
    /// # Errors
    /// As [`Journal::begin_removal`].
    pub fn delete_session(&mut self, session: Ulid) -> Result<(), StoreError> {
        self.begin_removal(session)?;
        self.finish_removal(session)
    }

    /// Removes `session` and its claim: nobody sees anything of it any more.
    /// What it had takes room until [`Journal::go_on_removing`] is through.
    ///
    /// # Errors
    /// When it cannot be removed; what was begun is finished at the next
    /// opening.
    pub fn begin_removal(&mut self, session: Ulid) -> Result<(), StoreError> {
        let db = self.db()?;
        self.reserve(TO_REMOVE)?;
        self.claims.remove(&session);
        if let Some(touched) = &mut self.touched {
            touched.removed(session);
        }
        let done = self.try_remove(&db, session);
        self.note(&done);
        if done.is_ok() {
            self.removing.push_back(session);
        }
        done
    }

    /// Removes some of what removed sessions had. Returns whether there is more.
    ///
    /// # Errors
    /// As [`Journal::begin_removal`].
    pub fn go_on_removing(&mut self) -> Result<bool, StoreError> {
        let Some(session) = self.removing.front().copied() else {
            return Ok(false);
        };
        let db = self.db()?;
        self.reserve(TO_REMOVE)?;
        if let Some(touched) = &mut self.touched {
            // A copy of it may have been made after it was removed.
            touched.removed(session);
        }
        let done = self.removal_step(&db, session);
        self.note(&done);
        if done? {
            self.removing.pop_front();
        }
        Ok(!self.removing.is_empty())
    }

    /// Removes what is left of `session`, if it is being removed.
    pub(super) fn finish_removal(&mut self, session: Ulid) -> Result<(), StoreError> {
        if self.removing.contains(&session) {
            self.removing.retain(|other| *other != session);
            self.removing.push_front(session);
            while self.removing.front() == Some(&session) {
                self.go_on_removing()?;
            }
        }
        Ok(())
    }

    fn removal_step(&mut self, db: &Db, session: Ulid) -> Result<bool, StoreError> {
        let mut space = self.open.space;
        fail_point!("store.removing");
        let (batch, is_last) = open::deletion_step(db, &self.open.path, session, &mut space)?;
        let mut state = self.shared.write();
        call(&self.open.path, || db.apply_batch(batch))?;
        state.space = space;
        self.open.space = space;
        Ok(is_last)
    }

    /// A removal is a commit without events: should it be lost to damage later,
    /// the number that is kept outside tells.
    fn try_remove(&mut self, db: &Db, session: Ulid) -> Result<(), StoreError> {
        let path = &self.open.path;
        let mut batch = Batch::default();
        let mut space = self.open.space;
        for (key, value) in sight(db, path).rows(&keys::session(session))? {
            space.row(&key, &value, false);
            batch.remove(key);
        }
        batch.insert(keys::deleting(session), &[]);
        let number = self.open.last_commit + 1;
        let row = CommitRow {
            time: self.open.last_time,
            step: number - self.open.last_row,
            spans: Vec::new(),
        };
        for (key, piece) in parts::split(&keys::commit(number), &row.encode()) {
            space.row(&key, piece, true);
            batch.insert(key, piece);
        }
        batch.insert(keys::meta("space"), space.encode());
        {
            let mut state = self.shared.write();
            call(path, || db.apply_batch(batch))?;
            state.space = space;
        }
        self.open.space = space;
        // From here on it is gone, whatever happens.
        fail_point!("store.hidden");
        open::barrier(db, &self.open.file, path)?;
        self.committed(number);
        Ok(())
    }
}
