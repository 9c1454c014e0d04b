//! What can go wrong with the journal, always with the place.

use super::RequestRow;
use super::block::BlockError;
use crate::model::{Error, ErrorCode, Ulid};
use std::io;
use std::path::{Path, PathBuf};

/// The journal could not be opened, read or written.
///
/// After one of these from a writing call nothing of that call may be called
/// durable, and the journal has to be reopened
/// ([`Journal::reopen`](super::Journal::reopen)).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the journal's could not be used.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as in "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else has the journal open.
    #[error("the journal in {path} is in use by another process", path = path.display())]
    Locked {
        /// The journal's directory.
        path: PathBuf,
    },
    /// The database could not be read or written.
    #[error("the journal in {path} failed: {source}", path = path.display())]
    Database {
        /// The database's directory.
        path: PathBuf,
        /// What it says.
        source: sled::Error,
    },
    /// What is on disk cannot be what was written. Nothing was changed.
    #[error("the journal in {path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The database's directory, or the file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A newer version of the program wrote it.
    #[error(
        "the journal in {path} has schema {found}, written by cldpd {by}; this version reads up to {supported}",
        path = path.display()
    )]
    Newer {
        /// The database's directory.
        path: PathBuf,
        /// The schema it has.
        found: u32,
        /// The newest schema that this version knows.
        supported: u32,
        /// The version that opened it last.
        by: String,
    },
    /// It is a database, but not a journal of ours.
    #[error("{path} holds a database that is not a journal of cldpd", path = path.display())]
    Foreign {
        /// The database's directory.
        path: PathBuf,
    },
    /// An older journal could not be brought up to date. It has a backup.
    #[error("migration {id} ({name}) of the journal in {path} failed: {why}", path = path.display())]
    Migration {
        /// The database's directory.
        path: PathBuf,
        /// The migration.
        id: u32,
        /// Its name.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// An event that must be there is not.
    #[error("the journal is damaged: event {seq} of session {session} is missing")]
    Gap {
        /// The session.
        session: Ulid,
        /// The first event that is missing.
        seq: u64,
    },
    /// Events are there but cannot be read.
    #[error("the journal is damaged: events of session {session} from {seq} on: {source}")]
    Block {
        /// The session.
        session: Ulid,
        /// The block's first event.
        seq: u64,
        /// What is wrong with it.
        source: BlockError,
    },
    /// A row beside the events cannot be read.
    #[error("the journal is damaged: the {kind} row {key}: {what}")]
    Row {
        /// The kind of row.
        kind: &'static str,
        /// Which.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The session's history has been, or is being, removed.
    #[error("the history of session {session} was removed")]
    Gone {
        /// The session.
        session: Ulid,
    },
    /// The event that a cursor stands behind was removed.
    #[error("cursor {cursor} stands in history that was removed")]
    Passed {
        /// The cursor.
        cursor: super::FirehoseCursor,
    },
    /// There is not enough room on the disk for it; nothing was begun.
    #[error(
        "the disk of {path} has {free} free, and {needed} are needed",
        path = path.display(), free = mebibytes(*.free), needed = mebibytes(*.needed)
    )]
    NoRoom {
        /// The journal's directory.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes that it needs.
        needed: u64,
    },
    /// The journal is being compacted already.
    #[error("the journal is being compacted already")]
    Compacting,
    /// What a compaction had copied is of no use any more: the journal was
    /// reopened, or closed, meanwhile. Nothing was changed.
    #[error("the journal was reopened while it was compacted; nothing was changed")]
    Overtaken,
    /// The journal failed earlier, or was closed, and has not been reopened.
    #[error("the journal in {path} is closed", path = path.display())]
    Closed {
        /// The journal's directory.
        path: PathBuf,
    },
}

impl StoreError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn database(path: &Path, source: sled::Error) -> Self {
        let path = path.to_owned();
        match source {
            sled::Error::Corruption { at, .. } => Self::Damaged {
                path,
                what: at.map_or_else(
                    || "the database cannot make sense of it".to_owned(),
                    |at| format!("the database cannot read {at:?}"),
                ),
            },
            source => Self::Database { path, source },
        }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let (Self::Io { source, .. }
        | Self::Database {
            source: sled::Error::Io(source),
            ..
        }) = self
        else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// The session whose projection this says is damaged.
    #[must_use]
    pub fn damaged_session(&self) -> Option<Ulid> {
        match self {
            Self::Row {
                kind: "session",
                key,
                ..
            } => key.parse().ok(),
            _ => None,
        }
    }

    /// Whether what is on disk cannot be what was written.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Gap { .. } | Self::Block { .. } | Self::Row { .. }
        )
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Gone { .. } => Self::new(ErrorCode::Gone, message),
            StoreError::Passed { .. } => Self::new(ErrorCode::Gone, message)
                .hint("read on from a time (`since`), or from the beginning"),
            StoreError::NoRoom { .. } => {
                Self::new(ErrorCode::TryLater, message).hint("make room on the disk first")
            }
            StoreError::Compacting | StoreError::Overtaken => {
                Self::new(ErrorCode::Refused, message)
            }
            StoreError::Newer { .. } => Self::new(ErrorCode::JournalFailed, message)
                .hint("use the version of cldpd that wrote it, or a newer one"),
            StoreError::Locked { .. } => Self::new(ErrorCode::JournalFailed, message)
                .hint("is another daemon running for this home?"),
            StoreError::Foreign { .. } => Self::new(ErrorCode::JournalFailed, message)
                .hint("choose another home by CLDPD_HOME"),
            StoreError::Io { .. } | StoreError::Database { .. } if error.is_full() => {
                Self::new(ErrorCode::JournalFailed, message)
                    .hint("make room on the disk; it goes on by itself")
            }
            StoreError::Damaged { .. } => Self::new(ErrorCode::JournalDamaged, message).hint(
                "nothing was changed: `cldpd journal verify` says what can be read, \
                 `cldpd journal export -o FILE` saves it",
            ),
            StoreError::Gap { .. } | StoreError::Block { .. } | StoreError::Row { .. } => {
                Self::new(ErrorCode::JournalDamaged, message)
                    .hint("`cldpd journal verify` says what else is damaged")
            }
            StoreError::Io { .. }
            | StoreError::Database { .. }
            | StoreError::Migration { .. }
            | StoreError::Closed { .. } => Self::new(ErrorCode::JournalFailed, message),
        }
    }
}

/// As in "12 MiB".
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// One append was refused; the others of its commit were not hindered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has claimed the session since, or nobody has.
    #[error("generation {given} of session {session} is over")]
    Stale {
        /// The session.
        session: Ulid,
        /// The generation that the append came with.
        given: u64,
        /// The one that holds, if any.
        current: Option<u64>,
    },
    /// The events do not follow the last one recorded, or each other.
    #[error("event {found} of session {session} came where {expected} was due")]
    WrongSeq {
        /// The session.
        session: Ulid,
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The request's id was used before, for something else.
    #[error("request {id} was made before with another body")]
    RequestMismatch {
        /// The request.
        id: Ulid,
    },
    /// The request was carried out before; this is its row.
    #[error("request {} was carried out before", .0.id)]
    RequestDone(Box<RequestRow>),
    /// An event, a projection or an answer is larger than the journal takes.
    #[error("{what} of session {session} has {bytes} bytes, more than the {max} that fit")]
    TooLarge {
        /// The session.
        session: Ulid,
        /// Which thing, as in "event 7".
        what: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// An event or a projection could not be written down.
    #[error("{what} of session {session} cannot be encoded: {why}")]
    Encode {
        /// The session.
        session: Ulid,
        /// Which thing.
        what: String,
        /// Why.
        why: String,
    },
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let message = error.to_string();
        match error {
            AppendError::RequestMismatch { .. } => Self::new(ErrorCode::Usage, message)
                .hint("a request id may be used again only for the same request"),
            AppendError::TooLarge { .. } => Self::new(ErrorCode::Usage, message),
            AppendError::Stale { .. }
            | AppendError::WrongSeq { .. }
            | AppendError::RequestDone(_)
            | AppendError::Encode { .. } => Self::new(ErrorCode::Internal, message),
        }
    }
}
