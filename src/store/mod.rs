//! The journal: everything that happened, in one sled database.
//!
//! [`Journal`] writes and lives on one thread; [`Reader`]s are cheap and many.
//! What a reader sees is on disk: the rows of a commit stay invisible until
//! its barrier is done. Events of a session are dense; a reader that finds a
//! hole reports it and never skips it.

mod ahead;
mod commit;
mod compaction;
mod copy;
mod error;
mod export;
mod files;
mod firehose;
mod fold;
mod group;
mod import;
mod journal;
mod keys;
#[path = "../../migrations/mod.rs"]
mod migrations;
mod offline;
mod open;
mod parts;
mod reader;
mod replay;
mod reserve;
mod rows;
mod salvage;
mod seal;
mod search;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod types;
mod verify;
mod walk;

// The codec is a module of its own: clients read blocks too.
use crate::block::{self, varint};

pub use block::BlockError;
pub use compaction::{Compacted, Compaction, Old};
pub use error::{AppendError, StoreError};
pub use export::{Head, Write};
pub use import::{Batch, Import};
pub use journal::{Journal, Opened};
pub use offline::Closed;
pub use reader::{Reader, Sessions};
pub use replay::Stored;
pub use search::{Findings, Found, Stretch, Wanted};
pub use space::{Stats, free};
pub use types::{Append, BadCursor, Claim, Committed, FirehoseCursor, Options, RequestRow};
pub use verify::Tell;
