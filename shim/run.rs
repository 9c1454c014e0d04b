//! One run: its program, its streams, and how far it is.

use crate::channel::Beside;
use crate::exec::{Launch, Streams};
use crate::input::{Input, Then};
use crate::keeper::{self, Order, Report};
use crate::log::Log;
use crate::source::Source;
use crate::sys::{self, Ended, PollFd, signals};
use crate::wire::RunCommand;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// So long a pipe that somebody outside the run still holds is read on.
pub const DRAIN: Duration = Duration::from_secs(2);
/// A keeper that does not obey within this is killed itself.
const KEEPER_GRACE: Duration = Duration::from_secs(5);

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its keeper is about to execute it.
    Starting,
    /// Its program runs.
    Running,
    /// Its program has ended; what is in its pipes is still read.
    Draining {
        /// How it ended.
        ended: Ended,
        /// When reading ends in any case.
        until: Instant,
    },
    /// Its program was never executed.
    NotRun {
        /// 127 or 126.
        code: u8,
    },
    /// It is over, and that is in the spool.
    Over {
        /// How it ended.
        ended: Ended,
    },
}

/// A run.
pub struct Run {
    /// Its number.
    pub number: u32,
    /// The shim ends with it.
    pub primary: bool,
    /// The command that began it.
    pub command: u128,
    /// Its keeper's process.
    pub keeper: u32,
    /// How far it is.
    pub phase: Phase,
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub sources: Vec<Source>,
    /// Its terminal, if it has one.
    pub terminal: Option<File>,
    /// The stops that wait for its end.
    pub stops: Vec<u128>,
    /// When it is killed.
    pub deadline: Option<Instant>,
    /// When its keeper is, because it did not obey.
    keeper_deadline: Option<Instant>,
    link: Option<UnixStream>,
    heard: Vec<u8>,
}

/// What a run's keeper has brought.
pub enum News {
    /// A report.
    Report(Report),
    /// The keeper is gone without one.
    Gone,
}

impl Run {
    /// Begins a run, in the environment `base` and with the umask of old.
    pub fn begin(
        command: u128,
        body: &mut RunCommand,
        base: &[(OsString, OsString)],
        umask: u32,
    ) -> io::Result<Self> {
        let number = body.run;
        let (streams, mut input, sources, terminal) = match body.tty {
            Some((rows, columns)) => {
                let (master, slave) = sys::open_terminal(rows, columns)?;
                let input = Input::new(master.try_clone()?, true)?;
                let source = Source::new(number, false, master.try_clone()?)?;
                let streams = Streams::Terminal(slave);
                (streams, input, vec![source], Some(master))
            }
            None => {
                let (streams, input, [out, err]) = pipes()?;
                let sources = vec![
                    Source::new(number, false, out)?,
                    Source::new(number, true, err)?,
                ];
                (streams, input, sources, None)
            }
        };
        let stdin = std::mem::take(&mut body.stdin);
        if !stdin.is_empty() || !body.keep_stdin_open {
            input.push(stdin, !body.keep_stdin_open, Then::Nobody);
        }
        let (keeper, link) = keeper::spawn(Launch {
            argv: strings(&body.argv)?,
            env: environment(base, &body.env)?,
            cwd: body.cwd.as_deref().map(string).transpose()?,
            streams,
            umask,
        })?;
        Ok(Self {
            number,
            primary: body.primary,
            command,
            sources,
            terminal,
            ..Self::kept(keeper, link, input)
        })
    }

    /// Begins a program beside the agent, with the agent's variables under its
    /// own; gives what comes out of it, too.
    pub fn beside(
        beside: &Beside,
        base: &[(OsString, OsString)],
        agent: &[(Vec<u8>, Vec<u8>)],
        umask: u32,
    ) -> io::Result<(Self, [File; 2])> {
        let (streams, input, outs) = pipes()?;
        for out in &outs {
            sys::set_nonblocking(out)?;
        }
        let (keeper, link) = keeper::spawn(Launch {
            argv: strings(&beside.argv)?,
            env: environment(base, &[agent, &beside.env].concat())?,
            cwd: beside.cwd.as_deref().map(string).transpose()?,
            streams,
            umask,
        })?;
        Ok((Self::kept(keeper, link, input), outs))
    }

    /// A run that has just got its keeper, and is nothing more yet.
    fn kept(keeper: u32, link: UnixStream, input: Input) -> Self {
        Self {
            number: u32::MAX,
            primary: false,
            command: 0,
            keeper,
            phase: Phase::Starting,
            input,
            sources: Vec::new(),
            terminal: None,
            stops: Vec::new(),
            deadline: None,
            keeper_deadline: None,
            link: Some(link),
            heard: Vec::new(),
        }
    }

    /// Its program may still run.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }

    /// Nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. } | Phase::NotRun { .. })
    }

    /// Its program has ended, and its pipes have only a rest.
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// What to wait for of its keeper.
    pub fn poll_link(&self) -> Option<PollFd> {
        self.link
            .as_ref()
            .map(|link| PollFd::new(link, true, false))
    }

    /// What its keeper has to say.
    pub fn listen(&mut self) -> Vec<News> {
        let Some(link) = &mut self.link else {
            return Vec::new();
        };
        let mut buffer = [0; 4096];
        let gone = loop {
            match link.read(&mut buffer) {
                Ok(0) => break true,
                Ok(read) => self.heard.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        let mut news = Vec::new();
        while let Ok(Some(report)) = Report::take(&mut self.heard) {
            news.push(News::Report(report));
        }
        if gone {
            self.link = None;
            news.push(News::Gone);
        }
        news
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, number: i32) {
        if let (Some(link), true) = (&self.link, self.is_live()) {
            Order::Signal(number).send(link);
        }
    }

    /// TERM now, and KILL after `grace`. A further one can only shorten the time.
    pub fn stop(&mut self, grace: Duration, now: Instant) {
        if !self.is_live() {
            return;
        }
        if self.deadline.is_none() && !grace.is_zero() {
            self.signal(signals::TERM);
        }
        let deadline = now.checked_add(grace);
        self.deadline = match (self.deadline, deadline) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    /// Kills what is due.
    pub fn enforce(&mut self, now: Instant) {
        if !self.is_live() {
            return;
        }
        if self.deadline.is_some_and(|at| at <= now) && self.keeper_deadline.is_none() {
            if let Some(link) = &self.link {
                Order::Kill.send(link);
            }
            self.keeper_deadline = Some(now + KEEPER_GRACE);
        }
        if self.keeper_deadline.is_some_and(|at| at <= now) {
            self.keeper_deadline = Some(now + KEEPER_GRACE);
            // Its program dies with it.
            if let Ok(keeper) = i32::try_from(self.keeper) {
                let _ = sys::kill(keeper, signals::KILL);
            }
        }
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Starting | Phase::Running => self.keeper_deadline.or(self.deadline),
            Phase::Draining { until, .. } => Some(until),
            Phase::NotRun { .. } | Phase::Over { .. } => None,
        }
    }

    /// Its program has ended: from here on only its pipes' rests are of interest.
    pub fn drain(&mut self, ended: Ended, now: Instant) {
        self.phase = Phase::Draining {
            ended,
            until: now + DRAIN,
        };
    }

    /// Reads no longer than is due. Waiting for room does not count.
    pub fn settle(&mut self, log: &mut Log, now: Instant) -> Option<Ended> {
        let rest = self.is_draining();
        for source in &mut self.sources {
            source.settle(log, rest);
        }
        let stuck = self.sources.iter().any(Source::is_stuck) || !log.takes(true);
        let Phase::Draining { ended, until } = &mut self.phase else {
            return None;
        };
        if stuck {
            *until = now + DRAIN;
        } else if *until <= now {
            for source in &mut self.sources {
                source.close(log, true);
            }
        }
        let ended = *ended;
        self.sources.iter().all(Source::is_over).then_some(ended)
    }
}

/// A program's pipes: its side, and ours of its input and of what comes out.
fn pipes() -> io::Result<(Streams, Input, [File; 2])> {
    let ((stdin, write), (out, stdout), (err, stderr)) = (pipe()?, pipe()?, pipe()?);
    sys::widen_pipe(&out);
    sys::widen_pipe(&err);
    let input = Input::new(File::from(OwnedFd::from(write)), false)?;
    let file = |end| File::from(OwnedFd::from(end));
    let streams = Streams::Pipes([stdin.into(), stdout.into(), stderr.into()]);
    Ok((streams, input, [file(out), file(err)]))
}

fn string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::from)
}

fn strings(all: &[Vec<u8>]) -> io::Result<Vec<CString>> {
    all.iter().map(|bytes| string(bytes)).collect()
}

/// The shim's own variables, and `over` over them.
fn environment(
    base: &[(OsString, OsString)],
    over: &[(Vec<u8>, Vec<u8>)],
) -> io::Result<Vec<CString>> {
    let bytes = |text: &OsString| text.clone().into_vec();
    let base = base.iter().map(|(name, value)| (bytes(name), bytes(value)));
    let all: BTreeMap<Vec<u8>, Vec<u8>> = base.chain(over.iter().cloned()).collect();
    all.into_iter()
        .map(|(mut variable, value)| {
            variable.push(b'=');
            variable.extend_from_slice(&value);
            CString::new(variable).map_err(io::Error::from)
        })
        .collect()
}
