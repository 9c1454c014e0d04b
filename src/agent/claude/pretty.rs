//! Claude Code's stream for people: one readable line for each event.
//!
//! Invariant: what comes out has no control characters but line ends and tabs,
//! and a line about a tool is one line.

use crate::agent::pretty::clean;
use crate::agent::text::head;
use crate::agent::{Agent as _, Before};
use crate::model::{AgentEvent, Outcome};
use serde_json::Value;

/// Characters of a line that is not the agent's own text.
const LINE_MAX: usize = 200;

/// As [`Agent::pretty`](super::Agent::pretty) says.
pub(super) fn pretty(line: &[u8]) -> Option<String> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    let kind = text(&value, "type")?;
    let subtype = text(&value, "subtype").unwrap_or_default();
    Some(match (kind, subtype) {
        ("assistant", _) => message(&value, assistant_block),
        ("user", _) => message(&value, user_block),
        ("result", _) => result(line),
        ("system", "init") => init(&value),
        ("system", "api_retry") => retry(&value),
        ("system", "permission_denied") => {
            let tool = text(&value, "tool_name").unwrap_or("a tool");
            one_line(&format!("denied: {tool}"))
        }
        ("rate_limit_event", _) => rate_limit(&value),
        ("system", "status" | "session_state_changed" | "background_tasks_changed")
        | ("system", "hook_started" | "hook_progress" | "task_progress" | "task_updated")
        | ("stream_event" | "control_request" | "control_response" | "keep_alive", _) => {
            String::new()
        }
        (kind, "") => one_line(&format!("[{kind}]")),
        (kind, subtype) => one_line(&format!("[{kind}/{subtype}]")),
    })
}

/// The blocks of a message, a sub-agent's set in.
fn message(value: &Value, show: fn(&Value) -> String) -> String {
    let content = value
        .get("message")
        .and_then(|message| message.get("content"));
    let lines: Vec<String> = match content {
        Some(Value::Array(blocks)) => blocks.iter().map(show).collect(),
        Some(Value::String(words)) => vec![clean(words)],
        _ => Vec::new(),
    };
    let said = lines.into_iter().filter(|line| !line.is_empty());
    let all = said.collect::<Vec<_>>().join("\n");
    let inside = value
        .get("parent_tool_use_id")
        .is_some_and(Value::is_string);
    if !inside || all.is_empty() {
        return all;
    }
    let indented: Vec<String> = all.lines().map(|line| format!("  {line}")).collect();
    indented.join("\n")
}

fn assistant_block(block: &Value) -> String {
    match text(block, "type").unwrap_or_default() {
        "text" => clean(text(block, "text").unwrap_or_default()),
        "thinking" | "redacted_thinking" => String::new(),
        "tool_use" | "server_tool_use" => {
            let name = text(block, "name").unwrap_or("tool");
            let input = block.get("input").unwrap_or(&Value::Null);
            one_line(&format!("→ {name} {}", summary(name, input)))
        }
        other => one_line(&format!("[{other}]")),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// What a tool is used for.
fn summary<'a>(name: &str, input: &'a Value) -> &'a str {
    let keys: &[&str] = match name {
        "Bash" => &["command"],
        "Read" | "Edit" | "Write" | "NotebookEdit" => &["file_path", "notebook_path", "path"],
        "Glob" | "Grep" => &["pattern"],
        "Agent" | "Task" => &["description"],
        _ => &[],
    };
    let any = ["description", "query", "prompt", "path", "url"];
    let mut keys = keys.iter().chain(&any);
    keys.find_map(|key| text(input, key)).unwrap_or_default()
}

fn user_block(block: &Value) -> String {
    match text(block, "type").unwrap_or_default() {
        "tool_result" => tool_result(block),
        "text" => one_line(&format!("> {}", text(block, "text").unwrap_or_default())),
        other => one_line(&format!("[{other}]")),
    }
}

fn tool_result(block: &Value) -> String {
    let parts: Vec<&str> = match block.get("content") {
        Some(Value::String(words)) => vec![words],
        Some(Value::Array(parts)) => parts.iter().filter_map(|p| text(p, "text")).collect(),
        _ => Vec::new(),
    };
    if block.get("is_error").and_then(Value::as_bool) == Some(true) {
        return one_line(&format!("← error: {}", parts.join(" ")));
    }
    let size: usize = parts.iter().map(|part| part.len()).sum();
    format!("← {}", bytes(size))
}

fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size} bytes"),
        1024..1_048_576 => format!("{} KiB", size.div_ceil(1024)),
        _ => format!("{} MiB", size.div_ceil(1_048_576)),
    }
}

fn init(value: &Value) -> String {
    let mut parts = vec!["Claude Code".to_owned()];
    if let Some(version) = text(value, "claude_code_version") {
        parts[0] = format!("Claude Code {version}");
    }
    let rest = ["model", "session_id"]
        .iter()
        .filter_map(|key| text(value, key));
    parts.extend(rest.map(str::to_owned));
    one_line(&parts.join(" · "))
}

fn retry(value: &Value) -> String {
    let number = |key: &str| value.get(key).and_then(Value::as_f64);
    let mut line = "retrying".to_owned();
    if let (Some(attempt), Some(max)) = (number("attempt"), number("max_retries")) {
        line.push_str(&format!(" ({attempt}/{max})"));
    }
    if let Some(delay) = number("retry_delay_ms") {
        line.push_str(&format!(" in {:.1} s", delay / 1000.0));
    }
    let status = number("error_status").map(|status| status.to_string());
    let why = status
        .into_iter()
        .chain(text(value, "error").map(str::to_owned));
    let why = why.collect::<Vec<_>>().join(" ");
    if !why.is_empty() {
        line.push_str(&format!(": {why}"));
    }
    one_line(&line)
}

fn rate_limit(value: &Value) -> String {
    let info = value.get("rate_limit_info").unwrap_or(&Value::Null);
    match text(info, "status") {
        None | Some("allowed") => String::new(),
        Some(status) => {
            let kind = text(info, "rateLimitType").unwrap_or_default();
            one_line(&format!("rate limit: {status} {kind}"))
        }
    }
}

/// How it ended. An answer was shown when it was given, so it is not repeated;
/// what went wrong is told here.
fn result(line: &[u8]) -> String {
    let mut events = Vec::new();
    if let Some(mut reader) = super::Claude.reader(Before::default()) {
        reader.read(line, &mut events);
    }
    let Some(AgentEvent::Result {
        outcome,
        text,
        turns,
        cost_usd,
        duration_ms,
        ..
    }) = events.pop()
    else {
        return String::new();
    };
    let mut parts = vec![match &outcome {
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
    if let Some(cost) = cost_usd {
        parts.push(format!("${cost:.4}"));
    }
    if let Some(took) = duration_ms {
        parts.push(duration(took));
    }
    let line = parts.join(" · ");
    if outcome == Outcome::Success || text.trim().is_empty() {
        return line;
    }
    one_line(&format!("{line}: {text}"))
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
