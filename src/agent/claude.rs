//! Claude Code: `claude -p --output-format stream-json --verbose`.
//!
//! A session that can be steered has `--input-format stream-json` as well: prompts come
//! as lines of JSON with ids of ours, which it says when it takes them up.
//!
//! Invariant: reading never fails. A line that is not understood is just a
//! line; and nothing counts as success that does not say so in every way.

mod pretty;
mod read;

use super::{Agent, Before, CommandLine, Invocation, Reader, Teller};
use crate::model::AgentKind;
use crate::model::spec::Permissions;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Claude Code.
pub struct Claude;

impl Agent for Claude {
    fn kind(&self) -> AgentKind {
        AgentKind::Claude
    }

    fn command(&self, invocation: &Invocation<'_>) -> CommandLine {
        let spec = invocation.spec;
        let mut argv = invocation.program("claude");
        let fixed = ["-p", "--output-format", "stream-json", "--verbose"];
        argv.extend(fixed.map(str::to_owned));
        if invocation.steer {
            let steer = ["--input-format", "stream-json", "--replay-user-messages"];
            argv.extend(steer.map(str::to_owned));
        }
        let mut option = |name: &str, value: &str| {
            argv.extend([name.to_owned(), value.to_owned()]);
        };
        match (invocation.resume, invocation.session) {
            (Some(id), _) => option("--resume", id),
            (None, Some(id)) => option("--session-id", id),
            (None, None) => {}
        }
        if let Some(model) = &spec.model {
            option("--model", model);
        }
        if let Some(turns) = invocation.bounds.turns() {
            option("--max-turns", &turns.to_string());
        }
        if let Some(left) = invocation.bounds.cost() {
            option("--max-budget-usd", &left.amount().to_string());
        }
        if invocation.fork && invocation.resume.is_some() {
            argv.push("--fork-session".to_owned());
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

    fn reader(&self, before: Before) -> Option<Box<dyn Reader>> {
        Some(Box::new(read::ClaudeReader::new(before)))
    }

    fn teller(&self) -> Option<Box<dyn Teller>> {
        Some(Box::new(pretty::Stream))
    }

    fn message(&self, text: &str, id: &str) -> Option<Vec<u8>> {
        let content = json!([{"type": "text", "text": text}]);
        Some(line(&json!({
            "type": "user",
            "message": {"role": "user", "content": content},
            "parent_tool_use_id": null,
            "session_id": "",
            "uuid": id,
        })))
    }

    fn take_back(&self, message: &str, id: &str) -> Option<Vec<u8>> {
        let request = json!({"subtype": "cancel_async_message", "message_uuid": message});
        Some(control(id, &request))
    }

    fn interrupt(&self, id: &str) -> Option<Vec<u8>> {
        Some(control(id, &json!({"subtype": "interrupt"})))
    }

    fn can_fork(&self) -> bool {
        true
    }

    fn choose_session(&self, random: u128) -> Option<String> {
        Some(crate::model::message::uuid(random))
    }
}

fn control(id: &str, request: &Value) -> Vec<u8> {
    line(&json!({
        "type": "control_request",
        "request_id": id,
        "request": request,
    }))
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
