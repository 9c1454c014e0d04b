//! What is said to the shim, and what it says to that.

use super::Server;
use crate::channel::ToProgram;
use crate::conn::Whole;
use crate::input::Then;
use crate::wire::{self, Answer, Command, Greeting, KNOWN_BATCH, Request, RunStanding, Standing};

impl Server {
    pub(super) fn answer(&mut self, serial: u64, request: Request) {
        let Some(conn) = self.conn(serial) else {
            return;
        };
        if conn.is_gone() {
            return;
        }
        let first = matches!(
            request,
            Request::Hello { .. } | Request::Exec(ToProgram::Begin(_))
        );
        if conn.generation.is_some() == first {
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
            Request::Exec(ToProgram::Begin(beside)) => self.begin_exec(serial, &beside),
            Request::Exec(_) => conn.drop_at_once(),
        }
    }

    pub(super) fn reply(&mut self, serial: u64, request: u32, result: Result<(), String>) {
        if let Some(conn) = self.conn(serial) {
            conn.reply(request, result);
        }
    }

    pub(super) fn greet(&mut self, serial: u64, version: u16, generation: u64) {
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

    pub(super) fn begin(
        &mut self,
        serial: u64,
        request: u32,
        id: u128,
        total: u64,
        hash: [u8; 32],
    ) {
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

    pub(super) fn take_body(&mut self, serial: u64, whole: Option<Whole>) {
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
}
