//! A request and its answer, as all the APIs have them.

use crate::script::{Act, Step};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a request asks.
pub struct Asked {
    pub model: String,
    /// The last of the user's texts that is a script.
    pub script: Option<String>,
    /// Answers since then.
    pub taken: usize,
    /// The names of the tools that may be used.
    pub tools: Vec<String>,
    /// The answer is to come in events.
    pub stream: bool,
}

/// One event of an answer: its name, if the API names them, and its data.
pub type Event = (Option<&'static str>, Value);

/// An answer.
pub struct Reply {
    /// What no other answer's ids begin with.
    pub id: String,
    pub model: String,
    pub blocks: Vec<Block>,
    pub usage: Usage,
    /// It stops before its end: that and what it cost are never said.
    pub unfinished: bool,
}

/// A part of an answer.
pub enum Block {
    Think(String),
    Text(String),
    Tool {
        id: String,
        name: String,
        input: Value,
    },
}

/// What an answer is said to have cost, in tokens.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Neither read from a cache nor written to one.
    pub input: u64,
    pub output: u64,
    pub read: u64,
    pub written: u64,
    /// Of `output`.
    pub thoughts: u64,
}

impl Reply {
    /// The answer that a step gives to a request of so many bytes.
    pub fn new(asked: &Asked, step: &Step, size: usize, unfinished: bool) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}{count:04x}", std::process::id());
        let mut blocks = Vec::new();
        blocks.extend(step.think.clone().map(Block::Think));
        blocks.extend(step.with.clone().map(Block::Text));
        match &step.act {
            _ if unfinished => {}
            Act::Say(text) => blocks.push(Block::Text(text.clone())),
            Act::Bash(command) => {
                let (name, input) = shell(&asked.tools, command);
                let id = format!("{id}t");
                blocks.push(Block::Tool { id, name, input });
            }
            Act::Tool { name, input } => blocks.push(Block::Tool {
                id: format!("{id}t"),
                name: name.clone(),
                input: serde_json::from_str(input).unwrap_or_else(|_| json!({})),
            }),
            Act::Fail(_) | Act::Hang => {}
        }
        let tokens = |bytes: usize| (bytes / 4) as u64 + 1;
        let thoughts = step.think.as_ref().map_or(0, |text| tokens(text.len()));
        let size = tokens(size);
        let usage = match step.tokens {
            Some([input, output, read, written]) => Usage {
                input,
                output: output + thoughts,
                read,
                written,
                thoughts,
            },
            // What was sent before is in the cache.
            None => {
                let read = if asked.taken > 0 { size / 2 } else { 0 };
                let output = blocks.iter().map(|block| tokens(block.size())).sum();
                Usage {
                    input: size - read,
                    output,
                    read,
                    written: 0,
                    thoughts,
                }
            }
        };
        Self {
            id,
            model: asked.model.clone(),
            blocks,
            usage,
            unfinished,
        }
    }

    /// As the ledger has it; `said` is what of its cost was said.
    pub fn as_noted(&self, said: &Usage) -> Value {
        let texts = self.blocks.iter().filter_map(|block| match block {
            // Long ones would only be in the way.
            Block::Text(text) if text.len() > 4096 => Some(format!("{} bytes", text.len())),
            Block::Text(text) => Some(text.clone()),
            Block::Think(_) | Block::Tool { .. } => None,
        });
        let tools = self.blocks.iter().filter_map(|block| match block {
            Block::Tool { name, input, .. } => Some(json!({"name": name, "input": input})),
            Block::Think(_) | Block::Text(_) => None,
        });
        json!({
            "model": self.model,
            "unfinished": self.unfinished,
            "input": said.input,
            "output": said.output,
            "cache_read": said.read,
            "cache_write": said.written,
            "thoughts": said.thoughts,
            "texts": texts.collect::<Vec<_>>(),
            "tools": tools.collect::<Vec<_>>(),
        })
    }
}

impl Block {
    fn size(&self) -> usize {
        match self {
            Self::Think(text) | Self::Text(text) => text.len(),
            Self::Tool { input, .. } => input.to_string().len(),
        }
    }
}

/// A text in pieces, as a model writes it; a long one in larger ones, since agents
/// have something to do with each.
pub fn pieces(text: &str) -> Vec<&str> {
    let size = (text.len() / 64).max(4096);
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > size {
        let mut at = size;
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// The agent's own shell, under the name and with the arguments that it has there.
fn shell(tools: &[String], command: &str) -> (String, Value) {
    let described = json!({"command": command, "description": "as the script says"});
    let known = [
        ("Bash", described.clone()),
        ("bash", described.clone()),
        ("run_shell_command", described),
        ("exec_command", json!({"cmd": command})),
        ("shell_command", json!({"command": command})),
        ("shell", json!({"command": ["bash", "-lc", command]})),
    ];
    let found = known
        .into_iter()
        .find(|(name, _)| tools.iter().any(|tool| tool == name));
    let (name, input) = found.unwrap_or(("no-shell-was-offered", json!({})));
    (name.to_owned(), input)
}

/// The texts of a message's content, which is one or a list of blocks.
pub fn texts<'a>(content: &'a Value, kinds: &'a [&str]) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    match content {
        Value::String(text) => Box::new(std::iter::once(text.as_str())),
        Value::Array(blocks) => Box::new(blocks.iter().filter_map(|block| {
            let kind = block["type"].as_str().unwrap_or("text");
            let text = block["text"].as_str()?;
            kinds.contains(&kind).then_some(text)
        })),
        _ => Box::new(std::iter::empty()),
    }
}

/// The names in a list of objects.
pub fn names(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let names = items.iter().filter_map(|item| {
        let name = item["name"].as_str().or(item["function"]["name"].as_str());
        name.or(item["type"].as_str())
    });
    names.map(str::to_owned).collect()
}
