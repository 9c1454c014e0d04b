//! From the shim's records to events, and how far the journal then is.

mod joiner;

use super::driver::{Driver, Over};
use crate::agent;
use crate::model::capture::{Cursor, CursorKey, LineAssembler, OPEN_LINE_FLUSH};
use crate::model::run::Phase;
use crate::model::{Error, EventKind, Output, RunState, Stream, Timestamp, Ulid};
use crate::runtime::shim::{Control, Record, RecordBody};
use joiner::Joiner;

type Events = Vec<(Timestamp, EventKind)>;
type Cursors = Vec<(CursorKey, Cursor)>;
/// Pieces of open lines, and where the journal is then.
pub(super) type Flushed = (Events, Cursors);

const CONTROL: u8 = 0;

/// How the shim says that a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its process ended.
    Exited { code: u8, signal: Option<String> },
    /// Its program could not be run.
    NotRun { code: u8, message: String },
    /// There is no word.
    Unknown,
}

/// Follows one run through its shim's records.
pub(super) struct Tracker {
    run: u32,
    attempt: u32,
    lines: [Channel; 2],
    /// The next control record that the journal has not dealt with.
    control: u64,
    /// From the first record of the end on nothing is dealt with before the
    /// end is recorded: its place in the spool.
    held: Option<u64>,
    started: bool,
    ending: Ending,
    ended_at: Option<Timestamp>,
    finished: bool,
    position: u64,
    /// Bytes of output that were read.
    said: u64,
    joiner: Option<Joiner>,
    container: String,
    /// Commands that the shim says it could not carry out.
    undone: Vec<Ulid>,
}

struct Channel {
    assembler: LineAssembler,
    stream: Stream,
    /// Where in the spool the open line begins.
    open_from: Option<u64>,
    /// When its last byte was read from the program, by the shim's clock.
    heard: Timestamp,
}

impl Tracker {
    /// Goes on where the journal is.
    pub(super) async fn new(driver: &Driver, run: u32, attempt: u32) -> Result<Self, Over> {
        let cursors = driver
            .link
            .shared
            .reader
            .cursors(driver.link.ulid)
            .map_err(Error::from)?;
        let cursor = |stream: u8| {
            cursors
                .get(&CursorKey {
                    run,
                    attempt,
                    stream,
                })
                .copied()
                .unwrap_or_default()
        };
        let channel = |stream: Stream| Channel {
            assembler: LineAssembler::new(stream, cursor(number(stream))),
            stream,
            open_from: None,
            heard: Timestamp::default(),
        };
        let record = driver.record();
        let current = record.runs.get(run as usize);
        let started = current.is_some_and(|run| {
            matches!(
                run.state,
                RunState::Live {
                    phase: Phase::Running { .. },
                    ..
                }
            )
        });
        let container = current
            .and_then(|run| run.state.place())
            .map(|place| place.container.clone())
            .unwrap_or_default();
        let joiner = Joiner::new(driver, run, cursor(1).open)?;
        Ok(Self {
            run,
            attempt,
            lines: [channel(Stream::Stdout), channel(Stream::Stderr)],
            control: cursor(CONTROL).position,
            held: None,
            started,
            ending: Ending::Unknown,
            ended_at: None,
            finished: false,
            position: 0,
            said: 0,
            joiner,
            container,
            undone: Vec::new(),
        })
    }

    /// Takes a batch of records.
    pub(super) fn take(&mut self, driver: &Driver, records: Vec<Record>) -> (Events, Cursors) {
        let before = self.cursors();
        let mut events = Vec::new();
        // What is in the spool was in a container's hands, which must not date
        // what others record after it.
        let latest = Timestamp::now();
        for record in records {
            let Record {
                start,
                end,
                time,
                body,
            } = record;
            let time = time.min(latest);
            self.position = end;
            match body {
                RecordBody::Output {
                    run,
                    stream,
                    position,
                    bytes,
                    ..
                } if run == self.run => {
                    if !self.started {
                        self.start(driver, time, &mut events);
                    }
                    self.output(start, time, stream, position, &bytes, &mut events);
                }
                RecordBody::Output { .. } => {}
                RecordBody::Control { ordinal, control } => {
                    self.control(driver, start, time, ordinal, control, &mut events);
                }
            }
        }
        let after = self.cursors();
        let changed = after
            .into_iter()
            .zip(before)
            .filter(|(a, b)| a != b)
            .map(|(a, _)| a);
        (events, changed.collect())
    }

    /// Records lines that have been open for a second of silence, as pieces, by
    /// what was read so far: the other stream went on meanwhile.
    pub(super) fn flush_silent(&mut self) -> (Events, Cursors) {
        let latest = self.heard();
        self.flush(latest, |channel| {
            latest.since(channel.heard) >= OPEN_LINE_FLUSH
        })
    }

    /// Records all lines that are open, as pieces: nothing came for a second.
    pub(super) fn flush_open(&mut self, now: Timestamp) -> (Events, Cursors) {
        self.flush(now, |_| true)
    }

    /// Whether bytes wait for their line's end.
    pub(super) fn has_open(&self) -> bool {
        self.lines
            .iter()
            .any(|channel| channel.assembler.has_open())
    }

    fn flush(&mut self, now: Timestamp, which: impl Fn(&Channel) -> bool) -> (Events, Cursors) {
        let mut events = Vec::new();
        for index in 0..self.lines.len() {
            if !which(&self.lines[index]) {
                continue;
            }
            let mut out = Vec::new();
            self.lines[index].assembler.flush(&mut out);
            self.lines[index].open_from = None;
            self.emit(now, out, &mut events);
        }
        (events, self.cursors())
    }

    /// The last of it: open lines, and everything is dealt with.
    pub(super) fn close(&mut self, now: Timestamp) -> (Events, Cursors) {
        let time = self.ended_at.unwrap_or(now);
        self.held = None;
        let (mut events, cursors) = self.flush(time, |_| true);
        if let Some(joiner) = &mut self.joiner {
            let mut said = Vec::new();
            joiner.finish(&mut said);
            events.extend(
                said.into_iter()
                    .map(|event| (time, EventKind::Agent { event })),
            );
        }
        (events, cursors)
    }

    /// How far the spool is no longer needed.
    pub(super) fn trim_to(&self) -> u64 {
        let open = self.lines.iter().filter_map(|channel| channel.open_from);
        open.chain(self.held).fold(self.position, u64::min)
    }

    /// Up to where in the spool records were taken.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// When the last byte was read from the program, by the shim's clock.
    pub(super) fn heard(&self) -> Timestamp {
        self.lines[0].heard.max(self.lines[1].heard)
    }

    /// The last thing that the agent said was its result.
    pub(super) fn rests(&self) -> bool {
        self.joiner.as_ref().is_some_and(|joiner| joiner.rests)
    }

    /// How many bytes of output it has read: more, when something was said.
    pub(super) const fn said(&self) -> u64 {
        self.said
    }

    pub(super) const fn has_started(&self) -> bool {
        self.started
    }

    /// Nothing more will come of the run.
    pub(super) fn is_finished(&self) -> bool {
        self.finished || self.ending != Ending::Unknown
    }

    /// Whether the shim said that it could not carry out this command.
    pub(super) fn is_unwritten(&self, command: Ulid) -> bool {
        self.undone.contains(&command)
    }

    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    /// When the process ended, by the shim's clock.
    pub(super) const fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    fn cursors(&self) -> Cursors {
        let key = |stream| CursorKey {
            run: self.run,
            attempt: self.attempt,
            stream,
        };
        let control = Cursor {
            position: self.control,
            open: false,
        };
        let mut cursors = vec![(key(CONTROL), control)];
        for channel in &self.lines {
            cursors.push((key(number(channel.stream)), channel.assembler.cursor()));
        }
        cursors
    }

    fn start(&mut self, driver: &Driver, time: Timestamp, events: &mut Events) {
        self.started = true;
        let container = self.container.clone();
        let id = driver
            .container_id
            .clone()
            .unwrap_or_else(|| container.clone());
        events.push((time, EventKind::ContainerStarted { container, id }));
    }

    fn output(
        &mut self,
        start: u64,
        time: Timestamp,
        stream: Stream,
        position: u64,
        bytes: &[u8],
        events: &mut Events,
    ) {
        let mut out = Vec::new();
        self.said += bytes.len() as u64;
        let channel = &mut self.lines[usize::from(number(stream) - 1)];
        channel.heard = time;
        let gap = channel.assembler.push(position, bytes, &mut out);
        if !channel.assembler.has_open() {
            channel.open_from = None;
        } else if channel.assembler.open_len() <= bytes.len() as u64 || channel.open_from.is_none()
        {
            channel.open_from = Some(start);
        }
        self.emit(time, out, events);
        if let Err(gap) = gap {
            let message = format!("{} bytes of {stream} are missing here", gap.bytes);
            events.push((
                time,
                EventKind::Note {
                    code: "gap".to_owned(),
                    message,
                },
            ));
        }
    }

    fn emit(&mut self, time: Timestamp, out: Vec<Output>, events: &mut Events) {
        for output in out {
            let mut said = Vec::new();
            match &mut self.joiner {
                Some(joiner) if output.stream == Stream::Stdout => {
                    joiner.read(&output, &mut said);
                    joiner.rests = agent::rests(said.iter()).unwrap_or(joiner.rests);
                }
                _ => {}
            }
            events.push((time, EventKind::Output(output)));
            events.extend(
                said.into_iter()
                    .map(|event| (time, EventKind::Agent { event })),
            );
        }
    }

    fn control(
        &mut self,
        driver: &Driver,
        start: u64,
        time: Timestamp,
        ordinal: u64,
        control: Control,
        events: &mut Events,
    ) {
        if ordinal < self.control {
            return;
        }
        match control {
            Control::Exited { run, code, signal } if run == self.run => {
                if !self.started {
                    self.start(driver, time, events);
                }
                self.ending = Ending::Exited {
                    code,
                    signal: signal.map(signal_name),
                };
                self.ended_at = Some(time);
                self.held.get_or_insert(start);
            }
            Control::NotRun { run, code, message } if run == self.run => {
                self.ending = Ending::NotRun { code, message };
                self.ended_at = Some(time);
                self.held.get_or_insert(start);
            }
            Control::Finished => {
                self.finished = true;
                self.held.get_or_insert(start);
            }
            Control::Started { run, .. } if run == self.run => {
                if !self.started {
                    self.start(driver, time, events);
                }
            }
            Control::Note { code, message } => {
                if self.held.is_none() {
                    events.push((time, EventKind::Note { code, message }));
                }
            }
            Control::Done { id, ok: false, .. } => self.undone.push(id),
            Control::Exited { .. }
            | Control::NotRun { .. }
            | Control::Started { .. }
            | Control::Accepted { .. }
            | Control::Eof { .. }
            | Control::Done { .. } => {}
        }
        if self.held.is_none() {
            self.control = ordinal + 1;
        }
    }
}

const fn number(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

/// A signal's name, or `signal N`.
pub(super) fn signal_name(number: i32) -> String {
    crate::model::signal::name(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker() -> Tracker {
        let channel = |stream| Channel {
            assembler: LineAssembler::new(stream, Cursor::default()),
            stream,
            open_from: None,
            heard: Timestamp::default(),
        };
        Tracker {
            run: 0,
            attempt: 1,
            lines: [channel(Stream::Stdout), channel(Stream::Stderr)],
            control: 0,
            held: None,
            started: true,
            ending: Ending::Unknown,
            ended_at: None,
            finished: false,
            position: 0,
            said: 0,
            joiner: None,
            container: String::new(),
            undone: Vec::new(),
        }
    }

    #[test]
    fn a_line_left_open_does_not_hold_the_spool_while_the_other_stream_goes_on() {
        let mut tracker = tracker();
        let mut events = Vec::new();
        let (early, late) = (Timestamp(1), Timestamp(1).plus(OPEN_LINE_FLUSH));
        tracker.output(0, early, Stream::Stdout, 0, b"open", &mut events);
        tracker.output(100, early, Stream::Stderr, 0, b"on\n", &mut events);
        tracker.position = 200;
        assert!(tracker.flush_silent().0.is_empty(), "it may still go on");
        assert_eq!(tracker.trim_to(), 0);
        tracker.output(200, late, Stream::Stderr, 3, b"and on\n", &mut events);
        tracker.position = 300;
        assert_eq!(tracker.flush_silent().0.len(), 1);
        assert_eq!(tracker.trim_to(), 300, "nothing is held back");
        assert!(!tracker.has_open());
    }
}
