//! One connection: frames in, frames out, a body that is being put together.
//!
//! Bounds: one unread frame, one body of at most [`BODY_MAX`] bytes, and
//! [`OUT_MAX`] bytes that the other side does not read; beyond that it is dropped.

use crate::bytes::Bad;
use crate::sha256::sha256;
use crate::sys::PollFd;
use crate::wire::{self, Answer, BODY_MAX, Request};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

const OUT_MAX: usize = 4 * 1024 * 1024;
/// Room for a body is made as it comes, beyond this.
const BODY_START: u64 = 64 * 1024;

/// A connection.
pub struct Conn {
    /// Tells it from others, for answers that come later.
    pub serial: u64,
    /// The generation that it said hello with.
    pub generation: Option<u64>,
    /// Wants to hear once the spool is longer than this.
    pub watch: Option<u64>,
    /// When it came.
    pub since: Instant,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    body: Option<Body>,
    leaving: bool,
    gone: bool,
}

struct Body {
    request: u32,
    id: u128,
    total: u64,
    hash: [u8; 32],
    bytes: Vec<u8>,
}

/// A body that is whole and has the right hash, or cannot get so.
pub struct Whole {
    /// What the answer refers to.
    pub request: u32,
    /// The command's id.
    pub id: u128,
    /// The hash.
    pub hash: [u8; 32],
    /// The body.
    pub body: Result<Vec<u8>, &'static str>,
}

impl Conn {
    /// Talks over `stream`.
    pub fn new(stream: UnixStream, serial: u64, since: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            serial,
            generation: None,
            watch: None,
            since,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            body: None,
            leaving: false,
            gone: false,
        })
    }

    /// What to wait for.
    pub fn poll(&self) -> PollFd {
        PollFd::new(&self.stream, !self.leaving, !self.output.is_empty())
    }

    /// It is to be dropped.
    pub fn is_gone(&self) -> bool {
        self.gone || (self.leaving && self.output.is_empty())
    }

    /// What was said is sent, and nothing more is heard.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.watch = None;
    }

    /// It does not keep to the protocol, or is not who may talk.
    pub fn drop_at_once(&mut self) {
        self.gone = true;
    }

    /// Bytes that were said and are not sent.
    pub fn waiting(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Says something.
    pub fn say(&mut self, answer: &Answer) {
        self.output
            .extend_from_slice(&wire::frame(&answer.encode()));
        if self.waiting() > OUT_MAX {
            self.gone = true;
        }
    }

    /// Answers a request.
    pub fn reply(&mut self, request: u32, result: Result<(), String>) {
        self.say(&Answer::Reply {
            request,
            ok: result.is_ok(),
            message: result.err().unwrap_or_default(),
        });
    }

    /// Sends what can be sent now.
    pub fn flush(&mut self) {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A reader that never quite catches up must not make us keep what it has.
                    self.output.drain(..self.sent);
                    self.sent = 0;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        self.output.clear();
        self.sent = 0;
    }

    /// Reads once, and gives the requests that are whole.
    pub fn hear(&mut self, buffer: &mut [u8]) -> Vec<Request> {
        match self.stream.read(buffer) {
            Ok(0) => self.gone = true,
            Ok(read) => self.input.extend_from_slice(&buffer[..read]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.gone = true,
        }
        let mut requests = Vec::new();
        let mut used = 0;
        loop {
            match next(&self.input[used..]) {
                Ok(Some((request, length))) => {
                    requests.push(request);
                    used += length;
                }
                Ok(None) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        self.input.drain(..used);
        requests
    }

    /// A body begins. One that was not whole yet is forgotten.
    pub fn begin(&mut self, request: u32, id: u128, total: u64, hash: [u8; 32]) -> Option<Whole> {
        let room = usize::try_from(total.min(BODY_START)).unwrap_or(0);
        self.body = Some(Body {
            request,
            id,
            total,
            hash,
            bytes: Vec::with_capacity(room),
        });
        if total > BODY_MAX {
            return self.refuse("the body is longer than bodies can be");
        }
        if total == 0 {
            return self.refuse("the body is empty");
        }
        None
    }

    /// A piece of a body. Pieces of a body that is not wanted are skipped.
    pub fn chunk(&mut self, id: u128, position: u64, bytes: &[u8]) -> Option<Whole> {
        let body = self.body.as_mut().filter(|body| body.id == id)?;
        let have = body.bytes.len() as u64;
        if position != have || have + bytes.len() as u64 > body.total {
            return self.refuse("a piece of the body does not fit");
        }
        body.bytes.extend_from_slice(bytes);
        if (body.bytes.len() as u64) < body.total {
            return None;
        }
        if sha256(&body.bytes) != body.hash {
            return self.refuse("the body is not the one that its hash is of");
        }
        let body = self.body.take()?;
        Some(Whole {
            request: body.request,
            id: body.id,
            hash: body.hash,
            body: Ok(body.bytes),
        })
    }

    fn refuse(&mut self, why: &'static str) -> Option<Whole> {
        let body = self.body.take()?;
        Some(Whole {
            request: body.request,
            id: body.id,
            hash: body.hash,
            body: Err(why),
        })
    }
}

fn next(bytes: &[u8]) -> Result<Option<(Request, usize)>, Bad> {
    let Some(length) = wire::frame_length(bytes)? else {
        return Ok(None);
    };
    let Some(payload) = bytes.get(4..4 + length) else {
        return Ok(None);
    };
    Ok(Some((Request::decode(payload)?, 4 + length)))
}
