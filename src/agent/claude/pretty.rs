//! Claude Code's stream for people: a few lines for each event.

use crate::agent::pretty::{Shown, begins, ends, result_of_tool};
use crate::agent::{Agent as _, Before, Teller};
use serde_json::Value;

/// Tells line by line: each says all that it means.
pub(super) struct Stream;

impl Teller for Stream {
    fn line(&mut self, line: &[u8]) -> Option<Vec<Shown>> {
        show(line)
    }
}

fn show(line: &[u8]) -> Option<Vec<Shown>> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    let kind = text(&value, "type")?;
    let subtype = text(&value, "subtype").unwrap_or_default();
    let one = |shown: Shown| vec![shown];
    Some(match (kind, subtype) {
        ("assistant", _) => message(&value, assistant_block),
        ("user", _) => message(&value, user_block),
        ("result", _) => result(line),
        ("system", "init") => one(init(&value)),
        ("system", "api_retry") => one(retry(&value)),
        ("system", "permission_denied") => {
            let tool = text(&value, "tool_name").unwrap_or("a tool");
            one(Shown::line(&format!("denied: {tool}")))
        }
        ("rate_limit_event", _) => rate_limit(&value).into_iter().collect(),
        ("system", "status" | "session_state_changed" | "background_tasks_changed")
        | ("system", "hook_started" | "hook_progress" | "task_progress" | "task_updated")
        | ("system", "thinking_tokens")
        | ("stream_event" | "control_request" | "control_response", _)
        | ("keep_alive" | "command_lifecycle", _) => Vec::new(),
        (kind, "") => one(Shown::aside(&format!("[{kind}]"))),
        (kind, subtype) => one(Shown::aside(&format!("[{kind}/{subtype}]"))),
    })
}

/// The blocks of a message, a sub-agent's set in.
fn message(value: &Value, show: fn(&Value) -> Option<Shown>) -> Vec<Shown> {
    let content = value
        .get("message")
        .and_then(|message| message.get("content"));
    let all: Vec<Shown> = match content {
        Some(Value::Array(blocks)) => blocks.iter().filter_map(show).collect(),
        Some(Value::String(words)) => vec![Shown::text(words)],
        _ => Vec::new(),
    };
    let inside = value
        .get("parent_tool_use_id")
        .is_some_and(Value::is_string);
    match inside {
        true => all.into_iter().map(Shown::set_in).collect(),
        false => all,
    }
}

fn assistant_block(block: &Value) -> Option<Shown> {
    Some(match text(block, "type").unwrap_or_default() {
        "text" => Shown::text(text(block, "text").unwrap_or_default()),
        "thinking" => return Shown::thinking(text(block, "thinking").unwrap_or_default()),
        "redacted_thinking" => return None,
        "tool_use" | "server_tool_use" => {
            let name = text(block, "name").unwrap_or("tool");
            let input = block.get("input").unwrap_or(&Value::Null);
            Shown::line(&format!("→ {name} {}", summary(name, input)))
        }
        other => Shown::aside(&format!("[{other}]")),
    })
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

fn user_block(block: &Value) -> Option<Shown> {
    Some(match text(block, "type").unwrap_or_default() {
        "tool_result" => tool_result(block),
        "text" => Shown::line(&format!("> {}", text(block, "text").unwrap_or_default())),
        other => Shown::aside(&format!("[{other}]")),
    })
}

fn tool_result(block: &Value) -> Shown {
    let parts: Vec<&str> = match block.get("content") {
        Some(Value::String(words)) => vec![words],
        Some(Value::Array(parts)) => parts.iter().filter_map(|p| text(p, "text")).collect(),
        _ => Vec::new(),
    };
    if block.get("is_error").and_then(Value::as_bool) == Some(true) {
        return Shown::line(&format!("← error: {}", parts.join(" ")));
    }
    result_of_tool(false, parts.iter().map(|part| part.len() as u64).sum())
}

fn init(value: &Value) -> Shown {
    let rest = ["model", "session_id"].map(|key| text(value, key));
    begins("Claude Code", text(value, "claude_code_version"), rest)
}

fn retry(value: &Value) -> Shown {
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
    Shown::line(&line)
}

fn rate_limit(value: &Value) -> Option<Shown> {
    let info = value.get("rate_limit_info")?;
    match text(info, "status")? {
        "allowed" => None,
        status => {
            let kind = text(info, "rateLimitType").unwrap_or_default();
            Some(Shown::line(&format!("rate limit: {status} {kind}")))
        }
    }
}

/// How it ended.
fn result(line: &[u8]) -> Vec<Shown> {
    let mut events = Vec::new();
    if let Some(mut reader) = super::Claude.reader(Before::default()) {
        reader.read(line, &mut events);
    }
    events.last().and_then(ends).into_iter().collect()
}
