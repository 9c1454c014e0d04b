//! What keepers report, and the end of a run and of the shim.

use super::{Ending, Server};
use crate::keeper::Report;
use crate::place;
use crate::run::{News, Phase, Run};
use crate::spool::Control;
use crate::sys::{Ended, signals};
use std::time::Instant;

impl Server {
    pub(super) fn listen(&mut self, index: usize) {
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

    pub(super) fn started(&mut self, index: usize, pid: u32) {
        fail_point!("run.executed");
        let run = &mut self.runs[index];
        run.phase = Phase::Running;
        let (number, keeper, command) = (run.number, run.keeper, run.command);
        if self.parts.options.local {
            place::record_run(&self.parts.options.dir, number, keeper, pid);
        }
        self.parts.log.say(Control::Started { run: number, pid });
        fail_point!("run.started");
        self.done(command, true, "");
    }

    pub(super) fn not_run(&mut self, index: usize, code: u8, message: String) {
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

    pub(super) fn ended(&mut self, index: usize, ended: Ended) {
        let run = &mut self.runs[index];
        if !run.is_live() {
            return;
        }
        fail_point!("run.ended");
        run.drain(ended, Instant::now());
        let told = run.input.abandon("the run ended before it was written");
        self.tell_input(told);
    }

    /// A keeper that is gone without a word was killed, and its program with it.
    pub(super) fn keeper_gone(&mut self, index: usize) {
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
        self.strays();
    }

    /// From now on only the end is worked for: the other runs get TERM, their
    /// grace, and KILL.
    pub(super) fn end(&mut self, code: u8) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { code });
        let (grace, now) = (self.parts.options.grace, Instant::now());
        for run in &mut self.runs {
            run.stop(grace, now);
        }
        for exec in &mut self.execs {
            exec.end(grace, now);
        }
    }
}
