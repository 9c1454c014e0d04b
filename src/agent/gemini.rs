//! Gemini CLI: `gemini -o stream-json`.
//!
//! What it says comes in pieces, which are put together again; it counts for its
//! process alone.

use super::ledger::Ledger;
use super::pretty::Events;
use super::text::{self, cut, said};
use super::{Agent, Before, CommandLine, Invocation, Reader, Teller, event, json, unknown};
use crate::model::spec::Permissions;
use crate::model::usage::ByModel;
use crate::model::{AgentEvent, AgentKind, Outcome, Usage};
use json::Raw;
use std::collections::BTreeMap;

/// Gemini CLI.
pub struct Gemini;

impl Agent for Gemini {
    fn kind(&self) -> AgentKind {
        AgentKind::Gemini
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let spec = invocation.spec;
        let mut argv = invocation.program("gemini");
        let mut more = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        more(&["--output-format", "stream-json"]);
        match (invocation.resume, invocation.session) {
            (Some(id), _) => more(&["--resume", id]),
            (None, Some(id)) => more(&["--session-id", id]),
            (None, None) => {}
        }
        if let Some(model) = &spec.model {
            more(&["--model", model]);
        }
        if spec.permissions == Permissions::Bypass {
            more(&["--yolo", "--skip-trust"]);
        }
        argv.extend(spec.pod.args.iter().cloned());
        CommandLine {
            argv,
            env: BTreeMap::new(),
        }
    }

    fn reader(&self, before: Before) -> Option<Box<dyn Reader>> {
        Some(Box::new(GeminiReader {
            session: None,
            pieces: String::new(),
            answer: before.answer.clone(),
            error: String::new(),
            turns: 0,
            ledger: Ledger::new(before),
        }))
    }

    fn teller(&self) -> Option<Box<dyn Teller>> {
        let reader = self.reader(Before::default())?;
        Some(Box::new(Events::new("Gemini CLI", reader)))
    }

    fn choose_session(&self, random: u128) -> Option<String> {
        Some(crate::model::message::uuid(random))
    }
}

struct GeminiReader {
    ledger: Ledger,
    session: Option<String>,
    /// Of the message that is being said.
    pieces: String,
    answer: String,
    error: String,
    turns: u64,
}

impl Reader for GeminiReader {
    fn read(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        let Some((line, [kind])) = event(line, ["type"], events) else {
            return;
        };
        let kind = json::text(kind).unwrap_or_default();
        if kind != "message" {
            self.say(events);
        }
        match kind.as_ref() {
            "" => {}
            "init" => self.init(line, events),
            "message" => self.message(line, events),
            "tool_use" => events.push(tool_use(line)),
            "tool_result" => events.push(tool_result(line)),
            "error" => {
                let [message] = json::fields(line, ["message"]).unwrap_or_default();
                self.error = said(message);
            }
            "result" => self.result(line, events),
            other => events.push(unknown(other)),
        }
    }

    fn finish(&mut self, events: &mut Vec<AgentEvent>) {
        self.say(events);
    }
}

impl GeminiReader {
    fn init(&mut self, line: &str, events: &mut Vec<AgentEvent>) {
        let [session, model] = json::fields(line, ["session_id", "model"]).unwrap_or_default();
        self.session = text::conversation(session);
        let model = text::name(model);
        if model.is_some() {
            self.ledger.model.clone_from(&model);
        }
        events.push(AgentEvent::Init {
            agent_session: self.session.clone(),
            model,
            version: None,
            permissions: None,
            cwd: None,
        });
    }

    fn message(&mut self, line: &str, events: &mut Vec<AgentEvent>) {
        let keys = ["role", "content", "delta"];
        let [role, content, delta] = json::fields(line, keys).unwrap_or_default();
        if json::text(role).as_deref() != Some("assistant") {
            return self.say(events);
        }
        if json::flag(delta) != Some(true) {
            self.say(events);
        }
        // One byte more than is kept shows that it is to be cut.
        let room = (text::TEXT_MAX + 1).saturating_sub(self.pieces.len());
        let piece = json::text(content).unwrap_or_default();
        self.pieces.push_str(text::head_over(&piece, room));
    }

    /// Tells what was said in pieces.
    fn say(&mut self, events: &mut Vec<AgentEvent>) {
        let pieces = std::mem::take(&mut self.pieces);
        if pieces.trim().is_empty() {
            return;
        }
        self.turns += 1;
        self.answer = cut(&pieces, text::TEXT_MAX);
        let text = self.answer.clone();
        events.push(AgentEvent::Text { text, parent: None });
    }

    fn result(&mut self, line: &str, events: &mut Vec<AgentEvent>) {
        let keys = ["status", "error", "stats"];
        let [status, error, stats] = json::fields(line, keys).unwrap_or_default();
        let whole = self.used(stats);
        // It counts for its process alone.
        let since = self.ledger.since_of_process(&whole);
        self.ledger.settle(&since, events);
        let [message, code] = json::members(error, ["message", "code"]);
        let why = match said(message) {
            why if why.is_empty() => std::mem::take(&mut self.error),
            why => why,
        };
        let answer = std::mem::take(&mut self.answer);
        let (outcome, text) = match json::text(status).as_deref() {
            Some("success") => (Outcome::Success, answer),
            _ => (text::api_error(&why, json::number(code)), why),
        };
        let duration_ms = json::number(json::at(stats, &["duration_ms"]));
        let result = AgentEvent::Result {
            outcome,
            text,
            agent_session: self.session.clone(),
            turns: Some(std::mem::take(&mut self.turns)),
            cost_usd: None,
            duration_ms,
            usage: self.ledger.since_result(),
        };
        self.ledger.say(result, events);
    }

    fn used(&self, stats: Raw<'_>) -> ByModel {
        let models = json::entries(json::at(stats, &["models"])).into_iter();
        let models = models.map(|(model, stats)| (cut(&model, text::NAME_MAX), used(Some(stats))));
        let models: ByModel = models.collect();
        if models.is_empty() {
            return self.ledger.of_model(used(stats));
        }
        models
    }
}

/// What a cache had is a part of the input tokens. Thinking is no part of the output
/// tokens, but of the total.
fn used(stats: Raw<'_>) -> Usage {
    let keys = ["input_tokens", "output_tokens", "total_tokens", "cached"];
    let numbers = json::members(stats, keys);
    let [input, output, total, cache_read] =
        numbers.map(json::number).map(Option::unwrap_or_default);
    let output = output.max(total.saturating_sub(input));
    Usage {
        input: input.saturating_sub(cache_read),
        output,
        cache_read,
        ..Usage::default()
    }
}

fn tool_use(line: &str) -> AgentEvent {
    let keys = ["tool_name", "tool_id", "parameters"];
    let [name, id, input] = json::fields(line, keys).unwrap_or_default();
    let name = text::name(name).unwrap_or_default();
    AgentEvent::ToolUse {
        id: text::name(id).unwrap_or_default(),
        summary: text::summary(&name, input),
        name,
        input: text::input(input),
        parent: None,
    }
}

fn tool_result(line: &str) -> AgentEvent {
    let keys = ["tool_id", "status", "output", "error"];
    let [id, status, output, error] = json::fields(line, keys).unwrap_or_default();
    let output = output.filter(|_| json::present(output));
    let size = match output {
        Some(_) => text::size(output),
        None => text::size(json::at(error, &["message"])),
    };
    AgentEvent::ToolResult {
        id: text::name(id).unwrap_or_default(),
        is_error: json::text(status).is_some_and(|status| status != "success"),
        size,
        parent: None,
    }
}

#[cfg(test)]
mod tests;
