//! Codex: `codex exec --json`.
//!
//! It counts tokens for the whole thread, also across processes, names no model
//! and no price, and says `error` where it only connects again.

use super::ledger::Ledger;
use super::pretty::Events;
use super::text::{self, cut, said};
use super::{Agent, Before, CommandLine, Invocation, Reader, Teller, event, json, unknown};
use crate::model::spec::Permissions;
use crate::model::{AgentEvent, AgentKind, Outcome, Usage};
use json::Raw;
use std::collections::BTreeMap;

/// Codex.
pub struct Codex;

impl Agent for Codex {
    fn kind(&self) -> AgentKind {
        AgentKind::Codex
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let spec = invocation.spec;
        let mut argv = invocation.program("codex");
        let mut more = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        more(&["exec"]);
        if invocation.resume.is_some() {
            more(&["resume"]);
        }
        more(&["--json", "--skip-git-repo-check"]);
        if spec.permissions == Permissions::Bypass {
            more(&["--dangerously-bypass-approvals-and-sandbox"]);
        }
        if let Some(model) = &spec.model {
            more(&["--model", model]);
        }
        for argument in &spec.pod.args {
            more(&[argument]);
        }
        if let Some(id) = invocation.resume {
            more(&[id]);
        }
        // The prompt comes on standard input.
        more(&["-"]);
        CommandLine {
            argv,
            env: BTreeMap::new(),
        }
    }

    fn reader(&self, before: Before) -> Option<Box<dyn Reader>> {
        Some(Box::new(CodexReader {
            thread: None,
            answer: before.answer.clone(),
            begun: Vec::new(),
            ledger: Ledger::new(before),
        }))
    }

    fn teller(&self) -> Option<Box<dyn Teller>> {
        let reader = self.reader(Before::default())?;
        Some(Box::new(Events::new("Codex", reader)))
    }

    fn choose_session(&self, _: u128) -> Option<String> {
        None
    }
}

struct CodexReader {
    ledger: Ledger,
    thread: Option<String>,
    /// What it said last in this turn.
    answer: String,
    /// Items whose beginning was told.
    begun: Vec<String>,
}

/// Items under way at once that are remembered.
const BEGUN_MAX: usize = 64;

impl Reader for CodexReader {
    fn read(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        let keys = ["type", "thread_id", "item", "usage", "error", "message"];
        let Some((_, [kind, thread, item, usage, error, message])) = event(line, keys, events)
        else {
            return;
        };
        let kind = json::text(kind).unwrap_or_default();
        match kind.as_ref() {
            "" | "turn.started" => {}
            "thread.started" => {
                self.thread = text::conversation(thread);
                events.push(AgentEvent::Init {
                    agent_session: self.thread.clone(),
                    model: None,
                    version: None,
                    permissions: None,
                    cwd: None,
                });
            }
            "item.started" | "item.updated" => self.item(item, false, events),
            "item.completed" => self.item(item, true, events),
            "turn.completed" => {
                let whole = self.ledger.of_model(used(usage));
                let since = self.ledger.since_of_whole(&whole, None);
                self.ledger.settle(&since, events);
                self.end(Outcome::Success, None, events);
            }
            "turn.failed" => {
                let why = said(json::at(error, &["message"]));
                self.end(text::api_error(&why, None), Some(why), events);
            }
            // What ends the turn is said by `turn.failed`.
            "error" => events.extend(reconnecting(said(message))),
            other => events.push(unknown(other)),
        }
    }
}

impl CodexReader {
    fn end(&mut self, outcome: Outcome, why: Option<String>, events: &mut Vec<AgentEvent>) {
        let answer = std::mem::take(&mut self.answer);
        let result = AgentEvent::Result {
            outcome,
            text: why.unwrap_or(answer),
            agent_session: self.thread.clone(),
            turns: Some(1),
            cost_usd: None,
            duration_ms: None,
            usage: self.ledger.since_result(),
        };
        self.ledger.say(result, events);
    }

    fn item(&mut self, item: Raw<'_>, done: bool, events: &mut Vec<AgentEvent>) {
        let [id, kind, words] = json::members(item, ["id", "type", "text"]);
        let kind = json::text(kind).unwrap_or_default();
        match kind.as_ref() {
            "agent_message" if done => {
                self.answer = said(words);
                if !self.answer.is_empty() {
                    let text = self.answer.clone();
                    events.push(AgentEvent::Text { text, parent: None });
                }
            }
            "reasoning" if done => events.push(AgentEvent::Thinking {
                text: said(words),
                parent: None,
            }),
            "command_execution" | "mcp_tool_call" | "web_search" | "file_change"
            | "collab_tool_call" => {
                let id = text::name(id).unwrap_or_default();
                if !self.begun.contains(&id) {
                    if self.begun.len() == BEGUN_MAX {
                        self.begun.remove(0);
                    }
                    self.begun.push(id.clone());
                    events.push(tool_use(id.clone(), &kind, item));
                }
                if done {
                    self.begun.retain(|begun| *begun != id);
                    events.push(tool_result(id, item));
                }
            }
            // Warnings, and lists of what is to be done.
            "error" | "todo_list" | "agent_message" | "reasoning" => {}
            other if done => events.push(unknown(&format!("item/{other}"))),
            _ => {}
        }
    }
}

fn tool_use(id: String, kind: &str, item: Raw<'_>) -> AgentEvent {
    let keys = ["server", "tool", "arguments", "changes"];
    let [server, tool, arguments, changes] = json::members(item, keys);
    let (name, summary, input) = match kind {
        "mcp_tool_call" => {
            let part = |value| text::name(value).unwrap_or_default();
            let name = format!("{}.{}", part(server), part(tool));
            let summary = text::summary(&name, arguments);
            (name, summary, text::input(arguments))
        }
        "file_change" => {
            let paths = json::items(changes).into_iter();
            let paths = paths.filter_map(|change| json::text(json::at(Some(change), &["path"])));
            let paths = paths.collect::<Vec<_>>().join(", ");
            let summary = text::one_line(&paths, text::SUMMARY_MAX);
            (kind.to_owned(), summary, text::input(changes))
        }
        _ => (kind.to_owned(), text::summary(kind, item), None),
    };
    AgentEvent::ToolUse {
        id,
        name,
        summary,
        input,
        parent: None,
    }
}

fn tool_result(id: String, item: Raw<'_>) -> AgentEvent {
    let keys = ["status", "exit_code", "aggregated_output", "result"];
    let [status, code, output, result] = json::members(item, keys);
    let failed = json::text(status).is_some_and(|status| status == "failed");
    let size = match output {
        Some(_) => text::size(output),
        None => text::size(json::at(result, &["content"])),
    };
    AgentEvent::ToolResult {
        id,
        is_error: failed || json::float(code).is_some_and(|code| code != 0.0),
        size,
        parent: None,
    }
}

/// What the thread used. What a cache had is a part of the input there.
fn used(usage: Raw<'_>) -> Usage {
    let keys = [
        "input_tokens",
        "cached_input_tokens",
        "cache_write_input_tokens",
        "output_tokens",
    ];
    let numbers = json::members(usage, keys).map(json::number);
    let [input, cache_read, cache_write, output] = numbers.map(Option::unwrap_or_default);
    Usage {
        input: input.saturating_sub(cache_read.saturating_add(cache_write)),
        output,
        cache_read,
        cache_write,
        cost_usd: None,
    }
}

/// `Reconnecting... 2/5`: it tries again by itself.
fn reconnecting(message: String) -> Option<AgentEvent> {
    let numbers = message.strip_prefix("Reconnecting")?;
    let numbers = numbers.trim_start_matches(['.', '…', ' ']);
    let (attempt, max) = numbers.split_once('/')?;
    let end = max.find(|c: char| !c.is_ascii_digit());
    let max = max.get(..end.unwrap_or(max.len()))?;
    let status = match text::api_error(&message, None) {
        Outcome::ApiError { status, .. } => status,
        _ => None,
    };
    Some(AgentEvent::Retry {
        attempt: attempt.trim().parse().ok(),
        max: max.parse().ok(),
        delay_ms: None,
        status,
        message: cut(&message, text::TEXT_MAX),
    })
}

#[cfg(test)]
mod tests;
