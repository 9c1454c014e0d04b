//! What goes into the spool: control records in order, output behind them.
//!
//! A control record that finds no room waits here, and everything behind it
//! waits too; so the order in the spool is the order in which things happened.

use crate::redact::Redactor;
use crate::spool::{Control, FrameHead};
use crate::writer::{Full, Writer, now};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A full disk is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// The spool, and what waits to get into it.
pub struct Log {
    /// The spool.
    pub writer: Writer,
    /// What must not get into it. Lives as long as the shim.
    pub redactor: Redactor,
    /// At most a handful for each run: commands are refused while any waits.
    waiting: VecDeque<Control>,
    /// The disk has no room.
    full: Option<Fullness>,
}

/// How it stands with a disk that has no room.
#[derive(Clone, Copy)]
struct Fullness {
    since: Instant,
    /// When it is tried again.
    due: Instant,
    /// It is time: what comes next tries it, and finds out.
    trying: bool,
}

impl Log {
    /// Writes into `writer`.
    pub fn new(writer: Writer) -> Self {
        Self {
            writer,
            redactor: Redactor::default(),
            waiting: VecDeque::new(),
            full: None,
        }
    }

    /// Records something, now or as soon as there is room.
    pub fn say(&mut self, mut control: Control) {
        match &mut control {
            Control::NotRun { message, .. }
            | Control::Done { message, .. }
            | Control::Note { message, .. } => *message = self.redactor.text(message),
            Control::Accepted { .. }
            | Control::Started { .. }
            | Control::Exited { .. }
            | Control::Eof { .. }
            | Control::Finished => {}
        }
        self.waiting.push_back(control);
        self.flush();
    }

    /// Records that a command is accepted, now or not at all.
    pub fn accept(&mut self, id: u128) -> Result<(), Full> {
        if !self.waiting.is_empty() || !self.writer.has_room_for_commands() {
            return Err(Full);
        }
        self.writer.control(&Control::Accepted { id })
    }

    /// Records output.
    pub fn output(&mut self, frame: &mut [u8], head: FrameHead, rest: bool) -> Result<(), Full> {
        if !self.takes(rest) {
            return Err(Full);
        }
        self.writer.output(frame, &head, rest).inspect_err(|_| {
            self.note_full();
        })?;
        // Only what was written proves that there is room: a file system that
        // promises it may still not have it.
        if !rest && let Some(full) = self.full.take() {
            let seconds = full.since.elapsed().as_secs();
            self.say(Control::Note {
                code: "slow_disk".to_owned(),
                message: format!("output waited {seconds} s for room on the disk"),
            });
        }
        Ok(())
    }

    /// Whether output may be tried. A `rest` may use the room that is reserved.
    pub fn takes(&self, rest: bool) -> bool {
        self.waiting.is_empty() && (rest || self.full.is_none_or(|full| full.trying))
    }

    /// Everything that was said is written.
    pub fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When to call [`Log::retry`].
    pub fn retry_at(&self) -> Option<Instant> {
        let full = self
            .full
            .filter(|full| !full.trying || !self.waiting.is_empty());
        full.map(|full| full.due)
    }

    /// Tries the disk again, if it is time.
    pub fn retry(&mut self, at: Instant) {
        let Some(full) = self.full.as_mut().filter(|full| full.due <= at) else {
            return;
        };
        full.due = at + RETRY;
        full.trying = true;
        self.writer.renew_ballast();
        self.flush();
    }

    fn flush(&mut self) -> bool {
        while let Some(control) = self.waiting.front() {
            if self.writer.control(control).is_err() {
                self.note_full();
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    fn note_full(&mut self) {
        let at = Instant::now();
        let since = self.full.map_or(at, |full| full.since);
        let due = match self.full {
            Some(full) if !full.trying => full.due,
            _ => at + RETRY,
        };
        self.full = Some(Fullness {
            since,
            due,
            trying: false,
        });
    }
}

/// The head of a frame of output, as of now.
pub fn head(run: u32, stderr: bool, redacted: bool, position: u64) -> FrameHead {
    FrameHead {
        kind: crate::spool::Kind::Output { stderr, redacted },
        run,
        position,
        time: now(),
    }
}
