//! A typed client of the daemon's API: one method for each verb.
//!
//! HTTP/1.1 and JSON over the home's Unix socket. A request that finds nobody,
//! or whose connection breaks before the answer, is sent once more: request ids
//! make that harmless. Streams go on from their cursor when the connection
//! breaks, so that nothing is missed and nothing comes twice.
//!
//! | file | holds |
//! |---|---|
//! | `home.rs` | where things lie in a home |
//! | `socket.rs` | connecting, also to sockets too deep for an address |
//! | `launch.rs` | starting the daemon |
//! | `connection.rs` | one request, one answer |
//! | `verbs.rs`, `files.rs` | the methods |
//! | `lines.rs`, `stream.rs` | streams of events |
//! | `blocks.rs` | the same as blocks of the journal, decoded here |

mod blocks;
mod connection;
mod exec;
mod files;
mod home;
mod journal;
mod launch;
mod lines;
mod socket;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod verbs;

pub use blocks::Chunk;
pub use connection::Client;
pub use exec::{Exec, Feed};
pub use home::{HOME_VARIABLE, Home};
pub use launch::Launcher;
pub use stream::EventStream;

/// The version of this client, which the daemon has to share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
