//! Commands: checked, accepted, and only then acted on.

use super::{Known, Server};
use crate::input::{Then, Told};
use crate::place;
use crate::run::Run;
use crate::spool::Control;
use crate::sys;
use crate::wire::{COMMANDS_MAX, Command, Pairs, RUNS_MAX, RunCommand, Standing};
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

/// Runs at once.
const LIVE_MAX: usize = 64;
/// Commands that only stops and signals may still use when no other may.
const COMMANDS_KEPT: usize = 1024;
/// Added to what children have, so that the agent dies before its witness when memory is short.
const OOM_SCORE: i32 = 500;

impl Server {
    /// Accepts a command and acts on it; or refuses it, and nothing has happened.
    pub(super) fn command(
        &mut self,
        id: u128,
        hash: [u8; 32],
        command: Command,
    ) -> Result<(), String> {
        self.check(&command)?;
        if let Command::Run(body) = &command {
            // Before the first record that could have one of them in it.
            for (name, value) in &body.secrets {
                self.parts.log.redactor.add(name, value);
            }
        }
        fail_point!("run.asked");
        self.parts
            .log
            .accept(id)
            .map_err(|_| "there is no room on the disk".to_owned())?;
        fail_point!("run.accepted");
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
    pub(super) fn check(&self, command: &Command) -> Result<(), String> {
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

    pub(super) fn check_run(&self, body: &RunCommand) -> Result<(), String> {
        let live = self.runs.iter().filter(|run| !run.is_over()).count();
        let why = if self.ending.is_some() {
            "the shim is about to end"
        } else if self.runs.iter().any(|run| run.number == body.run) {
            "there is a run of that number already"
        } else if body.primary && self.runs.iter().any(|run| run.primary) {
            "there is a primary run already"
        } else if live >= LIVE_MAX || self.runs.len() >= RUNS_MAX {
            "there are as many runs as there can be"
        } else {
            let program = check_program(&body.argv, body.cwd.as_ref(), &body.env);
            return program.map_err(str::to_owned);
        };
        Err(why.to_owned())
    }

    pub(super) fn find(&self, number: u32) -> Option<&Run> {
        self.runs.iter().find(|run| run.number == number)
    }

    pub(super) fn known(&self, number: u32) -> Result<&Run, String> {
        self.find(number)
            .ok_or_else(|| format!("there is no run {number}"))
    }

    pub(super) fn run(&mut self, id: u128, mut body: RunCommand) {
        if body.primary {
            self.agent_env = body.env.clone();
        }
        let scored = self.raise_oom_score();
        let result = place::write_files(&body.files)
            .and_then(|()| Run::begin(id, &mut body, &self.env, self.parts.umask));
        if let Some(score) = scored {
            self.set_oom_score(score);
        }
        match result {
            Ok(run) => {
                fail_point!("run.begun");
                self.runs.push(run);
            }
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
    pub(super) fn raise_oom_score(&mut self) -> Option<i32> {
        let file = self.parts.oom.as_mut()?;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        let score: i32 = text.trim().parse().ok()?;
        self.set_oom_score(score.saturating_add(OOM_SCORE).min(1000));
        Some(score)
    }

    pub(super) fn set_oom_score(&mut self, score: i32) {
        if let Some(file) = &mut self.parts.oom {
            // Without it the kernel chooses by size alone, which is right mostly.
            let _ = file.rewind();
            let _ = write!(file, "{score}");
        }
    }

    pub(super) fn stop(&mut self, id: u128, number: u32, grace: Duration) {
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

    pub(super) fn done(&mut self, id: u128, ok: bool, message: &str) {
        if let Some(known) = self.commands.get_mut(&id) {
            known.standing = if ok { Standing::Done } else { Standing::Failed };
        }
        self.parts.log.say(Control::Done {
            id,
            ok,
            message: message.to_owned(),
        });
    }

    pub(super) fn resize(&mut self, number: u32, rows: u16, columns: u16) -> Result<(), String> {
        let terminal = self
            .known(number)?
            .terminal
            .as_ref()
            .ok_or("the run has no terminal")?;
        sys::set_terminal_size(terminal, rows, columns).map_err(|error| error.to_string())
    }

    pub(super) fn input(
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

    pub(super) fn tell_input(&mut self, told: Vec<Told>) {
        for (then, result) in told {
            match then {
                Then::Nobody | Then::Taken(_) => {}
                Then::Steered(id) => self.done(id, result.is_ok(), result.err().unwrap_or("")),
                Then::Answer(serial, request) => {
                    self.reply(serial, request, result.map_err(str::to_owned));
                }
            }
        }
    }
}

/// Whether a program can be executed with these at all.
pub(super) fn check_program(
    argv: &[Vec<u8>],
    cwd: Option<&Vec<u8>>,
    env: &Pairs,
) -> Result<(), &'static str> {
    let plain = |bytes: &Vec<u8>| !bytes.contains(&0);
    if argv.first().is_none_or(Vec::is_empty) {
        return Err("there is no program to run");
    }
    if !argv.iter().chain(cwd).all(plain) {
        return Err("an argument has a zero byte in it");
    }
    if env.iter().any(|(name, value)| {
        name.is_empty() || name.contains(&b'=') || !plain(name) || !plain(value)
    }) {
        return Err("a variable's name is empty or has = in it, or there is a zero byte in it");
    }
    Ok(())
}
