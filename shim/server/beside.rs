//! Programs beside the agent: beginning them, and hearing of them.

use super::{Server, Token};
use crate::beside::{self, Exec};
use crate::channel::Beside;
use crate::run::Run;
use crate::sys::PollFd;
use crate::wire::Request;
use std::time::Instant;

/// Programs beside the agent at once.
const EXECS_MAX: usize = 32;

impl Server {
    /// A connection that begins with a program is that program's from now on.
    pub(super) fn begin_exec(&mut self, serial: u64, beside: &Beside) {
        let Some(at) = self.conns.iter().position(|conn| conn.serial == serial) else {
            return;
        };
        let mut conn = self.conns.remove(at);
        if let Err(why) = self.check_beside(beside) {
            beside::refuse(&mut conn, why);
            self.conns.push(conn);
            return;
        }
        let scored = self.raise_oom_score();
        let begun = Run::beside(beside, &self.env, &self.agent_env, self.parts.umask);
        if let Some(score) = scored {
            self.set_oom_score(score);
        }
        match begun {
            Ok((run, outs)) => {
                self.execs.push(Exec::new(conn, run, outs));
            }
            Err(error) => {
                beside::refuse(&mut conn, &format!("it could not be begun: {error}"));
                self.conns.push(conn);
            }
        }
    }

    fn check_beside(&self, beside: &Beside) -> Result<(), &'static str> {
        if self.ending.is_some() {
            return Err("the session is about to end");
        }
        if self.execs.len() >= EXECS_MAX {
            return Err("as many programs as there can be run beside the agent");
        }
        super::command::check_program(&beside.argv, beside.cwd.as_ref(), &beside.env)
    }

    /// What the programs beside the agent wait for.
    pub(super) fn watch_execs(&self, fds: &mut Vec<PollFd>, tokens: &mut Vec<Token>) {
        for (index, exec) in self.execs.iter().enumerate() {
            if !exec.conn.is_gone() {
                fds.push(exec.conn.poll());
                tokens.push(Token::ExecConn(index));
            }
            if exec.run.is_over() {
                continue;
            }
            if let Some(fd) = exec.run.poll_link() {
                fds.push(fd);
                tokens.push(Token::ExecKeeper(index));
            }
            if let Some(fd) = exec.run.input.poll() {
                fds.push(fd);
                tokens.push(Token::ExecInput(index));
            }
            for (stream, fd) in exec.poll_outs() {
                fds.push(fd);
                tokens.push(Token::ExecOut(index, stream));
            }
        }
    }

    /// Something happened to one of them.
    pub(super) fn handle_exec(&mut self, token: Token) {
        let index = match token {
            Token::ExecConn(index)
            | Token::ExecKeeper(index)
            | Token::ExecInput(index)
            | Token::ExecOut(index, _) => index,
            _ => return,
        };
        let Some(exec) = self.execs.get_mut(index) else {
            return;
        };
        match token {
            Token::ExecConn(_) => {
                for request in exec.conn.hear(&mut self.buffer) {
                    exec.obey(request);
                }
            }
            Token::ExecInput(_) => exec.write(),
            Token::ExecOut(_, stream) => exec.read(stream, &mut self.buffer),
            _ => {
                if exec.listen(Instant::now()) {
                    self.strays();
                }
            }
        }
    }

    /// A frame that came together with the one that began a program.
    pub(super) fn pass_to_exec(&mut self, serial: u64, request: Request) -> Option<Request> {
        let mut execs = self.execs.iter_mut();
        match execs.find(|exec| exec.conn.serial == serial) {
            Some(exec) => exec.obey(request),
            None => return Some(request),
        }
        None
    }

    /// Does what is due to them, sends what they say, and forgets those that are over.
    pub(super) fn settle_execs(&mut self, now: Instant) {
        let grace = self.parts.options.grace;
        for exec in &mut self.execs {
            exec.settle(grace, now);
            exec.conn.flush();
        }
        // One that left with its last word is gone only now.
        self.execs.retain(|exec| !exec.is_over());
    }
}
