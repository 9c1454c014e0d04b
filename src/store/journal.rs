//! The writer: claims, commits, removals.
//!
//! A commit is one batch over all sessions, then one barrier; only after that
//! do readers see it and does [`Journal::commit`] return.

mod intake;
mod removal;

use super::block::Encoder;
use super::commit::Plan;
use super::compaction::{Old, Touched};
use super::copy::Made;
use super::error::{AppendError, StoreError};
use super::open::{self, Open};
use super::reserve::{self, Reserve, TO_MANAGE, TO_RECORD, to_write};
use super::rows::CommitRow;
use super::seal::{self, Small, Tail};
use super::shared::{Hidden, Rows, Shared, Sight, State, call};
use super::space::{self, Space};
use super::{Append, Claim, Committed, Options, Reader, files, keys, parts, rows};
use crate::model::{HomeId, Timestamp, Ulid};
use sled::{Batch, Db};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often requests that were carried out long ago are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);

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
    shared: Arc<Shared>,
    dir: PathBuf,
    options: Options,
    open: Place,
    claims: HashMap<Ulid, Claimed>,
    claims_made: u32,
    encoder: Encoder,
    /// For blocks that are merged.
    sealer: Encoder,
    /// What is changed while the journal is compacted.
    touched: Option<Touched>,
    /// Sessions that are gone, but not yet all of what they had.
    removing: VecDeque<Ulid>,
    compactions: u64,
    /// Something failed: nothing is known until it is reopened.
    failed: bool,
    /// What failed was for want of room on the disk.
    full: bool,
    /// Room that is the database's own.
    reserve: Reserve,
    forgot: Timestamp,
    #[cfg(test)]
    pub(super) at_barrier: super::tests::AtBarrier,
    #[cfg(test)]
    at_write: super::tests::AtBarrier,
    lock: File,
}

/// What an open database comes with, but for the database itself.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: File,
    mark: files::Mark,
    home: HomeId,
    boots: u32,
    last_commit: u64,
    last_row: u64,
    last_time: Timestamp,
    space: Space,
}

/// A session that somebody may append to.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) generation: u64,
    pub(super) next_seq: u64,
    /// Its last blocks, as far as they may be merged yet.
    pub(super) tail: Tail,
}

fn split(open: Open) -> (Place, State) {
    let state = State {
        db: Some(open.db),
        path: open.path.clone(),
        watermark: open.last_commit,
        hidden: Hidden::default(),
        space: open.space,
    };
    let place = Place {
        path: open.path,
        file: open.file,
        mark: open.mark,
        home: open.home,
        boots: open.boots,
        last_commit: open.last_commit,
        last_row: open.last_row,
        last_time: open.last_time,
        space: open.space,
    };
    (place, state)
}

impl Journal {
    /// Opens the journal in `dir`, or makes it.
    ///
    /// # Errors
    /// When it is in use, damaged, newer or not ours. It is never begun anew.
    pub fn open(dir: &Path, options: Options) -> Result<Opened, StoreError> {
        let dir = std::path::absolute(dir).map_err(|e| StoreError::io("find", dir, e))?;
        files::make_dir(&dir)?;
        let lock = files::lock(&dir)?;
        let mut warnings = Vec::new();
        let mut opened = open::open(&dir, &options, &mut warnings);
        if opened.as_ref().is_err_and(StoreError::is_full)
            && let Some(current) = files::current(&dir)?
        {
            let path = dir.join(current);
            files::wait_released(&path)?;
            reserve::give_up(&path)?;
            opened = open::open(&dir, &options, &mut warnings);
        }
        let (place, state) = split(opened?);
        // Only when nothing is amiss: what is left could be of use then.
        if place.last_row == place.last_commit
            && let Some(current) = files::current(&dir)?
        {
            for name in files::databases(&dir)?.iter().filter(|of| **of != current) {
                // Whoever cannot be waited for is left where it is.
                let _ = files::wait_released(&dir.join(name));
            }
            warnings.extend(files::remove_others(&dir, &current));
        }
        files::remove_ballast(&dir);
        let mut journal = Self {
            shared: Arc::new(Shared::new(state)),
            dir,
            forgot: options.now,
            options,
            open: place,
            claims: HashMap::new(),
            claims_made: 0,
            encoder: Encoder::new(),
            sealer: Encoder::sealing(),
            touched: None,
            removing: VecDeque::new(),
            compactions: 0,
            failed: false,
            full: false,
            reserve: Reserve::default(),
            #[cfg(test)]
            at_barrier: super::tests::AtBarrier::default(),
            #[cfg(test)]
            at_write: super::tests::AtBarrier::default(),
            lock,
        };
        let reserved = journal.reserve(TO_RECORD);
        warnings.extend(
            reserved
                .err()
                .map(|error| format!("the journal is open, but nothing can be recorded: {error}")),
        );
        Ok(Opened { journal, warnings })
    }

    /// Drops the database after an error and opens it again. All claims are
    /// void: who wants to append claims again, and finds what was recorded.
    ///
    /// Readers wait meanwhile, and stay good. If it fails, it may be tried
    /// again; room for it is looked for before anything is dropped.
    ///
    /// # Errors
    /// As [`Journal::open`]; [`StoreError::NoRoom`].
    pub fn reopen(&mut self) -> Result<Vec<String>, StoreError> {
        self.failed = true;
        self.claims.clear();
        self.touched = None;
        // What is left of them goes when it is opened.
        self.removing.clear();
        let mut warnings = Vec::new();
        if self.full {
            // Opening writes too, other files among them, and so does the commit
            // after it. Meanwhile readers have what they can get of what was there.
            self.reserve(TO_RECORD)?;
            space::require(&self.dir, TO_MANAGE)?;
        }
        let mut state = self.shared.write();
        state.db = None;
        let opened = open::open(&self.dir, &self.options, &mut warnings);
        self.full |= opened.as_ref().is_err_and(StoreError::is_full);
        let (place, new) = split(opened?);
        self.reserve = Reserve::default();
        self.open = place;
        *state = new;
        drop(state);
        self.claims_made = 0;
        self.failed = false;
        self.full = false;
        warnings.extend(self.remove_others());
        Ok(warnings)
    }

    /// Sees to it that so much can be written, before anything is.
    fn reserve(&mut self, least: u64) -> Result<(), StoreError> {
        let Place { file, path, .. } = &self.open;
        self.reserve.ensure(file, path, least)
    }

    /// Removes what compactions left that broke off, as far as that can be done
    /// without waiting. Says what was done.
    pub(super) fn remove_others(&self) -> Vec<String> {
        let current = self.open.path.file_name().and_then(|name| name.to_str());
        match current {
            Some(current) if self.open.last_row == self.open.last_commit => {
                files::remove_others(&self.dir, current)
            }
            _ => Vec::new(),
        }
    }

    /// The home that this journal belongs to, made with it.
    #[must_use]
    pub const fn home(&self) -> HomeId {
        self.open.home
    }

    /// A reader.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    fn db(&self) -> Result<Db, StoreError> {
        let db = self.shared.read().db.clone().filter(|_| !self.failed);
        db.ok_or_else(|| StoreError::Closed {
            path: self.dir.clone(),
        })
    }

    /// Makes the caller the only one who may append to `session`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn claim(&mut self, session: Ulid) -> Result<Claim, StoreError> {
        let db = self.db()?;
        self.finish_removal(session)?;
        let sight = sight(&db, &self.open.path);
        let next_seq = match sight.last_block(session)? {
            Some(last) => last.last_seq() + 1,
            None => 1,
        };
        let cursors = rows::cursors(sight.rows(&keys::cursors(session))?)?;
        let tail = Tail::load(&sight, session, next_seq)?;
        self.claims_made = self.claims_made.wrapping_add(1);
        let generation = u64::from(self.open.boots) << 32 | u64::from(self.claims_made);
        self.claims.insert(
            session,
            Claimed {
                generation,
                next_seq,
                tail,
            },
        );
        Ok(Claim {
            generation,
            next_seq,
            cursors,
        })
    }

    /// Records what can be recorded of `appends`, and returns when it is on
    /// disk: for each append, in order, where it stands or why it was refused.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`] when it was not begun; else nothing of it may be
    /// called durable, and [`Journal::reopen`] is next.
    pub fn commit(
        &mut self,
        appends: Vec<Append>,
    ) -> Result<Vec<Result<Committed, AppendError>>, StoreError> {
        let db = self.db()?;
        let says = appends.iter().any(Append::has_output);
        let least = if says { TO_RECORD } else { TO_MANAGE };
        let bytes: usize = appends.iter().map(Append::weight).sum();
        self.reserve(least.max(to_write(bytes as u64)))?;
        let done = self.try_commit(&db, appends);
        self.note(&done);
        done
    }

    /// Voids the claim of `session`: whoever wants to append to it claims it again.
    pub fn release(&mut self, session: Ulid) {
        self.claims.remove(&session);
    }

    /// Looks whether the disk has the room that a commit with output needs. One
    /// without gets by with less.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`].
    pub fn check_room(&mut self) -> Result<(), StoreError> {
        self.reserve(TO_RECORD)
    }

    /// Whether it has to be reopened before anything else.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    /// The next commit fails: once it is `written`, or before.
    #[cfg(test)]
    pub(crate) fn fail_once(&mut self, written: bool) {
        let hook = super::tests::AtBarrier::once(&self.dir);
        if written {
            self.at_barrier = hook;
        } else {
            self.at_write = hook;
        }
    }

    /// Marks the journal as failed, if that is so.
    pub(super) fn note<T>(&mut self, done: &Result<T, StoreError>) {
        if let Err(error) = done {
            self.failed = true;
            self.full = error.is_full();
        }
    }

    fn try_commit(
        &mut self,
        db: &Db,
        appends: Vec<Append>,
    ) -> Result<Vec<Result<Committed, AppendError>>, StoreError> {
        let sight = sight(db, &self.open.path);
        let mut plan = Plan::new(self.open.last_time);
        let mut results = Vec::with_capacity(appends.len());
        for append in appends {
            results.push(plan.take(append, &self.claims, &sight)?);
        }
        let number = if plan.is_empty() {
            self.open.last_commit
        } else {
            self.write(db, plan)?
        };
        let committed = |last_seq| Committed { number, last_seq };
        Ok(results.into_iter().map(|r| r.map(committed)).collect())
    }

    fn write(&mut self, db: &Db, plan: Plan) -> Result<u64, StoreError> {
        let sight = sight(db, &self.open.path);
        let number = self.open.last_commit + 1;
        let mut batch = Batch::default();
        let mut space = self.open.space;
        if let Some(now) = plan.latest_request()
            && now.since(self.forgot) > FORGET_EVERY
        {
            space.grow(-open::forget_requests(&sight, now, &mut batch)?);
            self.forgot = now;
        }
        let mut hidden = Hidden::default();
        let written = plan.write(&sight, &mut self.encoder, &mut batch, &mut hidden)?;
        let row = CommitRow {
            time: written.time,
            step: number - self.open.last_row,
            spans: written.spans,
        };
        for (key, piece) in parts::split(&keys::commit(number), &row.encode()) {
            space.row(&key, piece, true);
            batch.insert(key, piece);
        }
        space.grow(written.grown);
        space.sessions += written.made;
        for block in written.sessions.iter().flat_map(|(_, of)| &of.blocks) {
            space.add_block(&block.header);
        }
        batch.insert(keys::meta("space"), space.encode());
        for (session, appended) in &written.sessions {
            if let Some(claimed) = self.claims.get(session)
                && appended.next_seq > claimed.next_seq
            {
                hidden.last_seqs.insert(*session, claimed.next_seq - 1);
            }
        }
        #[cfg(test)]
        self.at_write.call()?;
        {
            let mut state = self.shared.write();
            state.hidden = hidden;
            call(&self.open.path, || db.apply_batch(batch))?;
        }
        fail_point!("store.written");
        #[cfg(test)]
        self.at_barrier.call()?;
        open::barrier(db, &self.open.file, &self.open.path)?;
        fail_point!("store.durable");
        {
            let mut state = self.shared.write();
            state.hidden = Hidden::default();
            state.watermark = number;
            state.space = space;
        }
        self.open.space = space;
        self.open.last_time = row.time;
        self.committed(number);
        for (session, appended) in written.sessions {
            if let Some(touched) = &mut self.touched {
                let raw = appended.blocks.iter().map(|block| block.header.raw_len());
                touched.wrote(session, raw.sum::<usize>() as u64);
            }
            if let Some(claimed) = self.claims.get_mut(&session) {
                claimed.next_seq = appended.next_seq;
                claimed.tail.extend(&appended.blocks);
                self.merge(db, session, appended.ended);
            }
        }
        Ok(number)
    }

    /// Commit `number` is on disk.
    fn committed(&mut self, number: u64) {
        self.open.last_commit = number;
        self.open.last_row = number;
        self.shared.write().watermark = number;
        if let Err(error) = self.open.mark.write(number) {
            // The commit is on disk; only a later loss of it might go unnoticed.
            tracing::warn!(%error, "the journal's mark was not written");
        }
    }

    /// Merges the small blocks that `session` has many of, or all of them once
    /// it has ended. What fails here is tried again some time: nothing depends
    /// on it, and an error of the database itself shows in the next commit.
    fn merge(&mut self, db: &Db, session: Ulid, ended: bool) {
        let Some(claimed) = self.claims.get_mut(&session) else {
            return;
        };
        let sight = sight(db, &self.open.path);
        while let Some(range) = claimed.tail.due(ended) {
            let old = &claimed.tail[range.clone()];
            let bytes: u64 = old.iter().map(Small::size).sum();
            let Place { file, path, .. } = &self.open;
            let room = self
                .reserve
                .ensure(file, path, TO_MANAGE.max(to_write(bytes)));
            if room.is_err() {
                // They are as good as they are.
                return;
            }
            let mut space = self.open.space;
            let merged = seal::merge(&sight, &mut self.sealer, session, old, &mut space);
            let merged = merged.and_then(|merged| {
                if let Some(mut batch) = merged.batch {
                    batch.insert(keys::meta("space"), space.encode());
                    // A reader takes several steps to read a block, and may not
                    // see it half exchanged.
                    let mut state = self.shared.write();
                    fail_point!("store.merging");
                    call(&self.open.path, || db.apply_batch(batch))?;
                    fail_point!("store.merged");
                    state.space = space;
                    self.open.space = space;
                }
                Ok(merged.blocks)
            });
            match merged {
                Ok(blocks) if !ended => claimed.tail.replace(range, blocks),
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%session, %error, "small blocks were not merged");
                    claimed.tail.forget();
                    return;
                }
            }
        }
        if ended {
            claimed.tail.forget();
        }
    }

    /// What the rows come to.
    pub(super) const fn space(&self) -> Space {
        self.open.space
    }

    /// How it was opened.
    pub(super) const fn options(&self) -> &Options {
        &self.options
    }

    /// The directory, and the last commit there is a row of.
    pub(super) fn place(&self) -> Result<(PathBuf, u64), StoreError> {
        self.db()?;
        Ok((self.dir.clone(), self.open.last_row))
    }

    /// The directory of the current database.
    pub(super) fn database(&self) -> &Path {
        &self.open.path
    }

    /// What was changed while the journal is compacted; none while it is not.
    pub(super) const fn touched(&mut self) -> &mut Option<Touched> {
        &mut self.touched
    }

    /// The number of the next compaction.
    pub(super) const fn next_id(&mut self) -> u64 {
        self.compactions += 1;
        self.compactions
    }

    /// Puts a copy of the database in its place. Readers see no difference.
    pub(super) fn exchange(&mut self, made: Made) -> Result<Old, StoreError> {
        let mut state = self.shared.write();
        let path = std::mem::replace(&mut state.path, made.path.clone());
        let db = state.db.replace(made.db);
        state.space = made.space;
        drop(state);
        self.reserve = Reserve::default();
        self.open.file = made.file;
        self.open.path = made.path;
        self.open.space = made.space;
        for claimed in self.claims.values_mut() {
            // Their blocks are others now, and large.
            claimed.tail.forget();
        }
        db.map(|db| Old { db, path }).ok_or(StoreError::Overtaken)
    }
}

fn sight<'a>(db: &'a Db, path: &'a Path) -> Sight<'a> {
    Sight {
        db: Some(Rows::Db(db)),
        path,
        hidden: None,
    }
}

impl Drop for Journal {
    /// Closes the database. Readers that are left are told so.
    fn drop(&mut self) {
        self.shared.write().db = None;
        if let Err(error) = self.open.mark.sync() {
            tracing::warn!(%error, "the journal's mark was not synced");
        }
        // Closing the file would do, but for a process that is being started
        // right now: until it runs its program it has a copy of the file open.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the journal was not unlocked");
        }
    }
}
