//! The first schema: an empty database becomes a journal.

use sled::Db;
use std::error::Error;

/// Says what the database is, so that no other is taken for a journal.
pub(crate) fn up(db: &Db) -> Result<(), Box<dyn Error>> {
    db.insert(b"\x01format", b"cldpd journal")?;
    Ok(())
}
