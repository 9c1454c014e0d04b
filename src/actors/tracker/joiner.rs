//! An agent's lines for its reader, put together from their pieces; and what a reader
//! that goes on has to know of what was recorded.

use crate::actors::capture::JOIN_MAX;
use crate::actors::driver::{Driver, Over};
use crate::agent::{self, Before};
use crate::model::{AgentEvent, Error, Event, EventKind, Output, Stream};

/// Events looked at, from the end, for the beginning of a line that is open.
const PIECES_BACK: u64 = 128;
/// Events looked at, from the end, for what the agent said last and what is left of it.
const EVENTS_BACK: u64 = 400;

/// Puts an agent's lines together again from their pieces, for its reader.
pub(super) struct Joiner {
    reader: Box<dyn agent::Reader>,
    pieces: Vec<u8>,
    /// The line is longer than [`JOIN_MAX`], or its beginning is not known.
    given_up: bool,
    /// The last thing that was said is a result.
    pub(super) rests: bool,
}

impl Joiner {
    /// None for an agent whose output says nothing about it.
    pub(super) fn new(driver: &Driver, run: u32, open: bool) -> Result<Option<Self>, Over> {
        let speaks = agent::speaks(&driver.spec);
        if !agent::reports(speaks) {
            return Ok(None);
        }
        let record = driver.record();
        let of_run = record.runs.get(run as usize);
        let recent = Recent::of(driver, run)?;
        let before = Before {
            earlier: record.used_before(run),
            account: of_run.map(|run| run.account.clone()).unwrap_or_default(),
            model: driver.spec.model.clone(),
            answer: agent::last_answer(recent.said.iter()),
        };
        let Some(mut reader) = agent::agent(speaks).reader(before) else {
            return Ok(None);
        };
        for line in &recent.lines {
            reader.read(line, &mut Vec::new());
        }
        let mut joiner = Self {
            reader,
            pieces: Vec::new(),
            given_up: false,
            rests: agent::rests(recent.said.iter()).unwrap_or(false),
        };
        if open {
            joiner.reload(driver, run)?;
        }
        Ok(Some(joiner))
    }

    /// The pieces of the open line that the journal has already.
    fn reload(&mut self, driver: &Driver, run: u32) -> Result<(), Over> {
        let (reader, ulid) = (&driver.link.shared.reader, driver.link.ulid);
        let of_line = |event: &Event| {
            event.run == run
                && matches!(&event.kind, EventKind::Output(o) if o.stream == Stream::Stdout)
        };
        let mut at = reader
            .tail_start(ulid, PIECES_BACK, &of_line)
            .map_err(Error::from)?;
        loop {
            let events = reader.events(ulid, at, 1 << 20).map_err(Error::from)?;
            let Some(last) = events.last() else {
                return Ok(());
            };
            at = last.seq;
            for event in events.iter().filter(|event| of_line(event)) {
                if let EventKind::Output(output) = &event.kind {
                    self.add(output);
                }
            }
        }
    }

    pub(super) fn read(&mut self, output: &Output, events: &mut Vec<AgentEvent>) {
        if !output.continued && self.pieces.is_empty() && !self.given_up {
            return self.reader.read(&output.data, events);
        }
        if let Some(line) = self.add(output) {
            self.reader.read(&line, events);
        }
    }

    pub(super) fn finish(&mut self, events: &mut Vec<AgentEvent>) {
        self.reader.finish(events);
    }

    /// Adds a piece; gives the line when that was its last.
    fn add(&mut self, output: &Output) -> Option<Vec<u8>> {
        if self.pieces.len() + output.data.len() > JOIN_MAX {
            self.given_up = true;
            self.pieces = Vec::new();
        }
        if !self.given_up {
            self.pieces.extend_from_slice(&output.data);
        }
        if output.continued {
            return None;
        }
        let line = std::mem::take(&mut self.pieces);
        (!std::mem::take(&mut self.given_up)).then_some(line)
    }
}

/// What was recorded last of a run that is read on.
#[derive(Default)]
struct Recent {
    /// What the agent said.
    said: Vec<AgentEvent>,
    /// Lines since: a reader may hold back what they say.
    lines: Vec<Vec<u8>>,
}

impl Recent {
    fn of(driver: &Driver, run: u32) -> Result<Self, Over> {
        let (reader, ulid) = (&driver.link.shared.reader, driver.link.ulid);
        let seq = driver.link.published.borrow().seq;
        let mut at = seq.saturating_sub(EVENTS_BACK);
        let (mut recent, mut open) = (Self::default(), Vec::new());
        loop {
            let events = reader.events(ulid, at, 1 << 20).map_err(Error::from)?;
            let Some(last) = events.last() else {
                return Ok(recent);
            };
            at = last.seq;
            for event in events.into_iter().filter(|event| event.run == run) {
                match event.kind {
                    EventKind::Agent { event } => {
                        recent.said.push(event);
                        recent.lines.clear();
                    }
                    EventKind::Output(output) if output.stream == Stream::Stdout => {
                        open.extend(output.data);
                        if !output.continued {
                            recent.lines.push(std::mem::take(&mut open));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
