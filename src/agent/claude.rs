//! Claude Code: `claude -p --output-format stream-json --verbose`.
//!
//! Invariant: reading never fails. A line that is not understood is just a
//! line; and nothing counts as success that does not say so in every way.

mod pretty;

use super::{Agent, CommandLine, Invocation};
use crate::model::spec::Permissions;
use crate::model::{AgentEvent, AgentKind, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;

/// A result's text is kept up to so many bytes; the raw line has all of it.
const TEXT_MAX: usize = 4096;

/// Claude Code.
pub struct Claude;

impl Agent for Claude {
    fn kind(&self) -> AgentKind {
        AgentKind::Claude
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let spec = invocation.spec;
        let program = || vec!["claude".to_owned()];
        let mut argv = spec.pod.entrypoint.clone().unwrap_or_else(program);
        let fixed = ["-p", "--output-format", "stream-json", "--verbose"];
        argv.extend(fixed.map(str::to_owned));
        let mut option = |name: &str, value: &str| {
            argv.extend([name.to_owned(), value.to_owned()]);
        };
        match (invocation.resume, &spec.agent_session) {
            (Some(id), _) => option("--resume", id),
            (None, Some(id)) => option("--session-id", id),
            (None, None) => {}
        }
        if let Some(model) = &spec.model {
            option("--model", model);
        }
        let mut env = BTreeMap::new();
        if spec.permissions == Permissions::Bypass {
            argv.push("--dangerously-skip-permissions".to_owned());
            // Without it Claude Code refuses to skip them as root.
            if invocation.root {
                env.insert("IS_SANDBOX".to_owned(), "1".to_owned());
            }
        }
        argv.extend(spec.pod.args.iter().cloned());
        CommandLine { argv, env }
    }

    fn read_line(&self, line: &[u8]) -> Option<AgentEvent> {
        if !may_be_event(line) {
            return None;
        }
        let value: Value = serde_json::from_slice(line).ok()?;
        match text(&value, "type")? {
            "system" if text(&value, "subtype") == Some("init") => Some(AgentEvent::Init {
                agent_session: session(&value, "session_id"),
                model: short(&value, "model"),
                version: short(&value, "claude_code_version"),
            }),
            // The conversation goes on under another id.
            "conversation_reset" => Some(AgentEvent::Init {
                agent_session: Some(session(&value, "new_conversation_id")?),
                model: None,
                version: None,
            }),
            "result" => Some(AgentEvent::Result {
                outcome: outcome(&value),
                text: cut(&result_text(&value), TEXT_MAX),
                agent_session: session(&value, "session_id"),
                turns: value.get("num_turns").and_then(Value::as_u64),
                cost_usd: value.get("total_cost_usd").and_then(Value::as_f64),
                duration_ms: value.get("duration_ms").and_then(Value::as_u64),
            }),
            _ => None,
        }
    }

    fn pretty(&self, line: &[u8]) -> Option<String> {
        pretty::pretty(line)
    }

    fn choose_session(&self, random: u128) -> Option<String> {
        // Version 4, variant 1 (RFC 9562): all other bits are random.
        let id = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{id:032x}");
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        Some(parts.join("-"))
    }
}

/// Whether a line can be one of the few that say something, without parsing it.
///
/// A JSON string that is `result` ends in a quote that is not escaped, so a
/// mention of the word in an answer or in a tool's output does not count, and
/// neither does `tool_result`.
fn may_be_event(line: &[u8]) -> bool {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return false;
    }
    // Searching text is what the standard library does fast; JSON is UTF-8 anyway.
    let Ok(line) = std::str::from_utf8(line) else {
        return false;
    };
    ["\"result\"", "\"init\"", "\"conversation_reset\""]
        .iter()
        .any(|word| line.contains(word))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn short(value: &Value, key: &str) -> Option<String> {
    text(value, key).map(|text| cut(text, 200))
}

/// A conversation's id, if it can be given back as an argument.
fn session(value: &Value, key: &str) -> Option<String> {
    let id = text(value, key)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let usable = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.len() <= 128
        && id.chars().all(legal);
    usable.then(|| id.to_owned())
}

/// At most `max` bytes of `text`, whole characters, with a mark where it was cut.
fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", head(text, max.saturating_sub('…'.len_utf8())))
}

/// The whole characters of the first `max` bytes.
fn head(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The answer, or what went wrong.
fn result_text(value: &Value) -> String {
    if let Some(result) = text(value, "result") {
        return result.to_owned();
    }
    let errors = value.get("errors").and_then(Value::as_array);
    let errors = errors.into_iter().flatten().map(|error| match error {
        Value::String(error) => error.clone(),
        other => other.to_string(),
    });
    errors.collect::<Vec<_>>().join("; ")
}

/// What a result line means. The subtype alone says nothing: an API error
/// comes as `success` with `is_error`.
fn outcome(value: &Value) -> Outcome {
    let subtype = text(value, "subtype").unwrap_or_default();
    let reason = text(value, "terminal_reason").unwrap_or_default();
    match subtype {
        "error_max_turns" => return Outcome::MaxTurns,
        "error_max_budget_usd" => return Outcome::Budget,
        _ => {}
    }
    if reason.starts_with("aborted") {
        return Outcome::Interrupted;
    }
    let is_error = value.get("is_error").and_then(Value::as_bool);
    let is_error = is_error.unwrap_or(subtype != "success");
    let status = value.get("api_error_status").and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    if is_error && (status.is_some() || reason == "api_error") {
        let retryable = match status {
            Some(status) => matches!(status, 408 | 409 | 425 | 429 | 500..=599),
            // No answer at all: a connection that may come back, unless nobody is logged in.
            None => !result_text(value).contains("/login"),
        };
        return Outcome::ApiError { status, retryable };
    }
    if is_error || subtype != "success" || !has_answer(value) {
        return Outcome::Failed;
    }
    Outcome::Success
}

/// A stream that was cut ends in a success without any text. An answer that is
/// meant to be empty says why it stopped.
fn has_answer(value: &Value) -> bool {
    let said = text(value, "result").is_some_and(|text| !text.trim().is_empty());
    let structured = value.get("structured_output").is_some_and(|v| !v.is_null());
    let stopped = matches!(
        text(value, "stop_reason"),
        Some("end_turn" | "stop_sequence")
    );
    said || structured || stopped
}

#[cfg(test)]
mod tests;
