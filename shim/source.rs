//! One stream that comes out of a run: from its pipe, past the redactor, into the spool.
//!
//! Bounds: one read of [`PAYLOAD_MAX`] bytes (grown by what replaces secrets)
//! waits at most, and one byte less than the longest secret is held back.

use crate::log::{Log, head};
use crate::spool::{Control, FRAME_HEADER, PAYLOAD_MAX};
use crate::sys::{self, PollFd};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};

/// A buffer for [`Source::read`]: room for a frame's header, and a whole read.
pub fn buffer() -> Vec<u8> {
    vec![0; FRAME_HEADER + PAYLOAD_MAX]
}

/// A stream of a run.
pub struct Source {
    run: u32,
    stderr: bool,
    pipe: Option<File>,
    /// Bytes of it that were given to the spool.
    position: u64,
    held: Vec<u8>,
    waiting: VecDeque<(Vec<u8>, bool)>,
    ended: bool,
}

impl Source {
    /// Reads from `pipe`.
    pub fn new(run: u32, stderr: bool, pipe: File) -> io::Result<Self> {
        sys::set_nonblocking(&pipe)?;
        Ok(Self {
            run,
            stderr,
            pipe: Some(pipe),
            position: 0,
            held: Vec::new(),
            waiting: VecDeque::new(),
            ended: false,
        })
    }

    /// What to wait for, when it may be read.
    pub fn poll(&self) -> Option<PollFd> {
        let pipe = self.pipe.as_ref().filter(|_| self.waiting.is_empty())?;
        Some(PollFd::new(pipe, true, false))
    }

    /// What was read of it finds no room.
    pub fn is_stuck(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Its end is in the spool.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// Reads once. A `rest` is what an ended run has left in its pipe.
    pub fn read(&mut self, buffer: &mut [u8], log: &mut Log, rest: bool) {
        let Some(pipe) = &mut self.pipe else {
            return;
        };
        match pipe.read(&mut buffer[FRAME_HEADER..]) {
            Ok(0) => self.close(log, rest),
            Ok(length) => self.take(&mut buffer[..FRAME_HEADER + length], log, rest),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            // A terminal's end is an error: nobody has the other side open.
            Err(_) => self.close(log, rest),
        }
    }

    /// Takes no more, whoever may still hold the pipe's other end.
    pub fn close(&mut self, log: &mut Log, rest: bool) {
        if self.pipe.take().is_none() {
            return;
        }
        let mut out = Vec::new();
        let redacted = log.redactor.feed(&mut self.held, &[], true, &mut out);
        self.give(&out, redacted, log, rest);
        self.settle(log, rest);
    }

    /// Writes what waits, then the end if this is it.
    pub fn settle(&mut self, log: &mut Log, rest: bool) {
        while let Some((frame, redacted)) = self.waiting.front_mut() {
            let length = (frame.len() - FRAME_HEADER) as u64;
            let head = head(self.run, self.stderr, *redacted, self.position);
            if log.output(frame, head, rest).is_err() {
                return;
            }
            self.position += length;
            self.waiting.pop_front();
        }
        if self.pipe.is_none() && !self.ended {
            self.ended = true;
            log.say(Control::Eof {
                run: self.run,
                stderr: self.stderr,
            });
        }
    }

    fn take(&mut self, frame: &mut [u8], log: &mut Log, rest: bool) {
        if log.redactor.is_empty() {
            let length = (frame.len() - FRAME_HEADER) as u64;
            let head = head(self.run, self.stderr, false, self.position);
            match log.output(frame, head, rest) {
                Ok(()) => self.position += length,
                Err(_) => self.waiting.push_back((frame.to_vec(), false)),
            }
            return;
        }
        let mut out = Vec::with_capacity(frame.len());
        let redacted = log
            .redactor
            .feed(&mut self.held, &frame[FRAME_HEADER..], false, &mut out);
        self.give(&out, redacted, log, rest);
    }

    fn give(&mut self, bytes: &[u8], redacted: bool, log: &mut Log, rest: bool) {
        for piece in bytes.chunks(PAYLOAD_MAX) {
            let mut frame = Vec::with_capacity(FRAME_HEADER + piece.len());
            frame.resize(FRAME_HEADER, 0);
            frame.extend_from_slice(piece);
            self.waiting.push_back((frame, redacted));
        }
        if !self.waiting.is_empty() {
            self.settle(log, rest);
        }
    }
}
