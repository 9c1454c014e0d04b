//! The database as the writer and all readers share it.
//!
//! Whoever holds a [`View`] sees whole commits only, and only ones that are on
//! disk: rows are changed under the write lock, and until a commit's barrier
//! is done readers are given what its rows were before.

use super::block::{BlockError, Header};
use super::error::StoreError;
use super::salvage::Salvage;
use super::space::Space;
use super::{keys, parts, rows};
use crate::model::Ulid;
use sled::{Db, IVec};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Calls the database in `path`.
pub(super) fn call<T>(path: &Path, f: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    caught(path, f)?.map_err(|e| StoreError::database(path, e))
}

/// Does something with the database in `path`. sled panics where what it reads
/// makes no sense; that is an error of ours like any other.
pub(super) fn caught<T>(path: &Path, f: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied());
        let why = why.unwrap_or("for no reason that it gives");
        StoreError::damaged(path, format!("the database gave up: {why}"))
    })
}

/// What the writer and all readers hold on to.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<State>,
}

/// The open database, and how much of it may be seen.
#[derive(Debug)]
pub(super) struct State {
    /// None after an error, until it is reopened, and after the writer is gone.
    pub(super) db: Option<Db>,
    /// The database's directory.
    pub(super) path: PathBuf,
    /// The last commit that is on disk.
    pub(super) watermark: u64,
    /// What the commit under way has changed.
    pub(super) hidden: Hidden,
    /// What the rows come to.
    pub(super) space: Space,
}

/// How things were before the commit under way.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// Rows that it wrote over or removed; none where there was none.
    pub(super) rows: HashMap<Vec<u8>, Option<IVec>>,
    /// The last events of the sessions that it appended to.
    pub(super) last_seqs: HashMap<Ulid, u64>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self {
            state: RwLock::new(state),
        }
    }

    // A panic while the lock was held leaves nothing half-done that matters:
    // `State` is only ever replaced field by field, after the database did its part.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be seen now. Nothing changes while it is held, so it is held
    /// for one step only.
    pub(super) fn view(&self) -> Result<View<'_>, StoreError> {
        let state = self.read();
        if state.db.is_none() {
            return Err(StoreError::Closed {
                path: state.path.clone(),
            });
        }
        Ok(View { state })
    }
}

/// A consistent sight of what is on disk.
pub(super) struct View<'a> {
    state: RwLockReadGuard<'a, State>,
}

impl View<'_> {
    /// The last commit that is on disk.
    pub(super) fn watermark(&self) -> u64 {
        self.state.watermark
    }

    /// The database's directory.
    pub(super) fn path(&self) -> &Path {
        &self.state.path
    }

    /// What the rows come to.
    pub(super) fn space(&self) -> Space {
        self.state.space
    }

    /// One row.
    pub(super) fn row(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.sees().get(key)
    }

    /// It, for what takes several rows at once.
    pub(super) fn sees(&self) -> Sight<'_> {
        Sight {
            db: self.state.db.as_ref().map(Rows::Db),
            path: &self.state.path,
            hidden: Some(&self.state.hidden),
        }
    }

    /// The value at `prefix`, its parts put together.
    pub(super) fn value(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.sees().value(prefix)
    }

    /// Rows whose keys begin with `prefix`.
    pub(super) fn rows(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>, StoreError> {
        self.sees().rows(prefix)
    }

    /// The last key before `before` among those that begin with `prefix`.
    pub(super) fn key_before(
        &self,
        prefix: &[u8],
        before: &[u8],
    ) -> Result<Option<IVec>, StoreError> {
        self.sees().key_before(prefix, before)
    }

    /// The first key from `from` on that begins with `prefix`.
    pub(super) fn key_from(&self, prefix: &[u8], from: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.sees().key_from(prefix, from)
    }

    /// The number of the last event of `session` that is on disk; 0 while it
    /// is being removed.
    pub(super) fn last_seq(&self, session: Ulid) -> Result<u64, StoreError> {
        if self.contains(&keys::deleting(session))? {
            return Ok(0);
        }
        self.sees().last_seq(session)
    }

    /// The block of `session` that has event `seq`, as it is stored.
    ///
    /// The caller has seen that there is such an event, so that it is damage
    /// when there is no such block.
    pub(super) fn block_at(&self, session: Ulid, seq: u64) -> Result<Vec<u8>, StoreError> {
        self.sees().block_at(session, seq)
    }

    /// The first event's number of the last block that begins at `seq` or before.
    pub(super) fn block_until(&self, session: Ulid, seq: u64) -> Result<Option<u64>, StoreError> {
        self.sees().block_until(session, seq)
    }

    /// The header of the block of `session` that has event `seq`.
    pub(super) fn header_at(&self, session: Ulid, seq: u64) -> Result<Header, StoreError> {
        self.sees().header_at(session, seq)
    }

    /// Whether there is a row.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.sees().get(key)?.is_some())
    }
}

/// Where rows are read.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// An open database.
    Db(&'a Db),
    /// One that is not, and may be damaged.
    Closed(&'a Salvage),
}

/// The database through somebody's eyes: a reader's, or the writer's, from
/// whom nothing is hidden.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) db: Option<Rows<'a>>,
    pub(super) path: &'a Path,
    pub(super) hidden: Option<&'a Hidden>,
}

impl Sight<'_> {
    fn rows_of(&self) -> Result<Rows<'_>, StoreError> {
        self.db.ok_or_else(|| StoreError::Closed {
            path: self.path.to_owned(),
        })
    }

    /// One row.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        if let Some(before) = self.hidden.and_then(|hidden| hidden.rows.get(key)) {
            return Ok(before.clone());
        }
        match self.rows_of()? {
            Rows::Db(db) => call(self.path, || db.get(key)),
            Rows::Closed(rows) => rows.get(key),
        }
    }

    /// A value in an envelope, its parts put together.
    pub(super) fn value(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(first) = self.get(&keys::with_part(prefix, 0))? else {
            return Ok(None);
        };
        let malformed = |what: &str| rows::damaged("value", keys::hex(prefix), what);
        let len = rows::sealed_len(&first).ok_or_else(|| malformed("it is malformed"))?;
        self.assemble(prefix, first, len)?
            .map(Some)
            .map_err(|part| malformed(&format!("part {part} is missing")))
    }

    /// The value that begins with the row `first`; else which part is missing.
    fn assemble(
        &self,
        prefix: &[u8],
        first: IVec,
        len: usize,
    ) -> Result<Result<Vec<u8>, u16>, StoreError> {
        let mut value = Vec::with_capacity(len);
        if first.len() != parts::part_len(len, 0) {
            return Ok(Err(0));
        }
        value.extend_from_slice(&first);
        for part in 1..parts::count(len) {
            match self.get(&keys::with_part(prefix, part))? {
                Some(row) if row.len() == parts::part_len(len, part) => {
                    value.extend_from_slice(&row);
                }
                _ => return Ok(Err(part)),
            }
        }
        Ok(Ok(value))
    }

    /// Rows whose keys begin with `prefix`; for kinds that have no parts.
    pub(super) fn rows(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let all: Vec<_> = match self.rows_of()? {
            Rows::Db(db) => call(self.path, || db.scan_prefix(prefix).collect())?,
            Rows::Closed(rows) => rows.scan(prefix)?,
        };
        let mut rows = Vec::with_capacity(all.len());
        for (key, value) in all {
            match self.hidden.and_then(|hidden| hidden.rows.get(key.as_ref())) {
                None => rows.push((key, value)),
                Some(Some(before)) => rows.push((key, before.clone())),
                Some(None) => {}
            }
        }
        Ok(rows)
    }

    /// The last key before `before` that begins with `prefix`.
    pub(super) fn key_before(
        &self,
        prefix: &[u8],
        before: &[u8],
    ) -> Result<Option<IVec>, StoreError> {
        match self.rows_of()? {
            Rows::Db(db) => {
                let row = call(self.path, || {
                    db.range(prefix..before).next_back().transpose()
                })?;
                Ok(row.map(|(key, _)| key))
            }
            Rows::Closed(rows) => Ok(rows.last_between(prefix, before)),
        }
    }

    /// The first key from `from` on that begins with `prefix`.
    pub(super) fn key_from(&self, prefix: &[u8], from: &[u8]) -> Result<Option<IVec>, StoreError> {
        let key = match self.rows_of()? {
            Rows::Db(db) => {
                let row = call(self.path, || db.range(from..).next().transpose())?;
                row.map(|(key, _)| key)
            }
            Rows::Closed(rows) => rows.first_from(from),
        };
        Ok(key.filter(|key| key.starts_with(prefix)))
    }

    /// The number of the last event of `session` that may be seen.
    pub(super) fn last_seq(&self, session: Ulid) -> Result<u64, StoreError> {
        let hidden = self
            .hidden
            .and_then(|hidden| hidden.last_seqs.get(&session));
        if let Some(seq) = hidden {
            return Ok(*seq);
        }
        let last = self.last_block(session)?;
        Ok(last.map_or(0, |header| header.last_seq()))
    }

    /// The last block of `session`, hidden or not.
    pub(super) fn last_block(&self, session: Ulid) -> Result<Option<Header>, StoreError> {
        let Some(first) = self.block_until(session, u64::MAX)? else {
            return Ok(None);
        };
        self.header(session, first, first).map(Some)
    }

    /// The first event's number of the last block that begins at `seq` or before.
    fn block_until(&self, session: Ulid, seq: u64) -> Result<Option<u64>, StoreError> {
        let until = keys::with_part(&keys::block(session, seq), u16::MAX);
        let key = self.key_before(&keys::blocks(session), &until)?;
        let prefix = key.as_deref().and_then(keys::split_part);
        Ok(prefix.and_then(|(prefix, _)| keys::block_seq(prefix)))
    }

    /// The first event's number of the block that has event `seq`, if any has.
    fn block_covering(&self, session: Ulid, seq: u64) -> Result<u64, StoreError> {
        // Reading on from one block to the next, this is how it is found.
        let key = keys::with_part(&keys::block(session, seq), 0);
        if self.get(&key)?.is_some() {
            return Ok(seq);
        }
        self.block_until(session, seq)?
            .ok_or(StoreError::Gap { session, seq })
    }

    /// The header of the block of `session` that has event `seq`.
    pub(super) fn header_at(&self, session: Ulid, seq: u64) -> Result<Header, StoreError> {
        let first = self.block_covering(session, seq)?;
        self.header(session, first, seq)
    }

    /// The header of the block that begins with event `first` and has event `seq`.
    fn header(&self, session: Ulid, first: u64, seq: u64) -> Result<Header, StoreError> {
        let key = keys::with_part(&keys::block(session, first), 0);
        let row = self.get(&key)?;
        let failed = |source| StoreError::Block {
            session,
            seq: first,
            source,
        };
        let row = row.ok_or_else(|| failed(BlockError::Part(0)))?;
        let header = Header::parse(&row).map_err(failed)?;
        if header.first_seq != first {
            return Err(failed(BlockError::Header));
        }
        if header.last_seq() < seq {
            return Err(StoreError::Gap {
                session,
                seq: header.last_seq() + 1,
            });
        }
        Ok(header)
    }

    /// The block of `session` that has event `seq`, as it is stored.
    pub(super) fn block_at(&self, session: Ulid, seq: u64) -> Result<Vec<u8>, StoreError> {
        let first = self.block_covering(session, seq)?;
        let header = self.header(session, first, seq)?;
        let prefix = keys::block(session, first);
        let missing = |part| StoreError::Block {
            session,
            seq: first,
            source: BlockError::Part(part),
        };
        let row = self.get(&keys::with_part(&prefix, 0))?;
        let row = row.ok_or_else(|| missing(0))?;
        self.assemble(&prefix, row, header.size())?.map_err(missing)
    }
}
