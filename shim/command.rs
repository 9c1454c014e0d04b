//! Commands that change something, as they travel in a body.

use super::bytes::{Bad, Put, Take};

/// A command that changes something.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// Run a program.
    Run(Box<RunCommand>),
    /// One uninterrupted write to a run's standard input, in order.
    Steer {
        /// The run.
        run: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Send a signal to a run's process group.
    Signal {
        /// The run.
        run: u32,
        /// The signal's number.
        signal: i32,
    },
    /// TERM now, KILL to the whole tree after the grace.
    Stop {
        /// The run.
        run: u32,
        /// Milliseconds; with 0 it is killed at once.
        grace: u64,
    },
}

/// The bits of a run's first byte.
const PRIMARY: u8 = 1;
const FILES: u8 = 2;

/// Names and values.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Paths, modes and contents.
pub type Files = Vec<(Vec<u8>, u32, Vec<u8>)>;

/// A program to run.
#[derive(Clone, PartialEq, Eq)]
pub struct RunCommand {
    /// Its number, from 0, chosen by the sender.
    pub run: u32,
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables over the shim's own.
    pub env: Pairs,
    /// Working directory, else the shim's.
    pub cwd: Option<Vec<u8>>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// Standard input stays open behind these bytes.
    pub keep_stdin_open: bool,
    /// Rows and columns of a terminal.
    pub tty: Option<(u16, u16)>,
    /// The shim ends with this run.
    pub primary: bool,
    /// Values that must never be spooled, by name.
    pub secrets: Pairs,
    /// Files that are written before it begins: path, mode, contents.
    pub files: Files,
}

impl Command {
    /// As it is sent in a body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Run(run) => {
                out.put_u8(1);
                run.encode(&mut out);
            }
            Self::Steer { run, bytes } => {
                out.put_u8(2);
                out.put_u32(*run);
                out.extend_from_slice(bytes);
            }
            Self::Signal { run, signal } => {
                out.put_u8(3);
                out.put_u32(*run);
                out.extend_from_slice(&signal.to_le_bytes());
            }
            Self::Stop { run, grace } => {
                out.put_u8(4);
                out.put_u32(*run);
                out.put_u64(*grace);
            }
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let mut take = Take::new(bytes);
        let command = match take.u8()? {
            1 => Self::Run(Box::new(RunCommand::decode(&mut take)?)),
            2 => Self::Steer {
                run: take.u32()?,
                bytes: take.rest().to_vec(),
            },
            3 => Self::Signal {
                run: take.u32()?,
                signal: take.i32()?,
            },
            4 => Self::Stop {
                run: take.u32()?,
                grace: take.u64()?,
            },
            _ => return Err(Bad("a command is of no known kind")),
        };
        take.end()?;
        Ok(command)
    }
}

impl RunCommand {
    fn encode(&self, out: &mut Vec<u8>) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        out.put_u32(self.run);
        // A shim of before there were files refuses a run with some.
        let files = if self.files.is_empty() { 0 } else { FILES };
        out.put_u8(u8::from(self.primary) | files);
        out.put_u8(u8::from(self.keep_stdin_open));
        match self.tty {
            Some((rows, columns)) => {
                out.put_u8(1);
                out.put_u16(rows);
                out.put_u16(columns);
            }
            None => out.put_u8(0),
        }
        match &self.cwd {
            Some(cwd) => {
                out.put_u8(1);
                out.put_bytes(cwd);
            }
            None => out.put_u8(0),
        }
        out.put_u32(count(self.argv.len()));
        for arg in &self.argv {
            out.put_bytes(arg);
        }
        for pairs in [&self.env, &self.secrets] {
            out.put_u32(count(pairs.len()));
            for (name, value) in pairs {
                out.put_bytes(name);
                out.put_bytes(value);
            }
        }
        out.put_bytes(&self.stdin);
        if !self.files.is_empty() {
            out.put_u32(count(self.files.len()));
            for (path, mode, bytes) in &self.files {
                out.put_bytes(path);
                out.put_u32(*mode);
                out.put_bytes(bytes);
            }
        }
    }

    fn decode(take: &mut Take<'_>) -> Result<Self, Bad> {
        let run = take.u32()?;
        let flags = take.u8()?;
        if flags > PRIMARY | FILES {
            return Err(Bad("a run is of no known kind"));
        }
        let keep_stdin_open = take.bool()?;
        let tty = match take.bool()? {
            true => Some((take.u16()?, take.u16()?)),
            false => None,
        };
        let cwd = match take.bool()? {
            true => Some(take.bytes()?.to_vec()),
            false => None,
        };
        let mut argv = Vec::new();
        for _ in 0..take.count(4)? {
            argv.push(take.bytes()?.to_vec());
        }
        let mut pairs = || -> Result<Pairs, Bad> {
            let mut pairs = Vec::new();
            for _ in 0..take.count(8)? {
                pairs.push((take.bytes()?.to_vec(), take.bytes()?.to_vec()));
            }
            Ok(pairs)
        };
        let env = pairs()?;
        let secrets = pairs()?;
        let stdin = take.bytes()?.to_vec();
        let mut files = Files::new();
        if flags & FILES != 0 {
            for _ in 0..take.count(12)? {
                let path = take.bytes()?.to_vec();
                files.push((path, take.u32()?, take.bytes()?.to_vec()));
            }
        }
        Ok(Self {
            run,
            argv,
            env,
            cwd,
            stdin,
            keep_stdin_open,
            tty,
            primary: flags & PRIMARY != 0,
            secrets,
            files,
        })
    }
}
