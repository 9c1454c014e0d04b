//! Changes of the journal's schema, one file each, and what runs them.
//!
//! Migration n makes schema n out of schema n - 1. Each has frozen copies of
//! the types that it reads and writes, so that it does the same for ever.
//! `up` may be interrupted anywhere and run again: it must end the same.

mod m0001_initial;

use sled::Db;
use std::error::Error;

/// What the row says that holds the schema's number.
const SCHEMA: &[u8] = b"\x01schema";

/// One step of the schema.
pub(crate) struct Migration {
    /// The schema that it makes.
    pub(crate) id: u32,
    /// Its name, as in the file's.
    pub(crate) name: &'static str,
    /// Does it. May run twice.
    pub(crate) up: fn(&Db) -> Result<(), Box<dyn Error>>,
}

/// All migrations there are.
pub(crate) const ALL: &[Migration] = &[Migration {
    id: 1,
    name: "initial",
    up: m0001_initial::up,
}];

/// The newest schema among `migrations`.
pub(crate) fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.id)
}

/// The schema that `db` has; 0 for one that has none yet.
pub(crate) fn schema(db: &Db) -> Result<u32, Box<dyn Error>> {
    let Some(row) = db.get(SCHEMA)? else {
        return Ok(0);
    };
    let number: [u8; 4] = row.as_ref().try_into()?;
    Ok(u32::from_be_bytes(number))
}

/// Brings `db` to the newest schema. `barrier` returns once everything written
/// so far is on disk.
///
/// # Errors
/// Which migration failed, and why. What was done before stays.
pub(crate) fn run<'m>(
    db: &Db,
    migrations: &'m [Migration],
    barrier: &dyn Fn() -> Result<(), Box<dyn Error>>,
) -> Result<(), (&'m Migration, Box<dyn Error>)> {
    for migration in migrations {
        let step = || {
            if schema(db)? >= migration.id {
                return Ok(());
            }
            (migration.up)(db)?;
            // The schema's number may not be on disk before what it stands for.
            barrier()?;
            db.insert(SCHEMA, &migration.id.to_be_bytes())?;
            barrier()
        };
        step().map_err(|error| (migration, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_no_gap() {
        for (migration, id) in ALL.iter().zip(1..) {
            assert_eq!(migration.id, id, "{}", migration.name);
        }
    }

    #[test]
    fn every_file_is_a_migration() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let names = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "mod.rs")
            .collect();
        names.sort();
        let known = ALL.iter().map(|m| format!("m{:04}_{}.rs", m.id, m.name));
        assert_eq!(names, known.collect::<Vec<_>>());
    }

    fn double(db: &Db) -> Result<(), Box<dyn Error>> {
        // Running twice must not double twice: what is done is marked.
        let mut batch = sled::Batch::default();
        for row in db.scan_prefix(b"old") {
            let (key, value) = row?;
            batch.remove(&key);
            let new = [b"new", &key[3..]].concat();
            batch.insert(new, [value.as_ref(), value.as_ref()].concat());
        }
        db.apply_batch(batch)?;
        Ok(())
    }

    fn fail(_: &Db) -> Result<(), Box<dyn Error>> {
        Err("no room".into())
    }

    const SYNTHETIC: [Migration; 2] = [
        Migration {
            id: 1,
            name: "initial",
            up: m0001_initial::up,
        },
        Migration {
            id: 2,
            name: "double",
            up: double,
        },
    ];

    #[test]
    fn a_migration_interrupted_anywhere_ends_the_same() {
        // The barriers are where it can be interrupted with something on disk.
        for interrupted_at in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let db = sled::open(dir.path()).unwrap();
            db.insert(b"old1", b"x").unwrap();
            let left = std::cell::Cell::new(interrupted_at);
            let crash = || {
                let now = left.get();
                left.set(now - 1);
                if now == 0 {
                    return Err("crash".into());
                }
                Ok(())
            };
            let first = run(&db, &SYNTHETIC, &crash);
            assert_eq!(first.is_ok(), interrupted_at == 4);
            assert!(run(&db, &SYNTHETIC, &|| Ok(())).is_ok());
            assert_eq!(schema(&db).unwrap(), 2);
            assert_eq!(db.get(b"new1").unwrap().unwrap(), b"xx");
            assert_eq!(db.get(b"old1").unwrap(), None);
        }
    }

    #[test]
    fn a_failed_migration_is_named_and_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        let broken = [Migration {
            id: 1,
            name: "broken",
            up: fail,
        }];
        let (migration, error) = run(&db, &broken, &|| Ok(())).unwrap_err();
        assert_eq!(
            (migration.name, error.to_string().as_str()),
            ("broken", "no room")
        );
        assert_eq!(schema(&db).unwrap(), 0);
    }
}
