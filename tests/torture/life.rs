//! One life of a daemon: where it is to die, and how, if it does not get there.

use crate::support::env::BINARY;
use crate::support::{Dice, TestEnv, engine, procfs};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// What has to be asked for so that a point is come by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Many sessions at once.
    Start,
    /// A further run; in a container, if there is one.
    Resume,
    Stop,
    Remove,
    Compact,
    /// Whatever goes on.
    Nothing,
}

/// Where the daemon can be made to die, at which time at the latest, and what
/// leads there.
const POINTS: [(&str, u64, Errand); 45] = [
    ("dispatch.written", 10, Errand::Start),
    ("dispatch.recorded", 10, Errand::Start),
    ("launch.building", 10, Errand::Start),
    ("launch.built", 10, Errand::Start),
    ("launch.creating", 10, Errand::Start),
    ("launch.created", 10, Errand::Start),
    ("launch.started", 10, Errand::Start),
    ("launch.met", 10, Errand::Start),
    ("launch.accepted", 10, Errand::Start),
    ("launch.recorded", 10, Errand::Start),
    ("capture.begun", 10, Errand::Start),
    ("driver.step", 25, Errand::Start),
    ("session.append", 60, Errand::Start),
    ("store.written", 30, Errand::Start),
    ("resume.written", 1, Errand::Resume),
    ("resume.recorded", 1, Errand::Resume),
    ("launch.snapshot", 1, Errand::Resume),
    ("launch.created", 2, Errand::Resume),
    ("launch.accepted", 2, Errand::Resume),
    ("cleanup.earlier", 1, Errand::Resume),
    ("capture.stopping", 2, Errand::Stop),
    ("remove.begun", 1, Errand::Remove),
    ("remove.containers", 1, Errand::Remove),
    ("remove.swept", 1, Errand::Remove),
    ("remove.noted", 1, Errand::Remove),
    ("remove.deleted", 1, Errand::Remove),
    ("store.removing", 1, Errand::Remove),
    ("store.hidden", 1, Errand::Remove),
    ("compact.step", 10, Errand::Compact),
    ("compact.switched", 1, Errand::Compact),
    ("supervisor.claimed", 20, Errand::Nothing),
    ("adopt.session", 15, Errand::Nothing),
    ("adopt.open", 1, Errand::Nothing),
    ("capture.read", 40, Errand::Nothing),
    ("capture.recorded", 40, Errand::Nothing),
    ("capture.trimmed", 40, Errand::Nothing),
    ("capture.drained", 2, Errand::Nothing),
    ("capture.ended", 8, Errand::Nothing),
    ("run.ended", 8, Errand::Nothing),
    ("run.freed", 8, Errand::Nothing),
    ("journal.commit", 40, Errand::Nothing),
    ("journal.committed", 40, Errand::Nothing),
    ("store.durable", 30, Errand::Nothing),
    ("store.merging", 4, Errand::Nothing),
    ("store.merged", 4, Errand::Nothing),
];

/// A life, as it is going to be.
pub struct Life {
    /// What arms a fail point; empty for none.
    pub armed: String,
    /// What leads there.
    pub errand: Errand,
    /// So long it may live.
    patience: Duration,
    end: End,
}

enum End {
    Signal(Signal),
    /// It freezes for so long, and goes on.
    Freeze(Duration),
    /// It freezes for so long, and is killed.
    FreezeAndKill(Duration),
    Restart,
    Stop,
}

impl Life {
    /// What chance has in store.
    pub fn roll(dice: &mut Dice, first: bool) -> Self {
        let reached: Vec<_> = POINTS
            .into_iter()
            .filter(|(_, _, errand)| (*errand == Errand::Start) == first)
            .collect();
        let (point, at, errand) = *dice.pick(&reached);
        let at = dice.roll(at) + 1;
        let how = *dice.pick(&["kill", "kill", "kill", "abort"]);
        let armed = match dice.percent(80) {
            true => format!("{point}={how}@{at}"),
            false => String::new(),
        };
        let millis = |dice: &mut Dice, from, to| Duration::from_millis(from + dice.roll(to));
        Self {
            errand,
            // Whoever is to get somewhere is given the time to.
            patience: match armed.is_empty() {
                true => millis(dice, 20, 600),
                false if first => millis(dice, 2000, 1000),
                false => millis(dice, 1000, 500),
            },
            end: match dice.roll(20) {
                0..12 => End::Signal(Signal::KILL),
                12 | 13 => End::Signal(Signal::ABORT),
                14 | 15 => End::Freeze(millis(dice, 50, 400)),
                16 | 17 => End::FreezeAndKill(millis(dice, 50, 400)),
                18 => End::Restart,
                _ => End::Stop,
            },
            armed,
        }
    }

    /// Lets the daemon live as long as it may, then ends it. Says how that went.
    pub fn end(self, env: &TestEnv) -> String {
        let mut by_itself = true;
        for pid in daemons(env) {
            if procfs::ends_within(pid, self.patience) {
                continue;
            }
            by_itself = false;
            match &self.end {
                End::Signal(signal) => {
                    send(pid, *signal);
                    procfs::await_death(pid);
                }
                End::Freeze(pause) => {
                    send(pid, Signal::STOP);
                    procfs::ends_within(pid, *pause);
                    send(pid, Signal::CONT);
                }
                End::FreezeAndKill(pause) => {
                    send(pid, Signal::STOP);
                    procfs::ends_within(pid, *pause);
                    send(pid, Signal::KILL);
                    procfs::await_death(pid);
                }
                End::Restart | End::Stop => {
                    let verb = match self.end {
                        End::Restart => "restart",
                        _ => "stop",
                    };
                    env.cldpd(["daemon", verb]).run();
                }
            }
        }
        match (by_itself, self.end) {
            (true, _) if self.armed.is_empty() => "none".to_owned(),
            (true, _) => self.armed,
            (false, End::Signal(Signal::KILL)) => "kill".to_owned(),
            (false, End::Signal(_)) => "abort".to_owned(),
            (false, End::Freeze(_)) => "freeze".to_owned(),
            (false, End::FreezeAndKill(_)) => "freeze and kill".to_owned(),
            (false, End::Restart) => "restart".to_owned(),
            (false, End::Stop) => "stop".to_owned(),
        }
    }
}

/// Kills whatever daemon of this home there is.
pub fn kill_all(env: &TestEnv) {
    // One that a command has just made still looks like that command, which is over.
    let left = || {
        let processes = procfs::processes_of(&env.home()).into_iter();
        let mut ours = processes.filter(|(_, arguments)| arguments.starts_with(BINARY));
        ours.next().map(|(pid, _)| pid)
    };
    while let Some(pid) = left() {
        send(pid, Signal::KILL);
        procfs::await_death(pid);
    }
}

/// The daemons of this home. There is one at most that serves; another may be
/// about to find that out.
pub fn daemons(env: &TestEnv) -> Vec<i32> {
    let processes = procfs::processes_of(&env.home()).into_iter();
    processes
        .filter(|(_, arguments)| arguments.contains("daemon run"))
        .map(|(pid, _)| pid)
        .collect()
}

/// Freezes so many of the shims of local sessions.
pub fn freeze_shims(env: &TestEnv, many: usize) {
    for pid in shims(env).into_iter().take(many) {
        send(pid, Signal::STOP);
    }
}

/// Lets all shims go on.
pub fn thaw_shims(env: &TestEnv) {
    for pid in shims(env) {
        send(pid, Signal::CONT);
    }
}

/// Stops everything for so long, as a machine that sleeps does: daemon, shims, agents
/// and commands, also in containers.
pub fn suspend(env: &TestEnv, pause: Duration) {
    let mut all: Vec<i32> = procfs::processes_of(env.root())
        .into_iter()
        .map(|(pid, _)| pid)
        .collect();
    for name in engine::containers_of(env.root()) {
        let pid = engine::inspect(&name).state.and_then(|state| state.pid);
        if let Some(pid) = pid.filter(|pid| *pid > 0) {
            all.extend(procfs::processes_in(&procfs::pid_namespace(pid)));
        }
    }
    for pid in &all {
        send(*pid, Signal::STOP);
    }
    // Our own end is a thing that does not happen meanwhile.
    procfs::ends_within(std::process::id().cast_signed(), pause);
    for pid in &all {
        send(*pid, Signal::CONT);
    }
}

fn shims(env: &TestEnv) -> Vec<i32> {
    let place = env.home().join("sessions");
    let processes = procfs::processes_of(&place).into_iter();
    processes
        .filter(|(_, arguments)| arguments.contains("/bin/shim"))
        .map(|(pid, _)| pid)
        .collect()
}

fn send(pid: i32, signal: Signal) {
    // It may have gone by itself.
    let _ = kill_process(Pid::from_raw(pid).expect("a process id"), signal);
}
