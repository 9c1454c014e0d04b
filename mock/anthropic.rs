//! Anthropic's messages, as Claude Code asks for them.

use crate::reply::{Asked, Block, Event, Reply, names, pieces, texts};
use crate::script;
use crate::server::Api;
use serde_json::{Value, json};

pub const API: Api = Api {
    name: "anthropic",
    asked,
    events,
    says_first: true,
    end: None,
    whole,
    refusal,
};

fn asked(_: &str, body: &Value) -> Asked {
    let mut script = None;
    let mut taken = 0;
    for message in body["messages"].as_array().into_iter().flatten() {
        if message["role"] == "assistant" {
            taken += 1;
            continue;
        }
        for text in texts(&message["content"], &["text"]) {
            if script::steps(text).is_some() {
                script = Some(text.to_owned());
                taken = 0;
            }
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

fn usage(reply: &Reply, output: u64) -> Value {
    json!({
        "input_tokens": reply.usage.input,
        "cache_creation_input_tokens": reply.usage.written,
        "cache_read_input_tokens": reply.usage.read,
        "output_tokens": output,
    })
}

fn block(block: &Block) -> Value {
    match block {
        Block::Think(text) => {
            json!({"type": "thinking", "thinking": text, "signature": "c2lnbmVk"})
        }
        Block::Text(text) => json!({"type": "text", "text": text}),
        Block::Tool { id, name, input } => {
            json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": input})
        }
    }
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply.blocks.last() {
        Some(Block::Tool { .. }) => "tool_use",
        _ => "end_turn",
    }
}

fn message(reply: &Reply, content: Vec<Value>, stop: Value, output: u64) -> Value {
    json!({
        "id": format!("msg_{}", reply.id), "type": "message", "role": "assistant",
        "model": reply.model, "content": content, "stop_reason": stop, "stop_sequence": null,
        "usage": usage(reply, output),
    })
}

fn whole(reply: &Reply) -> Value {
    let content = reply.blocks.iter().map(block).collect();
    message(
        reply,
        content,
        json!(stop_reason(reply)),
        reply.usage.output,
    )
}

fn events(reply: &Reply) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut push = |name: &'static str, mut data: Value| {
        data["type"] = json!(name);
        events.push((Some(name), data));
    };
    // What a real one says before it knows.
    push(
        "message_start",
        json!({"message": message(reply, Vec::new(), Value::Null, 1)}),
    );
    for (index, part) in reply.blocks.iter().enumerate() {
        let (begin, deltas) = match part {
            Block::Think(text) => {
                let mut deltas: Vec<Value> = pieces(text)
                    .into_iter()
                    .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                    .collect();
                deltas.push(json!({"type": "signature_delta", "signature": "c2lnbmVk"}));
                (
                    json!({"type": "thinking", "thinking": "", "signature": ""}),
                    deltas,
                )
            }
            Block::Text(text) => {
                let deltas = pieces(text).into_iter();
                let deltas = deltas.map(|piece| json!({"type": "text_delta", "text": piece}));
                (json!({"type": "text", "text": ""}), deltas.collect())
            }
            Block::Tool { input, .. } => {
                let mut begin = block(part);
                begin["input"] = json!({});
                let delta = json!({"type": "input_json_delta", "partial_json": input.to_string()});
                (begin, vec![delta])
            }
        };
        push(
            "content_block_start",
            json!({"index": index, "content_block": begin}),
        );
        for delta in deltas {
            push(
                "content_block_delta",
                json!({"index": index, "delta": delta}),
            );
        }
        push("content_block_stop", json!({"index": index}));
    }
    if reply.unfinished {
        return events;
    }
    push(
        "message_delta",
        json!({
            "delta": {"stop_reason": stop_reason(reply), "stop_sequence": null},
            "usage": usage(reply, reply.usage.output),
        }),
    );
    push("message_stop", json!({}));
    events
}

fn refusal(status: u16, message: &str) -> Value {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}
