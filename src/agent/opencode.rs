//! opencode: `opencode run --format json`.
//!
//! It says neither that it begins nor that it is done: the conversation's id is in
//! every line, and the last step's end is the end.

use super::ledger::Ledger;
use super::pretty::Events;
use super::text::{self, said};
use super::{Agent, Before, CommandLine, Invocation, Reader, Teller, event, json, unknown};
use crate::model::spec::Permissions;
use crate::model::{AgentEvent, AgentKind, Outcome, Usage};
use json::Raw;
use std::collections::BTreeMap;

/// opencode.
pub struct Opencode;

impl Agent for Opencode {
    fn kind(&self) -> AgentKind {
        AgentKind::Opencode
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let spec = invocation.spec;
        let mut argv = invocation.program("opencode");
        let mut more = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        more(&["run", "--format", "json"]);
        if let Some(id) = invocation.resume {
            more(&["--session", id]);
        }
        if let Some(model) = &spec.model {
            more(&["--model", model]);
        }
        if spec.permissions == Permissions::Bypass {
            more(&["--auto"]);
        }
        argv.extend(spec.pod.args.iter().cloned());
        CommandLine {
            argv,
            env: BTreeMap::new(),
        }
    }

    fn reader(&self, before: Before) -> Option<Box<dyn Reader>> {
        Some(Box::new(OpencodeReader {
            session: None,
            answer: before.answer.clone(),
            steps: 0,
            ledger: Ledger::new(before),
        }))
    }

    fn teller(&self) -> Option<Box<dyn Teller>> {
        let reader = self.reader(Before::default())?;
        Some(Box::new(Events::new("opencode", reader)))
    }

    fn choose_session(&self, _: u128) -> Option<String> {
        None
    }
}

struct OpencodeReader {
    ledger: Ledger,
    session: Option<String>,
    /// What it said last.
    answer: String,
    steps: u64,
}

impl Reader for OpencodeReader {
    fn read(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        let keys = ["type", "sessionID", "part", "error"];
        let Some((_, [kind, session, part, error])) = event(line, keys, events) else {
            return;
        };
        let session = text::conversation(session);
        if session.is_some() && session != self.session {
            self.session.clone_from(&session);
            events.push(AgentEvent::Init {
                agent_session: session,
                model: None,
                version: None,
                permissions: None,
                cwd: None,
            });
        }
        let kind = json::text(kind).unwrap_or_default();
        match kind.as_ref() {
            "" | "step_start" => {}
            "text" => {
                self.answer = said(json::at(part, &["text"]));
                if !self.answer.is_empty() {
                    let text = self.answer.clone();
                    events.push(AgentEvent::Text { text, parent: None });
                }
            }
            "reasoning" => events.push(AgentEvent::Thinking {
                text: said(json::at(part, &["text"])),
                parent: None,
            }),
            "tool_use" => tool(part, events),
            "step_finish" => self.step(part, events),
            "error" => self.error(error, events),
            other => events.push(unknown(other)),
        }
    }
}

impl OpencodeReader {
    fn step(&mut self, part: Raw<'_>, events: &mut Vec<AgentEvent>) {
        let [reason, tokens, cost] = json::members(part, ["reason", "tokens", "cost"]);
        self.steps += 1;
        let usage = used(tokens, cost);
        if !usage.is_empty() {
            let model = self.ledger.model.clone();
            let event = AgentEvent::Usage {
                model,
                usage,
                parent: None,
                message: None,
            };
            self.ledger.say(event, events);
        }
        match json::text(reason).as_deref() {
            // It goes on.
            Some("tool-calls") => {}
            Some("stop") => {
                let answer = std::mem::take(&mut self.answer);
                self.end(Outcome::Success, answer, events);
            }
            other => {
                let why = format!("the answer ended early: {}", other.unwrap_or("unknown"));
                self.end(Outcome::Failed, why, events);
            }
        }
    }

    fn error(&mut self, error: Raw<'_>, events: &mut Vec<AgentEvent>) {
        let [name, data] = json::members(error, ["name", "data"]);
        let [message, status] = json::members(data, ["message", "statusCode"]);
        let why = match said(message) {
            why if why.is_empty() => said(name),
            why => why,
        };
        let mut outcome = text::api_error(&why, json::number(status));
        let again = json::flag(json::at(data, &["isRetryable"]));
        if let (Outcome::ApiError { retryable, .. }, Some(again)) = (&mut outcome, again) {
            *retryable = again;
        }
        self.end(outcome, why, events);
    }

    fn end(&mut self, outcome: Outcome, text: String, events: &mut Vec<AgentEvent>) {
        let usage = self.ledger.since_result();
        let result = AgentEvent::Result {
            outcome,
            text,
            agent_session: self.session.clone(),
            turns: Some(std::mem::take(&mut self.steps)),
            cost_usd: usage.and_then(|usage| usage.cost_usd),
            duration_ms: None,
            usage,
        };
        self.ledger.say(result, events);
    }
}

/// A tool's use is told when it is over.
fn tool(part: Raw<'_>, events: &mut Vec<AgentEvent>) {
    let [name, id, state] = json::members(part, ["tool", "callID", "state"]);
    let keys = ["status", "input", "output", "error"];
    let [status, input, output, error] = json::members(state, keys);
    let name = text::name(name).unwrap_or_default();
    let id = text::name(id).unwrap_or_default();
    events.push(AgentEvent::ToolUse {
        id: id.clone(),
        summary: text::summary(&name, input),
        name,
        input: text::input(input),
        parent: None,
    });
    events.push(AgentEvent::ToolResult {
        id,
        is_error: json::text(status).is_some_and(|status| status == "error"),
        size: text::size(output.or(error)),
        parent: None,
    });
}

/// What a step used. Thinking is a part of the answer; whether `output` has it
/// already is told by the total, where there is one.
fn used(tokens: Raw<'_>, cost: Raw<'_>) -> Usage {
    let keys = ["total", "input", "output", "reasoning", "cache"];
    let [total, input, output, reasoning, cache] = json::members(tokens, keys);
    let [read, write] = json::members(cache, ["read", "write"]);
    let numbers = [input, output, reasoning, read, write].map(json::number);
    let [input, output, reasoning, cache_read, cache_write] =
        numbers.map(Option::unwrap_or_default);
    let without = [output, cache_read, cache_write]
        .iter()
        .fold(input, |sum, n| sum.saturating_add(*n));
    let apart = json::number(total).is_none_or(|total| total > without);
    Usage {
        input,
        output: output.saturating_add(if apart { reasoning } else { 0 }),
        cache_read,
        cache_write,
        cost_usd: json::float(cost).filter(|cost| *cost > 0.0),
    }
}

#[cfg(test)]
mod tests;
