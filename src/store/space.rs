//! What the journal holds and what it takes on disk.
//!
//! The counts are kept in a row that each batch rewrites along with the rows it
//! is about, so they cost no scan, at opening or ever after. A journal without
//! that row is counted once.

use super::block::Header;
use super::error::StoreError;
use super::shared::call;
use super::{Reader, group, keys, rows};
use crate::model::{HomeId, Timestamp, Ulid};
use sled::{Db, IVec};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The least size of a database that is worth a compaction of its own accord.
const FLOOR: u64 = 64 * 1024 * 1024;
/// sled begins with this much, whatever is in it.
const SLED_LEAST: u64 = 1024 * 1024;

/// What the rows of a journal come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// Events in blocks.
    pub(super) events: u64,
    /// Sessions that have a projection.
    pub(super) sessions: u64,
    /// Blocks.
    pub(super) blocks: u64,
    /// Bytes of blocks before compression.
    pub(super) raw: u64,
    /// Bytes of blocks as they are stored.
    pub(super) stored: u64,
    /// Bytes of all other values.
    pub(super) other: u64,
}

const FIELDS: usize = 6;
const LEN: usize = 1 + FIELDS * 8;
const FORMAT: u8 = 1;

impl Space {
    fn fields(&mut self) -> [&mut u64; FIELDS] {
        let Self {
            events,
            sessions,
            blocks,
            raw,
            stored,
            other,
        } = self;
        [events, sessions, blocks, raw, stored, other]
    }

    /// As its row has it.
    pub(super) fn encode(mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.push(FORMAT);
        for field in self.fields() {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let (format, rest) = row.split_first()?;
        let (numbers, []) = rest.as_chunks::<8>() else {
            return None;
        };
        if *format != FORMAT || numbers.len() != FIELDS {
            return None;
        }
        let mut space = Self::default();
        for (field, number) in space.fields().into_iter().zip(numbers) {
            *field = u64::from_be_bytes(*number);
        }
        Some(space)
    }

    /// A block was written.
    pub(super) fn add_block(&mut self, header: &Header) {
        self.events += u64::from(header.count);
        self.blocks += 1;
        self.raw += header.raw_len() as u64;
        self.stored += header.size() as u64;
    }

    /// A block was removed.
    pub(super) fn remove_block(&mut self, header: &Header) {
        let count = u64::from(header.count);
        self.events = self.events.saturating_sub(count);
        self.blocks = self.blocks.saturating_sub(1);
        self.raw = self.raw.saturating_sub(header.raw_len() as u64);
        self.stored = self.stored.saturating_sub(header.size() as u64);
    }

    /// A value that is no block grew by so much, or became shorter.
    pub(super) fn grow(&mut self, by: i64) {
        self.other = self.other.saturating_add_signed(by);
    }

    /// A row was written, or, if not `added`, removed. Values in parts are
    /// counted by their rows; a block by its first.
    pub(super) fn row(&mut self, key: &[u8], value: &[u8], added: bool) {
        if keys::is_block(key) {
            let first = keys::split_part(key).is_some_and(|(_, part)| part == 0);
            if first && let Ok(header) = Header::parse(value) {
                if added {
                    self.add_block(&header);
                } else {
                    self.remove_block(&header);
                }
            }
            return;
        }
        let len = value.len() as i64;
        self.grow(if added { len } else { -len });
        if keys::is_first_of_session(key) {
            self.sessions = if added {
                self.sessions + 1
            } else {
                self.sessions.saturating_sub(1)
            };
        }
    }

    /// What `db` holds: from its row, else counted.
    pub(super) fn of(db: &Db, path: &Path) -> Result<Self, StoreError> {
        let row = call(path, || db.get(keys::meta("space")))?;
        if let Some(space) = row.as_deref().and_then(Self::decode) {
            return Ok(space);
        }
        let mut space = Self::default();
        for row in db.iter() {
            let (key, value) = call(path, || row)?;
            space.row(&key, &value, true);
        }
        Ok(space)
    }

    /// What a database takes that holds only this, roughly.
    pub(super) const fn needed(&self) -> u64 {
        // Keys, and what sled writes around them.
        let rows = self.stored.div_ceil(3000) + self.blocks + 2 * self.sessions;
        let values = self.stored + self.other;
        SLED_LEAST + values + values / 8 + rows * 48
    }
}

/// Bytes that the files beneath `dir` take on disk; sled's have holes. What is
/// reserved beyond their ends is not counted.
pub(super) fn allocated(dir: &Path) -> Result<u64, StoreError> {
    let list = |e| StoreError::io("list", dir, e);
    let mut sum = 0;
    for entry in fs::read_dir(dir).map_err(list)? {
        let entry = entry.map_err(list)?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum += allocated(&entry.path())?,
            Ok(meta) => sum += meta.len().min(meta.blocks() * 512),
            // sled removes snapshots whenever it likes.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("look at", &entry.path(), e)),
        }
    }
    Ok(sum)
}

/// Bytes that are free on the disk of `dir` for who is no superuser, and its size.
///
/// # Errors
/// When the system does not say.
pub fn free(dir: &Path) -> Result<(u64, u64), StoreError> {
    let room = rustix::fs::statvfs(dir).map_err(|e| StoreError::io("look at", dir, e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
    Ok((bytes(room.f_bavail), bytes(room.f_blocks)))
}

/// Looks whether so much is free on the disk of `dir`.
///
/// # Errors
/// [`StoreError::NoRoom`]; when the system does not say.
pub(super) fn require(dir: &Path, needed: u64) -> Result<(), StoreError> {
    let (free, _) = free(dir)?;
    if free >= needed {
        return Ok(());
    }
    Err(StoreError::NoRoom {
        path: dir.to_owned(),
        free,
        needed,
    })
}

impl Reader {
    /// Bytes of a session's blocks as they are stored.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn stored_size(&self, session: Ulid) -> Result<u64, StoreError> {
        let (mut seq, mut sum) = (self.last_seq(session)?, 0);
        while seq > 0 {
            let header = self.shared.view()?.header_at(session, seq);
            let header = header.map_err(|e| self.explain(session, e))?;
            sum += header.size() as u64;
            seq = header.first_seq - 1;
        }
        Ok(sum)
    }

    /// The journal in numbers. Scans nothing.
    ///
    /// # Errors
    /// When the journal cannot be read, or its disk not be asked.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let view = self.shared.view()?;
        let (path, space) = (view.path().to_owned(), view.space());
        let meta = |name: &str| view.row(&keys::meta(name));
        let text = |row: Option<IVec>| {
            let text = row.map(|row| String::from_utf8_lossy(&row).into_owned());
            text.unwrap_or_else(|| "unknown".to_owned())
        };
        let schema = meta("schema")?.and_then(|row| row.as_ref().try_into().ok());
        let home = meta("home")?.and_then(|row| row.as_ref().try_into().ok());
        let home = home.and_then(|bytes| Ulid::from_bytes(bytes).into());
        let (created_by, opened_by) = (text(meta("created_by")?), text(meta("last_opened_by")?));
        let oldest = view.key_from(&keys::sessions(), &keys::sessions())?;
        let oldest = oldest.as_deref().and_then(keys::ulid_in);
        let last_commit = view.watermark();
        drop(view);
        let newest = self.commits_from(last_commit)?.pop();
        let sizes = || Ok::<_, StoreError>((allocated(&path)?, free(&path)?.0));
        let (disk_bytes, free_bytes) = match sizes() {
            Ok(sizes) => sizes,
            // It was exchanged meanwhile, and its directory is gone.
            Err(_) if self.shared.view()?.path() != path => return self.stats(),
            Err(error) => return Err(error),
        };
        Ok(Stats {
            events: space.events,
            sessions: space.sessions,
            blocks: space.blocks,
            raw_bytes: space.raw,
            stored_bytes: space.stored + space.other,
            disk_bytes,
            garbage_bytes: disk_bytes.saturating_sub(space.needed()),
            free_bytes,
            last_commit,
            schema: schema.map_or(0, u32::from_be_bytes),
            home: HomeId(home.unwrap_or(Ulid(0))),
            database: path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            created_by,
            opened_by,
            oldest: oldest.map(|ulid| Timestamp(ulid.timestamp_ms() as i64 * 1_000_000)),
            newest: newest.map(|(_, row)| row.time),
        })
    }
}

/// A journal in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Events.
    pub events: u64,
    /// Sessions.
    pub sessions: u64,
    /// Blocks of events.
    pub blocks: u64,
    /// Bytes of all events, before compression.
    pub raw_bytes: u64,
    /// Bytes of all values, as they are stored.
    pub stored_bytes: u64,
    /// Bytes that the database takes on disk.
    pub disk_bytes: u64,
    /// How many of these hold nothing any more.
    pub garbage_bytes: u64,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
    /// The last commit.
    pub last_commit: u64,
    /// The schema.
    pub schema: u32,
    /// Whose journal it is.
    pub home: HomeId,
    /// The name of the current database.
    pub database: String,
    /// The version that made it.
    pub created_by: String,
    /// The version that opened it last.
    pub opened_by: String,
    /// When its oldest session was made.
    pub oldest: Option<Timestamp>,
    /// The time of its last event.
    pub newest: Option<Timestamp>,
}

impl Stats {
    /// Whether more than half of what it takes on disk is garbage, and that is
    /// worth the work.
    #[must_use]
    pub const fn wants_compaction(&self) -> bool {
        wants_compaction(self.disk_bytes, self.garbage_bytes)
    }
}

pub(super) const fn wants_compaction(disk: u64, garbage: u64) -> bool {
    disk >= FLOOR && garbage > disk / 2
}

/// The time of the last commit in `db` whose row is `sealed`.
pub(super) fn last_time(number: u64, sealed: &[u8]) -> Result<Timestamp, StoreError> {
    let commits = group::commits(number, sealed)?;
    let last = commits.last();
    last.map(|(_, row)| row.time)
        .ok_or_else(|| rows::damaged("commit", number, "it is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_survives() {
        let space = Space {
            events: 1,
            sessions: 2,
            blocks: 3,
            raw: 4,
            stored: 5,
            other: u64::MAX,
        };
        assert_eq!(Space::decode(&space.encode()), Some(space));
        assert_eq!(Space::decode(&space.encode()[1..]), None);
        assert_eq!(Space::decode(b""), None);
    }

    #[test]
    fn small_journals_are_left_alone() {
        assert!(!wants_compaction(FLOOR - 1, FLOOR - 1));
        assert!(!wants_compaction(FLOOR * 2, FLOOR));
        assert!(wants_compaction(FLOOR * 2, FLOOR + 1));
    }
}
