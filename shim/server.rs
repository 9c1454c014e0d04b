//! The shim at work: one thread that waits for everything at once.
//!
//! Invariant: a command is in the spool as accepted before anything is done
//! about it, and its id never does anything again.

mod answer;
mod beside;
mod command;
mod ends;

use crate::beside::Exec;
use crate::conn::Conn;
use crate::log::Log;
use crate::options::Options;
use crate::process;
use crate::run::{Phase, Run};
use crate::source;
use crate::spool::Control;
use crate::sys::{self, PollFd, signals};
use crate::wire::{Answer, Pairs, Standing};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Connections at once, those that did not say hello included.
const CONNS_MAX: usize = 8;
/// Whoever connects has to say hello within this.
const HELLO: Duration = Duration::from_secs(5);
/// What dies after its keeper is looked for during this.
const STRAYS: Duration = Duration::from_secs(2);

/// What the shim is made of when it begins.
pub struct Parts {
    /// How it was called.
    pub options: Options,
    /// The spool.
    pub log: Log,
    /// The control socket.
    pub listener: UnixListener,
    /// All signals.
    pub signals: File,
    /// Its own `oom_score_adj`, opened while that was allowed.
    pub oom: Option<File>,
    /// The umask that it was started with.
    pub umask: u32,
    /// The machine's boot.
    pub boot: [u8; 16],
}

/// A command that was accepted.
struct Known {
    hash: [u8; 32],
    standing: Standing,
}

/// The shim ends, with this code, once all runs are over.
struct Ending {
    code: u8,
}

/// The shim.
pub struct Server {
    parts: Parts,
    env: Vec<(OsString, OsString)>,
    /// The agent's variables: what runs beside it has them, too.
    agent_env: Pairs,
    conns: Vec<Conn>,
    serial: u64,
    generation: u64,
    commands: HashMap<u128, Known>,
    runs: Vec<Run>,
    execs: Vec<Exec>,
    buffer: Vec<u8>,
    ending: Option<Ending>,
    said_finished: bool,
    strays_until: Option<Instant>,
}

/// What a descriptor that is waited for belongs to.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Conn(u64),
    Keeper(usize),
    Source(usize, usize),
    Input(usize),
    ExecConn(usize),
    ExecKeeper(usize),
    ExecOut(usize, usize),
    ExecInput(usize),
}

impl Server {
    /// A shim with nothing to do yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            env: std::env::vars_os().collect(),
            agent_env: Pairs::new(),
            conns: Vec::new(),
            serial: 0,
            generation: 0,
            commands: HashMap::new(),
            runs: Vec::new(),
            execs: Vec::new(),
            buffer: source::buffer(),
            ending: None,
            said_finished: false,
            strays_until: None,
        }
    }

    /// Works until the primary run is over and everything is in the spool.
    pub fn serve(&mut self) -> io::Result<u8> {
        loop {
            let (mut fds, tokens) = self.watched();
            let timeout = self
                .next_deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            sys::wait(&mut fds, timeout)?;
            for (fd, token) in fds.iter().zip(tokens) {
                if fd.happened() {
                    self.handle(token);
                }
            }
            self.settle(Instant::now());
            self.tell();
            if let Some(code) = self.finished() {
                return Ok(code);
            }
        }
    }

    fn watched(&self) -> (Vec<PollFd>, Vec<Token>) {
        let mut fds = vec![PollFd::new(&self.parts.signals, true, false)];
        let mut tokens = vec![Token::Signals];
        if self.conns.len() < CONNS_MAX {
            fds.push(PollFd::new(&self.parts.listener, true, false));
            tokens.push(Token::Listener);
        }
        for conn in &self.conns {
            fds.push(conn.poll());
            tokens.push(Token::Conn(conn.serial));
        }
        let log = &self.parts.log;
        for (index, run) in self.runs.iter().enumerate() {
            if run.is_over() {
                continue;
            }
            if let Some(fd) = run.poll_link() {
                fds.push(fd);
                tokens.push(Token::Keeper(index));
            }
            if let Some(fd) = run.input.poll() {
                fds.push(fd);
                tokens.push(Token::Input(index));
            }
            // Nothing of a run comes before the record that it has started.
            if run.phase == Phase::Starting {
                continue;
            }
            // What an ended run has left is a pipe's content at most, and may go
            // beyond the bound: an end never waits for whoever reads the spool.
            let rest = run.is_draining();
            if !log.takes(rest) || !(rest || log.writer.within_bound()) {
                fail_point!("spool.bound");
                continue;
            }
            for (number, source) in run.sources.iter().enumerate() {
                if let Some(fd) = source.poll() {
                    fds.push(fd);
                    tokens.push(Token::Source(index, number));
                }
            }
        }
        self.watch_execs(&mut fds, &mut tokens);
        (fds, tokens)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let runs = self.runs.iter().filter_map(Run::next_deadline);
        let execs = self.execs.iter().filter_map(Exec::next_deadline);
        let runs = runs.chain(execs);
        let strangers = self.conns.iter().filter(|conn| conn.generation.is_none());
        let hellos = strangers.map(|conn| conn.since + HELLO);
        runs.chain(hellos).chain(self.parts.log.retry_at()).min()
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Signals => self.take_signals(),
            Token::Listener => self.accept(),
            Token::Conn(serial) => self.hear(serial),
            Token::Keeper(index) => self.listen(index),
            Token::Source(index, number) => {
                let Some(run) = self.runs.get_mut(index) else {
                    return;
                };
                let rest = run.is_draining();
                if let Some(source) = run.sources.get_mut(number) {
                    source.read(&mut self.buffer, &mut self.parts.log, rest);
                }
            }
            Token::Input(index) => {
                let told = self.runs.get_mut(index).map(|run| run.input.write());
                self.tell_input(told.unwrap_or_default());
            }
            Token::ExecConn(_)
            | Token::ExecKeeper(_)
            | Token::ExecOut(..)
            | Token::ExecInput(_) => self.handle_exec(token),
        }
    }

    fn take_signals(&mut self) {
        for number in sys::caught(&self.parts.signals) {
            match number {
                signals::CHLD => self.reap(),
                signals::TERM | signals::INT | signals::HUP | signals::QUIT => {
                    self.pass_on(number);
                }
                _ => {}
            }
        }
    }

    /// A signal from outside is for the runs. It is no stop: nobody asked us for one.
    fn pass_on(&mut self, number: i32) {
        for run in &self.runs {
            run.signal(number);
        }
        if !self.runs.iter().any(|run| run.primary && run.is_live()) && self.ending.is_none() {
            let code = u8::try_from(128 + number).unwrap_or(u8::MAX);
            self.end(code);
        }
    }

    /// Keepers are heard over their links; here they, and whoever lost a parent,
    /// are only taken off the kernel's list.
    fn reap(&mut self) {
        while let sys::Reaped::Child(..) = sys::reap() {}
        if self
            .strays_until
            .is_some_and(|until| until > Instant::now())
        {
            self.kill_strays();
        } else {
            self.strays_until = None;
        }
    }

    fn kill_strays(&self) {
        let beside = self.execs.iter().map(|exec| &exec.run);
        let keepers: Vec<u32> = self
            .runs
            .iter()
            .chain(beside)
            .filter(|run| run.poll_link().is_some())
            .map(|run| run.keeper)
            .collect();
        process::kill_descendants(std::process::id(), &keepers);
    }

    /// A keeper was killed: what it kept has lost its parent by now, or will.
    fn strays(&mut self) {
        self.strays_until = Some(Instant::now() + STRAYS);
        self.kill_strays();
    }

    fn accept(&mut self) {
        fail_point!("shim.greeted");
        let Ok((stream, _)) = self.parts.listener.accept() else {
            return;
        };
        // Commands come from outside a container, and locally from our own user.
        let welcome = sys::peer(&stream).is_ok_and(|peer| {
            if self.parts.options.local {
                peer.uid == sys::user()
            } else {
                peer.pid == 0
            }
        });
        if !welcome {
            return;
        }
        self.serial += 1;
        if let Ok(conn) = Conn::new(stream, self.serial, Instant::now()) {
            self.conns.push(conn);
        }
    }

    fn hear(&mut self, serial: u64) {
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.serial == serial) else {
            return;
        };
        for request in conn.hear(&mut self.buffer) {
            if let Some(request) = self.pass_to_exec(serial, request) {
                self.answer(serial, request);
            }
        }
    }

    /// The connection of that serial, if it is still there.
    fn conn(&mut self, serial: u64) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|conn| conn.serial == serial)
    }

    /// Does what is due, and concludes what is over.
    fn settle(&mut self, now: Instant) {
        self.parts.log.retry(now);
        for index in 0..self.runs.len() {
            let run = &mut self.runs[index];
            if run.is_over() {
                continue;
            }
            run.enforce(now);
            let Some(ended) = run.settle(&mut self.parts.log, now) else {
                continue;
            };
            run.phase = Phase::Over { ended };
            run.terminal = None;
            run.sources.clear();
            let stops = std::mem::take(&mut run.stops);
            let (number, primary) = (run.number, run.primary);
            fail_point!("run.drained");
            self.parts.log.say(Control::Exited {
                run: number,
                code: ended.code,
                signal: ended.signal,
            });
            fail_point!("run.exited");
            for id in stops {
                self.done(id, true, "");
            }
            if primary {
                self.end(ended.code);
            }
        }
        self.settle_execs(now);
        for conn in &mut self.conns {
            if conn.generation.is_none() && conn.since + HELLO <= now {
                conn.drop_at_once();
            }
        }
    }

    /// Sends what there is to be said.
    fn tell(&mut self) {
        let length = self.parts.log.writer.written();
        for conn in &mut self.conns {
            if conn.watch.is_some_and(|beyond| length > beyond) {
                conn.watch = None;
                conn.say(&Answer::Written { length });
            }
            conn.flush();
        }
        self.conns.retain(|conn| !conn.is_gone());
    }

    /// The exit code, once nothing is left to do.
    fn finished(&mut self) -> Option<u8> {
        let code = self.ending.as_ref()?.code;
        if !self.runs.iter().all(Run::is_over) || !self.execs.is_empty() {
            return None;
        }
        if !self.said_finished {
            self.said_finished = true;
            process::kill_descendants(std::process::id(), &[]);
            self.parts.log.say(Control::Finished);
        }
        if !self.parts.log.is_flushed() {
            return None;
        }
        self.parts.log.writer.finish();
        self.tell();
        Some(code)
    }
}
