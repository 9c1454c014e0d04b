//! What agents say, for people: a few lines for a line of theirs.
//!
//! Invariant: nothing of it controls a terminal, and what is not the agent's own
//! text is one line each.

use super::text::head;
use super::{Reader, Teller};
use crate::model::{AgentEvent, Outcome};

/// Characters of a line that is not the agent's own text.
const LINE_MAX: usize = 200;

/// Something that is shown: a line, or the lines of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Without control characters but line ends and tabs, and no line end at its end.
    pub text: String,
    /// Of less interest: what the agent thinks, and how large results are.
    pub aside: bool,
}

impl Shown {
    /// A text of the agent's, as it is.
    pub(super) fn text(words: &str) -> Self {
        Self {
            text: clean(words),
            aside: false,
        }
    }

    /// What it thinks.
    pub(super) fn thinking(words: &str) -> Option<Self> {
        let words = clean(words);
        (!words.trim().is_empty()).then(|| Self {
            text: format!("thinking: {words}"),
            aside: true,
        })
    }

    /// One line.
    pub(super) fn line(words: &str) -> Self {
        Self {
            text: one_line(words),
            aside: false,
        }
    }

    /// One line of less interest.
    pub(super) fn aside(words: &str) -> Self {
        Self {
            text: one_line(words),
            aside: true,
        }
    }

    /// Set in: a sub-agent said it.
    pub(super) fn set_in(self) -> Self {
        let lines: Vec<String> = self.text.lines().map(|line| format!("  {line}")).collect();
        Self {
            text: lines.join("\n"),
            ..self
        }
    }
}

/// Tells what an agent says by the events that its lines stand for.
pub(super) struct Events {
    agent: &'static str,
    reader: Box<dyn Reader>,
}

impl Events {
    /// Of the agent that is called so, and whose lines are read so.
    pub(super) fn new(agent: &'static str, reader: Box<dyn Reader>) -> Self {
        Self { agent, reader }
    }

    fn show(&self, events: &[AgentEvent]) -> Vec<Shown> {
        let shown = events.iter().filter_map(|event| of(self.agent, event));
        shown.collect()
    }
}

impl Teller for Events {
    fn line(&mut self, line: &[u8]) -> Option<Vec<Shown>> {
        if line.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let mut events = Vec::new();
        self.reader.read(line, &mut events);
        let malformed = |event: &AgentEvent| matches!(event, AgentEvent::Unknown { malformed, .. } if *malformed);
        if events.iter().any(malformed) {
            return None;
        }
        Some(self.show(&events))
    }

    fn end(&mut self) -> Vec<Shown> {
        let mut events = Vec::new();
        self.reader.finish(&mut events);
        self.show(&events)
    }
}

fn of(agent: &str, event: &AgentEvent) -> Option<Shown> {
    let (shown, parent) = match event {
        AgentEvent::Text { text, parent } => (Shown::text(text), parent),
        AgentEvent::Thinking { text, parent } => (Shown::thinking(text)?, parent),
        AgentEvent::ToolUse {
            name,
            summary,
            parent,
            ..
        } => (Shown::line(&format!("→ {name} {summary}")), parent),
        AgentEvent::ToolResult {
            is_error,
            size,
            parent,
            ..
        } => (result_of_tool(*is_error, *size), parent),
        AgentEvent::Init {
            model,
            version,
            agent_session,
            ..
        } => (
            begins(
                agent,
                version.as_deref(),
                [model.as_deref(), agent_session.as_deref()],
            ),
            &None,
        ),
        AgentEvent::Retry { message, .. } => (Shown::line(&format!("retrying: {message}")), &None),
        AgentEvent::PermissionDenied { tool } => (Shown::line(&format!("denied: {tool}")), &None),
        AgentEvent::Unknown {
            name,
            malformed: false,
        } => (Shown::aside(&format!("[{name}]")), &None),
        AgentEvent::Result { .. } => (ends(event)?, &None),
        AgentEvent::Heard { .. }
        | AgentEvent::Dropped { .. }
        | AgentEvent::Usage { .. }
        | AgentEvent::Limit { .. }
        | AgentEvent::Unknown { .. } => {
            return None;
        }
    };
    Some(match parent {
        Some(_) => shown.set_in(),
        None => shown,
    })
}

/// An agent begins.
pub(super) fn begins(agent: &str, version: Option<&str>, rest: [Option<&str>; 2]) -> Shown {
    let mut line = agent.to_owned();
    if let Some(version) = version {
        line.push_str(&format!(" {version}"));
    }
    for part in rest.into_iter().flatten() {
        line.push_str(&format!(" · {part}"));
    }
    Shown::aside(&line)
}

/// What the use of a tool came to, folded to its size.
pub(super) fn result_of_tool(is_error: bool, size: u64) -> Shown {
    match is_error {
        true => Shown::line(&format!("← error: {}", bytes(size))),
        false => Shown::aside(&format!("← {}", bytes(size))),
    }
}

/// How it ended. An answer was shown when it was given, so it is not repeated;
/// what went wrong is told here.
pub(super) fn ends(result: &AgentEvent) -> Option<Shown> {
    let AgentEvent::Result {
        outcome,
        text,
        turns,
        cost_usd,
        duration_ms,
        ..
    } = result
    else {
        return None;
    };
    let mut parts = vec![match outcome {
        Outcome::ApiError {
            status: Some(status),
            ..
        } => format!("api_error {status}"),
        other => other.name().to_owned(),
    }];
    match turns {
        Some(1) => parts.push("1 turn".to_owned()),
        Some(turns) => parts.push(format!("{turns} turns")),
        None => {}
    }
    parts.extend(cost_usd.map(|cost| format!("${cost:.4}")));
    parts.extend(duration_ms.map(duration));
    let line = parts.join(" · ");
    Some(match outcome {
        Outcome::Success => Shown::line(&line),
        _ if text.trim().is_empty() => Shown::line(&line),
        _ => Shown::line(&format!("{line}: {text}")),
    })
}

fn bytes(size: u64) -> String {
    match size {
        0..1024 => format!("{size} bytes"),
        1024..1_048_576 => format!("{} KiB", size.div_ceil(1024)),
        _ => format!("{} MiB", size.div_ceil(1_048_576)),
    }
}

fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// One line of at most [`LINE_MAX`] characters.
fn one_line(words: &str) -> String {
    // Enough to fill the line even if much of it is white space or escapes.
    let clean = clean(head(words, LINE_MAX * 40));
    let mut line = String::new();
    for word in clean.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let Some((end, _)) = line.char_indices().nth(LINE_MAX) else {
        return line;
    };
    let end = line[..end].char_indices().next_back().map_or(0, |(n, _)| n);
    line.truncate(end);
    line.push('…');
    line
}

/// Without terminal escapes, control characters (but line ends and tabs) and
/// the characters that turn the direction of writing; no line ends at the end.
fn clean(words: &str) -> String {
    let mut clean = String::with_capacity(words.len());
    let mut rest = words.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_escape(&mut rest),
            '\u{9b}' => skip_to_final(&mut rest),
            '\n' | '\t' => clean.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean.truncate(clean.trim_end_matches(['\n', '\r']).len());
    clean
}

/// Skips what follows an ESC.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let after = rest.clone();
    match rest.next() {
        Some('[') => skip_to_final(rest),
        // Strings of the terminal (titles, links, …), up to BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => loop {
            let before = rest.clone();
            match rest.next() {
                None | Some('\x07' | '\u{9c}') => return,
                Some('\x1b') => {
                    if rest.clone().next() == Some('\\') {
                        rest.next();
                    }
                    return;
                }
                // None goes over the end of a line: the rest is text again.
                Some('\n') => {
                    *rest = before;
                    return;
                }
                Some(_) => {}
            }
        },
        // Two characters, with a further one where the second is a space to a slash.
        Some(' '..='/') => {
            rest.next();
        }
        Some('0'..='~') => {}
        _ => *rest = after,
    }
}

/// Skips the parameters and the final character of a control sequence.
fn skip_to_final(rest: &mut std::str::Chars<'_>) {
    loop {
        let before = rest.clone();
        match rest.next() {
            None | Some('@'..='~') => return,
            Some(' '..='?') => {}
            Some(_) => {
                *rest = before;
                return;
            }
        }
    }
}
