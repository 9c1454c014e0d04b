//! OpenAI's chat completions, as opencode asks for them.

use crate::reply::{Asked, Block, Event, Reply, names, pieces, texts};
use crate::script;
use crate::server::Api;
use serde_json::{Value, json};

pub const API: Api = Api {
    name: "chat",
    asked,
    events,
    says_first: false,
    end: Some("[DONE]"),
    whole,
    refusal,
};

fn asked(_: &str, body: &Value) -> Asked {
    let mut script = None;
    let mut taken = 0;
    for message in body["messages"].as_array().into_iter().flatten() {
        match message["role"].as_str().unwrap_or_default() {
            "assistant" => taken += 1,
            "user" => {
                for text in texts(&message["content"], &["text"]) {
                    if script::steps(text).is_some() {
                        script = Some(text.to_owned());
                        taken = 0;
                    }
                }
            }
            _ => {}
        }
    }
    Asked {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        script,
        taken,
        tools: names(&body["tools"]),
        stream: body["stream"] == true,
    }
}

fn usage(reply: &Reply) -> Value {
    let usage = &reply.usage;
    let input = usage.input + usage.read + usage.written;
    json!({
        "prompt_tokens": input,
        "completion_tokens": usage.output,
        "total_tokens": input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.read},
        "completion_tokens_details": {"reasoning_tokens": usage.thoughts},
    })
}

fn call(block: &Block) -> Option<Value> {
    let Block::Tool { id, name, input } = block else {
        return None;
    };
    Some(json!({
        "index": 0, "id": format!("call_{id}"), "type": "function",
        "function": {"name": name, "arguments": input.to_string()},
    }))
}

fn finish(reply: &Reply) -> &'static str {
    match reply.blocks.last() {
        Some(Block::Tool { .. }) => "tool_calls",
        _ => "stop",
    }
}

fn whole(reply: &Reply) -> Value {
    let texts = reply.blocks.iter().filter_map(|block| match block {
        Block::Text(text) => Some(text.as_str()),
        Block::Think(_) | Block::Tool { .. } => None,
    });
    let calls: Vec<Value> = reply.blocks.iter().filter_map(call).collect();
    let mut message = json!({"role": "assistant", "content": texts.collect::<String>()});
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    json!({
        "id": reply.id, "object": "chat.completion", "created": 0, "model": reply.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish(reply)}],
        "usage": usage(reply),
    })
}

fn events(reply: &Reply) -> Vec<Event> {
    let chunk = |choices: Value| {
        json!({
            "id": reply.id, "object": "chat.completion.chunk", "created": 0,
            "model": reply.model, "choices": choices,
        })
    };
    let delta = |delta: Value| {
        (
            None,
            chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])),
        )
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}))];
    for block in &reply.blocks {
        match block {
            Block::Think(text) => events.push(delta(json!({"reasoning_content": text}))),
            Block::Text(text) => {
                events.extend(
                    pieces(text)
                        .iter()
                        .map(|piece| delta(json!({"content": piece}))),
                );
            }
            Block::Tool { .. } => {
                let calls: Vec<Value> = call(block).into_iter().collect();
                events.push(delta(json!({"tool_calls": calls})));
            }
        }
    }
    if reply.unfinished {
        return events;
    }
    let end = json!([{"index": 0, "delta": {}, "finish_reason": finish(reply)}]);
    events.push((None, chunk(end)));
    let mut last = chunk(json!([]));
    last["usage"] = usage(reply);
    events.push((None, last));
    events
}

fn refusal(status: u16, message: &str) -> Value {
    let kind = match status {
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}
