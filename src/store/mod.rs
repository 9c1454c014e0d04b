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
mod files;
mod firehose;
mod group;
mod journal;
mod keys;
#[path = "../../migrations/mod.rs"]
mod migrations;
mod open;
mod parts;
mod reader;
mod replay;
mod rows;
mod seal;
mod search;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod types;

// The codec is a module of its own: clients read blocks too.
use crate::block::{self, varint};

pub use block::BlockError;
pub use compaction::{Compacted, Compaction, Old};
pub use error::{AppendError, StoreError};
pub use journal::{Journal, Opened};
pub use reader::{Reader, Sessions};
pub use replay::Stored;
pub use search::{Findings, Found, Stretch, Wanted};
pub use space::{Stats, free};
pub use types::{Append, BadCursor, Claim, Committed, FirehoseCursor, Options, RequestRow};
