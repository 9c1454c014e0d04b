//! What goes into a run: its prompt, steering and keystrokes, in order.

use crate::sys::{self, PollFd};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};

/// So many bytes wait for one run at most, beside its prompt.
const QUEUE_MAX: usize = 64 * 1024 * 1024;
/// What a terminal takes for the end of input.
const END_OF_TRANSMISSION: u8 = 4;

/// Whom to tell when a piece is written, or never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nobody.
    Nobody,
    /// It was steering, by this command.
    Steered(u128),
    /// It was input, by this request of this connection.
    Answer(u64, u32),
    /// It was so many bytes for a program beside the agent.
    Taken(u32),
}

/// What became of a piece.
pub type Told = (Then, Result<(), &'static str>);

struct Piece {
    bytes: Vec<u8>,
    at: usize,
    close: bool,
    then: Then,
}

/// A run's standard input, or the side of its terminal that is typed on.
pub struct Input {
    pipe: Option<File>,
    terminal: bool,
    queue: VecDeque<Piece>,
    queued: usize,
    /// Bytes taken by requests for input, whose positions make repeats harmless.
    pub taken: u64,
}

impl Input {
    /// Writes to `pipe`.
    pub fn new(pipe: File, terminal: bool) -> io::Result<Self> {
        sys::set_nonblocking(&pipe)?;
        Ok(Self {
            pipe: Some(pipe),
            terminal,
            queue: VecDeque::new(),
            queued: 0,
            taken: 0,
        })
    }

    /// Whether `length` more bytes can be taken.
    pub fn check(&self, length: usize) -> Result<(), &'static str> {
        if self.pipe.is_none() || self.queue.iter().any(|piece| piece.close) {
            return Err("the run's input is closed");
        }
        if self.queued + length > QUEUE_MAX {
            return Err("too much waits to be written to the run already");
        }
        Ok(())
    }

    /// Puts `bytes` behind what waits; with `close` the input ends behind them.
    pub fn push(&mut self, mut bytes: Vec<u8>, close: bool, then: Then) {
        if close && self.terminal {
            bytes.push(END_OF_TRANSMISSION);
        }
        self.queued += bytes.len();
        self.queue.push_back(Piece {
            bytes,
            at: 0,
            close,
            then,
        });
    }

    /// What to wait for.
    pub fn poll(&self) -> Option<PollFd> {
        let pipe = self.pipe.as_ref().filter(|_| !self.queue.is_empty())?;
        Some(PollFd::new(pipe, false, true))
    }

    /// Writes as much as goes in now.
    pub fn write(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let (Some(pipe), Some(piece)) = (&mut self.pipe, self.queue.front_mut()) {
            if piece.at < piece.bytes.len() {
                match pipe.write(&piece.bytes[piece.at..]) {
                    Ok(written) => piece.at += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return told,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => {
                        told.extend(self.abandon("the program has closed its input"));
                        return told;
                    }
                }
                continue;
            }
            self.queued -= piece.bytes.len();
            told.push((piece.then, Ok(())));
            // A terminal was told by a character, and stays open for its output.
            if piece.close && !self.terminal {
                self.pipe = None;
            }
            self.queue.pop_front();
        }
        told
    }

    /// Gives up what is not written, and takes nothing more.
    pub fn abandon(&mut self, why: &'static str) -> Vec<Told> {
        self.pipe = None;
        self.queued = 0;
        self.queue
            .drain(..)
            .map(|piece| (piece.then, Err(why)))
            .collect()
    }
}
