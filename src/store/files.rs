//! The files around the database: which one is current, who has it open, and
//! how many commits it had.
//!
//! ```text
//! $CLDPD_HOME/journal/
//!   LOCK       held as long as the journal is open
//!   CURRENT    the name of the database that counts, as in "0001"
//!   mark       the number of the last commit
//!   0001/      a sled database
//! ```
//!
//! `CURRENT` is only ever replaced by renaming, after what it names is whole.

use super::error::StoreError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long sled's threads may hold on to a database after it was dropped.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// Makes `dir` and what is missing above it, for its owner only, so that it lasts.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dir(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::io("make", dir, e));
        }
        _ => {}
    }
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Makes what was created, renamed or removed in `dir` last.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|e| StoreError::io("sync", dir, e))
}

/// Makes what is in `dir` last: sled syncs its database, but neither the file
/// that says how it is laid out nor the names of its files.
pub(super) fn sync_all(dir: &Path) -> Result<(), StoreError> {
    for name in names_in(dir)? {
        let path = dir.join(name);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|e| StoreError::io("sync", &path, e))?;
    }
    sync_dir(dir)
}

/// Gives the directory `from` the name `to`, which is free, once it is whole.
pub(super) fn put_in_place(from: &Path, to: &Path) -> Result<(), StoreError> {
    sync_all(from)?;
    fs::rename(from, to).map_err(|e| StoreError::io("write", to, e))?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Removes `dir`, if it is there.
pub(super) fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", dir, e)),
        _ => Ok(()),
    }
}

fn open_rw(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))
}

/// Takes the journal in `dir` for as long as the file is held.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let file = open_rw(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(StoreError::io("lock", &path, e)),
    }
}

/// Whether nobody has the database in `path` open.
fn is_released(path: &Path) -> Result<bool, StoreError> {
    held(path).map(|file| file.is_none())
}

/// The file of the database in `path`, if somebody has it open.
fn held(path: &Path) -> Result<Option<File>, StoreError> {
    let db = path.join("db");
    let file = match File::open(&db) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("open", &db, e)),
    };
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(file)),
        Err(TryLockError::Error(e)) => Err(StoreError::io("lock", &db, e)),
    }
}

/// Waits until nobody has the database in `path` open. Whoever calls this has
/// the journal's lock, so it can only be sled's own threads, finishing.
pub(super) fn wait_released(path: &Path) -> Result<(), StoreError> {
    let Some(file) = held(path)? else {
        return Ok(());
    };
    let db = path.join("db");
    // Waiting for a lock has no time limit, so a thread does it; if the lock
    // never comes, the thread stays behind, and we do not.
    let (done, released) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock();
        drop(file);
        let _ = done.send(locked);
    });
    match released.recv_timeout(RELEASE_LIMIT) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(StoreError::io("lock", &db, e)),
        Err(_) => Err(StoreError::Locked {
            path: path.to_owned(),
        }),
    }
}

/// The name of the current database, if one was ever made.
pub(super) fn current(dir: &Path) -> Result<Option<String>, StoreError> {
    let path = dir.join("CURRENT");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read", &path, e)),
    };
    let name = text.strip_suffix(b"\n").unwrap_or(&text);
    match std::str::from_utf8(name) {
        Ok(name) if is_number(name) => Ok(Some(name.to_owned())),
        _ => Err(StoreError::damaged(
            &path,
            "it does not hold the name of a database",
        )),
    }
}

/// Makes `name` the current database.
pub(super) fn set_current(dir: &Path, name: &str) -> Result<(), StoreError> {
    let path = dir.join("CURRENT");
    let new = dir.join("CURRENT.new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{name}")?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|e| StoreError::io("write", &path, e))?;
    sync_dir(dir)
}

/// The databases in `dir`, by name.
pub(super) fn databases(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = names_in(dir)?;
    names.retain(|name| is_number(name));
    names.sort();
    Ok(names)
}

/// A name for the next database.
pub(super) fn next_database(dir: &Path) -> Result<String, StoreError> {
    let names = databases(dir)?;
    let last = names.last().and_then(|name| name.parse().ok()).unwrap_or(0);
    let free = (last + 1..=9999).chain(1..=last).find_map(|number: u32| {
        let name = format!("{number:04}");
        (!names.contains(&name)).then_some(name)
    });
    free.ok_or_else(|| StoreError::damaged(dir, "it has ten thousand databases"))
}

/// Removes databases that do not count: what a compaction left, before it was
/// finished or after. One that somebody still has open, or that cannot be
/// removed, does no harm but for its room: the next time is soon enough. Says
/// what was done.
pub(super) fn remove_others(dir: &Path, current: &str) -> Vec<String> {
    let names = match databases(dir) {
        Ok(names) => names,
        Err(error) => return vec![error.to_string()],
    };
    let remove = |name: String| {
        let path = dir.join(name);
        let said = match is_released(&path).map(|free| free.then(|| remove_dir(&path))) {
            Ok(None) => return None,
            Ok(Some(Ok(()))) => format!(
                "removed {}, which a compaction left; nothing is lost by it",
                path.display()
            ),
            Ok(Some(Err(error))) | Err(error) => format!(
                "{} is left of a compaction, and stays for now: {error}",
                path.display()
            ),
        };
        Some(said)
    };
    let others = names.into_iter().filter(|name| name != current);
    others.filter_map(remove).collect()
}

fn is_number(name: &str) -> bool {
    name.len() == 4 && name.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let list = || {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()
    };
    list().map_err(|e| StoreError::io("list", dir, e))
}

/// Removes snapshots that were not finished: sled would take one for its
/// newest and refuse to open. Everything is in the log as well.
pub(super) fn remove_stray_snapshots(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for name in names_in(path)? {
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let stray = path.join(&name);
            fs::remove_file(&stray).map_err(|e| StoreError::io("remove", &stray, e))?;
            removed.push(format!(
                "removed {}, a snapshot that was not finished; nothing is lost by it",
                stray.display()
            ));
        }
    }
    Ok(removed)
}

/// Copies the database in `from`, which nobody has open, to `to`.
pub(super) fn back_up(from: &Path, to: &Path) -> Result<(), StoreError> {
    let part = to.with_extension("part");
    remove_dir(&part)?;
    copy_dir(from, &part)?;
    put_in_place(&part, to)
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), StoreError> {
    make_dir(to)?;
    for name in names_in(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        let is_dir = fs::metadata(&source).map(|meta| meta.is_dir());
        if is_dir.map_err(|e| StoreError::io("read", &source, e))? {
            copy_dir(&source, &target)?;
            continue;
        }
        fs::copy(&source, &target)
            .and_then(|_| File::open(&target)?.sync_all())
            .map_err(|e| StoreError::io("copy", &source, e))?;
    }
    sync_dir(to)
}

/// Removes what earlier versions set aside beside the database.
pub(super) fn remove_ballast(dir: &Path) {
    // What cannot be removed takes room, and does no other harm.
    let _ = fs::remove_file(dir.join("ballast"));
}

/// The number of the last commit, outside the database: sled opens a file that
/// was cut short as if nothing were missing.
///
/// It is written after each commit's barrier and not synced, so it may be
/// behind after a power loss, but never ahead. Two slots are written in turn,
/// each with a checksum: one of them is always whole.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
}

const SLOT_LEN: usize = 16;

impl Mark {
    /// Opens the mark of the journal in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("mark");
        let file = open_rw(&path)?;
        Ok(Self { path, file })
    }

    /// The last commit that is known; 0 when none is.
    pub(super) fn read(&self) -> Result<u64, StoreError> {
        let mut newest = 0;
        for slot in 0..2u64 {
            let mut bytes = [0; SLOT_LEN];
            match self.file.read_exact_at(&mut bytes, slot * SLOT_LEN as u64) {
                Ok(()) => newest = newest.max(parse_slot(&bytes).unwrap_or(0)),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(e) => return Err(StoreError::io("read", &self.path, e)),
            }
        }
        Ok(newest)
    }

    /// Notes that commit `number` is on disk.
    pub(super) fn write(&self, number: u64) -> Result<(), StoreError> {
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes[8..12].copy_from_slice(&crc32c::crc32c(&number.to_be_bytes()).to_be_bytes());
        self.file
            .write_all_at(&bytes, (number % 2) * SLOT_LEN as u64)
            .map_err(|e| StoreError::io("write", &self.path, e))
    }

    /// Makes it last.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file
            .sync_data()
            .map_err(|e| StoreError::io("sync", &self.path, e))
    }
}

fn parse_slot(bytes: &[u8; SLOT_LEN]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    let crc = u32::from_be_bytes(*rest.first_chunk()?);
    (crc32c::crc32c(number) == crc).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_survives_a_torn_write() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::open(dir.path()).unwrap();
        assert_eq!(mark.read().unwrap(), 0);
        for number in 1..=5 {
            mark.write(number).unwrap();
            assert_eq!(mark.read().unwrap(), number);
        }
        mark.file.write_all_at(&[0xff; 7], 16).unwrap();
        assert_eq!(mark.read().unwrap(), 4);
        assert_eq!(Mark::open(dir.path()).unwrap().read().unwrap(), 4);
    }

    #[test]
    fn current_names_a_database_or_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(current(dir.path()).unwrap(), None);
        set_current(dir.path(), "0007").unwrap();
        assert_eq!(current(dir.path()).unwrap().as_deref(), Some("0007"));
        for bad in ["", "7\n", "../1\n", "00007\n"] {
            fs::write(dir.path().join("CURRENT"), bad).unwrap();
            assert!(current(dir.path()).unwrap_err().is_damage(), "{bad:?}");
        }
    }
}
