//! Connecting to the daemon's socket.
//!
//! An address of a Unix socket holds 108 bytes, a home's path may be longer:
//! then the socket is reached through its open directory, so that no home is
//! too deep to be used.

use super::home::Home;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// What fits an address, with the byte that ends it.
const ADDRESS_MAX: usize = 108;

/// The socket of a home's daemon: the recorded one where there is a record.
pub(super) fn path(home: &Home) -> PathBuf {
    let recorded = std::fs::read(home.socket_record()).unwrap_or_default();
    let recorded = recorded.trim_ascii_end();
    if recorded.is_empty() {
        return home.socket();
    }
    PathBuf::from(std::ffi::OsString::from_vec(recorded.to_vec()))
}

/// Connects to the socket of a home's daemon.
pub(super) async fn connect(home: &Home) -> io::Result<UnixStream> {
    let path = path(home);
    if path.as_os_str().len() < ADDRESS_MAX {
        return UnixStream::connect(&path).await;
    }
    connect_long(&path).await
}

#[cfg(target_os = "linux")]
async fn connect_long(path: &Path) -> io::Result<UnixStream> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;
    let name = path.file_name().unwrap_or_else(|| OsStr::from_bytes(b"."));
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    let dir = rustix::fs::open(
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    // The directory stays open until the connection stands.
    let stream = UnixStream::connect(&short).await;
    drop(dir);
    stream
}

#[cfg(not(target_os = "linux"))]
async fn connect_long(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Resolves when the process at the other end of `stream` has ended. `None`
/// where the system cannot tell.
pub(super) fn peer_end(
    stream: &UnixStream,
) -> Option<impl Future<Output = io::Result<()>> + use<>> {
    let pid = stream.peer_cred().ok()?.pid()?;
    process_end(pid)
}

#[cfg(target_os = "linux")]
fn process_end(pid: i32) -> Option<impl Future<Output = io::Result<()>> + use<>> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::net::unix::pipe::Receiver;
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
    // A process's descriptor becomes readable, as a pipe does, with the end of
    // the process. Nothing is ever read from it.
    let end = Receiver::from_owned_fd_unchecked(pidfd).ok()?;
    Some(async move { end.readable().await })
}

#[cfg(not(target_os = "linux"))]
fn process_end(_: i32) -> Option<std::future::Ready<io::Result<()>>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test(flavor = "current_thread")]
    async fn a_socket_in_a_deep_home_is_reached() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let deep = dir.path().join("d".repeat(90)).join("e".repeat(90));
        let home = Home::new(&deep).map_err(io::Error::other)?;
        std::fs::create_dir_all(home.run())?;
        // Bound under a short name, then moved to where no address reaches.
        let short = dir.path().join("s");
        let listener = UnixListener::bind(&short)?;
        std::fs::rename(&short, home.socket())?;
        let (client, server) = tokio::join!(connect(&home), listener.accept());
        client?;
        server?;
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_end_of_a_process_is_awaited() -> io::Result<()> {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let Some(end) = process_end(pid) else {
            return Err(io::Error::other("no descriptor of the process"));
        };
        drop(child.stdin.take());
        end.await?;
        child.wait().map(|_| ())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_recorded_socket_goes_before_the_usual_one() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let home = Home::new(dir.path().join("home")).map_err(io::Error::other)?;
        std::fs::create_dir_all(home.run())?;
        let other = dir.path().join("other.sock");
        std::fs::write(home.socket_record(), format!("{}\n", other.display()))?;
        let listener = UnixListener::bind(&other)?;
        let (client, server) = tokio::join!(connect(&home), listener.accept());
        client?;
        server?;
        Ok(())
    }
}
