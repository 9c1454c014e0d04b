//! Requests to answers.

use crate::http::{Connection, Request};
use crate::reply::{Asked, Event, Reply, Usage};
use crate::script::{self, Act, Failure, Step};
use crate::{anthropic, chat, gemini, ledger, responses};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// An API: how its requests are read and its answers written.
pub struct Api {
    pub name: &'static str,
    /// From the path and the body.
    pub asked: fn(&str, &Value) -> Asked,
    /// An answer in events.
    pub events: fn(&Reply) -> Vec<Event>,
    /// Its first event says already what the request cost, and one token of the answer.
    pub says_first: bool,
    /// Written after the last event.
    pub end: Option<&'static str>,
    /// An answer in one piece.
    pub whole: fn(&Reply) -> Value,
    /// An error.
    pub refusal: fn(u16, &str) -> Value,
}

/// How often which step has failed already.
type Failed = Arc<Mutex<HashMap<(String, usize), usize>>>;

/// Answers until it is killed.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    // A run that is tried again has another mock, in the same place.
    let failed = Failed::new(Mutex::new(ledger::failures()));
    for stream in listener.incoming() {
        let (stream, failed) = (stream?, Arc::clone(&failed));
        // A client that leaves in the middle is what some tests are about.
        std::thread::spawn(move || converse(stream, &failed));
    }
    Ok(())
}

fn converse(stream: TcpStream, failed: &Failed) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(request) = connection.request()? {
        let path = request.target.split('?').next().unwrap_or_default();
        let api = [anthropic::API, responses::API, chat::API, gemini::API]
            .into_iter()
            .find(|api| api.answers(path));
        match api {
            Some(api) if request.method == "POST" => {
                if !answer(&mut connection, &api, &request, failed)? {
                    return Ok(());
                }
            }
            _ => {
                ledger::note(&json!({"unknown": request.target, "method": request.method}))?;
                connection.answer(404, "application/json", "{}")?;
            }
        }
    }
    Ok(())
}

impl Api {
    fn answers(&self, path: &str) -> bool {
        match self.name {
            "anthropic" => path.ends_with("/messages"),
            "responses" => path.ends_with("/responses"),
            "chat" => path.ends_with("/chat/completions"),
            _ => path.ends_with("enerateContent"),
        }
    }
}

/// Says whether the connection goes on.
fn answer(
    connection: &mut Connection,
    api: &Api,
    request: &Request,
    failed: &Failed,
) -> io::Result<bool> {
    let body: Value = serde_json::from_slice(&request.body)?;
    let asked = (api.asked)(&request.target, &body);
    let (step, failure) = next(&asked, failed)?;
    let note = |what: Value| {
        let mut note =
            json!({"api": api.name, "taken": asked.taken, "aside": asked.tools.is_empty()});
        merge(&mut note, what);
        ledger::note(&note)
    };
    if let Some(Failure::Status { status, message }) = &failure {
        note(json!({"refused": status}))?;
        let body = (api.refusal)(*status, message).to_string();
        connection.answer(*status, "application/json", &body)?;
        return Ok(true);
    }
    let cut = failure == Some(Failure::Cut);
    let hangs = failure.is_none() && step.act == Act::Hang;
    let unfinished = failure.is_some() || hangs;
    let reply = Reply::new(&asked, &step, request.body.len(), unfinished);
    let said = match (unfinished, api.says_first && asked.stream) {
        (false, _) => reply.usage,
        (true, true) => Usage {
            output: 1,
            ..reply.usage
        },
        (true, false) => Usage::default(),
    };
    note(reply.as_noted(&said))?;
    if !asked.stream {
        if hangs {
            connection.hold()?;
        }
        if unfinished {
            return Ok(false);
        }
        let body = (api.whole)(&reply).to_string();
        connection.answer(200, "application/json", &body)?;
        return Ok(true);
    }
    connection.begin_events()?;
    for (name, data) in (api.events)(&reply) {
        connection.event(name, &data.to_string())?;
    }
    if hangs {
        connection.hold()?;
    }
    if hangs || cut {
        return Ok(false);
    }
    if let (Some(end), false) = (api.end, unfinished) {
        connection.event(None, end)?;
    }
    connection.end_events()?;
    Ok(true)
}

/// The step that a request asks for, and how it fails this time.
fn next(asked: &Asked, failed: &Failed) -> io::Result<(Step, Option<Failure>)> {
    // Asked without tools, it is for a title or the like, and no step.
    let script = asked.script.as_ref().filter(|_| !asked.tools.is_empty());
    let Some(script) = script else {
        return Ok((Step::aside(), None));
    };
    let steps = script::steps(script).unwrap_or_default();
    let Some(step) = steps.get(asked.taken).cloned() else {
        return Ok((Step::done(), None));
    };
    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
    let before = failed.entry((script.clone(), asked.taken)).or_default();
    let failure = step.failures.get(*before).cloned();
    *before += 1;
    if failure.is_some() {
        ledger::failed(script, asked.taken)?;
    }
    let failure = failure.or_else(|| match &step.act {
        Act::Fail(failure) => Some(failure.clone()),
        _ => None,
    });
    Ok((step, failure))
}

/// Puts the members of one object into another.
fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
