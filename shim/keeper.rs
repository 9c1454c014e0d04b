//! The keeper of one run: parent of the program, and of what its descendants
//! leave behind.
//!
//! A process of its own, forked from the shim. It alone reaps the run's
//! processes, so a signal that it sends never meets a stranger with a reused pid.
//! When the program has ended, or the shim has, it kills what is left and ends.

use crate::bytes::{Bad, Put, Take};
use crate::exec::{self, Launch};
use crate::process;
use crate::sys::{self, Ended, Fork, PollFd, Reaped};
use crate::wire;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// So long what cannot be killed at once is waited for.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// What a keeper tells the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The program was executed.
    Started {
        /// Its process.
        pid: u32,
    },
    /// It could not be.
    NotRun {
        /// 127 or 126.
        code: u8,
        /// Why.
        message: String,
    },
    /// It has ended, and what it left behind is killed.
    Ended(Ended),
}

/// What the shim tells a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A signal for the program's process group.
    Signal(i32),
    /// Kill the program and all its descendants.
    Kill,
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Started { pid } => {
                out.put_u8(1);
                out.put_u32(*pid);
            }
            Self::NotRun { code, message } => {
                out.put_u8(2);
                out.put_u8(*code);
                out.put_bytes(message.as_bytes());
            }
            Self::Ended(ended) => {
                out.put_u8(3);
                out.put_u8(ended.code);
                out.put_u32(ended.signal.unwrap_or(0).unsigned_abs());
            }
        }
        wire::frame(&out)
    }

    /// Takes the report at the front of `buffer`, if it is there whole.
    pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, Bad> {
        let Some(length) = wire::frame_length(buffer)? else {
            return Ok(None);
        };
        let Some(payload) = buffer.get(4..4 + length) else {
            return Ok(None);
        };
        let mut take = Take::new(payload);
        let report = match take.u8()? {
            1 => Self::Started { pid: take.u32()? },
            2 => Self::NotRun {
                code: take.u8()?,
                message: take.text()?,
            },
            3 => Self::Ended(Ended {
                code: take.u8()?,
                signal: Some(take.i32()?).filter(|n| *n != 0),
            }),
            _ => return Err(Bad("a report is of no known kind")),
        };
        buffer.drain(..4 + length);
        Ok(Some(report))
    }
}

impl Order {
    /// Sends it. A keeper that is gone has nothing left to be ordered.
    pub fn send(self, mut link: &UnixStream) {
        let number = match self {
            Self::Signal(number) => number,
            Self::Kill => 0,
        };
        let _ = link.write_all(&number.to_le_bytes());
    }
}

/// Forks the keeper of a run. Gives its pid and the link to it.
pub fn spawn(launch: Launch) -> io::Result<(u32, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    match sys::split()? {
        Fork::Parent(pid) => {
            sys::set_nonblocking(&ours)?;
            Ok((pid, ours))
        }
        Fork::Child => keep(theirs, launch),
    }
}

fn keep(link: UnixStream, launch: Launch) -> ! {
    let mut kept = vec![link.as_raw_fd()];
    match &launch.streams {
        exec::Streams::Pipes(streams) => kept.extend(streams.iter().map(AsRawFd::as_raw_fd)),
        exec::Streams::Terminal(terminal) => kept.push(terminal.as_raw_fd()),
    }
    sys::close_others(&kept);
    fail_point!("keeper.begun");
    let mut keeper = match begin(link, launch) {
        Ok(keeper) => keeper,
        Err((mut link, error)) => {
            let report = Report::NotRun {
                code: 126,
                message: format!("the run's keeper could not begin: {error}"),
            };
            let _ = link.write_all(&report.encode());
            sys::exit(126)
        }
    };
    keeper.watch()
}

struct Keeper {
    link: UnixStream,
    signals: File,
    program: i32,
    ended: Option<Ended>,
}

fn begin(link: UnixStream, launch: Launch) -> Result<Keeper, (UnixStream, io::Error)> {
    match start(launch) {
        Ok((program, signals, complaint)) => {
            let report = hear(program, complaint);
            let failed = matches!(report, Report::NotRun { .. });
            let mut link = link;
            let _ = link.write_all(&report.encode());
            if failed {
                sys::exit(0);
            }
            fail_point!("keeper.started");
            Ok(Keeper {
                link,
                signals,
                program: i32::try_from(program).unwrap_or(i32::MAX),
                ended: None,
            })
        }
        Err(error) => Err((link, error)),
    }
}

fn start(launch: Launch) -> io::Result<(u32, File, File)> {
    sys::new_session()?;
    sys::become_subreaper()?;
    let signals = sys::catch_signals()?;
    let (complaint, complain) = io::pipe()?;
    let own = std::process::id();
    match sys::split()? {
        Fork::Child => exec::become_program(&launch, own, File::from(OwnedFd::from(complain))),
        Fork::Parent(program) => Ok((program, signals, File::from(OwnedFd::from(complaint)))),
    }
}

/// Waits until the program is executed, which closes the pipe, or has complained.
fn hear(program: u32, complaint: File) -> Report {
    let mut said = Vec::new();
    let _ = complaint.take(64 * 1024).read_to_end(&mut said);
    match said.split_first() {
        None => Report::Started { pid: program },
        Some((code, message)) => Report::NotRun {
            code: *code,
            message: String::from_utf8_lossy(message).into_owned(),
        },
    }
}

impl Keeper {
    fn watch(&mut self) -> ! {
        while self.ended.is_none() {
            let mut fds = [
                PollFd::new(&self.link, true, false),
                PollFd::new(&self.signals, true, false),
            ];
            let _ = sys::wait(&mut fds, None);
            let [link, signals] = fds;
            // Orders before deaths: what is not reaped yet still has its pid.
            if link.happened() && self.obey().is_err() {
                // The shim is dead: nobody is left who could hear of the rest.
                self.kill_leftovers();
                sys::exit(0);
            }
            if signals.happened() {
                sys::caught(&self.signals);
                self.reap();
            }
        }
        fail_point!("keeper.ended");
        self.kill_leftovers();
        if let Some(ended) = self.ended {
            let _ = self.link.write_all(&Report::Ended(ended).encode());
        }
        sys::exit(0)
    }

    fn obey(&mut self) -> io::Result<()> {
        let mut order = [0; 4];
        self.link.read_exact(&mut order)?;
        match i32::from_le_bytes(order) {
            0 => {
                process::kill_descendants(std::process::id(), &[]);
            }
            number => {
                // Its session and group have its own number. Should it have no
                // group yet, it itself is meant.
                if sys::kill(-self.program, number).is_err() {
                    let _ = sys::kill(self.program, number);
                }
            }
        }
        Ok(())
    }

    /// Reaps all that has ended; says whether any child is left.
    fn reap(&mut self) -> bool {
        loop {
            match sys::reap() {
                Reaped::Child(pid, ended) if i32::try_from(pid) == Ok(self.program) => {
                    self.ended = Some(ended);
                }
                Reaped::Child(..) => {}
                Reaped::AllLive => return true,
                Reaped::NoChildren => return false,
            }
        }
    }

    /// Kills until nobody is left. Whoever loses a parent becomes our child, so
    /// without children there are no descendants.
    fn kill_leftovers(&mut self) {
        let until = Instant::now() + LEFTOVERS;
        while self.reap() {
            process::kill_descendants(std::process::id(), &[]);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // A death tells; a descendant that is not our child yet may only
            // become one, so look again soon in any case.
            let mut fds = [PollFd::new(&self.signals, true, false)];
            let _ = sys::wait(&mut fds, Some(left.min(Duration::from_millis(50))));
            sys::caught(&self.signals);
        }
    }
}
