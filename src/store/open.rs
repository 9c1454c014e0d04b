//! Opening the database: what is there is looked at before anything is
//! written, and a database that cannot be read is never replaced by an empty one.

use super::error::StoreError;
use super::files::{self, Mark};
use super::shared::{Rows, Sight, call, caught};
use super::space::{self, Space};
use super::{Options, keys, rows, salvage};
use crate::model::{HomeId, Timestamp, Ulid};
use crate::store::migrations::{self, Migration};
use sled::{Batch, Db};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long requests are remembered.
pub(super) const REQUEST_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The name of the first database.
const FIRST: &str = "0001";

/// An open database.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) db: Db,
    /// The file that a barrier has to sync.
    pub(super) file: File,
    /// Its directory.
    pub(super) path: PathBuf,
    pub(super) mark: Mark,
    pub(super) home: HomeId,
    /// How often it has been opened, this time included.
    pub(super) boots: u32,
    /// The number that the next commit's is to exceed.
    pub(super) last_commit: u64,
    /// The last commit that there is a row of; less if some were lost.
    pub(super) last_row: u64,
    /// The time of the last commit.
    pub(super) last_time: Timestamp,
    /// What it holds.
    pub(super) space: Space,
}

/// Returns when everything that was written is on disk.
///
/// On Linux sled's own flush ends with `sync_file_range`, which neither writes
/// the file's metadata nor empties the drive's cache.
pub(super) fn barrier(db: &Db, file: &File, path: &Path) -> Result<(), StoreError> {
    call(path, || db.flush())?;
    file.sync_data()
        .map_err(|e| StoreError::io("sync", &path.join("db"), e))
}

/// Opens the current database in `dir`, or makes the first. The caller has the
/// journal's lock.
pub(super) fn open(
    dir: &Path,
    options: &Options,
    warnings: &mut Vec<String>,
) -> Result<Open, StoreError> {
    open_with(dir, options, migrations::ALL, warnings)
}

pub(super) fn open_with(
    dir: &Path,
    options: &Options,
    migrations: &[Migration],
    warnings: &mut Vec<String>,
) -> Result<Open, StoreError> {
    let mark = Mark::open(dir)?;
    let marked = mark.read()?;
    let current = files::current(dir)?;
    let name = match &current {
        Some(name) => name.clone(),
        None => without_current(dir, warnings)?,
    };
    let path = dir.join(&name);
    let is_new = current.is_none() && marked == 0;
    if is_new && !path.exists() {
        make_first(&path, options)?;
    }
    if !is_new && !is_file(&path.join("db"))? {
        return Err(StoreError::damaged(&path, "there is no database"));
    }
    if !is_new {
        salvage::check_tail(&path, marked)?;
    }
    warnings.extend(files::remove_stray_snapshots(&path)?);
    let mut db = start(&path, options)?;
    let schema = identify(&db, &path, is_new, migrations)?;
    if schema > 0 && schema < migrations::newest(migrations) {
        drop(db);
        files::wait_released(&path)?;
        let backup = dir.join(format!("{name}.schema{schema}"));
        // One that is there was made whole, before anything was changed.
        if !backup.is_dir() {
            files::back_up(&path, &backup)?;
        }
        warnings.push(format!(
            "the journal was brought from schema {schema} to {}; a copy of it as it was is in {}",
            migrations::newest(migrations),
            backup.display()
        ));
        db = start(&path, options)?;
    }
    let file = file_of(&path)?;
    let barrier_here = || Ok(barrier(&db, &file, &path)?);
    caught(&path, || migrations::run(&db, migrations, &barrier_here))?.map_err(
        |(migration, why)| StoreError::Migration {
            path: path.clone(),
            id: migration.id,
            name: migration.name,
            why: why.to_string(),
        },
    )?;
    let (home, boots, space) = introduce(&db, &path, options)?;
    let (found, last_time) = last_commit(&db, &path)?;
    // What a crashed process wrote is readable, but perhaps not yet on disk.
    barrier(&db, &file, &path)?;
    files::sync_all(&path)?;
    if current.is_none() {
        files::set_current(dir, &name)?;
    }
    if found < marked {
        warnings.push(format!(
            "the journal in {} is damaged: its last commit is {found}, but {marked} was on disk \
             before; what lay between is lost",
            path.display()
        ));
    }
    Ok(Open {
        db,
        file,
        path,
        mark,
        home,
        boots,
        last_commit: found.max(marked),
        last_row: found,
        last_time,
        space,
    })
}

/// Makes the first database. It gets its name when it is whole, or a power
/// loss could leave half of one that sled would not open.
fn make_first(path: &Path, options: &Options) -> Result<(), StoreError> {
    let part = path.with_extension("part");
    files::remove_dir(&part)?;
    files::make_dir(&part)?;
    drop(start(&part, options)?);
    files::wait_released(&part)?;
    files::put_in_place(&part, path)
}

/// Opens the database in `path` itself, with the file that a barrier syncs.
pub(super) fn start_file(path: &Path, options: &Options) -> Result<(Db, File), StoreError> {
    let db = start(path, options)?;
    Ok((db, file_of(path)?))
}

fn file_of(path: &Path) -> Result<File, StoreError> {
    let path = path.join("db");
    File::options()
        .write(true)
        .open(&path)
        .map_err(|e| StoreError::io("open", &path, e))
}

/// Which database to open when nothing says which is current.
fn without_current(dir: &Path, warnings: &mut Vec<String>) -> Result<String, StoreError> {
    let names = files::databases(dir)?;
    match names.as_slice() {
        [] => Ok(FIRST.to_owned()),
        [one] => {
            warnings.push(format!(
                "{} was missing; the only database there is {one}",
                dir.join("CURRENT").display()
            ));
            Ok(one.clone())
        }
        several => Err(StoreError::damaged(
            &dir.join("CURRENT"),
            format!(
                "it is missing, and there are several databases: {}",
                several.join(", ")
            ),
        )),
    }
}

fn is_file(path: &Path) -> Result<bool, StoreError> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(meta.is_file()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(StoreError::io("read", path, e)),
    }
}

/// Opens the database itself.
fn start(path: &Path, options: &Options) -> Result<Db, StoreError> {
    files::wait_released(path)?;
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(options.cache_bytes)
        // Every commit flushes; in between there is nothing to flush.
        .flush_every_ms(None);
    call(path, || config.open())
}

/// Looks whose database this is, and returns its schema. Changes nothing.
fn identify(
    db: &Db,
    path: &Path,
    is_new: bool,
    migrations: &[Migration],
) -> Result<u32, StoreError> {
    let meta = |name: &str| call(path, || db.get(keys::meta(name)));
    let Some((first, _)) = call(path, || db.first())? else {
        if is_new {
            return Ok(0);
        }
        return Err(StoreError::damaged(path, "the database is empty"));
    };
    if meta("format")?.as_deref() != Some(b"cldpd journal") {
        // With a kind of ours in front it is a journal that lost its first rows.
        if !is_new && keys::is_ours(&first) {
            return Err(StoreError::damaged(
                path,
                "the rows that say what it is are missing",
            ));
        }
        return Err(StoreError::Foreign {
            path: path.to_owned(),
        });
    }
    let found = caught(path, || migrations::schema(db))?
        .map_err(|e| StoreError::damaged(path, format!("the schema's number: {e}")))?;
    let supported = migrations::newest(migrations);
    if found > supported {
        let by = meta("last_opened_by")?.map_or_else(
            || "of an unknown version".to_owned(),
            |by| String::from_utf8_lossy(&by).into_owned(),
        );
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            supported,
            by,
        });
    }
    Ok(found)
}

/// Writes who opened it, forgets old requests, and finishes removals. Returns
/// whose journal it is, and how often it has been opened.
fn introduce(db: &Db, path: &Path, options: &Options) -> Result<(HomeId, u32, Space), StoreError> {
    let mut space = Space::of(db, path)?;
    let meta = |name: &str| call(path, || db.get(keys::meta(name)));
    let mut batch = Batch::default();
    let home = match meta("home")? {
        Some(row) => {
            let bytes = row.as_ref().try_into();
            Ulid::from_bytes(bytes.map_err(|_| StoreError::damaged(path, "the home's id"))?)
        }
        None => {
            let home = Ulid::from_parts(options.now.millis(), Ulid::generate().random());
            batch.insert(keys::meta("home"), &home.to_bytes());
            batch.insert(keys::meta("created_by"), options.version.as_bytes());
            home
        }
    };
    let boots = match meta("boots")? {
        Some(row) => {
            let bytes = row.as_ref().try_into();
            u32::from_be_bytes(bytes.map_err(|_| StoreError::damaged(path, "the boots' number"))?)
        }
        None => 0,
    };
    let boots = boots
        .checked_add(1)
        .ok_or_else(|| StoreError::damaged(path, "it was opened too often"))?;
    batch.insert(keys::meta("boots"), &boots.to_be_bytes());
    batch.insert(keys::meta("last_opened_by"), options.version.as_bytes());
    let sight = Sight {
        db: Some(Rows::Db(db)),
        path,
        hidden: None,
    };
    space.grow(-forget_requests(&sight, options.now, &mut batch)?);
    batch.insert(keys::meta("space"), space.encode());
    call(path, || db.apply_batch(batch))?;
    for (key, _) in sight.rows(&keys::deletings())? {
        if let Some(session) = keys::deleting_ulid(&key) {
            finish_deletion(db, path, session, &mut space)?;
        }
    }
    Ok((HomeId(home), boots, space))
}

/// Removes requests that were carried out more than 24 h before `now`. Returns
/// how many bytes they were.
pub(super) fn forget_requests(
    sight: &Sight<'_>,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<i64, StoreError> {
    let (mut expired, mut bytes) = (false, 0);
    for (key, value) in sight.rows(&keys::requests())? {
        let Some((prefix, part)) = keys::split_part(&key) else {
            continue;
        };
        if part == 0 {
            // A row that cannot be read guards nothing, and goes.
            let at = rows::sealed_len(&value)
                .and_then(|_| sight.value(prefix).ok().flatten())
                .and_then(|sealed| rows::request(Ulid(0), &sealed).ok())
                .map(|row| row.at);
            expired = at.is_none_or(|at| now.since(at) > REQUEST_KEPT);
        }
        if expired {
            bytes += value.len() as i64;
            batch.remove(key);
        }
    }
    Ok(bytes)
}

/// Rows that one batch of a deletion removes.
const DELETE_STEP: usize = 1024;

/// Removes what is left of a session whose removal was begun.
pub(super) fn finish_deletion(
    db: &Db,
    path: &Path,
    session: Ulid,
    space: &mut Space,
) -> Result<(), StoreError> {
    loop {
        let (batch, is_last) = deletion_step(db, path, session, space)?;
        call(path, || db.apply_batch(batch))?;
        if is_last {
            return Ok(());
        }
    }
}

/// The next step of a session's removal, to be applied, and whether it is the last.
pub(super) fn deletion_step(
    db: &Db,
    path: &Path,
    session: Ulid,
    space: &mut Space,
) -> Result<(Batch, bool), StoreError> {
    let prefixes = [
        keys::session(session),
        keys::cursors(session),
        keys::blocks(session),
        keys::origin(session),
    ];
    let rows = prefixes.iter().flat_map(|prefix| db.scan_prefix(prefix));
    let rows: Vec<_> = call(path, || rows.take(DELETE_STEP).collect())?;
    let is_last = rows.len() < DELETE_STEP;
    let mut batch = Batch::default();
    for (key, value) in rows {
        space.row(&key, &value, false);
        batch.remove(key);
    }
    if is_last {
        batch.remove(keys::deleting(session));
    }
    batch.insert(keys::meta("space"), space.encode());
    Ok((batch, is_last))
}

/// The number and time of the last commit.
pub(super) fn last_commit(db: &Db, path: &Path) -> Result<(u64, Timestamp), StoreError> {
    let sight = Sight {
        db: Some(Rows::Db(db)),
        path,
        hidden: None,
    };
    let end = keys::with_part(&keys::commit(u64::MAX), u16::MAX);
    let key = sight.key_before(&keys::commits(), &end)?;
    let prefix = key.as_deref().and_then(keys::split_part);
    let Some(number) = prefix.and_then(|(prefix, _)| keys::commit_number(prefix)) else {
        return Ok((0, Timestamp(i64::MIN)));
    };
    let sealed = sight.value(&keys::commit(number))?;
    let sealed = sealed.ok_or_else(|| rows::damaged("commit", number, "it is missing"))?;
    Ok((number, space::last_time(number, &sealed)?))
}
