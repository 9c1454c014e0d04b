//! Compaction: what counts is copied to the next database, which then takes
//! the place of the current one.
//!
//! Deletes never make sled's directory smaller, and so nothing else does. Most
//! is copied on a thread of its own while the journal works on
//! ([`Compaction::copy`]), in rounds: each takes what changed during the one
//! before. The last round is the writer's ([`Journal::finish_compaction`]), and
//! short. Until `CURRENT` is renamed the old database counts, whole, and from
//! then on the new one; what the other leaves goes at the next opening at the
//! latest.

use super::copy::Copy;
use super::error::StoreError;
use super::journal::Journal;
use super::{files, space};
use crate::model::Ulid;
use sled::Db;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Room that has to be left on the disk beside the copy.
const MARGIN: u64 = 32 * 1024 * 1024;
/// The last round takes at most so many bytes of events, if it can be had.
const LAST_ROUND: u64 = if cfg!(test) { 64 } else { 4 * 1024 } * 1024;
/// So many rounds there are at most before the last.
const ROUNDS: u32 = 8;

/// What the writer has changed since the last round began.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Of the compaction.
    id: u64,
    /// Whether it was removed.
    sessions: BTreeMap<Ulid, bool>,
    /// Bytes of events.
    raw: u64,
}

impl Touched {
    /// Something of it was written.
    pub(super) fn wrote(&mut self, session: Ulid, raw: u64) {
        self.sessions.entry(session).or_default();
        self.raw += raw;
    }

    /// It was removed.
    pub(super) fn removed(&mut self, session: Ulid) {
        self.sessions.insert(session, true);
    }
}

/// What one round copies.
struct Round {
    /// None for all of them.
    sessions: Option<BTreeMap<Ulid, bool>>,
    /// The last commit there was a row of.
    until: u64,
}

/// A compaction under way. Dropped, it is given up and leaves nothing behind.
pub struct Compaction {
    id: u64,
    name: String,
    path: PathBuf,
    copy: Option<Copy>,
    round: Option<Round>,
    rounds: u32,
    before: u64,
    /// It counts, or may: it is not removed.
    kept: bool,
    #[cfg(test)]
    pub(super) at_step: super::tests::AtStep,
}

/// A compaction that was made.
#[derive(Debug)]
pub struct Compacted {
    /// Bytes that the database took on disk.
    pub before: u64,
    /// Bytes that it takes now.
    pub after: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// How many of them have events that cannot be read; they are as they were.
    pub damaged: u64,
    /// What it was in before: to be [discarded](Old::discard), on any thread.
    pub old: Old,
}

/// A database that does not count any more.
pub struct Old {
    pub(super) db: Db,
    pub(super) path: PathBuf,
}

impl Old {
    /// Removes it.
    ///
    /// # Errors
    /// When it cannot be removed; the next opening tries again.
    pub fn discard(self) -> Result<(), StoreError> {
        drop(self.db);
        discard(&self.path)
    }
}

fn discard(path: &Path) -> Result<(), StoreError> {
    files::wait_released(path)?;
    fs::remove_dir_all(path).map_err(|e| StoreError::io("remove", path, e))?;
    path.parent().map_or(Ok(()), files::sync_dir)
}

impl Compaction {
    /// Copies what the last round left, on whatever thread, until `given_up`
    /// says that nobody wants it any more.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] when it was given up; when something cannot be
    /// read or written. It has to be dropped then.
    pub fn copy(&mut self, given_up: &dyn Fn() -> bool) -> Result<(), StoreError> {
        self.step("begun")?;
        let Some((round, mut copy)) = self.round.take().zip(self.copy.take()) else {
            return Ok(());
        };
        // What failed is not there any more to be finished.
        self.work(&mut copy, &round, given_up)?;
        self.copy = Some(copy);
        Ok(())
    }

    fn work(
        &mut self,
        copy: &mut Copy,
        round: &Round,
        given_up: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        self.rounds += 1;
        match &round.sessions {
            None => {
                copy.all_sessions(given_up)?;
                self.step("sessions")?;
                copy.commits(round.until)?;
                self.step("commits")?;
                copy.reopen()?;
                self.step("reopened")?;
                copy.check_all(given_up)?;
                self.step("checked")
            }
            Some(sessions) => {
                for (session, removed) in sessions {
                    copy.session(*session, *removed, given_up)?;
                }
                copy.commits(round.until)?;
                // So that the barrier of the last round has little to do.
                copy.barrier()?;
                self.step("round")
            }
        }
    }

    /// How many sessions have been copied.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.copy.as_ref().map_or(0, |copy| copy.count() as u64)
    }

    /// Bytes that the database took on disk when it began.
    #[must_use]
    pub const fn before(&self) -> u64 {
        self.before
    }

    #[cfg(test)]
    fn step(&mut self, name: &'static str) -> Result<(), StoreError> {
        self.at_step.call(name)
    }

    #[cfg(not(test))]
    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        clippy::missing_const_for_fn
    )]
    fn step(&mut self, name: &'static str) -> Result<(), StoreError> {
        fail_point!("compact.step", name);
        let _ = name;
        Ok(())
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        drop(self.copy.take());
        if !self.kept
            && let Err(error) = discard(&self.path)
        {
            tracing::warn!(%error, "a copy of the journal is left behind until it is opened again");
        }
    }
}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compaction")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Old {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Old").field(&self.path).finish()
    }
}

impl Journal {
    /// Begins a compaction, to be carried on by [`Compaction::copy`].
    ///
    /// # Errors
    /// [`StoreError::Compacting`] when one is under way;
    /// [`StoreError::NoRoom`]. Nothing was begun then.
    pub fn begin_compaction(&mut self) -> Result<Compaction, StoreError> {
        if self.touched().is_some() {
            return Err(StoreError::Compacting);
        }
        let (dir, until) = self.place()?;
        for left in self.remove_others() {
            tracing::info!("{left}");
        }
        let space = self.space();
        space::require(&dir, space.needed() + space.needed() / 2 + MARGIN)?;
        let before = space::allocated(self.database())?;
        let name = files::next_database(&dir)?;
        let path = dir.join(&name);
        let mut compaction = Compaction {
            id: self.next_id(),
            name,
            copy: None,
            round: Some(Round {
                sessions: None,
                until,
            }),
            rounds: 0,
            before,
            kept: false,
            path: path.clone(),
            #[cfg(test)]
            at_step: super::tests::AtStep::default(),
        };
        compaction.copy = Some(Copy::new(self.reader(), path, self.options().clone())?);
        *self.touched() = Some(Touched {
            id: compaction.id,
            ..Touched::default()
        });
        Ok(compaction)
    }

    /// Takes the last round and puts the copy in the journal's place; or gives
    /// back none, when there is something for [`Compaction::copy`] to do first:
    /// it was not called, or much has changed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`]; when something cannot be read or written. The
    /// compaction has to be given up then.
    pub fn finish_compaction(
        &mut self,
        compaction: &mut Compaction,
    ) -> Result<Option<Compacted>, StoreError> {
        let (dir, until) = self.place()?;
        let touched = self.touched();
        let Some(touched) = touched.take_if(|touched| touched.id == compaction.id) else {
            return Err(StoreError::Overtaken);
        };
        if compaction.round.is_some() {
            *self.touched() = Some(touched);
            return Ok(None);
        }
        let round = Round {
            sessions: Some(touched.sessions),
            until,
        };
        if touched.raw > LAST_ROUND && compaction.rounds < ROUNDS {
            compaction.round = Some(round);
            *self.touched() = Some(Touched {
                id: compaction.id,
                ..Touched::default()
            });
            return Ok(None);
        }
        let Some(mut copy) = compaction.copy.take() else {
            return Err(StoreError::Overtaken);
        };
        compaction.work(&mut copy, &round, &|| false)?;
        copy.rest()?;
        compaction.step("rest")?;
        copy.barrier()?;
        // Its names and settings too, which sled syncs not at all.
        files::sync_all(copy.path())?;
        files::sync_dir(&dir)?;
        compaction.step("flushed")?;
        copy.check_commits(until)?;
        let (sessions, damaged) = (copy.count() as u64, copy.damaged() as u64);
        let after = space::allocated(copy.path())?;
        let parts = copy.into_parts()?;
        compaction.step("ready")?;
        // From here on both are whole, and the name in CURRENT decides.
        compaction.kept = true;
        let switched = files::set_current(&dir, &compaction.name);
        let switched = switched.and_then(|()| compaction.step("current"));
        self.note(&switched);
        switched?;
        fail_point!("compact.switched");
        let old = self.exchange(parts)?;
        Ok(Some(Compacted {
            before: compaction.before,
            after,
            sessions,
            damaged,
            old,
        }))
    }

    /// Gives up on the compaction under way.
    pub fn abandon_compaction(&mut self) {
        *self.touched() = None;
    }
}
