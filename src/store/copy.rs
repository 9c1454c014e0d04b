//! A second database in the making: what counts of the current one, and nothing else.
//!
//! Events are taken out of their blocks and put into full ones, which are
//! compressed better. Commits whose sessions were all removed are left out, the
//! others stand together in groups. Whatever is written is read back.
//!
//! sled keeps up to 16 rows in a leaf, and writes a leaf anew when it is split or
//! has been changed ten times: rows of 6 KiB put in one after the other are
//! written three times each, and what is on disk is twice what counts. So keys
//! go first, with nothing in them, and make the leaves; values follow when their
//! leaves have been split, nine at most to each, and are written once.

use super::block::{Block, BlockError, Body, Encoded, Encoder, EventRef};
use super::error::StoreError;
use super::group::Group;
use super::shared::{Rows, Sight, call};
use super::space::Space;
use super::{Options, Reader, files, keys, open, parts};
use crate::model::Ulid;
use sled::{Batch, Db, IVec};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Blocks that are written at once.
const BLOCKS_STEP: usize = 16;
/// So many keys go before a value: with them its leaf has been split.
const AHEAD: usize = 48;

/// How far a session has been copied.
#[derive(Clone, Copy, Debug, Default)]
struct Copied {
    last_seq: u64,
    /// Of its events.
    events: Sum,
    /// Of its other rows; of all where its blocks were taken as they lie.
    rows: Sum,
    lie: Lie,
}

/// How a session's blocks were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lie {
    /// Its events were put into blocks anew.
    #[default]
    Decoded,
    /// As they lie, because they cannot be read.
    Damaged,
    /// As they lie, because they are not all of it yet.
    Importing,
}

/// A sum that says whether the same things were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, pieces: &[&[u8]]) {
        let crc = |seed| {
            let crc = pieces.iter();
            u64::from(crc.fold(seed, |crc, piece| crc32c::crc32c_append(crc, piece)))
        };
        self.0 = self.0.wrapping_add(crc(0) << 32 | crc(1));
    }

    fn event(&mut self, event: &EventRef<'_>) {
        let (kind, data) = match event.body {
            Body::Json(json) => (0, json),
            Body::Output {
                stream,
                continued,
                data,
            } => (2 + 2 * (stream as u8) + u8::from(continued), data),
        };
        let (seq, run) = (event.seq.to_be_bytes(), event.run.to_be_bytes());
        let time = event.time.0.to_be_bytes();
        self.add(&[&seq, &run, &time, &[kind], data]);
    }
}

/// Whether nobody wants it any more.
pub(super) type GivenUp<'a> = &'a dyn Fn() -> bool;

/// The database that is being made.
pub(super) struct Copy {
    from: Reader,
    db: Option<Db>,
    file: File,
    path: PathBuf,
    options: Options,
    encoder: Encoder,
    sessions: BTreeMap<Ulid, Copied>,
    space: Space,
    /// Rows whose keys are there already, in order.
    pending: Vec<(Vec<u8>, Vec<u8>)>,
    /// The last commit that was looked at.
    seen: u64,
    /// The last commit that was taken.
    kept: u64,
}

impl Copy {
    /// Begins one in `path`, where nothing is yet.
    pub(super) fn new(from: Reader, path: PathBuf, options: Options) -> Result<Self, StoreError> {
        files::make_dir(&path)?;
        let (db, file) = open::start_file(&path, &options)?;
        Ok(Self {
            from,
            db: Some(db),
            file,
            path,
            options,
            encoder: Encoder::compacting(),
            sessions: BTreeMap::new(),
            space: Space::default(),
            pending: Vec::new(),
            seen: 0,
            kept: 0,
        })
    }

    fn db(&self) -> Result<&Db, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::Closed {
            path: self.path.clone(),
        })
    }

    fn sight(&self) -> Sight<'_> {
        Sight {
            db: self.db.as_ref().map(Rows::Db),
            path: &self.path,
            hidden: None,
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let db = self.db()?;
        call(&self.path, || db.apply_batch(batch))
    }

    /// Copies all sessions that there are.
    pub(super) fn all_sessions(&mut self, given_up: GivenUp<'_>) -> Result<(), StoreError> {
        for prefix in keys::all_of_sessions() {
            let mut from = prefix.to_vec();
            loop {
                let key = self.from.shared.view()?.key_from(&prefix, &from)?;
                let Some(session) = key.as_deref().and_then(keys::ulid_in) else {
                    break;
                };
                if !self.sessions.contains_key(&session) {
                    self.copy_session(session, given_up)?;
                }
                let Some(next) = session.0.checked_add(1) else {
                    break;
                };
                from = [&prefix[..], &next.to_be_bytes()].concat();
            }
        }
        self.settle(0)
    }

    /// Copies what has changed of a session since, and reads it back.
    pub(super) fn session(
        &mut self,
        session: Ulid,
        removed: bool,
        given_up: GivenUp<'_>,
    ) -> Result<(), StoreError> {
        if removed {
            self.remove(session)?;
        }
        let before = self.sessions.get(&session).copied().unwrap_or_default();
        self.copy_session(session, given_up)?;
        self.settle(0)?;
        match self.sessions.get(&session) {
            Some(copied) => self.check(session, before, *copied),
            None => Ok(()),
        }
    }

    fn copy_session(&mut self, session: Ulid, given_up: GivenUp<'_>) -> Result<(), StoreError> {
        let mut copied = self.sessions.get(&session).copied().unwrap_or_default();
        if self.is_importing(session)? {
            return self.take_rows(session, Lie::Importing, given_up);
        }
        match copied.lie {
            Lie::Decoded => {}
            Lie::Damaged => return self.take_rows(session, Lie::Damaged, given_up),
            Lie::Importing => {
                self.remove(session)?;
                copied = Copied::default();
            }
        }
        let done = self.try_session(session, &mut copied, given_up);
        if done.is_err() {
            drop(self.encoder.finish());
        }
        match done {
            Ok(true) => {
                self.sessions.insert(session, copied);
                Ok(())
            }
            // It was removed, or is being.
            Ok(false) | Err(StoreError::Gone { .. }) => self.remove(session),
            // One that is damaged is no reason to keep all garbage for ever.
            Err(StoreError::Block { .. } | StoreError::Gap { .. }) => {
                self.take_rows(session, Lie::Damaged, given_up)
            }
            Err(error) => Err(error),
        }
    }

    /// Copies the rows of a session as they lie.
    fn take_rows(
        &mut self,
        session: Ulid,
        lie: Lie,
        given_up: GivenUp<'_>,
    ) -> Result<(), StoreError> {
        self.remove(session)?;
        let mut copied = Copied {
            lie,
            ..Copied::default()
        };
        let mut from = keys::blocks(session);
        loop {
            if given_up() {
                return Err(StoreError::Overtaken);
            }
            let mut rows = Vec::new();
            {
                let view = self.from.shared.view()?;
                while rows.len() < BLOCKS_STEP
                    && let Some(key) = view.key_from(&keys::blocks(session), &from)?
                {
                    from = [&key[..], &[0]].concat();
                    if let Some(value) = view.row(&key)? {
                        rows.push((key, value));
                    }
                }
            }
            if rows.is_empty() {
                break;
            }
            let mut batch = Batch::default();
            for (key, value) in rows {
                copied.rows.add(&[&key, &value]);
                self.space.row(&key, &value, true);
                batch.insert(key.clone(), &[]);
                self.pending.push((key.to_vec(), value.to_vec()));
            }
            self.apply(batch)?;
            self.settle(AHEAD)?;
        }
        let rows = self.rows_beside(session)?;
        for (key, value) in &rows {
            copied.rows.add(&[key, value]);
        }
        self.put_rows(session, rows)?;
        self.sessions.insert(session, copied);
        Ok(())
    }

    fn is_importing(&self, session: Ulid) -> Result<bool, StoreError> {
        let row = self.from.shared.view()?.row(&keys::deleting(session))?;
        Ok(row.is_some_and(|row| row == keys::IMPORTING))
    }

    /// Its rows beside its events, from the current database.
    fn rows_beside(&self, session: Ulid) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let view = self.from.shared.view()?;
        let mut rows = view.rows(&keys::session(session))?;
        rows.extend(view.rows(&keys::cursors(session))?);
        Ok(rows)
    }

    /// Whether there is anything of it.
    fn try_session(
        &mut self,
        session: Ulid,
        copied: &mut Copied,
        given_up: GivenUp<'_>,
    ) -> Result<bool, StoreError> {
        let last = self.from.last_seq(session)?;
        while copied.last_seq < last {
            if given_up() {
                return Err(StoreError::Overtaken);
            }
            let block = self.from.block(session, copied.last_seq + 1)?;
            let damaged = |source| StoreError::Block {
                session,
                seq: block.header().first_seq,
                source,
            };
            for event in block.events() {
                let event = event.map_err(damaged)?;
                if event.seq > copied.last_seq {
                    copied.events.event(&event);
                    self.encoder.push(event);
                }
            }
            copied.last_seq = block.header().last_seq();
            if self.encoder.done() >= BLOCKS_STEP {
                let blocks = self.encoder.take();
                self.put_blocks(session, &blocks)?;
            }
        }
        let blocks = self.encoder.finish();
        self.put_blocks(session, &blocks)?;
        let rows = self.rows_beside(session)?;
        copied.rows = sum_of(&rows);
        let exists = last > 0 || !rows.is_empty();
        self.put_rows(session, rows)?;
        Ok(exists)
    }

    fn put_blocks(&mut self, session: Ulid, blocks: &[Encoded]) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for block in blocks {
            let prefix = keys::block(session, block.header.first_seq);
            for (key, piece) in parts::split(&prefix, &block.bytes) {
                batch.insert(key.as_slice(), &[]);
                self.pending.push((key, piece.to_vec()));
            }
            self.space.add_block(&block.header);
        }
        self.apply(batch)?;
        self.settle(AHEAD)
    }

    /// Writes the values of all keys but for the last `ahead`.
    fn settle(&mut self, ahead: usize) -> Result<(), StoreError> {
        let ready = self.pending.len().saturating_sub(ahead);
        let mut batch = Batch::default();
        for (key, value) in self.pending.drain(..ready) {
            batch.insert(key, value);
        }
        self.apply(batch)
    }

    /// Rows of a session beside its events, in the place of those that were there.
    fn put_rows(&mut self, session: Ulid, rows: Vec<(IVec, IVec)>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (key, value) in self.rows_of(session)? {
            self.space.row(&key, &value, false);
            batch.remove(key);
        }
        for (key, value) in rows {
            self.space.row(&key, &value, true);
            batch.insert(key, value);
        }
        self.apply(batch)
    }

    fn rows_of(&self, session: Ulid) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let mut rows = self.sight().rows(&keys::session(session))?;
        rows.extend(self.sight().rows(&keys::cursors(session))?);
        Ok(rows)
    }

    /// Removes what was copied of a session.
    fn remove(&mut self, session: Ulid) -> Result<(), StoreError> {
        let Some(db) = self.db.clone() else {
            return Ok(());
        };
        self.settle(0)?;
        self.sessions.remove(&session);
        open::finish_deletion(&db, &self.path, session, &mut self.space)
    }

    /// Copies commits up to number `until`, which there is a row of.
    pub(super) fn commits(&mut self, until: u64) -> Result<(), StoreError> {
        let mut group = Group::default();
        while self.seen < until {
            let commits = self.from.commits_from(self.seen + 1)?;
            if commits.is_empty() {
                break;
            }
            for (number, mut row) in commits {
                if number > until {
                    self.seen = until;
                    break;
                }
                self.seen = number;
                let mut spans = row.spans.iter();
                // The last one says how many there were.
                if number == until || spans.any(|span| self.sessions.contains_key(&span.session)) {
                    row.step = number - self.kept;
                    self.kept = number;
                    group.push(number, row);
                    if group.is_full() {
                        self.put_commits(group.finish())?;
                    }
                }
            }
        }
        self.put_commits(group.finish())
    }

    fn put_commits(&mut self, rows: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (number, sealed) in &rows {
            for (key, piece) in parts::split(&keys::commit(*number), sealed) {
                self.space.row(&key, piece, true);
                batch.insert(key, piece);
            }
        }
        self.apply(batch)
    }

    /// Copies all that belongs neither to a session nor to a commit. Nobody
    /// writes meanwhile, and it is done once.
    pub(super) fn rest(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        {
            let view = self.from.shared.view()?;
            for kind in (0..=u8::MAX).filter(|kind| !keys::is_copied_apart(*kind)) {
                for (key, value) in view.rows(&[kind])? {
                    self.space.row(&key, &value, true);
                    batch.insert(key, value);
                }
            }
        }
        batch.insert(keys::meta("space"), self.space.encode());
        self.apply(batch)
    }

    /// Returns when all of it is on disk.
    pub(super) fn barrier(&self) -> Result<(), StoreError> {
        open::barrier(self.db()?, &self.file, &self.path)?;
        files::sync_all(&self.path)
    }

    /// Closes it and opens it again, so that what is read comes from the disk.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        self.barrier()?;
        self.db = None;
        let (db, file) = open::start_file(&self.path, &self.options)?;
        self.db = Some(db);
        self.file = file;
        Ok(())
    }

    /// Reads everything back.
    pub(super) fn check_all(&self, given_up: GivenUp<'_>) -> Result<(), StoreError> {
        for (session, copied) in &self.sessions {
            if given_up() {
                return Err(StoreError::Overtaken);
            }
            self.check(*session, Copied::default(), *copied)?;
        }
        Ok(())
    }

    /// The last commit there is a row of.
    pub(super) fn check_commits(&self, last: u64) -> Result<(), StoreError> {
        let found = open::last_commit(self.db()?, &self.path)?.0;
        if found == last {
            return Ok(());
        }
        let what = format!("its last commit is {found} and not {last}");
        Err(StoreError::damaged(&self.path, what))
    }

    /// Reads back what was written of a session after `before`.
    fn check(&self, session: Ulid, before: Copied, now: Copied) -> Result<(), StoreError> {
        if now.lie != Lie::Decoded {
            return self.check_rows(session, now);
        }
        let (mut seq, mut events) = (before.last_seq, before.events);
        while seq < now.last_seq {
            let stored = self.sight().block_at(session, seq + 1)?;
            let failed = |source: BlockError| StoreError::Block {
                session,
                seq: seq + 1,
                source,
            };
            let block = Block::decode(&stored).map_err(failed)?;
            for event in block.events() {
                let event = event.map_err(failed)?;
                if event.seq > before.last_seq {
                    events.event(&event);
                }
            }
            seq = block.header().last_seq();
        }
        let rows = sum_of(&self.rows_of(session)?);
        if seq == now.last_seq && events == now.events && rows == now.rows {
            return Ok(());
        }
        Err(self.unfaithful(session))
    }

    /// Reads back the rows of a session that were taken as they lay.
    fn check_rows(&self, session: Ulid, now: Copied) -> Result<(), StoreError> {
        let mut sum = sum_of(&self.rows_of(session)?);
        for row in self.db()?.scan_prefix(keys::blocks(session)) {
            let (key, value) = call(&self.path, || row)?;
            sum.add(&[&key, &value]);
        }
        if sum == now.rows {
            return Ok(());
        }
        Err(self.unfaithful(session))
    }

    fn unfaithful(&self, session: Ulid) -> StoreError {
        let what = format!("session {session} was not copied faithfully");
        StoreError::damaged(&self.path, what)
    }

    /// How many sessions were copied.
    pub(super) fn count(&self) -> usize {
        self.counted(|lie| lie != Lie::Importing)
    }

    /// How many of them are damaged, and were copied as they lie.
    pub(super) fn damaged(&self) -> usize {
        self.counted(|lie| lie == Lie::Damaged)
    }

    fn counted(&self, which: impl Fn(Lie) -> bool) -> usize {
        let sessions = self.sessions.values();
        sessions.filter(|copied| which(copied.lie)).count()
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What takes the place of the current database.
    pub(super) fn into_parts(self) -> Result<Made, StoreError> {
        let db = self.db()?.clone();
        Ok(Made {
            db,
            file: self.file,
            path: self.path,
            space: self.space,
        })
    }
}

/// A copy that is whole and on disk.
pub(super) struct Made {
    pub(super) db: Db,
    /// The file that a barrier has to sync.
    pub(super) file: File,
    /// Its directory.
    pub(super) path: PathBuf,
    pub(super) space: Space,
}

fn sum_of(rows: &[(IVec, IVec)]) -> Sum {
    let mut sum = Sum::default();
    for (key, value) in rows {
        sum.add(&[key, value]);
    }
    sum
}
