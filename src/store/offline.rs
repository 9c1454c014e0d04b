//! A journal that is not opened, only read: also one that cannot be opened.

use super::error::StoreError;
use super::export::{self, Head, Write};
use super::files::{self, Mark};
use super::salvage::Salvage;
use super::shared::Sight;
use super::verify::{self, Tell};
use super::walk::{Look, next_session};
use super::{keys, rows};
use crate::model::api::{Exported, Finding, VerifyEvent};
use crate::model::{HomeId, SessionRecord, Timestamp, Ulid};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A journal that nobody has open, as far as it can be read. Nothing of it is changed.
#[derive(Debug)]
pub struct Closed {
    /// Held so that nobody opens it meanwhile.
    _lock: File,
    dir: PathBuf,
    rows: Salvage,
    /// What is amiss besides the rows.
    amiss: Vec<String>,
}

impl Closed {
    /// Reads the journal in `dir`.
    ///
    /// # Errors
    /// When somebody has it open, or there is no database at all.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let lock = files::lock(dir)?;
        let mut amiss = Vec::new();
        let names = files::databases(dir)?;
        let name = match files::current(dir) {
            Ok(Some(name)) if names.contains(&name) => name,
            Ok(None) if names.is_empty() => {
                return Err(StoreError::damaged(dir, "there is no database"));
            }
            found => {
                amiss.push(match found {
                    Ok(Some(name)) => format!("CURRENT names {name}, which is not there"),
                    Ok(None) => "CURRENT is missing".to_owned(),
                    Err(error) => error.to_string(),
                });
                let newest = names.last().cloned();
                newest.ok_or_else(|| StoreError::damaged(dir, "there is no database"))?
            }
        };
        let path = dir.join(&name);
        if !path.join("db").is_file() {
            return Err(StoreError::damaged(&path, "there is no database"));
        }
        files::wait_released(&path)?;
        if let Err(error) = std::fs::metadata(path.join("conf")) {
            amiss.push(format!("{}: {error}", path.join("conf").display()));
        }
        let rows = Salvage::read(&path)?;
        for (from, len) in rows.holes() {
            amiss.push(format!(
                "{len} bytes from {from} on of {} cannot be read",
                path.join("db").display()
            ));
        }
        let mut closed = Self {
            _lock: lock,
            dir: dir.to_owned(),
            rows,
            amiss,
        };
        closed.look_at_mark()?;
        Ok(closed)
    }

    fn look_at_mark(&mut self) -> Result<(), StoreError> {
        if !self.dir.join("mark").exists() {
            return Ok(());
        }
        let marked = Mark::open(&self.dir)?.read()?;
        let end = keys::with_part(&keys::commit(u64::MAX), u16::MAX);
        let last = self.rows.last_between(&keys::commits(), &end);
        let prefix = last.as_deref().and_then(keys::split_part);
        let last = prefix.and_then(|(prefix, _)| keys::commit_number(prefix));
        let last = last.unwrap_or(0);
        if last < marked {
            self.amiss.push(format!(
                "the last commit that can be read is {last}, but {marked} was on disk before"
            ));
        }
        Ok(())
    }

    /// The home that it belongs to; one without a number where that cannot be read.
    #[must_use]
    pub fn home(&self) -> HomeId {
        let row = self.rows.get(&keys::meta("home")).ok().flatten();
        let bytes = row.and_then(|row| row.as_ref().try_into().ok());
        HomeId(bytes.map_or(Ulid::nil(), Ulid::from_bytes))
    }

    /// Sessions there are, each with what is known of it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sessions(&self) -> Result<Vec<(Ulid, Option<SessionRecord>)>, StoreError> {
        let mut found = Vec::new();
        self.look(|sight, _| {
            let mut after = None;
            while let Some(session) = next_session(sight, after)? {
                after = Some(session);
                found.push((session, record(sight, session)));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Looks through everything, as [`Reader::verify`](super::Reader::verify).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn verify(&self, tell: &mut Tell<'_>) -> Result<(), StoreError> {
        let before = self.amiss.len() as u64;
        for what in &self.amiss {
            let finding = Finding {
                what: what.clone(),
                ..Finding::default()
            };
            if tell(VerifyEvent::Damage(finding)).is_break() {
                return Ok(());
            }
        }
        verify::verify(self, &|| false, &mut |event| match event {
            VerifyEvent::Verified(mut verified) => {
                verified.damage += before;
                tell(VerifyEvent::Verified(verified))
            }
            event => tell(event),
        })
    }

    /// Writes sessions down, as [`Reader::export`](super::Reader::export).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn export(
        &self,
        of: Option<&[Ulid]>,
        now: Timestamp,
        write: &mut Write<'_>,
    ) -> Result<Exported, StoreError> {
        export::export(self, &Head::new(self.home(), now), of, write)
    }
}

fn record(sight: &Sight<'_>, session: Ulid) -> Option<SessionRecord> {
    let sealed = sight.value(&keys::session(session)).ok().flatten()?;
    rows::record(session, &sealed).ok()
}

impl Look for Closed {
    fn look<T>(
        &self,
        take: impl FnOnce(&Sight<'_>, u64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.rows.look(take)
    }
}
