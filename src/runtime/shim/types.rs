//! What is said to a shim and what can be wrong with it.

use super::bytes::Bad;
use super::wire::{Greeting, Standing};
use crate::model::Ulid;
use std::fmt;
use std::io;

/// What is wrong with a shim, or with the talk with it.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// Nobody listens: it has ended, or never began.
    #[error("no shim listens in {dir}")]
    Dead {
        /// The attempt's directory.
        dir: String,
    },
    /// It was not there, or did not answer, in time.
    #[error("the shim in {dir} did not answer in time")]
    Timeout {
        /// The attempt's directory.
        dir: String,
    },
    /// It could not begin, and said why.
    #[error("the shim in {dir} failed: {message}")]
    Failed {
        /// The attempt's directory.
        dir: String,
        /// Its word.
        message: String,
    },
    /// Somebody else listens at its socket. Nothing was said to them.
    #[error("not the shim listens in {dir}: expected {expected}, found {found}")]
    Impostor {
        /// The attempt's directory.
        dir: String,
        /// Who should.
        expected: String,
        /// Who does.
        found: String,
    },
    /// It serves a newer owner.
    #[error("the shim serves generation {generation}")]
    Displaced {
        /// Whose generation is this.
        generation: u64,
    },
    /// It speaks another version of the protocol.
    #[error("the shim speaks version {shim} of the protocol, this is {ours}")]
    Version {
        /// Its version.
        shim: u16,
        /// Ours.
        ours: u16,
    },
    /// It refused a command, and has not acted on it.
    #[error("the shim refused: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// The connection is gone. What was asked for may have been accepted or not.
    #[error("the connection to the shim is gone")]
    Closed,
    /// It said something that makes no sense.
    #[error("the shim does not keep to the protocol: {0}")]
    Protocol(Bad),
    /// A system call failed.
    #[error("cannot talk to the shim in {dir}: {source}")]
    Io {
        /// The attempt's directory.
        dir: String,
        /// The system's word.
        source: io::Error,
    },
}

/// What a shim says of itself when somebody connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The session.
    pub session: Ulid,
    /// The session's run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
    /// The machine's boot, as its kernel calls it.
    pub boot: [u8; 16],
    /// The first position of the spool that is not trimmed.
    pub base: u64,
    /// The spool's length then.
    pub written: u64,
    /// The commands that it knows, and how they stand.
    pub known: Vec<(Ulid, Standing)>,
    /// Its runs: number, whether over, bytes of input taken.
    pub runs: Vec<(u32, bool, u64)>,
}

impl Hello {
    pub(super) fn new(greeting: Greeting, known: Vec<(Ulid, Standing)>) -> Self {
        Self {
            session: Ulid(greeting.session),
            run: greeting.run,
            attempt: greeting.attempt,
            boot: greeting.boot,
            base: greeting.base,
            written: greeting.written,
            known,
            runs: greeting
                .runs
                .iter()
                .map(|run| (run.run, run.over, run.input))
                .collect(),
        }
    }

    /// Whether the shim accepted this command.
    #[must_use]
    pub fn knows(&self, id: Ulid) -> bool {
        self.known.iter().any(|(known, _)| *known == id)
    }
}

/// A program to run.
#[derive(Clone, PartialEq, Eq)]
pub struct RunBody {
    /// The command's id: a run is never begun twice for it.
    pub id: Ulid,
    /// The run's number in this shim's life, chosen by the caller; 0 for the first.
    pub run: u32,
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables, over those of the shim itself.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory, else the shim's.
    pub cwd: Option<Vec<u8>>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Standard input stays open behind it, for steering.
    pub keep_stdin_open: bool,
    /// Rows and columns of a terminal, if it gets one.
    pub tty: Option<(u16, u16)>,
    /// The shim (and its container) ends with this run.
    pub primary: bool,
    /// Values that are replaced by `[redacted:NAME]` in everything that is spooled.
    pub secrets: Vec<(String, Vec<u8>)>,
    /// Files to write before the program begins: path, mode, contents.
    pub files: Vec<(Vec<u8>, u32, Vec<u8>)>,
}

impl fmt::Debug for RunBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither variables nor secrets nor the prompt: any may hold what must not be shown.
        f.debug_struct("RunBody")
            .field("id", &self.id)
            .field("run", &self.run)
            .field("arguments", &self.argv.len())
            .field("variables", &self.env.len())
            .field("stdin", &self.stdin.len())
            .field("keep_stdin_open", &self.keep_stdin_open)
            .field("tty", &self.tty)
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}
