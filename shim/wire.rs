//! The control protocol between the shim and whoever commands it.
//!
//! Frames over a stream: a length of four bytes, then so many bytes, of which
//! the first says what it is. Whoever connects says [`Request::Hello`] and gets
//! [`Answer::Hello`], any number of [`Answer::Known`] and [`Answer::Ready`], or
//! [`Answer::Unwelcome`]. Commands that change something travel as a *body*:
//! [`Request::Begin`] with its length and SHA-256, then [`Request::Chunk`]s in
//! order. The shim decodes and accepts a body only when it is whole and its
//! hash is right. Everything else is one frame, and may be repeated without
//! harm. A connection that begins with a program to run beside the agent is that
//! program's (see `channel`), and disturbs no other. Decoding never panics, whatever the bytes.
//!
//! Shims live on through upgrades and downgrades, so what was released stays as it is:
//! a test holds it by its bytes. What is new is a further kind, or more at the end of a
//! hello; a shim that does not know it refuses it, and the daemon does without.

use super::bytes::{Bad, Put, Take};
pub use super::channel::{FromProgram, ToProgram};
pub use super::command::{Command, Pairs, RunCommand};

/// The protocol's version.
pub const VERSION: u16 = 1;
/// Longest frame, without its length.
pub const FRAME_MAX: usize = 256 * 1024;
/// Longest piece of a body or of input in one frame.
pub const CHUNK_MAX: usize = 128 * 1024;
/// Longest body: a prompt of this size is held in the shim's memory.
pub const BODY_MAX: u64 = 64 * 1024 * 1024;
/// So many commands a shim remembers; further ones are refused.
pub const COMMANDS_MAX: usize = 65_536;
/// So many runs a shim takes in its life.
pub const RUNS_MAX: usize = 4096;
/// Ids in one [`Answer::Known`].
pub const KNOWN_BATCH: usize = 4096;

/// What a client says.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Who it is. The first frame.
    Hello {
        /// The protocol's version.
        version: u16,
        /// The owner's generation: a newer one displaces, a lower one is refused.
        generation: u64,
    },
    /// A body comes.
    Begin {
        /// What the answer refers to.
        request: u32,
        /// The command's id.
        id: u128,
        /// Length of the body.
        total: u64,
        /// Its SHA-256.
        hash: [u8; 32],
    },
    /// A piece of the body that was begun last.
    Chunk {
        /// The command's id.
        id: u128,
        /// Where in the body it belongs.
        position: u64,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// Everything before this position of the spool is safe elsewhere.
    Trim {
        /// What the answer refers to.
        request: u32,
        /// The position.
        upto: u64,
    },
    /// Wants [`Answer::Written`], once, as soon as the spool is longer than this.
    Watch {
        /// The length.
        beyond: u64,
    },
    /// The terminal's size.
    Resize {
        /// What the answer refers to.
        request: u32,
        /// The run.
        run: u32,
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// Bytes for a run's standard input or terminal. Answered once they are
    /// written. Bytes that an earlier frame brought already are skipped.
    Input {
        /// What the answer refers to.
        request: u32,
        /// The run.
        run: u32,
        /// Position of the first byte among all the input of this kind.
        position: u64,
        /// Closes the input behind them.
        close: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// For a program beside the agent. The first frame, in place of
    /// [`Request::Hello`], or one after such a first frame.
    Exec(ToProgram),
}

/// What the shim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Who it is.
    Hello(Greeting),
    /// Commands that it knows.
    Known(Vec<(u128, Standing)>),
    /// That was all it had to say; commands are welcome.
    Ready,
    /// It does not talk to this client.
    Unwelcome {
        /// Its own version of the protocol.
        version: u16,
        /// The generation that it serves.
        generation: u64,
    },
    /// The answer to a request.
    Reply {
        /// Which.
        request: u32,
        /// Whether it was accepted (or was already).
        ok: bool,
        /// Why not.
        message: String,
    },
    /// How long the spool is.
    Written {
        /// The length.
        length: u64,
    },
    /// A newer client has taken over; the connection ends.
    Displaced {
        /// Its generation.
        generation: u64,
    },
    /// Of a program beside the agent.
    Exec(FromProgram),
}

/// Who a shim is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The protocol's version.
    pub version: u16,
    /// The session.
    pub session: u128,
    /// The session's run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
    /// The machine's boot.
    pub boot: [u8; 16],
    /// The first position that is still spooled.
    pub base: u64,
    /// The spool's length.
    pub written: u64,
    /// Its runs.
    pub runs: Vec<RunStanding>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunStanding {
    /// Its number.
    pub run: u32,
    /// It is over.
    pub over: bool,
    /// Bytes taken by [`Request::Input`].
    pub input: u64,
}

/// How a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Accepted, and being carried out.
    Accepted,
    /// Carried out.
    Done,
    /// It could not be carried out.
    Failed,
}

/// Puts `payload` behind its length.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + payload.len());
    out.put_bytes(payload);
    out
}

/// The length of the frame at the front of `bytes`, without its own four bytes,
/// once they are there.
///
/// # Errors
/// When it is longer than frames can be.
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, Bad> {
    let Some(length) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_MAX {
        return Err(Bad("a frame is longer than frames can be"));
    }
    Ok(Some(length))
}

impl Request {
    /// As it is sent, without the frame's length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Hello {
                version,
                generation,
            } => {
                out.put_u8(1);
                out.put_u16(*version);
                out.put_u64(*generation);
            }
            Self::Begin {
                request,
                id,
                total,
                hash,
            } => {
                out.put_u8(2);
                out.put_u32(*request);
                out.put_u128(*id);
                out.put_u64(*total);
                out.extend_from_slice(hash);
            }
            Self::Chunk {
                id,
                position,
                bytes,
            } => {
                out.put_u8(3);
                out.put_u128(*id);
                out.put_u64(*position);
                out.extend_from_slice(bytes);
            }
            Self::Trim { request, upto } => {
                out.put_u8(4);
                out.put_u32(*request);
                out.put_u64(*upto);
            }
            Self::Watch { beyond } => {
                out.put_u8(5);
                out.put_u64(*beyond);
            }
            Self::Resize {
                request,
                run,
                rows,
                columns,
            } => {
                out.put_u8(6);
                out.put_u32(*request);
                out.put_u32(*run);
                out.put_u16(*rows);
                out.put_u16(*columns);
            }
            Self::Input {
                request,
                run,
                position,
                close,
                bytes,
            } => {
                out.put_u8(7);
                out.put_u32(*request);
                out.put_u32(*run);
                out.put_u64(*position);
                out.put_u8(u8::from(*close));
                out.extend_from_slice(bytes);
            }
            Self::Exec(said) => said.encode(&mut out),
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let mut take = Take::new(bytes);
        let request = match take.u8()? {
            1 => {
                let version = take.u16()?;
                let generation = take.u64()?;
                // A later version may say more.
                take.rest();
                Self::Hello {
                    version,
                    generation,
                }
            }
            2 => Self::Begin {
                request: take.u32()?,
                id: take.u128()?,
                total: take.u64()?,
                hash: take.array()?,
            },
            3 => Self::Chunk {
                id: take.u128()?,
                position: take.u64()?,
                bytes: take.rest().to_vec(),
            },
            4 => Self::Trim {
                request: take.u32()?,
                upto: take.u64()?,
            },
            5 => Self::Watch {
                beyond: take.u64()?,
            },
            6 => Self::Resize {
                request: take.u32()?,
                run: take.u32()?,
                rows: take.u16()?,
                columns: take.u16()?,
            },
            7 => Self::Input {
                request: take.u32()?,
                run: take.u32()?,
                position: take.u64()?,
                close: take.bool()?,
                bytes: take.rest().to_vec(),
            },
            kind if ToProgram::KINDS.contains(&kind) => {
                Self::Exec(ToProgram::decode(kind, &mut take)?)
            }
            _ => return Err(Bad("a request is of no known kind")),
        };
        take.end()?;
        Ok(request)
    }
}

impl Answer {
    /// As it is sent, without the frame's length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match self {
            Self::Hello(greeting) => {
                out.put_u8(1);
                out.put_u16(greeting.version);
                out.put_u128(greeting.session);
                out.put_u32(greeting.run);
                out.put_u32(greeting.attempt);
                out.extend_from_slice(&greeting.boot);
                out.put_u64(greeting.base);
                out.put_u64(greeting.written);
                out.put_u32(u32::try_from(greeting.runs.len()).unwrap_or(u32::MAX));
                for run in &greeting.runs {
                    out.put_u32(run.run);
                    out.put_u8(u8::from(run.over));
                    out.put_u64(run.input);
                }
            }
            Self::Known(known) => {
                out.put_u8(2);
                out.put_u32(u32::try_from(known.len()).unwrap_or(u32::MAX));
                for (id, standing) in known {
                    out.put_u128(*id);
                    out.put_u8(match standing {
                        Standing::Accepted => 1,
                        Standing::Done => 2,
                        Standing::Failed => 3,
                    });
                }
            }
            Self::Ready => out.put_u8(3),
            Self::Unwelcome {
                version,
                generation,
            } => {
                out.put_u8(4);
                out.put_u16(*version);
                out.put_u64(*generation);
            }
            Self::Reply {
                request,
                ok,
                message,
            } => {
                out.put_u8(5);
                out.put_u32(*request);
                out.put_u8(u8::from(*ok));
                out.put_bytes(message.as_bytes());
            }
            Self::Written { length } => {
                out.put_u8(6);
                out.put_u64(*length);
            }
            Self::Displaced { generation } => {
                out.put_u8(7);
                out.put_u64(*generation);
            }
            Self::Exec(said) => said.encode(&mut out),
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let mut take = Take::new(bytes);
        let answer = match take.u8()? {
            1 => {
                let mut greeting = Greeting {
                    version: take.u16()?,
                    session: take.u128()?,
                    run: take.u32()?,
                    attempt: take.u32()?,
                    boot: take.array()?,
                    base: take.u64()?,
                    written: take.u64()?,
                    runs: Vec::new(),
                };
                for _ in 0..take.count(13)? {
                    greeting.runs.push(RunStanding {
                        run: take.u32()?,
                        over: take.bool()?,
                        input: take.u64()?,
                    });
                }
                // A later version may say more.
                take.rest();
                Self::Hello(greeting)
            }
            2 => {
                let mut known = Vec::new();
                for _ in 0..take.count(17)? {
                    let id = take.u128()?;
                    let standing = match take.u8()? {
                        1 => Standing::Accepted,
                        2 => Standing::Done,
                        3 => Standing::Failed,
                        _ => return Err(Bad("a command stands in no known way")),
                    };
                    known.push((id, standing));
                }
                Self::Known(known)
            }
            3 => Self::Ready,
            4 => Self::Unwelcome {
                version: take.u16()?,
                generation: take.u64()?,
            },
            5 => Self::Reply {
                request: take.u32()?,
                ok: take.bool()?,
                message: take.text()?,
            },
            6 => Self::Written {
                length: take.u64()?,
            },
            7 => Self::Displaced {
                generation: take.u64()?,
            },
            kind if FromProgram::KINDS.contains(&kind) => {
                Self::Exec(FromProgram::decode(kind, &mut take)?)
            }
            _ => return Err(Bad("an answer is of no known kind")),
        };
        take.end()?;
        Ok(answer)
    }
}
