//! A program beside the agent, and the connection that it is for.
//!
//! Nothing of it is spooled: what comes out goes to whoever asked for it, and
//! waits in its pipes while they do not read. It lives no longer than its
//! connection.

use crate::channel::{FromProgram, REFUSED, ToProgram, WINDOW};
use crate::conn::Conn;
use crate::input::{Then, Told};
use crate::keeper::Report;
use crate::run::{DRAIN, News, Phase, Run};
use crate::sys::{Ended, PollFd, signals};
use crate::wire::{Answer, Request};
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// Output that the connection has not taken yet, beyond which none is read.
const ROOM: usize = 256 * 1024;
/// So much is read at once.
const PIECE: usize = 64 * 1024;

/// A program beside the agent.
pub struct Exec {
    /// Where its connection is.
    pub conn: Conn,
    /// Its process.
    pub run: Run,
    /// What comes out: standard output and standard error.
    outs: [Option<File>; 2],
    /// Bytes of input that wait to be written.
    under_way: usize,
    /// When it is over whoever still reads.
    last: Option<Instant>,
}

impl Exec {
    /// A program that begins, for the client at `conn`.
    pub fn new(conn: Conn, run: Run, outs: [File; 2]) -> Self {
        Self {
            conn,
            run,
            outs: outs.map(Some),
            under_way: 0,
            last: None,
        }
    }

    /// Which of the streams may be read now, and what to wait for.
    pub fn poll_outs(&self) -> impl Iterator<Item = (usize, PollFd)> {
        let open = self.run.phase != Phase::Starting && self.conn.waiting() < ROOM;
        let outs = self.outs.iter().enumerate().filter(move |_| open);
        outs.filter_map(|(stream, out)| Some((stream, PollFd::new(out.as_ref()?, true, false))))
    }

    /// Nothing more comes of it, and its connection is to be closed.
    pub fn is_over(&self) -> bool {
        self.run.is_over() && self.conn.is_gone()
    }

    /// The client's word.
    pub fn obey(&mut self, request: Request) {
        let Request::Exec(said) = request else {
            self.conn.drop_at_once();
            return;
        };
        match said {
            ToProgram::Begin(_) => self.conn.drop_at_once(),
            ToProgram::Input(bytes) => {
                self.under_way += bytes.len();
                if self.under_way > WINDOW {
                    self.conn.drop_at_once();
                    return;
                }
                let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                // What nobody will read is off the way, too.
                if self.run.input.check(bytes.len()).is_err() {
                    self.taken(count);
                    return;
                }
                self.run.input.push(bytes, false, Then::Taken(count));
                self.write();
            }
            ToProgram::InputEnd => {
                if self.run.input.check(0).is_ok() {
                    self.run.input.push(Vec::new(), true, Then::Nobody);
                    self.write();
                }
            }
            ToProgram::Signal(number) if (1..=64).contains(&number) => self.run.signal(number),
            ToProgram::Signal(_) => self.conn.drop_at_once(),
        }
    }

    /// Writes what its input takes now.
    pub fn write(&mut self) {
        let told = self.run.input.write();
        self.tell(told);
    }

    fn tell(&mut self, told: Vec<Told>) {
        for (then, _) in told {
            if let Then::Taken(count) = then {
                self.taken(count);
            }
        }
    }

    fn taken(&mut self, count: u32) {
        self.under_way = self.under_way.saturating_sub(count as usize);
        self.say(FromProgram::Taken(count));
    }

    fn say(&mut self, said: FromProgram) {
        if !self.conn.is_gone() {
            self.conn.say(&Answer::Exec(said));
        }
    }

    /// Reads once of a stream.
    pub fn read(&mut self, stream: usize, buffer: &mut [u8]) {
        let Some(out) = self.outs.get_mut(stream).and_then(Option::as_mut) else {
            return;
        };
        let room = PIECE.min(buffer.len());
        match out.read(&mut buffer[..room]) {
            Ok(0) => self.outs[stream] = None,
            Ok(read) => {
                let bytes = buffer[..read].to_vec();
                self.say(match stream {
                    0 => FromProgram::Output(bytes),
                    _ => FromProgram::Errors(bytes),
                });
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.outs[stream] = None,
        }
    }

    /// What its keeper has to say. True when that was killed.
    pub fn listen(&mut self, now: Instant) -> bool {
        let mut killed = false;
        for news in self.run.listen() {
            match news {
                News::Report(Report::Started { pid }) => {
                    self.run.phase = Phase::Running;
                    self.say(FromProgram::Started { pid });
                }
                News::Report(Report::NotRun { code, message }) => self.not_run(code, message),
                News::Report(Report::Ended(ended)) => self.ended(ended, now),
                News::Gone if self.run.is_live() => {
                    killed = true;
                    let signal = Some(signals::KILL);
                    self.ended(Ended { code: 137, signal }, now);
                }
                News::Gone => {}
            }
        }
        killed
    }

    fn not_run(&mut self, code: u8, message: String) {
        self.run.phase = Phase::NotRun { code };
        self.outs = [None, None];
        self.run.input.abandon("the program was not run");
        self.say(FromProgram::NotRun { code, message });
        self.conn.leave();
    }

    fn ended(&mut self, ended: Ended, now: Instant) {
        if !self.run.is_live() {
            return;
        }
        self.run.drain(ended, now);
        let told = self.run.input.abandon("the program has ended");
        self.tell(told);
    }

    /// The shim ends soon: so does this, read or not.
    pub fn end(&mut self, grace: Duration, now: Instant) {
        self.run.stop(grace, now);
        self.last.get_or_insert(now + grace + DRAIN);
    }

    /// Does what is due.
    pub fn settle(&mut self, grace: Duration, now: Instant) {
        if self.last.is_some_and(|last| last <= now) && !self.run.is_live() {
            self.conn.drop_at_once();
        }
        if self.conn.is_gone() && !self.run.is_over() {
            // Nobody is left to read, or to be told.
            self.outs = [None, None];
            self.run.input.abandon("the connection is gone");
            self.run.stop(grace, now);
        }
        self.run.enforce(now);
        let Phase::Draining { ended, until } = &mut self.run.phase else {
            return;
        };
        if self.conn.waiting() >= ROOM {
            // Waiting for a slow reader does not count.
            *until = now + DRAIN;
        } else if *until <= now {
            self.outs = [None, None];
        }
        if self.outs.iter().all(Option::is_none) {
            let ended = *ended;
            self.run.phase = Phase::Over { ended };
            self.say(FromProgram::Exited {
                code: ended.code,
                signal: ended.signal,
            });
            self.conn.leave();
        }
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let last = self.last.filter(|_| !self.run.is_live());
        self.run.next_deadline().into_iter().chain(last).min()
    }
}

/// The answer to a client whose program is not even tried.
pub fn refuse(conn: &mut Conn, why: &str) {
    conn.say(&Answer::Exec(FromProgram::NotRun {
        code: REFUSED,
        message: why.to_owned(),
    }));
    conn.leave();
}
