//! Coming to speak with a shim: its socket is awaited, its listener checked,
//! before anything is said.

use super::bytes::Bad;
use super::files;
use super::types::{Hello, ShimError};
use super::wire::{self, Answer, Request};
use crate::model::Ulid;
use crate::runtime::session_dir::RunDir;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// A shim that listens but does not answer within this is taken for stuck (or paused).
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How much of a shim's complaint is read.
const COMPLAINT_MAX: u64 = 4096;

/// Who has to be at the other end of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The first process of a container.
    Container {
        /// Its pid on this machine, where the engine says it.
        pid: Option<u32>,
    },
    /// A process of our own user.
    Local,
}

/// Connects, checks who listens, and says hello.
pub(super) async fn connect(
    dir: &RunDir,
    peer: Peer,
    generation: u64,
    patience: Duration,
) -> Result<(UnixStream, Hello, Vec<u8>), ShimError> {
    let deadline = Instant::now() + patience;
    let path = dir.path();
    let mut stream = reach(&path, patience, deadline).await?;
    check_peer(&stream, peer, &path)?;
    let late = deadline.max(Instant::now() + HANDSHAKE);
    timeout_at(late, greet(&mut stream, generation, &path))
        .await
        .map_err(|_| ShimError::Timeout { dir: shown(&path) })?
        .map(|(hello, rest)| (stream, hello, rest))
}

/// Connects as soon as there is a socket.
pub(super) async fn reach(
    path: &Path,
    patience: Duration,
    deadline: Instant,
) -> Result<UnixStream, ShimError> {
    let broken = |source| ShimError::Io {
        dir: shown(path),
        source,
    };
    let dead = || ShimError::Dead { dir: shown(path) };
    let directory = match files::directory(path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(dead()),
        Err(error) => return Err(broken(error)),
    };
    // Watched before the first look, so that nothing can appear in between unseen.
    let mut watch = if patience.is_zero() {
        None
    } else {
        Some(files::Watch::new(path).map_err(broken)?)
    };
    loop {
        match attempt(&directory).await {
            Ok(stream) => return Ok(stream),
            // The socket gets its name when it listens already: nobody does any more.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(dead()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(broken(error)),
            Err(_) => {}
        }
        if let Ok(Some(message)) = files::small_text(&directory, "fail", COMPLAINT_MAX) {
            return Err(ShimError::Failed {
                dir: shown(path),
                message: message.trim_end().to_owned(),
            });
        }
        let Some(watch) = &mut watch else {
            return Err(dead());
        };
        match timeout_at(deadline, watch.changed()).await {
            Ok(changed) => changed.map_err(broken)?,
            Err(_) => return Err(ShimError::Timeout { dir: shown(path) }),
        }
    }
}

/// One try. The path is through a descriptor: sockets' paths have to be
/// shorter than ours are, and the thing found is the thing connected to.
async fn attempt(directory: &OwnedFd) -> io::Result<UnixStream> {
    let socket = files::handle(directory, "ctl.sock")?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

pub(super) fn check_peer(stream: &UnixStream, peer: Peer, path: &Path) -> Result<(), ShimError> {
    let credentials = stream.peer_cred().map_err(|source| ShimError::Io {
        dir: shown(path),
        source,
    })?;
    let found = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    let impostor = |expected: String, found: String| {
        Err(ShimError::Impostor {
            dir: shown(path),
            expected,
            found,
        })
    };
    match peer {
        Peer::Container { pid: Some(pid) } if found != Some(pid) => {
            let found = found.map_or_else(|| "nobody known".to_owned(), |pid| pid.to_string());
            impostor(format!("process {pid}"), format!("process {found}"))
        }
        Peer::Container { .. } => Ok(()),
        Peer::Local => {
            let own = rustix::process::geteuid().as_raw();
            if credentials.uid() == own {
                return Ok(());
            }
            impostor(format!("user {own}"), format!("user {}", credentials.uid()))
        }
    }
}

async fn greet(
    stream: &mut UnixStream,
    generation: u64,
    path: &Path,
) -> Result<(Hello, Vec<u8>), ShimError> {
    let hello = Request::Hello {
        version: wire::VERSION,
        generation,
    };
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ShimError::Closed,
        _ => ShimError::Io {
            dir: shown(path),
            source: error,
        },
    };
    stream
        .write_all(&wire::frame(&hello.encode()))
        .await
        .map_err(lost)?;
    let mut buffer = Vec::new();
    let mut greeting = None;
    let mut known = Vec::new();
    loop {
        let Some(answer) = next_answer(&mut buffer).map_err(ShimError::Protocol)? else {
            if stream.read_buf(&mut buffer).await.map_err(lost)? == 0 {
                return Err(ShimError::Closed);
            }
            continue;
        };
        match (answer, &greeting) {
            (Answer::Hello(said), None) if said.version == wire::VERSION => greeting = Some(said),
            (Answer::Hello(said), None) => {
                return Err(ShimError::Version {
                    shim: said.version,
                    ours: wire::VERSION,
                });
            }
            (Answer::Known(ids), Some(_)) if known.len() + ids.len() <= wire::COMMANDS_MAX => {
                known.extend(ids.into_iter().map(|(id, how)| (Ulid(id), how)));
            }
            (Answer::Ready, Some(greeting)) => {
                let hello = Hello::new(greeting.clone(), known);
                return Ok((hello, buffer));
            }
            (
                Answer::Unwelcome {
                    version,
                    generation,
                },
                None,
            ) => {
                if version == wire::VERSION {
                    return Err(ShimError::Displaced { generation });
                }
                return Err(ShimError::Version {
                    shim: version,
                    ours: wire::VERSION,
                });
            }
            (Answer::Displaced { generation }, _) => {
                return Err(ShimError::Displaced { generation });
            }
            _ => return Err(ShimError::Protocol(Bad("the greeting is out of order"))),
        }
    }
}

/// Takes the answer at the front of `buffer`, if it is there whole.
pub(super) fn next_answer(buffer: &mut Vec<u8>) -> Result<Option<Answer>, Bad> {
    let Some(length) = wire::frame_length(buffer)? else {
        return Ok(None);
    };
    let Some(payload) = buffer.get(4..4 + length) else {
        return Ok(None);
    };
    let answer = Answer::decode(payload)?;
    buffer.drain(..4 + length);
    Ok(Some(answer))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
