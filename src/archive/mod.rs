//! Tar archives of files: made of what lies on this machine, carried between
//! blocking readers and asynchronous streams, and taken apart again without
//! trusting what is in them.
//!
//! Everything here is streamed: a file of any size takes a few buffers.

mod pack;
mod pipe;
mod rewrite;
#[cfg(test)]
mod tests;
mod unpack;

pub use pack::Packer;
pub use pipe::{Chunks, consume, produce, transform};
pub use rewrite::rewrite;
pub use unpack::{Root, Unpacked, unpack};

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path};

/// Whom a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u64,
    /// The group.
    pub gid: u64,
}

/// The same error, with the path that it is about before it.
fn of(path: &Path, error: io::Error) -> io::Error {
    let text = error.to_string();
    let words = text.split(" (os error ").next().unwrap_or(&text);
    io::Error::new(error.kind(), format!("{}: {words}", path.display()))
}

/// The parts of a path in an archive.
///
/// # Errors
/// When it leads out of the archive.
fn parts(path: &Path) -> io::Result<Vec<OsString>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_owned()),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                let message = format!("the archive names {}, which is outside", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
    Ok(parts)
}
