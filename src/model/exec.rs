//! What goes over the connection of `POST /v1/sessions/{ref}/exec`.
//!
//! The request has `Connection: Upgrade` and `Upgrade: cldpd-exec`, and an
//! [`ExecRequest`](super::api::ExecRequest) as its body. A command that cannot be
//! run is answered with an error (`command_not_found`, `command_not_executable`,
//! `refused` when the session does not run); one that runs with `101 Switching
//! Protocols`. From then on there are frames both ways: a length of four bytes
//! (little-endian, at most 262144), then so many bytes, of which the first is the
//! kind:
//!
//! | to the command | | from the command | |
//! |---|---|---|---|
//! | 9 | bytes for its standard input | 9 | bytes of its standard output |
//! | 10 | its standard input ends | 10 | bytes of its standard error |
//! | 11 | a signal's number, four bytes | 11 | so many bytes of input are off the way, four bytes |
//! | | | 12 | it has ended: exit code, one byte, and the signal or 0, four bytes |
//!
//! At most 262144 bytes of input may be under way, that is, sent and not yet off
//! the way; who sends more is cut off. Who does not read slows down that command
//! and nobody else. The command ends with the connection: SIGTERM, then SIGKILL.
//! Nothing of all this is recorded.

use std::fmt;

/// What the `Upgrade` header says.
pub const UPGRADE: &str = "cldpd-exec";
/// So many bytes of input may be under way.
pub const WINDOW: usize = 256 * 1024;
/// Longest frame, without its length.
pub const FRAME_MAX: usize = 256 * 1024;
/// Longest piece of input that we put into one frame.
pub const PIECE: usize = 32 * 1024;

/// What is sent to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Bytes for its standard input, at most [`PIECE`].
    Bytes(&'a [u8]),
    /// Its standard input ends.
    End,
    /// A signal for its process group.
    Signal(i32),
}

/// What comes from a command.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Of its standard output.
    Stdout(Vec<u8>),
    /// Of its standard error.
    Stderr(Vec<u8>),
    /// So many bytes of input are off the way.
    Taken(u32),
    /// It has ended, and everything that it wrote came before this.
    Exited {
        /// Its exit code, 128 + n for signal n.
        code: u8,
        /// The signal.
        signal: Option<i32>,
    },
}

// What a command says may be what must not be shown.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout(bytes) => write!(f, "Stdout({} bytes)", bytes.len()),
            Self::Stderr(bytes) => write!(f, "Stderr({} bytes)", bytes.len()),
            Self::Taken(count) => write!(f, "Taken({count})"),
            Self::Exited { code, signal } => write!(f, "Exited({code}, {signal:?})"),
        }
    }
}

/// What is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no frame of a command")]
pub struct Malformed;

impl Input<'_> {
    /// As it is sent.
    #[must_use]
    pub fn frame(self) -> Vec<u8> {
        let number;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Bytes(bytes) => (9, &bytes[..bytes.len().min(FRAME_MAX - 1)]),
            Self::End => (10, &[]),
            Self::Signal(signal) => {
                number = signal.to_le_bytes();
                (11, &number)
            }
        };
        let length = u32::try_from(1 + payload.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(5 + payload.len());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.push(kind);
        frame.extend_from_slice(payload);
        frame
    }
}

impl Output {
    /// Takes the frame at the front of `buffer`, if it is there whole.
    ///
    /// # Errors
    /// [`Malformed`] when it is none; nothing after it can be understood.
    pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, Malformed> {
        let Some(length) = buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > FRAME_MAX {
            return Err(Malformed);
        }
        let Some(frame) = buffer.get(4..4 + length) else {
            return Ok(None);
        };
        let (kind, payload) = frame.split_first().ok_or(Malformed)?;
        let output = match (kind, payload) {
            (9, bytes) => Self::Stdout(bytes.to_vec()),
            (10, bytes) => Self::Stderr(bytes.to_vec()),
            (11, [a, b, c, d]) => Self::Taken(u32::from_le_bytes([*a, *b, *c, *d])),
            (12, [code, a, b, c, d]) => Self::Exited {
                code: *code,
                signal: Some(i32::from_le_bytes([*a, *b, *c, *d])).filter(|n| *n != 0),
            },
            _ => return Err(Malformed),
        };
        buffer.drain(..4 + length);
        Ok(Some(output))
    }
}
