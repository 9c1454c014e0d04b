//! A line of an agent for people, made of the events that it stands for.

use super::{Agent, Before};
use crate::model::{AgentEvent, Outcome};

/// As [`Agent::pretty`] says.
pub(super) fn line(agent: &dyn Agent, line: &[u8]) -> Option<String> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let mut events = Vec::new();
    let mut reader = agent.reader(Before::default())?;
    reader.read(line, &mut events);
    reader.finish(&mut events);
    let malformed =
        |event: &AgentEvent| matches!(event, AgentEvent::Unknown { malformed, .. } if *malformed);
    if events.iter().any(malformed) {
        return None;
    }
    let shown: Vec<String> = events.iter().filter_map(of).collect();
    Some(shown.join("\n"))
}

fn of(event: &AgentEvent) -> Option<String> {
    let line = match event {
        AgentEvent::Text { text, .. } => return Some(clean(text)),
        AgentEvent::ToolUse { name, summary, .. } => format!("→ {name} {summary}"),
        AgentEvent::ToolResult {
            is_error: true,
            size,
            ..
        } => format!("← error: {size} bytes"),
        AgentEvent::ToolResult { size, .. } => format!("← {size} bytes"),
        AgentEvent::Retry { message, .. } => format!("retrying: {message}"),
        AgentEvent::PermissionDenied { tool } => format!("denied: {tool}"),
        AgentEvent::Unknown {
            name,
            malformed: false,
        } => format!("[{name}]"),
        AgentEvent::Result { outcome, text, .. } => match outcome {
            Outcome::Success => outcome.name().to_owned(),
            _ => format!("{}: {text}", outcome.name()),
        },
        AgentEvent::Init { .. }
        | AgentEvent::Thinking { .. }
        | AgentEvent::Usage { .. }
        | AgentEvent::Limit { .. }
        | AgentEvent::Unknown { .. } => return None,
    };
    Some(clean(&line).replace(['\n', '\t'], " "))
}

/// Without terminal escapes, control characters (but line ends and tabs) and
/// the characters that turn the direction of writing; no line ends at the end.
pub(super) fn clean(words: &str) -> String {
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
