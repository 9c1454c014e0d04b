//! What goes over the connection of a program that runs beside the agent, in
//! frames like all others (see `wire`).
//!
//! The first frame is [`ToProgram::Begin`], and the first answer
//! [`FromProgram::Started`] or [`FromProgram::NotRun`]. From then on both sides
//! speak when they like, until [`FromProgram::Exited`]. At most [`WINDOW`]
//! bytes of input may be under way, that is, not [`FromProgram::Taken`] yet: so
//! a program that does not read never keeps a signal, or the connection's end,
//! from being heard. Output waits in the connection itself.

use super::bytes::{Bad, Put, Take};
use super::command::Pairs;
use std::fmt;

/// So many bytes of input may be under way.
pub const WINDOW: usize = 256 * 1024;
/// What [`FromProgram::NotRun`] has as code when the shim itself refuses.
pub const REFUSED: u8 = 125;

/// A program to run beside the agent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables over those of the agent.
    pub env: Pairs,
    /// Working directory, else the agent's.
    pub cwd: Option<Vec<u8>>,
}

/// What a client says.
#[derive(Clone, PartialEq, Eq)]
pub enum ToProgram {
    /// Run it.
    Begin(Beside),
    /// Bytes for its standard input.
    Input(Vec<u8>),
    /// Its standard input ends here.
    InputEnd,
    /// A signal for its process group.
    Signal(i32),
}

/// What the shim says.
#[derive(Clone, PartialEq, Eq)]
pub enum FromProgram {
    /// It runs.
    Started {
        /// Its process, as the shim sees it.
        pid: u32,
    },
    /// Bytes of its standard output.
    Output(Vec<u8>),
    /// Bytes of its standard error.
    Errors(Vec<u8>),
    /// So many bytes of input are off the way.
    Taken(u32),
    /// It has ended, and everything that it wrote was sent.
    Exited {
        /// Its exit code, 128 + n for signal n.
        code: u8,
        /// The signal.
        signal: Option<i32>,
    },
    /// It was never executed.
    NotRun {
        /// 127 (not found), 126 (not executable) or [`REFUSED`].
        code: u8,
        /// Why.
        message: String,
    },
}

impl ToProgram {
    /// The kinds of these requests, as their first byte.
    pub const KINDS: std::ops::RangeInclusive<u8> = 8..=11;

    /// Appends it as it is sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begin(beside) => {
                out.put_u8(8);
                let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                match &beside.cwd {
                    Some(cwd) => {
                        out.put_u8(1);
                        out.put_bytes(cwd);
                    }
                    None => out.put_u8(0),
                }
                out.put_u32(count(beside.argv.len()));
                for arg in &beside.argv {
                    out.put_bytes(arg);
                }
                out.put_u32(count(beside.env.len()));
                for (name, value) in &beside.env {
                    out.put_bytes(name);
                    out.put_bytes(value);
                }
            }
            Self::Input(bytes) => {
                out.put_u8(9);
                out.extend_from_slice(bytes);
            }
            Self::InputEnd => out.put_u8(10),
            Self::Signal(number) => {
                out.put_u8(11);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    /// Reads what follows the kind.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(kind: u8, take: &mut Take<'_>) -> Result<Self, Bad> {
        Ok(match kind {
            8 => {
                let mut beside = Beside::default();
                if take.bool()? {
                    beside.cwd = Some(take.bytes()?.to_vec());
                }
                for _ in 0..take.count(4)? {
                    beside.argv.push(take.bytes()?.to_vec());
                }
                for _ in 0..take.count(8)? {
                    let name = take.bytes()?.to_vec();
                    beside.env.push((name, take.bytes()?.to_vec()));
                }
                Self::Begin(beside)
            }
            9 => Self::Input(take.rest().to_vec()),
            10 => Self::InputEnd,
            11 => Self::Signal(take.i32()?),
            _ => return Err(Bad("a request is of no known kind")),
        })
    }
}

impl FromProgram {
    /// The kinds of these answers, as their first byte.
    pub const KINDS: std::ops::RangeInclusive<u8> = 8..=13;

    /// Appends it as it is sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Started { pid } => {
                out.put_u8(8);
                out.put_u32(*pid);
            }
            Self::Output(bytes) => {
                out.put_u8(9);
                out.extend_from_slice(bytes);
            }
            Self::Errors(bytes) => {
                out.put_u8(10);
                out.extend_from_slice(bytes);
            }
            Self::Taken(count) => {
                out.put_u8(11);
                out.put_u32(*count);
            }
            Self::Exited { code, signal } => {
                out.put_u8(12);
                out.put_u8(*code);
                out.extend_from_slice(&signal.unwrap_or(0).to_le_bytes());
            }
            Self::NotRun { code, message } => {
                out.put_u8(13);
                out.put_u8(*code);
                out.put_bytes(message.as_bytes());
            }
        }
    }

    /// Reads what follows the kind.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(kind: u8, take: &mut Take<'_>) -> Result<Self, Bad> {
        Ok(match kind {
            8 => Self::Started { pid: take.u32()? },
            9 => Self::Output(take.rest().to_vec()),
            10 => Self::Errors(take.rest().to_vec()),
            11 => Self::Taken(take.u32()?),
            12 => Self::Exited {
                code: take.u8()?,
                signal: Some(take.i32()?).filter(|number| *number != 0),
            },
            13 => Self::NotRun {
                code: take.u8()?,
                message: take.text()?,
            },
            _ => return Err(Bad("an answer is of no known kind")),
        })
    }
}

// What a program says may be what must not be shown.
impl fmt::Debug for FromProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { pid } => write!(f, "Started({pid})"),
            Self::Output(bytes) => write!(f, "Output({} bytes)", bytes.len()),
            Self::Errors(bytes) => write!(f, "Errors({} bytes)", bytes.len()),
            Self::Taken(count) => write!(f, "Taken({count})"),
            Self::Exited { code, signal } => write!(f, "Exited({code}, {signal:?})"),
            Self::NotRun { code, message } => write!(f, "NotRun({code}, {message})"),
        }
    }
}
