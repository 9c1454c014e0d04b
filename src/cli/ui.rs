//! The only place that prints.
//!
//! Results go to standard output, everything else to standard error. A reader
//! of ours that has gone ends the command quietly ([`Failure::Closed`]); that
//! nobody reads standard error is no reason to stop.

use super::args::{ColorChoice, Format};
use super::error::{Failure, render};
use super::table::{Look, Table};
use super::text::{cut, sanitize};
use crate::model::{Error, ErrorCode, Stream};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal, Write};
use std::os::fd::AsFd;

/// How text is set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What is beside the point.
    Dim,
    /// What is under way.
    Busy,
    /// What is well.
    Good,
    /// What needs a look.
    Warning,
    /// What is wrong.
    Bad,
    /// One of several that are told apart by colour.
    Nth(usize),
}

impl Style {
    const fn code(self) -> u8 {
        match self {
            Self::Dim => 2,
            Self::Bad => 31,
            Self::Good => 32,
            Self::Warning => 33,
            Self::Busy => 36,
            Self::Nth(number) => [36, 33, 32, 35, 34, 31][number % 6],
        }
    }

    /// A text, set off.
    #[must_use]
    pub fn paint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }
}

/// One line on standard output, at once: the daemon's word to who started it.
pub fn announce(line: &str) {
    // Whoever it was may be gone; there is nobody else to tell.
    let _ = writeln!(io::stdout(), "{line}");
    let _ = io::stdout().flush();
}

/// The printer.
pub struct Ui {
    out: Sink,
    err: Sink,
    width: Option<usize>,
    /// The last line on standard error is one that the next replaces.
    passing: bool,
    /// The stream whose last bytes did not end their line.
    open: Option<Stream>,
}

/// Bytes that wait to be written together.
const TOGETHER: usize = 64 * 1024;

struct Sink {
    to: Box<dyn Write + Send>,
    /// What was not written yet; at most one of the two streams has such.
    waits: Vec<u8>,
    terminal: bool,
    colour: bool,
}

impl Sink {
    const fn new(to: Box<dyn Write + Send>, terminal: bool, colour: bool) -> Self {
        Self {
            to,
            waits: Vec::new(),
            terminal,
            colour,
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.waits.is_empty() {
            return Ok(());
        }
        let written = self.to.write_all(&self.waits);
        self.waits.clear();
        // One huge line must not hold its memory for the rest of the life.
        self.waits.shrink_to(2 * TOGETHER);
        written.and_then(|()| self.to.flush())
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        style.paint(text)
    }
}

impl Ui {
    /// A printer to this process's streams.
    #[must_use]
    pub fn new(color: ColorChoice) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let (no_color, dumb) = (
            set("NO_COLOR"),
            std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        );
        let forced = std::env::var_os("CLICOLOR_FORCE")
            .is_some_and(|value| !value.is_empty() && value != "0");
        let coloured = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => !no_color && (forced || (terminal && !dumb)),
        };
        let (out_terminal, err_terminal) = (stdout.is_terminal(), stderr.is_terminal());
        let width = if out_terminal {
            terminal_width(&stdout)
        } else {
            None
        };
        Self {
            // Written to directly: the standard handle would cut at every line.
            out: Sink::new(
                match stdout.as_fd().try_clone_to_owned() {
                    Ok(fd) => Box::new(File::from(fd)),
                    Err(_) => Box::new(stdout),
                },
                out_terminal,
                coloured(out_terminal),
            ),
            err: Sink::new(Box::new(stderr), err_terminal, coloured(err_terminal)),
            width,
            passing: false,
            open: None,
        }
    }

    /// Whether a stream of ours is a terminal.
    #[must_use]
    pub const fn is_terminal(&self, stream: Stream) -> bool {
        self.sink_ref(stream).terminal
    }

    /// The columns of the terminal that results go to; none where they go elsewhere.
    #[must_use]
    pub const fn width(&self) -> Option<usize> {
        self.width
    }

    const fn sink_ref(&self, stream: Stream) -> &Sink {
        match stream {
            Stream::Stdout => &self.out,
            Stream::Stderr => &self.err,
        }
    }

    /// Text for standard output, as it is.
    pub fn out(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(Stream::Stdout, text.as_bytes())
    }

    /// A line for standard output.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.out(text)?;
        self.out("\n")
    }

    /// Bytes for a stream, as they are.
    #[inline]
    pub fn bytes(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Failure> {
        let Some(last) = bytes.last() else {
            return Ok(());
        };
        self.begin(stream)?;
        self.open = (*last != b'\n').then_some(stream);
        let sink = self.sink(stream);
        sink.waits.extend_from_slice(bytes);
        if sink.waits.len() >= TOGETHER {
            return self.flush();
        }
        Ok(())
    }

    /// Sees that what comes on `stream` comes after all that was given before.
    #[inline]
    fn begin(&mut self, stream: Stream) -> Result<(), Failure> {
        self.clear_passing();
        let other = match stream {
            Stream::Stdout => &self.err,
            Stream::Stderr => &self.out,
        };
        if other.waits.is_empty() {
            return Ok(());
        }
        self.flush()
    }

    const fn sink(&mut self, stream: Stream) -> &mut Sink {
        match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }

    /// Sees that everything is written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        // Only one of them has anything, so that both come in their order.
        let _ = self.err.write_out();
        self.out.write_out().map_err(|e| unwritable(&e))
    }

    /// Text on standard output in a style.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        self.out.paint(style, text)
    }

    /// Help or usage, with clap's own styles.
    pub fn help(&mut self, stream: Stream, text: &clap::builder::StyledStr) -> Result<(), Failure> {
        let text = if self.sink_ref(stream).colour {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        self.bytes(stream, text.as_bytes())?;
        if text.ends_with('\n') {
            return Ok(());
        }
        self.bytes(stream, b"\n")
    }

    /// A table.
    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.render(Look {
            max: self.width,
            colour: self.out.colour,
        });
        self.out(&text)
    }

    /// Items as JSON; as a table they are the caller's.
    pub fn items<T: Serialize>(&mut self, format: Format, items: &[T]) -> Result<(), Failure> {
        if format == Format::Jsonl {
            return items.iter().try_for_each(|item| self.json_line(item));
        }
        self.json(&items)
    }

    /// A value as JSON, to be read.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|e| not_json(&e))?;
        self.line(&text)
    }

    /// A value as one line of JSON.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.begin(Stream::Stdout)?;
        serde_json::to_writer(&mut self.out.waits, value).map_err(|e| not_json(&e))?;
        self.bytes(Stream::Stdout, b"\n")
    }

    /// One value in a format that is not a table.
    pub fn value(&mut self, format: Format, value: &impl Serialize) -> Result<(), Failure> {
        match format {
            Format::Jsonl => self.json_line(value),
            Format::Json | Format::Table => self.json(value),
        }
    }

    /// What goes on: a line on standard error.
    pub fn progress(&mut self, text: &str) {
        self.styled(Style::Dim, text);
    }

    /// What goes on, on a terminal: a line that the next one replaces.
    pub fn passing(&mut self, text: &str) {
        let _ = self.flush();
        self.end_open_line();
        let width = self.width.unwrap_or(80).saturating_sub(1);
        let text = cut(&sanitize(text).replace(['\n', '\t'], " "), width);
        let line = format!("\r\x1b[K{}", self.err.paint(Style::Dim, &text));
        let _ = self.err.to.write_all(line.as_bytes());
        let _ = self.err.to.flush();
        self.passing = true;
    }

    /// Takes away a line that was passing: something else comes, or nothing more.
    pub fn clear_passing(&mut self) {
        if std::mem::take(&mut self.passing) {
            let _ = self.err.to.write_all(b"\r\x1b[K");
        }
    }

    /// What we say ourselves begins a line, where it can be seen that it would not.
    fn end_open_line(&mut self) {
        let seen = match self.open.take() {
            None => false,
            Some(Stream::Stderr) => true,
            Some(Stream::Stdout) => self.out.terminal && self.err.terminal,
        };
        if seen {
            let _ = self.err.to.write_all(b"\n");
        }
    }

    /// Text for one of our streams, in a style.
    #[must_use]
    pub fn paint_on(&self, stream: Stream, style: Style, text: &str) -> String {
        self.sink_ref(stream).paint(style, text)
    }

    /// What the user should know.
    pub fn note(&mut self, text: &str) {
        self.styled(Style::Warning, &format!("note: {text}"));
    }

    /// What is wrong.
    pub fn error(&mut self, error: &Error) {
        // A reader of ours that has gone does not hide an error.
        let _ = self.flush();
        self.clear_passing();
        self.end_open_line();
        let text = render(error);
        let text = match text.strip_prefix("error:") {
            Some(rest) => format!("{}{rest}", self.err.paint(Style::Bad, "error:")),
            None => text,
        };
        let _ = self.err.to.write_all(text.as_bytes());
    }

    /// Asks the user, who says no unless it is a yes. None where nobody can be
    /// asked: the question and the answer need a terminal.
    pub fn confirm(&mut self, question: &str) -> Option<bool> {
        let stdin = io::stdin();
        if !self.err.terminal || !stdin.is_terminal() {
            return None;
        }
        let _ = self.flush();
        self.clear_passing();
        self.end_open_line();
        let question = format!("{} [y/N] ", sanitize(question));
        let _ = self.err.to.write_all(question.as_bytes());
        let _ = self.err.to.flush();
        let mut answer = String::new();
        let read = stdin.lock().read_line(&mut answer);
        let answer = answer.trim().to_ascii_lowercase();
        Some(read.is_ok() && matches!(answer.as_str(), "y" | "yes"))
    }

    fn styled(&mut self, style: Style, text: &str) {
        let _ = self.flush();
        self.clear_passing();
        self.end_open_line();
        let line = format!("{}\n", self.err.paint(style, &sanitize(text)));
        let _ = self.err.to.write_all(line.as_bytes());
    }
}

fn terminal_width(stdout: &io::Stdout) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stdout.as_fd()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

fn unwritable(cause: &io::Error) -> Failure {
    if cause.kind() == io::ErrorKind::BrokenPipe {
        return Failure::Closed;
    }
    Failure::Error(Error::new(
        ErrorCode::Internal,
        format!("cannot write to standard output: {cause}"),
    ))
}

fn not_json(cause: &serde_json::Error) -> Failure {
    Failure::Error(Error::new(
        ErrorCode::Internal,
        format!("a result cannot be written as JSON: {cause}"),
    ))
}

/// A printer whose output a test reads.
#[cfg(test)]
pub(crate) mod capture {
    use super::{Sink, Ui};
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    /// What was written.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&bytes).into_owned()
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader that has gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A printer, and what it writes to standard output and standard error.
    pub(crate) fn ui(terminal: bool) -> (Ui, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let sink = |to: &Captured| Sink::new(Box::new(to.clone()), terminal, false);
        let ui = Ui {
            out: sink(&out),
            err: sink(&err),
            width: None,
            passing: false,
            open: None,
        };
        (ui, out, err)
    }

    /// A printer to a terminal with colours.
    pub(crate) fn coloured() -> (Ui, Captured, Captured) {
        let (mut ui, out, err) = ui(true);
        (ui.out.colour, ui.err.colour) = (true, true);
        (ui, out, err)
    }

    /// A printer whose reader has gone.
    pub(crate) fn closed() -> Ui {
        let (mut ui, _, _) = ui(false);
        ui.out.to = Box::new(Gone);
        ui
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_json_too() -> Result<(), Failure> {
        let (mut ui, out, _) = capture::ui(false);
        ui.items::<String>(Format::Json, &[])?;
        ui.items::<String>(Format::Jsonl, &[])?;
        ui.flush()?;
        assert_eq!(out.text(), "[]\n");
        Ok(())
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let mut ui = capture::closed();
        let done = ui.line("x").and_then(|()| ui.flush());
        assert!(matches!(done, Err(Failure::Closed)));
    }

    #[test]
    fn both_streams_come_in_their_order_and_whole() -> Result<(), Failure> {
        let (mut ui, out, err) = capture::ui(false);
        ui.bytes(Stream::Stdout, b"one")?;
        assert_eq!(out.text(), "");
        ui.bytes(Stream::Stderr, b"two")?;
        assert_eq!((out.text().as_str(), err.text().as_str()), ("one", ""));
        ui.bytes(Stream::Stdout, &[b'x'; TOGETHER])?;
        assert_eq!(
            (out.bytes().len(), err.text().as_str()),
            (TOGETHER + 3, "two")
        );
        ui.bytes(Stream::Stderr, b"three")?;
        ui.flush()?;
        assert_eq!(err.text(), "twothree");
        Ok(())
    }
}
