//! Reading a database without opening it: nothing of it is changed, and what
//! lies behind damage is read as well.
//!
//! The log is gone through once, in its order, and what each row was last is
//! noted by its place in the file: some 100 bytes of memory a row. A row that
//! is asked for is read there.

mod log;

use super::error::StoreError;
use super::keys;
use super::shared::{Rows, Sight};
use super::walk::Look;
use log::{Hole, Kind, Message, Payload, Segment};
use sled::IVec;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where a value lies in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    len: u32,
    /// Where in the log it was written.
    lsn: u64,
}

/// A leaf of the tree, as far as the log was read.
#[derive(Debug, Default)]
struct Leaf {
    /// What all its keys begin with, and the log leaves out.
    prefix: Vec<u8>,
    rows: BTreeMap<Vec<u8>, Place>,
}

/// The rows of a database that is not open.
#[derive(Debug)]
pub(super) struct Salvage {
    path: PathBuf,
    file: File,
    rows: BTreeMap<Vec<u8>, Place>,
    holes: Vec<Hole>,
}

impl Salvage {
    /// Reads what can be read of the database in `path`.
    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        Self::read_as(path, None)
    }

    /// The same, or what sled will read, whose log ends at `end`: what follows
    /// damage in a segment is passed over then.
    fn read_as(path: &Path, end: Option<u64>) -> Result<Self, StoreError> {
        let db = path.join("db");
        let failed = |error| StoreError::io("read", &db, error);
        let file = File::open(&db).map_err(failed)?;
        let mut leaves: HashMap<u64, Leaf> = HashMap::new();
        let mut holes = Vec::new();
        for segment in log::segments(&file, 0).map_err(failed)? {
            let torn = Cell::new(false);
            log::read(
                &file,
                segment,
                &mut |message| {
                    let passed = end.is_some_and(|end| torn.get() || message.lsn >= end);
                    if !passed {
                        apply(&mut leaves, message);
                    }
                },
                &mut |hole| {
                    torn.set(true);
                    holes.push(hole);
                },
            )
            .map_err(failed)?;
        }
        let mut rows: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
        for leaf in leaves.into_values() {
            for (key, place) in leaf.rows {
                // Beneath a lost page an older one shows, and keys of its time.
                let newer = rows.get(&key).is_none_or(|other| other.lsn < place.lsn);
                if newer {
                    rows.insert(key, place);
                }
            }
        }
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            rows,
            holes,
        })
    }

    /// Places in the file that cannot be read: offset and length.
    pub(super) fn holes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.holes
            .iter()
            .map(|hole| (hole.from, hole.to - hole.from))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.rows
            .get(key)
            .map(|place| self.value(*place))
            .transpose()
    }

    fn value(&self, place: Place) -> Result<IVec, StoreError> {
        let mut bytes = vec![0; place.len as usize];
        let read = self.file.read_exact_at(&mut bytes, place.offset);
        read.map_err(|error| StoreError::io("read", &self.path.join("db"), error))?;
        Ok(IVec::from(bytes))
    }

    /// The rows whose keys begin with `prefix`.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let rows = self.rows.range(prefix.to_vec()..);
        rows.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, place)| Ok((IVec::from(key.as_slice()), self.value(*place)?)))
            .collect()
    }

    pub(super) fn first_from(&self, from: &[u8]) -> Option<IVec> {
        let first = self.rows.range(from.to_vec()..).next();
        first.map(|(key, _)| IVec::from(key.as_slice()))
    }

    pub(super) fn last_between(&self, from: &[u8], before: &[u8]) -> Option<IVec> {
        if from > before {
            return None;
        }
        let last = self.rows.range(from.to_vec()..before.to_vec()).next_back();
        last.map(|(key, _)| IVec::from(key.as_slice()))
    }

    /// The last commit of those up to `marked`; 0 when there is none.
    fn last_commit(&self, marked: u64) -> u64 {
        let commits = self.rows.range(keys::commits().to_vec()..);
        let numbers = commits
            .take_while(|(key, _)| key.starts_with(&keys::commits()))
            .filter_map(|(key, _)| keys::commit_number(keys::split_part(key)?.0));
        numbers
            .filter(|number| *number <= marked)
            .max()
            .unwrap_or(0)
    }
}

impl Look for Salvage {
    fn look<T>(
        &self,
        take: impl FnOnce(&Sight<'_>, u64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let sight = Sight {
            db: Some(Rows::Closed(self)),
            path: &self.path,
            hidden: None,
        };
        take(&sight, u64::MAX)
    }
}

/// Takes note of what a message does to the tree's leaves.
fn apply(leaves: &mut HashMap<u64, Leaf>, message: Message<'_>) {
    match message.kind {
        Kind::Free => drop(leaves.remove(&message.page)),
        Kind::Node => match node(message) {
            Some(leaf) => drop(leaves.insert(message.page, leaf)),
            None => drop(leaves.remove(&message.page)),
        },
        Kind::Link => {
            if let Some(leaf) = leaves.get_mut(&message.page) {
                link(leaf, message);
            }
        }
        Kind::Cap | Kind::Other => {}
    }
}

/// A page that is a leaf: neighbours, flags, length of the prefix, bounds, rows.
fn node(message: Message<'_>) -> Option<Leaf> {
    let mut rest = Payload(message.payload);
    rest.varint()?;
    rest.varint()?;
    rest.byte()?;
    let prefix_len = usize::from(rest.byte()?);
    let low = rest.bytes()?;
    rest.bytes()?;
    if rest.byte()? != 0 {
        return None;
    }
    let prefix = low.get(..prefix_len)?.to_vec();
    let count = rest.varint()?;
    let mut suffixes = Vec::new();
    for _ in 0..count {
        suffixes.push(rest.bytes()?);
    }
    let mut leaf = Leaf {
        prefix,
        rows: BTreeMap::new(),
    };
    for suffix in suffixes {
        let value = rest.bytes()?;
        leaf.set(suffix, value, message);
    }
    Some(leaf)
}

fn link(leaf: &mut Leaf, message: Message<'_>) -> Option<()> {
    let mut rest = Payload(message.payload);
    match rest.byte()? {
        0 => {
            let suffix = rest.bytes()?;
            let value = rest.bytes()?;
            leaf.set(suffix, value, message);
        }
        1 => drop(leaf.rows.remove(&leaf.key(rest.bytes()?))),
        // Links of pages to each other.
        _ => {}
    }
    Some(())
}

impl Leaf {
    fn key(&self, suffix: &[u8]) -> Vec<u8> {
        [&self.prefix, suffix].concat()
    }

    fn set(&mut self, suffix: &[u8], value: &[u8], message: Message<'_>) {
        let key = self.key(suffix);
        // With a page lost, the prefix may be that of an older one.
        if !keys::is_whole(&key) {
            return;
        }
        let into = value.as_ptr() as usize - message.payload.as_ptr() as usize;
        let place = Place {
            offset: message.offset + into as u64,
            len: value.len() as u32,
            lsn: message.lsn,
        };
        self.rows.insert(key, place);
    }
}

/// Refuses a database that opening would cut short before commits that were
/// acknowledged, up to number `marked`. sled ends its log at the first message
/// that it cannot read, and writes over all that follows.
pub(super) fn check_tail(path: &Path, marked: u64) -> Result<(), StoreError> {
    let db = path.join("db");
    let failed = |error| StoreError::io("read", &db, error);
    let file = match File::open(&db) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if marked > 0 && file.metadata().map_err(failed)?.len() == 0 {
        return Err(StoreError::damaged(path, "the file db is empty"));
    }
    let segments = log::segments(&file, newest_snapshot(path)?).map_err(failed)?;
    let Some(hole) = first_hole(&file, &segments, 0).map_err(failed)? else {
        return Ok(());
    };
    // Segments that were stable long ago may be half written over: they are used
    // again. sled looks for the end of its log in those after them.
    let stable = segments.iter().map(|segment| segment.stable).max();
    let stable = stable.unwrap_or(0) / log::SEGMENT * log::SEGMENT;
    let end = first_hole(&file, &segments, stable).map_err(failed)?;
    let end = end.map_or(u64::MAX, |hole| hole.lsn);
    drop(file);
    let kept = Salvage::read_as(path, Some(end))?.last_commit(marked);
    let last = Salvage::read(path)?.last_commit(marked);
    // What lies behind may take rows from a page that were to go to another, which is
    // not there: then more is kept without it.
    if kept >= last {
        // What lies behind was never acknowledged: a crash left it so.
        return Ok(());
    }
    let what = format!(
        "byte {} of {} and what follows it cannot be read, and commits {} to {last} lie behind",
        hole.from,
        db.display(),
        kept + 1
    );
    Err(StoreError::damaged(path, what))
}

/// The place in the log up to which sled has a snapshot.
fn newest_snapshot(path: &Path) -> Result<u64, StoreError> {
    let names = super::files::names_in(path)?;
    let places = names.iter().filter_map(|name| {
        let hex = name.strip_prefix("snap.")?;
        u64::from_str_radix(hex, 16).ok()
    });
    Ok(places.max().unwrap_or(0))
}

/// The first place of the log, from the segment at `from` on, that is no message
/// though messages follow.
fn first_hole(file: &File, segments: &[Segment], from: u64) -> io::Result<Option<Hole>> {
    let last = segments.last().map_or(0, |segment| segment.lsn);
    let mut end = None;
    for segment in segments.iter().filter(|segment| segment.lsn >= from) {
        if let Some(end) = end
            && segment.lsn > end
            && from > 0
        {
            // A segment is missing in between.
            return Ok(Some(Hole {
                lsn: end,
                from: segment.offset,
                to: segment.offset,
            }));
        }
        let mut first = None;
        let ends = log::read(file, *segment, &mut |_| (), &mut |hole| {
            first.get_or_insert(hole);
        })?;
        // Only the last one may end without a word.
        if let Some(lsn) = ends.filter(|_| segment.lsn < last) {
            let from = segment.offset + (lsn - segment.lsn);
            let to = segment.offset + log::SEGMENT;
            first.get_or_insert(Hole { lsn, from, to });
        }
        if first.is_some() {
            return Ok(first);
        }
        end = Some(segment.lsn + log::SEGMENT);
    }
    Ok(None)
}
