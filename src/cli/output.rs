//! What sessions say, on the user's terminal.
//!
//! Standard output goes to standard output and standard error to standard
//! error; what is not the agent's own goes to standard error. Lines of several
//! sessions never mix within a line. Nothing that an agent writes controls a
//! terminal, unless raw bytes were asked for.

mod beside;

use self::beside::Elsewhere;
use super::error::Failure;
use super::text::Sanitizer;
use super::ui::{Style, Ui};
use crate::agent::{Shown, Teller, agent, speaks};
use crate::block::{Body, EventRef};
use crate::model::{
    AgentKind, Error, ErrorCode, EventKind, SessionEvent, SessionId, Spec, Stream, Timestamp, Ulid,
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

const fn at(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// Output as it comes.
#[derive(Clone, Copy)]
struct Piece<'a> {
    source: Source,
    id: &'a SessionId,
    time: Timestamp,
    data: &'a [u8],
    continued: bool,
    /// Of less interest than the rest.
    aside: bool,
}

struct Line {
    /// Whose it is.
    id: SessionId,
    /// Pieces of a line that is to be made readable as a whole.
    joined: Vec<u8>,
    /// The line is too long for that.
    too_long: bool,
    /// Makes it readable.
    teller: Option<Box<dyn Teller>>,
    sanitizer: Sanitizer,
}

impl Line {
    fn of(id: &SessionId, kind: Option<AgentKind>) -> Self {
        Self {
            id: id.clone(),
            joined: Vec::new(),
            too_long: false,
            teller: kind.and_then(|kind| agent(kind).teller()),
            sanitizer: Sanitizer::default(),
        }
    }
}

/// Prints events.
pub struct Printer {
    manner: Manner,
    agents: HashMap<Ulid, AgentKind>,
    /// The session that spoke last, and its agent: mostly it speaks again.
    speaks: (Ulid, Option<AgentKind>),
    lines: HashMap<Source, Line>,
    /// Whose line is not ended, on each of our streams.
    open: [Option<Source>; 2],
    /// Runs whose program began: how their image was built is of no interest.
    began: HashSet<(Ulid, u32)>,
    codes: HashMap<(Ulid, u32), u8>,
    /// What sessions run in, where it is no image that is built here.
    places: HashMap<Ulid, Elsewhere>,
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
            speaks: (Ulid(0), None),
            lines: HashMap::new(),
            open: [None; 2],
            began: HashSet::new(),
            codes: HashMap::new(),
            places: HashMap::new(),
            met: Vec::new(),
            built: HashSet::new(),
        }
    }

    /// Tells how a session was dispatched, where its first event is not shown.
    pub fn knows(&mut self, session: Ulid, spec: &Spec) {
        self.hears(session, speaks(spec));
    }

    /// Tells whose output a session writes.
    fn hears(&mut self, session: Ulid, agent: AgentKind) {
        self.agents.insert(session, agent);
        self.speaks = (session, Some(agent));
    }

    /// Whether what such an agent writes is made readable.
    fn is_readable(&self, agent: Option<AgentKind>) -> bool {
        self.manner.pretty.unwrap_or(true) && agent.is_some_and(|kind| kind != AgentKind::Command)
    }

    fn agent(&mut self, session: Ulid) -> Option<AgentKind> {
        if self.speaks.0 != session {
            self.speaks = (session, self.agents.get(&session).copied());
        }
        self.speaks.1
    }

    /// Tells that a run's program began.
    pub fn began(&mut self, session: Ulid, run: u32) {
        self.began.insert((session, run));
    }

    /// Prints an event as it lies in a block: output is not copied for that.
    ///
    /// # Errors
    /// [`Failure::Closed`] when nobody reads any more; `journal_failed` when it
    /// cannot be read.
    pub fn print_ref(
        &mut self,
        ui: &mut Ui,
        (id, session): (&SessionId, Ulid),
        event: &EventRef<'_>,
    ) -> Result<(), Failure> {
        let Body::Output {
            stream,
            continued,
            data,
        } = event.body
        else {
            return self.print(ui, &session_event((id, session), event)?);
        };
        let run = event.run;
        let source = Source {
            session,
            run,
            stream,
        };
        let piece = Piece {
            source,
            id,
            time: event.time,
            data,
            continued,
            aside: false,
        };
        self.output(ui, &piece)
    }

    /// Prints an event.
    ///
    /// # Errors
    /// [`Failure::Closed`] when nobody reads any more.
    pub fn print(&mut self, ui: &mut Ui, event: &SessionEvent) -> Result<(), Failure> {
        let run = (event.ulid, event.event.run);
        match &event.event.kind {
            EventKind::Output(output) => {
                let source = Source {
                    session: event.ulid,
                    run: event.event.run,
                    stream: output.stream,
                };
                let piece = Piece {
                    source,
                    id: &event.session,
                    time: event.event.time,
                    data: &output.data,
                    continued: output.continued,
                    aside: false,
                };
                return self.output(ui, &piece);
            }
            EventKind::Created { spec } => {
                self.knows(event.ulid, spec);
                if let Some(place) = Elsewhere::of(spec) {
                    self.places.insert(event.ulid, place);
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
            let prefix = self.prefix(&event.session);
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
            self.release(ui, source, Timestamp::default())?;
        }
        if self.manner.raw {
            return ui.flush();
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            if ui.is_terminal(stream) && self.open[at(stream)].take().is_some() {
                ui.bytes(stream, b"\n")?;
            }
        }
        ui.flush()
    }

    fn output(&mut self, ui: &mut Ui, piece: &Piece<'_>) -> Result<(), Failure> {
        let source = piece.source;
        if self.manner.raw {
            ui.bytes(source.stream, piece.data)?;
            if !piece.continued {
                ui.bytes(source.stream, b"\n")?;
            }
            return Ok(());
        }
        let agent = self.agent(source.session);
        if source.stream != Stream::Stdout || !self.is_readable(agent) {
            return self.show(ui, piece);
        }
        let line = self.line(piece);
        if line.too_long {
            line.too_long = piece.continued;
            return self.show(ui, piece);
        }
        line.joined.extend_from_slice(piece.data);
        if piece.continued && line.joined.len() <= JOIN_MAX {
            return Ok(());
        }
        let whole = std::mem::take(&mut line.joined);
        line.too_long = piece.continued;
        let told = match (&mut line.teller, piece.continued) {
            (Some(teller), false) => teller.line(&whole),
            (None, _) | (_, true) => None,
        };
        let data = whole.as_slice();
        match told {
            Some(told) => self.show_told(ui, &told, piece),
            None => self.show(ui, &Piece { data, ..*piece }),
        }
    }

    fn line(&mut self, piece: &Piece<'_>) -> &mut Line {
        let kind = match piece.source.stream {
            Stream::Stdout => self.agent(piece.source.session),
            Stream::Stderr => None,
        };
        let line = self.lines.entry(piece.source);
        line.or_insert_with(|| Line::of(piece.id, kind))
    }

    /// Shows what was made of a line, in place of it.
    fn show_told(&mut self, ui: &mut Ui, told: &[Shown], of: &Piece<'_>) -> Result<(), Failure> {
        for shown in told {
            for line in shown.text.lines() {
                let piece = Piece {
                    data: line.as_bytes(),
                    aside: shown.aside,
                    continued: false,
                    ..*of
                };
                self.show(ui, &piece)?;
            }
        }
        Ok(())
    }

    /// Shows a line or a piece of one on the stream it belongs to.
    fn show(&mut self, ui: &mut Ui, piece: &Piece<'_>) -> Result<(), Failure> {
        let source = piece.source;
        let stream = source.stream;
        if self.open[at(stream)] != Some(source) || self.interrupted(ui, stream) {
            self.end_open_lines(ui, stream)?;
            self.head(ui, piece)?;
        }
        if piece.aside {
            let text = String::from_utf8_lossy(piece.data);
            let painted = ui.paint_on(stream, Style::Dim, &text);
            ui.bytes(stream, painted.as_bytes())?;
        } else if ui.is_terminal(stream) {
            self.show_harmless(ui, piece)?;
        } else {
            ui.bytes(stream, piece.data)?;
        }
        if piece.continued {
            self.open[at(stream)] = Some(source);
            return Ok(());
        }
        self.open[at(stream)] = None;
        ui.bytes(stream, b"\n")
    }

    /// What stands before a line.
    fn head(&mut self, ui: &mut Ui, piece: &Piece<'_>) -> Result<(), Failure> {
        let stream = piece.source.stream;
        if self.manner.prefix > 0 {
            let colour = self.colour(piece.source.session);
            let prefix = self.prefix(piece.id);
            let painted = ui.paint_on(stream, Style::Nth(colour), prefix.trim_end());
            ui.bytes(stream, painted.as_bytes())?;
            ui.bytes(stream, b" ")?;
        }
        if self.manner.timestamps {
            ui.bytes(stream, format!("{} ", piece.time).as_bytes())?;
        }
        Ok(())
    }

    /// Shows what a piece says, without what would control the terminal.
    fn show_harmless(&mut self, ui: &mut Ui, piece: &Piece<'_>) -> Result<(), Failure> {
        let sanitizer = &mut self.line(piece).sanitizer;
        if sanitizer.passes(piece.data) {
            return ui.bytes(piece.source.stream, piece.data);
        }
        let mut harmless = String::with_capacity(piece.data.len());
        sanitizer.push(piece.data, &mut harmless);
        if !piece.continued {
            sanitizer.end_line(&mut harmless);
        }
        ui.bytes(piece.source.stream, harmless.as_bytes())
    }

    /// On a terminal both streams are one: a line of the other ends ours.
    fn interrupted(&self, ui: &Ui, stream: Stream) -> bool {
        let other = match stream {
            Stream::Stdout => Stream::Stderr,
            Stream::Stderr => Stream::Stdout,
        };
        ui.is_terminal(stream) && ui.is_terminal(other) && self.open[at(other)].is_some()
    }

    /// Ends lines that stand open where a line on `stream` is to come.
    fn end_open_lines(&mut self, ui: &mut Ui, stream: Stream) -> Result<(), Failure> {
        for open in [Stream::Stdout, Stream::Stderr] {
            let shared = ui.is_terminal(open) && ui.is_terminal(stream);
            if (open == stream || shared) && self.open[at(open)].take().is_some() {
                ui.bytes(open, b"\n")?;
            }
        }
        Ok(())
    }

    fn finish_run(&mut self, ui: &mut Ui, event: &SessionEvent) -> Result<(), Failure> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let source = Source {
                session: event.ulid,
                run: event.event.run,
                stream,
            };
            self.release(ui, source, event.event.time)?;
            self.lines.remove(&source);
        }
        Ok(())
    }

    /// Shows a line that was held and never ended.
    fn release(&mut self, ui: &mut Ui, source: Source, time: Timestamp) -> Result<(), Failure> {
        let Some(line) = self.lines.get_mut(&source) else {
            return Ok(());
        };
        let (held, id) = (std::mem::take(&mut line.joined), line.id.clone());
        let mut told = None;
        let mut left = Vec::new();
        if let Some(teller) = &mut line.teller {
            told = (!held.is_empty()).then(|| teller.line(&held)).flatten();
            left = teller.end();
        }
        let piece = Piece {
            source,
            id: &id,
            time,
            data: &held,
            continued: true,
            aside: false,
        };
        match told {
            Some(told) => self.show_told(ui, &told, &piece)?,
            None if held.is_empty() => {}
            None => self.show(ui, &piece)?,
        }
        self.show_told(ui, &left, &piece)
    }

    fn prefix(&self, id: &SessionId) -> String {
        match self.manner.prefix {
            0 => String::new(),
            width => format!("{:width$} | ", id.as_str()),
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
}

/// An event of a session as it goes over the wire.
///
/// # Errors
/// `journal_failed` when it cannot be read.
pub fn session_event(
    (id, session): (&SessionId, Ulid),
    event: &EventRef<'_>,
) -> Result<SessionEvent, Error> {
    let event = event.to_event().map_err(|error| {
        let message = format!("an event of session {id} cannot be read: {error}");
        Error::new(ErrorCode::JournalFailed, message)
    })?;
    Ok(SessionEvent {
        session: id.clone(),
        ulid: session,
        event,
    })
}

#[cfg(test)]
mod tests;
