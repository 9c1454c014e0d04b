//! The shim at work: one thread that waits for everything at once.
//!
//! Invariant: a command is in the spool as accepted before anything is done
//! about it, and its id never does anything again.

use crate::conn::{Conn, Whole};
use crate::input::{Then, Told};
use crate::keeper::Report;
use crate::log::Log;
use crate::options::Options;
use crate::place;
use crate::process;
use crate::run::{News, Phase, Run};
use crate::source;
use crate::spool::Control;
use crate::sys::{self, Ended, PollFd, signals};
use crate::wire::{
    self, Answer, COMMANDS_MAX, Command, Greeting, KNOWN_BATCH, RUNS_MAX, Request, RunCommand,
    RunStanding, Standing,
};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Runs at once.
const LIVE_MAX: usize = 64;
/// Commands that only stops and signals may still use when no other may.
const COMMANDS_KEPT: usize = 1024;
/// Connections at once, those that did not say hello included.
const CONNS_MAX: usize = 8;
/// Whoever connects has to say hello within this.
const HELLO: Duration = Duration::from_secs(5);
/// What dies after its keeper is looked for during this.
const STRAYS: Duration = Duration::from_secs(2);
/// Added to what children have, so that the agent dies before its witness when memory is short.
const OOM_SCORE: i32 = 500;

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
    conns: Vec<Conn>,
    serial: u64,
    generation: u64,
    commands: HashMap<u128, Known>,
    runs: Vec<Run>,
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
}

impl Server {
    /// A shim with nothing to do yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            env: std::env::vars_os().collect(),
            conns: Vec::new(),
            serial: 0,
            generation: 0,
            commands: HashMap::new(),
            runs: Vec::new(),
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
                continue;
            }
            for (number, source) in run.sources.iter().enumerate() {
                if let Some(fd) = source.poll() {
                    fds.push(fd);
                    tokens.push(Token::Source(index, number));
                }
            }
        }
        (fds, tokens)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let runs = self.runs.iter().filter_map(Run::next_deadline);
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
        let keepers: Vec<u32> = self
            .runs
            .iter()
            .filter(|run| run.poll_link().is_some())
            .map(|run| run.keeper)
            .collect();
        process::kill_descendants(std::process::id(), &keepers);
    }

    fn accept(&mut self) {
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
            self.answer(serial, request);
        }
    }

    /// The connection of that serial, if it is still there.
    fn conn(&mut self, serial: u64) -> Option<&mut Conn> {
        self.conns.iter_mut().find(|conn| conn.serial == serial)
    }

    fn answer(&mut self, serial: u64, request: Request) {
        let Some(conn) = self.conn(serial) else {
            return;
        };
        if conn.is_gone() {
            return;
        }
        if conn.generation.is_some() == matches!(request, Request::Hello { .. }) {
            conn.drop_at_once();
            return;
        }
        match request {
            Request::Hello {
                version,
                generation,
            } => self.greet(serial, version, generation),
            Request::Begin {
                request,
                id,
                total,
                hash,
            } => self.begin(serial, request, id, total, hash),
            Request::Chunk {
                id,
                position,
                bytes,
            } => {
                let whole = conn.chunk(id, position, &bytes);
                self.take_body(serial, whole);
            }
            Request::Trim { request, upto } => {
                self.parts.log.writer.trim(upto);
                self.reply(serial, request, Ok(()));
            }
            Request::Watch { beyond } => {
                let earliest = conn.watch.map_or(beyond, |watch| watch.min(beyond));
                conn.watch = Some(earliest);
            }
            Request::Resize {
                request,
                run,
                rows,
                columns,
            } => {
                let result = self.resize(run, rows, columns);
                self.reply(serial, request, result);
            }
            Request::Input {
                request,
                run,
                position,
                close,
                bytes,
            } => {
                let then = Then::Answer(serial, request);
                if let Err(why) = self.input(run, position, bytes, close, then) {
                    self.reply(serial, request, Err(why));
                }
            }
        }
    }

    fn reply(&mut self, serial: u64, request: u32, result: Result<(), String>) {
        if let Some(conn) = self.conn(serial) {
            conn.reply(request, result);
        }
    }

    fn greet(&mut self, serial: u64, version: u16, generation: u64) {
        let served = self.generation;
        let runs = self.runs.iter().map(|run| RunStanding {
            run: run.number,
            over: run.is_over(),
            input: run.input.taken,
        });
        let options = &self.parts.options;
        let greeting = Greeting {
            version: wire::VERSION,
            session: options.session,
            run: options.run,
            attempt: options.attempt,
            boot: self.parts.boot,
            base: self.parts.log.writer.base(),
            written: self.parts.log.writer.written(),
            runs: runs.collect(),
        };
        let known: Vec<(u128, Standing)> = self
            .commands
            .iter()
            .map(|(id, known)| (*id, known.standing))
            .collect();
        let Some(conn) = self.conn(serial) else {
            return;
        };
        if version != wire::VERSION || generation < served {
            conn.say(&Answer::Unwelcome {
                version: wire::VERSION,
                generation: served,
            });
            conn.leave();
            return;
        }
        conn.generation = Some(generation);
        conn.say(&Answer::Hello(greeting));
        for batch in known.chunks(KNOWN_BATCH) {
            conn.say(&Answer::Known(batch.to_vec()));
        }
        conn.say(&Answer::Ready);
        self.generation = generation;
        for other in &mut self.conns {
            if other.serial != serial && other.generation.is_some() {
                other.say(&Answer::Displaced { generation });
                other.leave();
            }
        }
    }

    fn begin(&mut self, serial: u64, request: u32, id: u128, total: u64, hash: [u8; 32]) {
        if let Some(known) = self.commands.get(&id) {
            let same = known.hash == hash;
            let result = if same {
                Ok(())
            } else {
                Err("the id belongs to another command".to_owned())
            };
            self.reply(serial, request, result);
            return;
        }
        let whole = self
            .conn(serial)
            .and_then(|conn| conn.begin(request, id, total, hash));
        self.take_body(serial, whole);
    }

    fn take_body(&mut self, serial: u64, whole: Option<Whole>) {
        let Some(whole) = whole else {
            return;
        };
        let command = whole
            .body
            .and_then(|body| Command::decode(&body).map_err(|bad| bad.0));
        let result = command
            .map_err(str::to_owned)
            .and_then(|command| self.command(whole.id, whole.hash, command));
        self.reply(serial, whole.request, result);
    }

    /// Accepts a command and acts on it; or refuses it, and nothing has happened.
    fn command(&mut self, id: u128, hash: [u8; 32], command: Command) -> Result<(), String> {
        self.check(&command)?;
        if let Command::Run(body) = &command {
            // Before the first record that could have one of them in it.
            for (name, value) in &body.secrets {
                self.parts.log.redactor.add(name, value);
            }
        }
        self.parts
            .log
            .accept(id)
            .map_err(|_| "there is no room on the disk".to_owned())?;
        let standing = Standing::Accepted;
        self.commands.insert(id, Known { hash, standing });
        match command {
            Command::Run(body) => self.run(id, *body),
            Command::Steer { run, bytes } => {
                let run = self.runs.iter_mut().find(|known| known.number == run);
                let told = run.map(|run| {
                    run.input.push(bytes, false, Then::Steered(id));
                    run.input.write()
                });
                self.tell_input(told.unwrap_or_default());
            }
            Command::Signal { run, signal } => {
                let run = self.find(run).filter(|run| run.is_live());
                let said = match run {
                    Some(run) => {
                        run.signal(signal);
                        ""
                    }
                    None => "the run is over already",
                };
                self.done(id, true, said);
            }
            Command::Stop { run, grace } => self.stop(id, run, Duration::from_millis(grace)),
        }
        Ok(())
    }

    /// Whether a command makes sense now.
    fn check(&self, command: &Command) -> Result<(), String> {
        let ends = matches!(command, Command::Stop { .. } | Command::Signal { .. });
        let most = if ends {
            COMMANDS_MAX
        } else {
            COMMANDS_MAX - COMMANDS_KEPT
        };
        if self.commands.len() >= most {
            return Err("it was given as many commands as it can remember".to_owned());
        }
        match command {
            Command::Run(body) => self.check_run(body),
            Command::Steer { run, bytes } => {
                let run = self.known(*run)?;
                if !run.is_live() {
                    return Err(format!("run {} is over", run.number));
                }
                run.input.check(bytes.len()).map_err(str::to_owned)
            }
            Command::Signal { run, signal } => {
                if !(1..=64).contains(signal) {
                    return Err(format!("{signal} is no signal"));
                }
                self.known(*run).map(|_| ())
            }
            Command::Stop { run, .. } => self.known(*run).map(|_| ()),
        }
    }

    fn check_run(&self, body: &RunCommand) -> Result<(), String> {
        let plain = |bytes: &Vec<u8>| !bytes.contains(&0);
        let live = self.runs.iter().filter(|run| !run.is_over()).count();
        let why = if self.ending.is_some() {
            "the shim is about to end"
        } else if self.runs.iter().any(|run| run.number == body.run) {
            "there is a run of that number already"
        } else if body.primary && self.runs.iter().any(|run| run.primary) {
            "there is a primary run already"
        } else if live >= LIVE_MAX || self.runs.len() >= RUNS_MAX {
            "there are as many runs as there can be"
        } else if body.argv.first().is_none_or(Vec::is_empty) {
            "there is no program to run"
        } else if !body.argv.iter().chain(&body.cwd).all(plain) {
            "an argument has a zero byte in it"
        } else if body.env.iter().any(|(name, value)| {
            name.is_empty() || name.contains(&b'=') || !plain(name) || !plain(value)
        }) {
            "a variable's name is empty or has = in it, or there is a zero byte in it"
        } else {
            return Ok(());
        };
        Err(why.to_owned())
    }

    fn find(&self, number: u32) -> Option<&Run> {
        self.runs.iter().find(|run| run.number == number)
    }

    fn known(&self, number: u32) -> Result<&Run, String> {
        self.find(number)
            .ok_or_else(|| format!("there is no run {number}"))
    }

    fn run(&mut self, id: u128, mut body: RunCommand) {
        let scored = self.raise_oom_score();
        let result = Run::begin(id, &mut body, &self.env, self.parts.umask);
        if let Some(score) = scored {
            self.set_oom_score(score);
        }
        match result {
            Ok(run) => self.runs.push(run),
            Err(error) => {
                self.parts.log.say(Control::NotRun {
                    run: body.run,
                    code: 126,
                    message: format!("the run could not be begun: {error}"),
                });
                self.done(id, false, "the run could not be begun");
                if body.primary {
                    self.end(126);
                }
            }
        }
    }

    /// Raises our own score for the moment of a fork: children inherit it, and
    /// an undumpable process cannot open its own file there.
    fn raise_oom_score(&mut self) -> Option<i32> {
        let file = self.parts.oom.as_mut()?;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        let score: i32 = text.trim().parse().ok()?;
        self.set_oom_score(score.saturating_add(OOM_SCORE).min(1000));
        Some(score)
    }

    fn set_oom_score(&mut self, score: i32) {
        if let Some(file) = &mut self.parts.oom {
            // Without it the kernel chooses by size alone, which is right mostly.
            let _ = file.rewind();
            let _ = write!(file, "{score}");
        }
    }

    fn stop(&mut self, id: u128, number: u32, grace: Duration) {
        let now = Instant::now();
        let run = self.runs.iter_mut().find(|run| run.number == number);
        match run.filter(|run| !run.is_over()) {
            Some(run) => {
                run.stop(grace, now);
                run.enforce(now);
                run.stops.push(id);
            }
            None => self.done(id, true, "the run is over already"),
        }
    }

    fn done(&mut self, id: u128, ok: bool, message: &str) {
        if let Some(known) = self.commands.get_mut(&id) {
            known.standing = if ok { Standing::Done } else { Standing::Failed };
        }
        self.parts.log.say(Control::Done {
            id,
            ok,
            message: message.to_owned(),
        });
    }

    fn resize(&mut self, number: u32, rows: u16, columns: u16) -> Result<(), String> {
        let terminal = self
            .known(number)?
            .terminal
            .as_ref()
            .ok_or("the run has no terminal")?;
        sys::set_terminal_size(terminal, rows, columns).map_err(|error| error.to_string())
    }

    fn input(
        &mut self,
        number: u32,
        position: u64,
        mut bytes: Vec<u8>,
        close: bool,
        then: Then,
    ) -> Result<(), String> {
        self.known(number)?;
        let Some(run) = self.runs.iter_mut().find(|run| run.number == number) else {
            return Ok(());
        };
        if !run.is_live() {
            return Err(format!("run {number} is over"));
        }
        let Some(skip) = run.input.taken.checked_sub(position) else {
            return Err("input before these bytes is missing".to_owned());
        };
        // Taken already: a repeat after the connection was lost.
        bytes.drain(..bytes.len().min(usize::try_from(skip).unwrap_or(usize::MAX)));
        run.input.check(bytes.len())?;
        run.input.taken += bytes.len() as u64;
        run.input.push(bytes, close, then);
        let told = run.input.write();
        self.tell_input(told);
        Ok(())
    }

    fn tell_input(&mut self, told: Vec<Told>) {
        for (then, result) in told {
            match then {
                Then::Nobody => {}
                Then::Steered(id) => self.done(id, result.is_ok(), result.err().unwrap_or("")),
                Then::Answer(serial, request) => {
                    self.reply(serial, request, result.map_err(str::to_owned));
                }
            }
        }
    }

    fn listen(&mut self, index: usize) {
        let news = self.runs.get_mut(index).map(Run::listen);
        for news in news.unwrap_or_default() {
            match news {
                News::Report(Report::Started { pid }) => self.started(index, pid),
                News::Report(Report::NotRun { code, message }) => {
                    self.not_run(index, code, message);
                }
                News::Report(Report::Ended(ended)) => self.ended(index, ended),
                News::Gone => self.keeper_gone(index),
            }
        }
    }

    fn started(&mut self, index: usize, pid: u32) {
        let run = &mut self.runs[index];
        run.phase = Phase::Running;
        let (number, keeper, command) = (run.number, run.keeper, run.command);
        if self.parts.options.local {
            place::record_run(&self.parts.options.dir, number, keeper, pid);
        }
        self.parts.log.say(Control::Started { run: number, pid });
        self.done(command, true, "");
    }

    fn not_run(&mut self, index: usize, code: u8, message: String) {
        let run = &mut self.runs[index];
        run.phase = Phase::NotRun { code };
        run.sources.clear();
        run.terminal = None;
        let told = run.input.abandon("the program was not run");
        let stops = std::mem::take(&mut run.stops);
        let (number, command, primary) = (run.number, run.command, run.primary);
        self.tell_input(told);
        self.parts.log.say(Control::NotRun {
            run: number,
            code,
            message: message.clone(),
        });
        self.done(command, false, &message);
        for id in stops {
            self.done(id, true, "");
        }
        if primary {
            self.end(code);
        }
    }

    fn ended(&mut self, index: usize, ended: Ended) {
        let run = &mut self.runs[index];
        if !run.is_live() {
            return;
        }
        run.drain(ended, Instant::now());
        let told = run.input.abandon("the run ended before it was written");
        self.tell_input(told);
    }

    /// A keeper that is gone without a word was killed, and its program with it.
    fn keeper_gone(&mut self, index: usize) {
        if !self.runs[index].is_live() {
            return;
        }
        let number = self.runs[index].number;
        self.parts.log.say(Control::Note {
            code: "keeper_killed".to_owned(),
            message: format!("what keeps run {number} was killed, and the run with it"),
        });
        let signal = signals::KILL;
        let killed = Ended {
            code: 137,
            signal: Some(signal),
        };
        self.ended(index, killed);
        self.strays_until = Some(Instant::now() + STRAYS);
        self.kill_strays();
    }

    /// From now on only the end is worked for: the other runs get TERM, their
    /// grace, and KILL.
    fn end(&mut self, code: u8) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { code });
        let (grace, now) = (self.parts.options.grace, Instant::now());
        for run in &mut self.runs {
            run.stop(grace, now);
        }
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
            self.parts.log.say(Control::Exited {
                run: number,
                code: ended.code,
                signal: ended.signal,
            });
            for id in stops {
                self.done(id, true, "");
            }
            if primary {
                self.end(ended.code);
            }
        }
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
        if !self.runs.iter().all(Run::is_over) {
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
