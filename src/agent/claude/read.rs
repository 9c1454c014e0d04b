//! What Claude Code's stream of JSON lines means.
//!
//! A message with several blocks comes as several lines, each with the usage of
//! the whole message, whose output is not yet known then. So it is counted once,
//! by its id, and a result line settles what was used since the last one.

use crate::agent::json::{self, Raw};
use crate::agent::ledger::{self, Ledger};
use crate::agent::text::{self, cut, said};
use crate::agent::{Before, Reader, unknown};
use crate::model::usage::{ByModel, sum};
use crate::model::{AgentEvent, Outcome, Timestamp, Usage};

/// Messages that the command makes itself have this model.
const SYNTHETIC: &str = "<synthetic>";

/// Reads the output of one run.
pub(super) struct ClaudeReader {
    ledger: Ledger,
}

impl ClaudeReader {
    pub(super) fn new(before: Before) -> Self {
        let ledger = Ledger::new(before);
        Self { ledger }
    }
}

impl Reader for ClaudeReader {
    fn read(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        let keys = ["type", "subtype", "message", "parent_tool_use_id"];
        let Some((line, [kind, subtype, message, parent])) =
            super::super::event(line, keys, events)
        else {
            return;
        };
        let kind = json::text(kind).unwrap_or_default();
        let subtype = json::text(subtype).unwrap_or_default();
        match (kind.as_ref(), subtype.as_ref()) {
            ("assistant", _) => self.assistant(message, text::name(parent), events),
            ("user", _) => {
                events.extend(heard(line));
                results(message, text::name(parent).as_ref(), events);
            }
            ("result", subtype) => self.result(line, subtype, events),
            ("system", "init") => self.init(line, events),
            ("system", "api_retry") => events.push(retry(line)),
            ("system", "permission_denied") => {
                let [tool] = json::fields(line, ["tool_name"]).unwrap_or_default();
                let tool = text::name(tool).unwrap_or_default();
                events.push(AgentEvent::PermissionDenied { tool });
            }
            ("rate_limit_event", _) => events.extend(limit(line)),
            ("control_response", _) => events.extend(dropped(line)),
            ("conversation_reset", _) => events.extend(reset(line)),
            // Some other program's JSON.
            ("", _) => {}
            (kind, subtype) if is_silent(kind, subtype) => {}
            (kind, "") => events.push(unknown(kind)),
            (kind, subtype) => events.push(unknown(&format!("{kind}/{subtype}"))),
        }
    }
}

impl ClaudeReader {
    fn init(&mut self, line: &str, events: &mut Vec<AgentEvent>) {
        let keys = [
            "session_id",
            "model",
            "claude_code_version",
            "permissionMode",
            "cwd",
        ];
        let [session, model, version, permissions, cwd] =
            json::fields(line, keys).unwrap_or_default();
        let model = text::name(model);
        if model.is_some() {
            self.ledger.model.clone_from(&model);
        }
        events.push(AgentEvent::Init {
            agent_session: text::conversation(session),
            model,
            version: text::name(version),
            permissions: text::name(permissions),
            cwd: text::name(cwd),
        });
    }

    fn assistant(
        &mut self,
        message: Raw<'_>,
        parent: Option<String>,
        events: &mut Vec<AgentEvent>,
    ) {
        let keys = ["id", "model", "content", "usage"];
        let [id, model, content, usage] = json::members(message, keys);
        blocks(content, parent.as_ref(), events);
        let counted = |id: &String| self.ledger.has_counted(id);
        let message = text::name(id).filter(|id| !counted(id));
        let usage = used(usage).filter(|usage| !usage.is_empty());
        if let (Some(message), Some(usage)) = (message, usage) {
            let event = AgentEvent::Usage {
                model: text::name(model).filter(|model| model != SYNTHETIC),
                usage,
                parent,
                message: Some(message),
            };
            self.ledger.say(event, events);
        }
    }

    fn result(&mut self, line: &str, subtype: &str, events: &mut Vec<AgentEvent>) {
        let keys = [
            "session_id",
            "num_turns",
            "total_cost_usd",
            "cost_usd",
            "duration_ms",
            "usage",
            "modelUsage",
            "model_usage_since_last_result",
        ];
        let [session, turns, cost, old_cost, took, usage, whole, since] =
            json::fields(line, keys).unwrap_or_default();
        let cost = json::float(cost).or_else(|| json::float(old_cost));
        let since = self.since(used(usage), by_model(whole), by_model(since), cost);
        self.ledger.settle(&since, events);
        let (outcome, text) = outcome(line, subtype);
        let result = AgentEvent::Result {
            outcome,
            text: cut(&text, text::TEXT_MAX),
            agent_session: text::conversation(session),
            turns: json::number(turns),
            cost_usd: cost,
            duration_ms: json::number(took),
            usage: self.ledger.since_result(),
        };
        self.ledger.say(result, events);
    }

    /// What was used since the last result, from the best that the result states:
    /// newer versions say just that; before, the whole by model, in which sub-agents
    /// are counted; before that, what the conversation itself used.
    fn since(
        &self,
        turn: Option<Usage>,
        whole: ByModel,
        since: ByModel,
        price: Option<f64>,
    ) -> ByModel {
        let ledger = &self.ledger;
        if !since.is_empty() {
            return priced(since, price.map(|price| ledger.price_since(price, true)));
        }
        if !whole.is_empty() {
            return ledger.since_of_whole(&priced(whole, price), turn.as_ref());
        }
        let price = price.map(|price| ledger.price_since(price, false));
        priced(ledger.of_model(turn.unwrap_or_default()), price)
    }
}

/// With a price for all of it, unless its models have prices.
fn priced(mut models: ByModel, price: Option<f64>) -> ByModel {
    if sum(&models).cost_usd.is_none()
        && let Some(first) = models.values_mut().next()
    {
        first.cost_usd = price;
    }
    models
}

/// What an API's answer says that it used.
fn used(usage: Raw<'_>) -> Option<Usage> {
    let keys = [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ];
    let numbers = json::members(Some(usage?), keys).map(json::number);
    let [input, output, cache_read, cache_write] = numbers.map(Option::unwrap_or_default);
    Some(Usage {
        input,
        output,
        cache_read,
        cache_write,
        cost_usd: None,
    })
}

/// What models used, as a result says it.
fn by_model(models: Raw<'_>) -> ByModel {
    let mut by_model = ByModel::new();
    for (model, usage) in json::entries(models) {
        let keys = [
            "inputTokens",
            "outputTokens",
            "cacheReadInputTokens",
            "cacheCreationInputTokens",
            "costUSD",
        ];
        let [input, output, cache_read, cache_write, cost] = json::members(Some(usage), keys);
        let numbers = [input, output, cache_read, cache_write].map(json::number);
        let [input, output, cache_read, cache_write] = numbers.map(Option::unwrap_or_default);
        let usage = Usage {
            input,
            output,
            cache_read,
            cache_write,
            cost_usd: json::float(cost),
        };
        ledger::add(
            &mut by_model,
            &ByModel::from([(cut(&model, text::NAME_MAX), usage)]),
        );
    }
    by_model
}

/// What stands in a message of the model.
fn blocks(content: Raw<'_>, parent: Option<&String>, events: &mut Vec<AgentEvent>) {
    let parent = parent.cloned();
    if let Some(whole) = json::text(content) {
        return texts(vec![whole.into_owned()], parent, events);
    }
    let mut spoken = Vec::new();
    let mut others = Vec::new();
    for block in json::items(content) {
        let keys = ["type", "text", "thinking", "id", "name", "input"];
        let [kind, text, thinking, id, name, input] = json::members(Some(block), keys);
        let kind = json::text(kind).unwrap_or_default();
        match kind.as_ref() {
            "text" => spoken.extend(json::text(text).map(std::borrow::Cow::into_owned)),
            "thinking" | "redacted_thinking" => others.push(AgentEvent::Thinking {
                text: said(thinking),
                parent: parent.clone(),
            }),
            "tool_use" | "server_tool_use" => {
                let name = text::name(name).unwrap_or_default();
                others.push(AgentEvent::ToolUse {
                    id: text::name(id).unwrap_or_default(),
                    summary: text::summary(&name, input),
                    name,
                    input: text::input(input),
                    parent: parent.clone(),
                });
            }
            "" => {}
            other => others.push(unknown(&format!("assistant/{other}"))),
        }
    }
    texts(spoken, parent, events);
    events.append(&mut others);
}

/// The texts of one message.
fn texts(spoken: Vec<String>, parent: Option<String>, events: &mut Vec<AgentEvent>) {
    let text = spoken.join("\n");
    if !text.is_empty() {
        let text = cut(&text, text::TEXT_MAX);
        events.push(AgentEvent::Text { text, parent });
    }
}

/// The results of tools in a message to the model.
fn results(message: Raw<'_>, parent: Option<&String>, events: &mut Vec<AgentEvent>) {
    let content = json::at(message, &["content"]);
    for block in json::items(content) {
        let keys = ["type", "tool_use_id", "is_error", "content"];
        let [kind, id, is_error, content] = json::members(Some(block), keys);
        if json::text(kind).as_deref() != Some("tool_result") {
            continue;
        }
        events.push(AgentEvent::ToolResult {
            id: text::name(id).unwrap_or_default(),
            is_error: json::flag(is_error).unwrap_or(false),
            size: text::size(content),
            parent: parent.cloned(),
        });
    }
}

/// A message to it, as it says it again when it takes it up.
fn heard(line: &str) -> Option<AgentEvent> {
    let [uuid, replayed] = json::fields(line, ["uuid", "isReplay"])?;
    let message = text::name(uuid).filter(|_| json::flag(replayed) == Some(true))?;
    Some(AgentEvent::Heard { message })
}

/// A message that it gave up before it took it up.
fn dropped(line: &str) -> Option<AgentEvent> {
    let [response] = json::fields(line, ["response"])?;
    let answer = json::at(response, &["response"]);
    let [cancelled, uuid] = json::members(answer, ["cancelled", "message_uuid"]);
    let message = text::name(uuid).filter(|_| json::flag(cancelled) == Some(true))?;
    Some(AgentEvent::Dropped { message })
}

fn retry(line: &str) -> AgentEvent {
    let keys = [
        "attempt",
        "max_retries",
        "retry_delay_ms",
        "error_status",
        "error",
    ];
    let [attempt, max, delay, status, error] = json::fields(line, keys).unwrap_or_default();
    let small = |value| json::number(value).and_then(|number| u32::try_from(number).ok());
    AgentEvent::Retry {
        attempt: small(attempt),
        max: small(max),
        // Some versions say fractions of milliseconds.
        delay_ms: json::float(delay).map(|delay| delay.max(0.0) as u64),
        status: json::number(status).and_then(|status| u16::try_from(status).ok()),
        message: said(error),
    }
}

/// How the account stands with a limit, unless all is well.
fn limit(line: &str) -> Option<AgentEvent> {
    let [info] = json::fields(line, ["rate_limit_info"])?;
    let [status, resets, name] = json::members(info, ["status", "resetsAt", "rateLimitType"]);
    let status = json::text(status)?;
    if status == "allowed" {
        return None;
    }
    // Seconds since 1970; some later version might say milliseconds.
    let resets = json::number(resets).and_then(|at| i64::try_from(at).ok());
    let resets = resets.map(|at| if at > 100_000_000_000 { at } else { at * 1000 });
    Some(AgentEvent::Limit {
        reached: status == "rejected",
        name: text::name(name).unwrap_or_default(),
        resets: resets.map(|millis| Timestamp(millis.saturating_mul(1_000_000))),
    })
}

/// The conversation goes on under another id.
fn reset(line: &str) -> Option<AgentEvent> {
    let [id] = json::fields(line, ["new_conversation_id"])?;
    Some(AgentEvent::Init {
        agent_session: Some(text::conversation(id)?),
        model: None,
        version: None,
        permissions: None,
        cwd: None,
    })
}

/// Events that say nothing about the work.
fn is_silent(kind: &str, subtype: &str) -> bool {
    match kind {
        "stream_event"
        | "control_request"
        | "control_cancel_request"
        | "keep_alive"
        | "command_lifecycle"
        | "tool_progress" => true,
        "system" => matches!(
            subtype,
            "status"
                | "session_state_changed"
                | "background_tasks_changed"
                | "compact_boundary"
                | "hook_started"
                | "hook_progress"
                | "hook_response"
                | "task_started"
                | "task_progress"
                | "task_updated"
                | "task_notification"
                | "post_turn_summary"
                | "informational"
                | "files_persisted"
                | "memory_recall"
                | "local_command_output"
                | "model_fallback"
        ),
        _ => false,
    }
}

/// What a result line means, and what it says. The subtype alone says nothing: an
/// API error comes as `success` with `is_error`.
fn outcome(line: &str, subtype: &str) -> (Outcome, String) {
    let keys = [
        "result",
        "errors",
        "is_error",
        "terminal_reason",
        "api_error_status",
        "structured_output",
        "stop_reason",
    ];
    let [
        result,
        errors,
        is_error,
        reason,
        status,
        structured,
        stopped,
    ] = json::fields(line, keys).unwrap_or_default();
    let text = match json::text(result) {
        Some(text) => text.into_owned(),
        None => joined(errors),
    };
    let reason = json::text(reason).unwrap_or_default();
    let outcome = match subtype {
        "error_max_turns" => Outcome::MaxTurns,
        "error_max_budget_usd" => Outcome::Budget,
        _ if reason.starts_with("aborted") => Outcome::Interrupted,
        _ => {
            let is_error = json::flag(is_error).unwrap_or(subtype != "success");
            let status = json::number(status).and_then(|status| u16::try_from(status).ok());
            // A stream that was cut ends in a success without any text. An answer that
            // is meant to be empty says why it stopped.
            let stopped = json::text(stopped);
            let answers = !text.trim().is_empty() && json::text(result).is_some()
                || json::present(structured)
                || matches!(stopped.as_deref(), Some("end_turn" | "stop_sequence"));
            match is_error {
                true if status.is_some() || reason == "api_error" => api_error(status, &text),
                false if subtype == "success" && answers => Outcome::Success,
                true | false => Outcome::Failed,
            }
        }
    };
    (outcome, text)
}

fn api_error(status: Option<u16>, text: &str) -> Outcome {
    let retryable = match status {
        Some(status) => text::is_retryable(status),
        // No answer at all: a connection that may come back, unless nobody is logged in.
        None => !text.contains("/login"),
    };
    Outcome::ApiError { status, retryable }
}

/// What went wrong.
fn joined(errors: Raw<'_>) -> String {
    let errors = json::items(errors).into_iter().map(|error| {
        let text = json::text(Some(error));
        text.map_or_else(|| error.get().to_owned(), std::borrow::Cow::into_owned)
    });
    errors.collect::<Vec<_>>().join("; ")
}
