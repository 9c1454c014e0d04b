//! The shim, seen from outside: its binary, its client and the reader of its spool.
//!
//! The formats are the shim's own source files, so that both sides are always
//! of one mind. What lies in a run's directory was in the hands of a container
//! and is not trusted: nothing there is followed, believed or read without bound.

#[path = "../../../shim/bytes.rs"]
pub mod bytes;
#[path = "../../../shim/channel.rs"]
pub mod channel;
mod client;
#[path = "../../../shim/command.rs"]
pub mod command;
mod connect;
#[path = "../../../shim/crc.rs"]
pub mod crc;
mod exec;
pub(crate) mod files;
mod install;
#[path = "../../../shim/purge.rs"]
pub(crate) mod purge;
mod read;
#[path = "../../../shim/redact.rs"]
pub(crate) mod redact;
#[cfg(test)]
#[path = "../../../shim/sha256.rs"]
mod sha256;
#[path = "../../../shim/spool.rs"]
pub mod spool;
#[path = "../../../shim/stat.rs"]
pub(crate) mod stat;
#[cfg(test)]
mod tests;
mod types;
#[path = "../../../shim/wire.rs"]
pub mod wire;

pub use client::Shim;
pub use connect::Peer;
pub use exec::{Channel, ExecError};
pub use install::{container_command, install, local_arguments, prepare_run};
pub use read::{Control, Record, RecordBody, Spool, SpoolError};
pub use types::{Hello, RunBody, ShimError};

/// The shim's program; empty where this machine cannot run it.
pub const BINARY: &[u8] = include_bytes!(env!("CLDPD_SHIM"));

/// The architecture that [`BINARY`] is for, as images name it.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};

/// Exit code of a shim that has something to complain about itself.
pub const SHIM_FAILED: u8 = 125;
