//! OpenAI's responses, as Codex asks for them.

use crate::reply::{Asked, Block, Event, Reply, names, pieces, texts};
use crate::script;
use crate::server::Api;
use serde_json::{Value, json};

pub const API: Api = Api {
    name: "responses",
    asked,
    events,
    says_first: false,
    end: None,
    whole: response,
    refusal,
};

fn asked(_: &str, body: &Value) -> Asked {
    let mut script = None;
    let mut taken = 0;
    for item in body["input"].as_array().into_iter().flatten() {
        let role = item["role"].as_str().unwrap_or_default();
        let kind = item["type"].as_str().unwrap_or("message");
        // An answer with text and a tool is two items: only what ends it counts.
        if kind == "function_call" || kind == "custom_tool_call" {
            taken += 1;
        }
        if kind == "message" && role == "assistant" && item["phase"] != "commentary" {
            taken += 1;
        }
        if kind != "message" || role != "user" {
            continue;
        }
        for text in texts(&item["content"], &["input_text"]) {
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

fn item(reply: &Reply, index: usize) -> Value {
    let id = format!("{}i{index}", reply.id);
    let last = index + 1 == reply.blocks.len();
    match &reply.blocks[index] {
        Block::Think(text) => json!({
            "type": "reasoning", "id": format!("rs_{id}"),
            "summary": [{"type": "summary_text", "text": text}],
        }),
        Block::Text(text) => json!({
            "type": "message", "id": format!("msg_{id}"), "role": "assistant",
            "status": "completed", "phase": if last { "final_answer" } else { "commentary" },
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }),
        Block::Tool { id, name, input } => json!({
            "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"),
            "name": name, "arguments": input.to_string(), "status": "completed",
        }),
    }
}

fn response(reply: &Reply) -> Value {
    let usage = &reply.usage;
    let input = usage.input + usage.read + usage.written;
    json!({
        "id": format!("resp_{}", reply.id), "object": "response", "status": "completed",
        "model": reply.model,
        "output": (0..reply.blocks.len()).map(|at| item(reply, at)).collect::<Vec<_>>(),
        "usage": {
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": usage.read, "cache_write_tokens": usage.written},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": usage.thoughts},
            "total_tokens": input + usage.output,
        },
    })
}

fn events(reply: &Reply) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut push = |name: &'static str, mut data: Value| {
        data["type"] = json!(name);
        events.push((Some(name), data));
    };
    let id = format!("resp_{}", reply.id);
    let begun = json!({"id": id, "object": "response", "status": "in_progress", "output": []});
    push("response.created", json!({"response": begun}));
    for index in 0..reply.blocks.len() {
        let whole = item(reply, index);
        let mut begun = whole.clone();
        if begun["type"] == "message" {
            begun["content"] = json!([]);
        }
        let at = json!({"output_index": index, "item": begun});
        push("response.output_item.added", at);
        if let Block::Text(text) = &reply.blocks[index] {
            for piece in pieces(text) {
                let delta = json!({
                    "item_id": whole["id"], "output_index": index, "content_index": 0,
                    "delta": piece,
                });
                push("response.output_text.delta", delta);
            }
        }
        push(
            "response.output_item.done",
            json!({"output_index": index, "item": whole}),
        );
    }
    if !reply.unfinished {
        push("response.completed", json!({"response": response(reply)}));
    }
    events
}

fn refusal(status: u16, message: &str) -> Value {
    let kind = match status {
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}
