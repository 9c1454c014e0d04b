//! The journal of a home that no daemon has, under the locks that a daemon takes.
//!
//! A daemon that starts meanwhile is told that the home is taken, as by another
//! daemon. Nothing is dispatched or taken over here. What only looks does not
//! open the journal, and so works on one that a daemon refuses to open.

use super::{Config, socket};
use crate::actors::offline_stats;
use crate::client::Home;
use crate::model::api::{CompactResponse, Exported, Imported, JournalQuery, JournalStats, Rebuilt};
use crate::model::{Error, ErrorCode, Result, SessionRecord, Timestamp, Ulid};
use crate::store::{Closed, Import, Journal, Options, Tell, Write};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How much of the database is kept in memory, in bytes.
const CACHE_BYTES: u64 = 32 << 20;

/// A journal without a daemon.
pub struct Offline {
    home: Home,
    dir: PathBuf,
    /// Given back last.
    _lock: File,
}

impl Offline {
    /// Takes the home; nothing where there is no journal yet.
    ///
    /// # Errors
    /// `refused` when a daemon has the home.
    pub fn find(home: &Home) -> Result<Option<Self>> {
        match home.root().join("journal").is_dir() {
            true => Self::take(home).map(Some),
            false => Ok(None),
        }
    }

    /// Takes the home, which is made where it is not there.
    ///
    /// # Errors
    /// `refused` when a daemon has the home.
    pub fn take(home: &Home) -> Result<Self> {
        home.make()?;
        Ok(Self {
            _lock: socket::lock(home)?,
            dir: home.root().join("journal"),
            home: home.clone(),
        })
    }

    /// Opens the journal as a daemon does, with what there is to say about it.
    ///
    /// # Errors
    /// `journal_damaged`, `journal_failed`.
    pub fn open(&self) -> Result<(Journal, Vec<String>)> {
        let options = Options {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cache_bytes: CACHE_BYTES,
            now: Timestamp::now(),
        };
        let opened = Journal::open(&self.dir, options)?;
        Ok((opened.journal, opened.warnings))
    }

    /// The journal in numbers, and what retention would remove.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stats(&self, query: JournalQuery) -> Result<JournalStats> {
        let (journal, _) = self.open()?;
        let config = Config::read(&self.home)?;
        let limits = (config.retention, config.min_free);
        offline_stats(&journal.reader(), &self.dir, query, limits)
    }

    /// Compacts it.
    ///
    /// # Errors
    /// `try_later` when the disk has no room for the copy; `journal_failed`.
    pub fn compact(&self) -> Result<CompactResponse> {
        let (mut journal, _) = self.open()?;
        let mut compaction = journal.begin_compaction().map_err(Error::from)?;
        loop {
            compaction.copy(&|| false).map_err(Error::from)?;
            let done = journal.finish_compaction(&mut compaction);
            if let Some(done) = done.map_err(Error::from)? {
                let compacted = CompactResponse {
                    before: done.before,
                    after: done.after,
                    sessions: done.sessions,
                    damaged: done.damaged,
                };
                if let Err(error) = done.old.discard() {
                    tracing::warn!(%error, "an old database is left until the journal is opened again");
                }
                return Ok(compacted);
            }
        }
    }

    /// Looks through the whole journal and tells what is wrong. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be read at all.
    pub fn verify(&self, tell: &mut Tell<'_>) -> Result<()> {
        Closed::read(&self.dir)?.verify(tell).map_err(Error::from)
    }

    /// Writes sessions down, those that are named or all. Changes nothing.
    ///
    /// # Errors
    /// `session_not_found`, `ambiguous`; when it cannot be read at all.
    pub fn export(&self, named: &[String], write: &mut Write<'_>) -> Result<Exported> {
        let journal = Closed::read(&self.dir)?;
        let mut of = Vec::new();
        if !named.is_empty() {
            let sessions = journal.sessions()?;
            for name in named {
                of.push(find(&sessions, name)?);
            }
        }
        let of = (!named.is_empty()).then_some(of.as_slice());
        Ok(journal.export(of, Timestamp::now(), write)?)
    }

    /// Takes in the sessions of an export.
    ///
    /// # Errors
    /// `journal_damaged`, with the line, for what is no whole export; `refused`
    /// when a session is here already and differs. Nothing is recorded then.
    pub fn import(&self, from: &mut dyn Read) -> Result<Imported> {
        let kept = scratch(self.home.root()).and_then(|mut file| {
            io::copy(from, &mut file)?;
            Ok(file)
        });
        let file = kept.map_err(|error| {
            let message = format!("the export cannot be read: {error}");
            Error::new(ErrorCode::CopyFailed, message)
        })?;
        let (mut journal, _) = self.open()?;
        let mut import = Import::check(file, &journal.reader(), journal.home())?;
        while let Some(batch) = import.batch()? {
            journal.import(batch)?;
        }
        Ok(import.report)
    }

    /// Makes all projections again from events.
    ///
    /// # Errors
    /// When the journal cannot be opened, read or written.
    pub fn rebuild(&self) -> Result<Rebuilt> {
        let (mut journal, _) = self.open()?;
        Ok(journal.rebuild_all()?)
    }
}

/// A file in `dir` that has no name and is gone when it is closed.
pub(super) fn scratch(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("import-{}", Ulid::generate()));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// A session by its ULID, its id, its name, or how its id begins.
fn find(sessions: &[(Ulid, Option<SessionRecord>)], name: &str) -> Result<Ulid> {
    let known =
        |record: &SessionRecord| record.id.as_str() == name || record.name.as_deref() == Some(name);
    let begins = |record: &SessionRecord| record.id.as_str().starts_with(name);
    let matching = |fits: &dyn Fn(&SessionRecord) -> bool| -> Vec<Ulid> {
        let fitting = sessions
            .iter()
            .filter(|(_, record)| record.as_ref().is_some_and(fits));
        fitting.map(|(ulid, _)| *ulid).collect()
    };
    if let Some((ulid, _)) = sessions.iter().find(|(ulid, _)| ulid.to_string() == name) {
        return Ok(*ulid);
    }
    for found in [matching(&known), matching(&begins)] {
        match found.as_slice() {
            [] => {}
            [one] => return Ok(*one),
            _ => {
                let message = format!("\"{}\" fits several sessions", name.escape_debug());
                return Err(Error::new(ErrorCode::Ambiguous, message));
            }
        }
    }
    let message = format!("there is no session \"{}\"", name.escape_debug());
    Err(Error::new(ErrorCode::SessionNotFound, message)
        .hint("`cldpd journal verify` names those that are damaged by their ULIDs"))
}
