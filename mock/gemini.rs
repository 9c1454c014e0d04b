//! Google's generateContent, as Gemini CLI asks for it.

use crate::reply::{Asked, Block, Event, Reply, pieces};
use crate::script;
use crate::server::Api;
use serde_json::{Value, json};

pub const API: Api = Api {
    name: "gemini",
    asked,
    events,
    says_first: false,
    end: None,
    whole,
    refusal,
};

fn asked(target: &str, body: &Value) -> Asked {
    let mut script = None;
    let mut taken = 0;
    for content in body["contents"].as_array().into_iter().flatten() {
        if content["role"] == "model" {
            taken += 1;
            continue;
        }
        for part in content["parts"].as_array().into_iter().flatten() {
            let text = part["text"].as_str().unwrap_or_default();
            if script::steps(text).is_some() {
                script = Some(text.to_owned());
                taken = 0;
            }
        }
    }
    let declared = body["tools"].as_array().into_iter().flatten();
    let declared = declared.flat_map(|tool| crate::reply::names(&tool["functionDeclarations"]));
    let model = target.rsplit('/').next().unwrap_or_default();
    Asked {
        model: model.split(':').next().unwrap_or_default().to_owned(),
        script,
        taken,
        tools: declared.collect(),
        stream: target.contains(":stream"),
    }
}

fn parts(block: &Block) -> Vec<Value> {
    match block {
        Block::Think(text) => vec![json!({"text": text, "thought": true})],
        Block::Text(text) => pieces(text)
            .iter()
            .map(|piece| json!({"text": piece}))
            .collect(),
        Block::Tool { id, name, input } => {
            vec![json!({"functionCall": {"id": format!("call_{id}"), "name": name, "args": input}})]
        }
    }
}

fn response(reply: &Reply, parts: &[Value], last: bool) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    let usage = &reply.usage;
    let input = usage.input + usage.read + usage.written;
    let mut response = json!({
        "candidates": [candidate], "modelVersion": reply.model, "responseId": reply.id,
    });
    if last {
        response["usageMetadata"] = json!({
            "promptTokenCount": input,
            "cachedContentTokenCount": usage.read,
            "candidatesTokenCount": usage.output - usage.thoughts,
            "thoughtsTokenCount": usage.thoughts,
            "totalTokenCount": input + usage.output,
        });
    }
    response
}

fn whole(reply: &Reply) -> Value {
    let parts: Vec<Value> = reply.blocks.iter().flat_map(parts).collect();
    response(reply, &parts, true)
}

fn events(reply: &Reply) -> Vec<Event> {
    let parts: Vec<Value> = reply.blocks.iter().flat_map(parts).collect();
    let mut events = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len() && !reply.unfinished;
        let part = std::slice::from_ref(part);
        events.push((None, response(reply, part, last)));
    }
    events
}

fn refusal(status: u16, message: &str) -> Value {
    let kind = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        429 => "RESOURCE_EXHAUSTED",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": message, "status": kind}})
}
