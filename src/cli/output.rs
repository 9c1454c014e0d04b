//! What sessions say, on the user's terminal.
//!
//! Standard output goes to standard output and standard error to standard
//! error; what is not the agent's own goes to standard error. Lines of several
//! sessions never mix within a line. Nothing that an agent writes controls a
//! terminal, unless raw bytes were asked for.

use super::describe::{describe, image_there};
use super::error::Failure;
use super::text::Sanitizer;
use super::ui::{Style, Ui};
use crate::agent::agent;
use crate::model::{
    AgentKind, Error, ErrorCode, EventKind, Outcome, Output, RuntimeName, SessionEvent, Stream,
    Timestamp, Ulid,
};
use std::collections::{HashMap, HashSet};

/// Longest line that is held to be made readable; a longer one is shown as it is.
const JOIN_MAX: usize = 16 * 1024 * 1024;

/// What is shown beside output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beside {
    /// What went wrong: builds of runs that did not begin, errors, gaps.
    #[default]
    Trouble,
    /// Everything that happens to the session.
    Everything,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// The exact bytes.
    pub raw: bool,
    /// Readable lines for the agent's typed events; by default for agents that
    /// have them.
    pub pretty: Option<bool>,
    /// The time before each line.
    pub timestamps: bool,
    /// The session before each line, in so many columns; 0 for none.
    pub prefix: usize,
    /// What else is shown.
    pub beside: Beside,
}

/// How wide the names of sessions are before their lines: 0 where there is only one.
pub fn prefix_width<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> usize {
    if ids.len() < 2 {
        return 0;
    }
    ids.map(str::len).max().unwrap_or(0)
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source {
    session: Ulid,
    run: u32,
    stream: Stream,
}

#[derive(Debug, Default)]
struct Line {
    /// Pieces of a line that is to be made readable as a whole.
    joined: Vec<u8>,
    /// The line is too long for that.
    too_long: bool,
    sanitizer: Sanitizer,
}

/// Prints events.
pub struct Printer {
    manner: Manner,
    agents: HashMap<Ulid, AgentKind>,
    lines: HashMap<Source, Line>,
    /// Whose line is not ended, on each of our streams.
    open: HashMap<Stream, Source>,
    /// Runs whose program began: how their image was built is of no interest.
    began: HashSet<(Ulid, u32)>,
    codes: HashMap<(Ulid, u32), u8>,
    /// Sessions whose image nobody here builds.
    pulled: HashSet<Ulid>,
    /// Sessions in the order in which they were met: each has a colour.
    met: Vec<Ulid>,
    /// Runs whose build was shown while it went on.
    built: HashSet<(Ulid, u32)>,
}

impl Printer {
    /// A printer that knows no session yet.
    #[must_use]
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            agents: HashMap::new(),
            lines: HashMap::new(),
            open: HashMap::new(),
            began: HashSet::new(),
            codes: HashMap::new(),
            pulled: HashSet::new(),
            met: Vec::new(),
            built: HashSet::new(),
        }
    }

    /// Tells which agent a session runs, where its first event is not shown.
    pub fn knows(&mut self, session: Ulid, agent: AgentKind) {
        self.agents.insert(session, agent);
    }

    /// Tells that a run's program began.
    pub fn began(&mut self, session: Ulid, run: u32) {
        self.began.insert((session, run));
    }

    /// Prints an event.
    ///
    /// # Errors
    /// [`Failure::Closed`] when nobody reads any more.
    pub fn print(&mut self, ui: &mut Ui, event: &SessionEvent) -> Result<(), Failure> {
        let run = (event.ulid, event.event.run);
        match &event.event.kind {
            EventKind::Output(output) => return self.output(ui, event, output),
            EventKind::Created { spec } => {
                self.knows(event.ulid, spec.agent);
                if spec.runtime == RuntimeName::Docker && !spec.pod.dockerfile {
                    self.pulled.insert(event.ulid);
                }
            }
            EventKind::ContainerStarted { .. } => self.began(event.ulid, event.event.run),
            EventKind::ContainerExited { code, .. } => {
                self.codes.insert(run, *code);
            }
            _ => {}
        }
        if let EventKind::ContainerExited { .. } | EventKind::RunEnded { .. } = event.event.kind {
            self.finish_run(ui, event)?;
        }
        if let Some(text) = self.describe(event) {
            self.end_open_lines(ui, Stream::Stderr)?;
            let prefix = self.prefix(event);
            let building = matches!(event.event.kind, EventKind::BuildOutput { .. });
            if building && self.manner.beside == Beside::Everything {
                self.built.insert(run);
                if ui.is_terminal(Stream::Stderr) {
                    // Thousands of lines, of which the last says how far it is.
                    ui.passing(&format!("{prefix}{text}"));
                    return Ok(());
                }
            }
            for line in text.lines() {
                ui.progress(&format!("{prefix}{line}"));
            }
        }
        Ok(())
    }

    /// Ends lines that are open, when nothing more comes.
    ///
    /// # Errors
    /// [`Failure::Closed`] when nobody reads any more.
    pub fn finish(&mut self, ui: &mut Ui) -> Result<(), Failure> {
        let mut held: Vec<Source> = self.lines.keys().copied().collect();
        held.sort_by_key(|source| (source.session, source.run, source.stream));
        for source in held {
            self.release(ui, source, "", Timestamp::default())?;
        }
        if self.manner.raw {
            return ui.flush();
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if ui.is_terminal(stream) && self.open.remove(&stream).is_some() {
                ui.bytes(stream, b"\n")?;
            }
        }
        ui.flush()
    }

    fn output(
        &mut self,
        ui: &mut Ui,
        event: &SessionEvent,
        output: &Output,
    ) -> Result<(), Failure> {
        if self.manner.raw {
            ui.bytes(output.stream, &output.data)?;
            if !output.continued {
                ui.bytes(output.stream, b"\n")?;
            }
            return Ok(());
        }
        let source = Source {
            session: event.ulid,
            run: event.event.run,
            stream: output.stream,
        };
        let prefix = self.prefix(event);
        let kind = self.agents.get(&event.ulid).copied();
        let pretty = output.stream == Stream::Stdout
            && self.manner.pretty.unwrap_or(true)
            && kind.is_some_and(|kind| kind != AgentKind::Command);
        let line = self.lines.entry(source).or_default();
        if !pretty || line.too_long {
            line.too_long &= output.continued;
            return self.show(
                ui,
                source,
                &prefix,
                event.event.time,
                &output.data,
                output.continued,
            );
        }
        line.joined.extend_from_slice(&output.data);
        if output.continued && line.joined.len() <= JOIN_MAX {
            return Ok(());
        }
        let whole = std::mem::take(&mut line.joined);
        line.too_long = output.continued;
        if output.continued {
            return self.show(ui, source, &prefix, event.event.time, &whole, true);
        }
        let readable = kind.and_then(|kind| agent(kind).pretty(&whole));
        match readable {
            Some(text) => text.lines().try_for_each(|line| {
                self.show(
                    ui,
                    source,
                    &prefix,
                    event.event.time,
                    line.as_bytes(),
                    false,
                )
            }),
            None => self.show(ui, source, &prefix, event.event.time, &whole, false),
        }
    }

    /// Shows a line or a piece of one on the stream it belongs to.
    fn show(
        &mut self,
        ui: &mut Ui,
        source: Source,
        prefix: &str,
        time: Timestamp,
        data: &[u8],
        continued: bool,
    ) -> Result<(), Failure> {
        let stream = source.stream;
        let mut text = Vec::new();
        if self.open.get(&stream) != Some(&source) || self.interrupted(ui, stream) {
            self.end_open_lines(ui, stream)?;
            if !prefix.is_empty() {
                let colour = self.colour(source.session);
                let painted = ui.paint_on(stream, Style::Nth(colour), prefix.trim_end());
                text.extend_from_slice(painted.as_bytes());
                text.push(b' ');
            }
            if self.manner.timestamps {
                text.extend_from_slice(format!("{time} ").as_bytes());
            }
        }
        if ui.is_terminal(stream) {
            let sanitizer = &mut self.lines.entry(source).or_default().sanitizer;
            let mut harmless = String::new();
            sanitizer.push(data, &mut harmless);
            if !continued {
                sanitizer.end_line(&mut harmless);
            }
            text.extend_from_slice(harmless.as_bytes());
        } else {
            text.extend_from_slice(data);
        }
        if continued {
            self.open.insert(stream, source);
        } else {
            self.open.remove(&stream);
            text.push(b'\n');
        }
        ui.bytes(stream, &text)
    }

    /// On a terminal both streams are one: a line of the other ends ours.
    fn interrupted(&self, ui: &Ui, stream: Stream) -> bool {
        let other = match stream {
            Stream::Stdout => Stream::Stderr,
            Stream::Stderr => Stream::Stdout,
        };
        ui.is_terminal(stream) && ui.is_terminal(other) && self.open.contains_key(&other)
    }

    /// Ends lines that stand open where a line on `stream` is to come.
    fn end_open_lines(&mut self, ui: &mut Ui, stream: Stream) -> Result<(), Failure> {
        for open in [Stream::Stdout, Stream::Stderr] {
            let shared = ui.is_terminal(open) && ui.is_terminal(stream);
            if (open == stream || shared) && self.open.remove(&open).is_some() {
                ui.bytes(open, b"\n")?;
            }
        }
        Ok(())
    }

    fn finish_run(&mut self, ui: &mut Ui, event: &SessionEvent) -> Result<(), Failure> {
        let prefix = self.prefix(event);
        for stream in [Stream::Stdout, Stream::Stderr] {
            let source = Source {
                session: event.ulid,
                run: event.event.run,
                stream,
            };
            self.release(ui, source, &prefix, event.event.time)?;
            self.lines.remove(&source);
        }
        Ok(())
    }

    /// Shows a line that was held and never ended.
    fn release(
        &mut self,
        ui: &mut Ui,
        source: Source,
        prefix: &str,
        time: Timestamp,
    ) -> Result<(), Failure> {
        let Some(line) = self.lines.get_mut(&source) else {
            return Ok(());
        };
        let held = std::mem::take(&mut line.joined);
        if held.is_empty() {
            return Ok(());
        }
        let kind = self.agents.get(&source.session).copied();
        match kind.and_then(|kind| agent(kind).pretty(&held)) {
            Some(text) => text
                .lines()
                .try_for_each(|line| self.show(ui, source, prefix, time, line.as_bytes(), false)),
            None => self.show(ui, source, prefix, time, &held, true),
        }
    }

    fn prefix(&self, event: &SessionEvent) -> String {
        match self.manner.prefix {
            0 => String::new(),
            width => format!("{:width$} | ", event.session.as_str()),
        }
    }

    /// Which colour a session's lines begin with.
    fn colour(&mut self, session: Ulid) -> usize {
        let known = self.met.iter().position(|met| *met == session);
        known.unwrap_or_else(|| {
            self.met.push(session);
            self.met.len() - 1
        })
    }

    /// A run's error as it is to be said at its end: what the builder wrote is
    /// not said again where it was seen as it came.
    #[must_use]
    pub fn at_the_end(&self, ui: &Ui, session: Ulid, run: u32, error: &Error) -> Error {
        let seen = self.built.contains(&(session, run)) && !ui.is_terminal(Stream::Stderr);
        let mut error = error.clone();
        if seen
            && error.code == ErrorCode::BuildFailed
            && let Some((first, _)) = error.message.split_once('\n')
        {
            error.message = first.trim_end_matches(':').to_owned();
        }
        error
    }

    /// What is said of an event beside output, if anything.
    fn describe(&self, event: &SessionEvent) -> Option<String> {
        if self.manner.raw {
            return None;
        }
        let run = (event.ulid, event.event.run);
        match (self.manner.beside, &event.event.kind) {
            (_, EventKind::BuildOutput { .. }) if self.began.contains(&run) => None,
            // Said at the end, with what to do about it.
            (Beside::Everything, EventKind::Error { .. }) => None,
            (Beside::Everything, EventKind::RunEnded { outcome }) => {
                Some(ended(event, outcome, self.codes.get(&run).copied()))
            }
            (Beside::Everything, EventKind::ContainerExited { .. } | EventKind::Agent { .. }) => {
                None
            }
            // The session was named already; what it lacks is worth a line.
            (Beside::Everything, EventKind::Created { spec }) => {
                let local = spec.runtime == RuntimeName::Local;
                local.then(|| {
                    "note: runs as a plain process of this machine: nothing isolates it".to_owned()
                })
            }
            (
                Beside::Everything,
                EventKind::BuildComplete {
                    seconds,
                    cached,
                    created,
                    ..
                },
            ) if self.pulled.contains(&event.ulid) => Some(match cached {
                true => image_there(event.event.time, *created, true),
                false => format!("image pulled in {seconds:.1} s"),
            }),
            (Beside::Everything, _) => describe(&event.event),
            (Beside::Trouble, EventKind::Note { code, .. }) if code == "adopted" => None,
            (
                Beside::Trouble,
                EventKind::BuildOutput { .. } | EventKind::Error { .. } | EventKind::Note { .. },
            ) => describe(&event.event),
            (Beside::Trouble, EventKind::Queued { prompt, .. }) if event.event.run > 0 => {
                Some(format!("run {}: {}", event.event.run, prompt.summary(100)))
            }
            (Beside::Trouble, _) => None,
        }
    }
}

fn ended(event: &SessionEvent, outcome: &Outcome, code: Option<u8>) -> String {
    let id = &event.session;
    let outcome = outcome.name().replace('_', " ");
    match code {
        Some(code) => format!("{id} ended: {outcome}, exit code {code}"),
        None => format!("{id} ended: {outcome}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::capture;
    use crate::model::{Event, PodName, SessionId};
    use proptest::prelude::*;

    fn event(session: u128, kind: EventKind) -> Result<SessionEvent, crate::model::Error> {
        let ulid = Ulid(session);
        Ok(SessionEvent {
            session: SessionId::new(&PodName::new("p")?, ulid),
            ulid,
            event: Event {
                seq: 1,
                run: 0,
                time: Timestamp(0),
                kind,
            },
        })
    }

    fn piece(stream: Stream, data: &[u8], continued: bool) -> EventKind {
        EventKind::Output(Output {
            stream,
            data: data.to_vec(),
            continued,
        })
    }

    /// What is printed for pieces of sessions, on a terminal or elsewhere.
    fn printed(
        manner: Manner,
        terminal: bool,
        agent: AgentKind,
        pieces: &[(u128, Stream, &[u8], bool)],
    ) -> Result<(String, String), Failure> {
        let (mut ui, out, err) = capture::ui(terminal);
        let mut printer = Printer::new(manner);
        for (session, stream, data, continued) in pieces {
            printer.knows(Ulid(*session), agent);
            let event = event(*session, piece(*stream, data, *continued))?;
            printer.print(&mut ui, &event)?;
        }
        printer.finish(&mut ui)?;
        Ok((out.text(), err.text()))
    }

    #[test]
    fn each_stream_goes_where_it_belongs() -> Result<(), Failure> {
        let pieces: [(u128, Stream, &[u8], bool); 3] = [
            (1, Stream::Stdout, b"out", false),
            (1, Stream::Stderr, b"bad", false),
            (1, Stream::Stdout, b"\x1b[31mred\x1b[0m", false),
        ];
        let (out, err) = printed(Manner::default(), false, AgentKind::Command, &pieces)?;
        assert_eq!(
            (out.as_str(), err.as_str()),
            ("out\n\x1b[31mred\x1b[0m\n", "bad\n")
        );
        let (out, _) = printed(Manner::default(), true, AgentKind::Command, &pieces)?;
        assert_eq!(out, "out\nred\n", "no sequence reaches a terminal");
        let raw = Manner {
            raw: true,
            ..Manner::default()
        };
        let (out, _) = printed(raw, true, AgentKind::Command, &pieces)?;
        assert_eq!(out, "out\n\x1b[31mred\x1b[0m\n", "unless it was asked for");
        Ok(())
    }

    #[test]
    fn lines_of_several_sessions_do_not_mix() -> Result<(), Failure> {
        let manner = Manner {
            prefix: 10,
            ..Manner::default()
        };
        let (out, _) = printed(
            manner,
            false,
            AgentKind::Command,
            &[
                (1, Stream::Stdout, b"one ", true),
                (1, Stream::Stdout, b"two ", true),
                (2, Stream::Stdout, b"other", false),
                (1, Stream::Stdout, b"three", false),
                (1, Stream::Stdout, b"four", true),
            ],
        )?;
        assert_eq!(
            out,
            "p-00000001 | one two \np-00000002 | other\np-00000001 | three\np-00000001 | four"
        );
        Ok(())
    }

    #[test]
    fn a_prompt_without_a_newline_is_ended_on_a_terminal() -> Result<(), Failure> {
        let pieces: [(u128, Stream, &[u8], bool); 2] = [
            (1, Stream::Stdout, b"password: ", true),
            (1, Stream::Stderr, b"no", false),
        ];
        let (out, err) = printed(Manner::default(), true, AgentKind::Command, &pieces)?;
        assert_eq!((out.as_str(), err.as_str()), ("password: \n", "no\n"));
        Ok(())
    }

    #[test]
    fn a_line_that_is_too_long_is_shown_as_it_is() -> Result<(), Failure> {
        let (mut ui, out, _) = capture::ui(false);
        let mut printer = Printer::new(Manner::default());
        printer.knows(Ulid(1), AgentKind::Claude);
        let half = vec![b'x'; JOIN_MAX];
        for data in [half.as_slice(), b"y"] {
            printer.print(&mut ui, &event(1, piece(Stream::Stdout, data, true))?)?;
        }
        assert_eq!(out.bytes().len(), JOIN_MAX + 1);
        printer.print(&mut ui, &event(1, piece(Stream::Stdout, b"z", false))?)?;
        printer.print(&mut ui, &event(1, piece(Stream::Stdout, b"next", false))?)?;
        assert!(out.text().ends_with("xyz\nnext\n"));
        Ok(())
    }

    proptest! {
        #[test]
        fn however_a_line_is_cut_it_is_shown_whole(
            lines in proptest::collection::vec(proptest::collection::vec(b'a'..=b'z', 0..40), 1..8),
            cut in 1usize..12,
            claude: bool,
        ) {
            let mut pieces: Vec<(u128, Stream, &[u8], bool)> = Vec::new();
            for line in &lines {
                let mut rest = line.as_slice();
                while rest.len() > cut {
                    let (head, tail) = rest.split_at(cut);
                    pieces.push((1, Stream::Stdout, head, true));
                    rest = tail;
                }
                pieces.push((1, Stream::Stdout, rest, false));
            }
            let agent = if claude { AgentKind::Claude } else { AgentKind::Command };
            // What is no JSON has no readable form, so that it is shown as it is.
            let shown = printed(Manner::default(), false, agent, &pieces);
            let shown = shown.map_err(|e| TestCaseError::fail(format!("{e:?}")))?.0;
            let mut whole = String::new();
            for line in &lines {
                whole.push_str(&String::from_utf8_lossy(line));
                whole.push('\n');
            }
            prop_assert_eq!(shown, whole);
        }
    }
}
