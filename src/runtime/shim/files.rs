//! Opening what lies in a run's directory: beneath it, without following links,
//! never blocking.

use rustix::fs::{FileType, Mode, OFlags, fstat, inotify, openat};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The directory, as a place to open things beneath.
pub(crate) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A regular file, to be read. Anything else that has its name is an error.
pub(crate) fn regular(directory: &OwnedFd, name: &str) -> io::Result<File> {
    // NONBLOCK: a pipe in the file's place must not make us wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not a regular file",
        ));
    }
    Ok(File::from(fd))
}

/// A handle on the thing itself, whatever it is.
pub(crate) fn handle(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

/// At most `max` bytes of a small text file; `None` when it is not there.
pub(crate) fn small_text(directory: &OwnedFd, name: &str, max: u64) -> io::Result<Option<String>> {
    let file = match regular(directory, name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// A descriptor that becomes readable at some time, to be awaited. It has to be
/// non-blocking if it is read.
///
/// tokio's `AsyncFd` cannot be made without `unsafe`; its pipes can, and the
/// unchecked ones take any descriptor that can be waited for.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd_unchecked(fd)
}

/// Tells when something appears in a directory, or goes.
pub(crate) struct Watch(pipe::Receiver);

impl Watch {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let what = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, path, what)?;
        readable(fd).map(Self)
    }

    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.0.read(&mut events).await.map(|_| ())
    }
}
