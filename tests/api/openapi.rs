//! The document describes what the daemon does: each endpoint, real answers.

use super::client::{Answer, ask, ask_as};
use crate::support::TestEnv;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The document as the daemon serves it, and what of it was held against an answer.
struct Described<'e> {
    env: &'e TestEnv,
    document: Value,
    seen: BTreeSet<String>,
}

impl<'e> Described<'e> {
    fn new(env: &'e TestEnv) -> Self {
        env.start_daemon();
        let document = ask(env, "GET", "/v1/openapi.json", None).json();
        Self {
            env,
            document,
            seen: BTreeSet::new(),
        }
    }

    fn validator(&self, schema: &Value) -> Validator {
        // `true` is a schema too: anything fits.
        let mut schema = match schema.is_object() {
            true => schema.clone(),
            false => json!({}),
        };
        schema["components"] = self.document["components"].clone();
        jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("{schema}: {e}"))
    }

    #[track_caller]
    fn check(&self, what: &str, schema: &Value, value: &Value) {
        let validator = self.validator(schema);
        let wrong: Vec<String> = validator
            .iter_errors(value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{what}: {wrong:#?}\n{value:#}");
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let operation = &self.document["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        operation
    }

    /// Sends a request that fits its description and holds the answer against its own.
    #[track_caller]
    fn ask(&mut self, method: &str, path: &str, names: &[&str], body: Option<Value>) -> Answer {
        self.ask_query(method, path, names, "", body, 200)
    }

    #[track_caller]
    fn ask_query(
        &mut self,
        method: &str,
        path: &str,
        names: &[&str],
        query: &str,
        body: Option<Value>,
        status: u16,
    ) -> Answer {
        let what = format!("{method} {path}");
        let operation = self.operation(method, path).clone();
        if let Some(body) = &body {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            self.check(&format!("{what}: the request"), schema, body);
        }
        for pair in query
            .trim_start_matches('?')
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let name = pair.split('=').next().expect("a name");
            let parameters = operation["parameters"].as_array().expect("parameters");
            assert!(
                parameters
                    .iter()
                    .any(|p| p["in"] == "query" && p["name"] == name),
                "{what}: {name} is not described"
            );
        }
        let mut target = String::new();
        let mut names = names.iter();
        for part in path.split('/').skip(1) {
            target.push('/');
            match part.starts_with('{') {
                true => target.push_str(names.next().expect("a name for each place")),
                false => target.push_str(part),
            }
        }
        target.push_str(query);
        let answer = ask(self.env, method, &target, body.as_ref());
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let content = &operation["responses"][status.to_string()]["content"];
        let schema = &content[&answer.kind]["schema"];
        assert!(
            !schema.is_null(),
            "{what}: {status} {} is not described",
            answer.kind
        );
        let values = match answer.kind.as_str() {
            // Described as a text: its lines have a format of their own.
            _ if schema["type"] == "string" => vec![json!(answer.text())],
            "application/x-ndjson" => answer.lines(),
            "application/json" => vec![answer.json()],
            _ => vec![json!(answer.text())],
        };
        for value in &values {
            self.check(&what, schema, value);
        }
        self.seen.insert(what);
        answer
    }
}

fn request() -> String {
    cldpd::model::Ulid::generate().to_string()
}

#[test]
fn real_answers_fit_their_descriptions() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let local = env.local_pod("plain").plain().make();
    let fake = env
        .fake_pod("fake")
        .json(json!({"inheritEnv": ["TOKEN"]}))
        .make();
    env.pod("broken").raw_json("{\"imag\": 1}").make();
    let mut api = Described::new(&env);
    let (all, one) = ("/v1/sessions", "/v1/sessions/{session}");

    // One that says all kinds of things, and is resumed.
    let prompt = "[[print hello]][[raw fffe0a]][[err oh]][[open half]]";
    let start = json!({"request": request(), "pods": [fake], "task": {"prompt": prompt},
        "labels": {"team": "red"}, "name": "first"});
    let started = api.ask("POST", all, &[], Some(start)).json();
    let first = started["sessions"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    api.ask("GET", "/v1/sessions/{session}/wait", &[&first], None);
    let resume = json!({"request": request(), "prompt": {"b64": "W1tleGl0IDNdXf8="}});
    api.ask(
        "POST",
        "/v1/sessions/{session}/runs",
        &[&first],
        Some(resume),
    );
    api.ask_query(
        "GET",
        "/v1/sessions/{session}/wait",
        &[&first],
        "?run=1",
        None,
        200,
    );
    let failing = json!({"request": request(), "pods": [fake], "count": 2, "task": {"issue": "https://example.org/1"}});
    api.ask("POST", all, &[], Some(failing));

    // One that is stopped while it works.
    let prompt = format!("[[print ready]]{}", gate.hold());
    let start = json!({"request": request(), "pods": [local], "task": {"prompt": prompt}});
    let started = api.ask("POST", all, &[], Some(start)).json();
    let second = started["sessions"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    env.await_line(&second, "ready");
    api.ask("GET", one, &[&second], None);
    let kill = json!({"request": request(), "signal": "SIGCONT"});
    api.ask(
        "POST",
        "/v1/sessions/{session}/kill",
        &[&second],
        Some(kill),
    );
    let refused = json!({"request": request()});
    api.ask_query("DELETE", one, &[&second], "", Some(refused), 409);
    let stop = json!({"request": request(), "grace": 0, "wait": true});
    api.ask(
        "POST",
        "/v1/sessions/{session}/stop",
        &[&second],
        Some(stop),
    );

    for query in [
        "",
        "?all=true",
        "?all=true&pod=fake&label=team&limit=1",
        "?state=ended",
    ] {
        api.ask_query("GET", all, &[], query, None, 200);
    }
    for session in [&first, &second] {
        api.ask("GET", one, &[session], None);
        let events = api.ask("GET", "/v1/sessions/{session}/events", &[session], None);
        assert_eq!(events.lines().last(), Some(&json!({"end": true})));
    }
    let blocks = "/v1/sessions/{session}/blocks";
    api.ask_query(
        "GET",
        blocks,
        &[&first],
        "?last=3&until=2100-01-01T00:00:00Z",
        None,
        200,
    );
    let query = "?after=3&run=0&stream=stdout&follow=true";
    api.ask_query(
        "GET",
        "/v1/sessions/{session}/events",
        &[&first],
        query,
        None,
        200,
    );
    api.ask("GET", "/v1/events", &[], None);
    let query = "?pod=plain&kind=output&since=2020-01-01T00:00:00Z";
    api.ask_query("GET", "/v1/events", &[], query, None, 200);
    let query = "?pattern=o&finds=lines&label=team&place=stdout&limit=3";
    api.ask_query("GET", "/v1/search", &[], query, None, 200);
    api.ask_query(
        "GET",
        "/v1/search",
        &[],
        "?pattern=o&finds=counts",
        None,
        200,
    );
    api.ask_query("GET", "/v1/search", &[], "?pattern=(", None, 400);
    let query = "?by=model&label=team&since=2020-01-01T00:00:00Z";
    api.ask_query("GET", "/v1/stats", &[], query, None, 200);
    api.ask("GET", "/v1/stats", &[], None);
    api.ask("GET", "/v1/pods", &[], None);
    api.ask("GET", "/v1/pods/{name}", &["fake"], None);
    api.ask("GET", "/v1/daemon", &[], None);
    api.ask("GET", "/v1/doctor", &[], None);
    api.ask("GET", "/v1/openapi.json", &[], None);
    api.ask("GET", "/metrics", &[], None);
    api.ask("GET", "/v1/journal/verify", &[], None);
    let query = format!("?session={first}");
    api.ask_query("GET", "/v1/journal/export", &[], &query, None, 200);
    // What it takes is no JSON document; `a_journal_moves…` and the like have that.
    api.ask_query("POST", "/v1/journal/import", &[], "", None, 500);
    api.ask_query("GET", "/v1/journal", &[], "?count=1&age=1", None, 200);
    api.ask("POST", "/v1/journal/compact", &[], None);
    api.ask("GET", "/v1/gc", &[], None);
    api.ask("POST", "/v1/gc", &[], None);
    // Errors, by their statuses.
    api.ask_query("GET", one, &["nobody"], "", None, 404);
    api.ask_query("GET", "/v1/pods/{name}", &["nobody"], "", None, 404);
    api.ask_query("POST", "/v1/pods/{name}/build", &["nobody"], "", None, 404);
    api.ask_query(
        "GET",
        "/v1/sessions/{session}/wait",
        &["../x"],
        "",
        None,
        400,
    );
    let nowhere = json!({"request": request(), "pods": ["nowhere"], "task": {"prompt": "x"}});
    api.ask_query("POST", all, &[], "", Some(nowhere), 404);
    let broken = json!({"request": request(), "pods": ["broken"], "task": {"prompt": "x"}});
    api.ask_query("POST", all, &[], "", Some(broken), 400);
    // Without the header that it needs; `exec_…` have the rest.
    let exec = "/v1/sessions/{session}/exec";
    let command = json!({"argv": ["true"]});
    api.ask_query("POST", exec, &[&first], "", Some(command), 400);
    // What goes through is an archive and no JSON; `cp_…` have that.
    let archive = "/v1/sessions/{session}/archive";
    let stat = "/v1/sessions/{session}/archive/stat";
    api.ask_query("GET", stat, &[&first], "?path=/", None, 200);
    api.ask_query("GET", archive, &[&first], "?path=/no/such", None, 404);
    api.ask_query("PUT", archive, &[&first], "?path=/no/such", None, 404);
    let remove = json!({"request": request(), "history": true});
    api.ask("DELETE", one, &[&first], Some(remove));
    api.ask("POST", "/v1/daemon/stop", &[], None);

    let paths = api.document["paths"].as_object().expect("paths");
    let described: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods");
            methods
                .keys()
                .map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let unseen: Vec<&String> = described.difference(&api.seen).collect();
    assert!(
        unseen.is_empty(),
        "never held against an answer: {unseen:?}"
    );
}

#[test]
fn server_sent_events_carry_what_lines_do() {
    let env = TestEnv::new();
    let pod = env.local_pod("sse").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[lines 3]]"]);
    assert_eq!(env.wait(&id), 0);
    for target in [format!("/v1/sessions/{id}/events"), "/v1/events".to_owned()] {
        let lines = ask(&env, "GET", &target, None).lines();
        let answer = ask_as(&env, "GET", &target, None, "text/event-stream");
        assert_eq!(answer.kind, "text/event-stream");
        let text = answer.text();
        let events: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(events.len(), lines.len());
        for (event, line) in events.iter().zip(&lines) {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            let data: Value = serde_json::from_str(data.expect("data")).expect("JSON");
            assert_eq!(&data, line);
            let place = match line["cursor"].as_str() {
                Some(cursor) => cursor.to_owned(),
                None => line["seq"].to_string(),
            };
            let told = match line["end"] == true {
                true => "event: end".to_owned(),
                false => format!("id: {place}"),
            };
            assert_eq!(event.lines().next(), Some(told.as_str()));
        }
    }
}

#[test]
fn what_is_not_described_is_not_served() {
    let env = TestEnv::new();
    env.start_daemon();
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/session"),
        ("GET", "/v2/sessions"),
        ("PUT", "/v1/sessions"),
        ("DELETE", "/v1/daemon"),
        ("PATCH", "/v1/sessions/x"),
    ] {
        let answer = ask(&env, method, target, None);
        assert_eq!(answer.status, 400, "{method} {target}");
        let error = answer.json();
        assert_eq!(error["code"], "usage");
        let hint = error["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("/v1/openapi.json"), "{error}");
    }
}

/// Nothing is routed but the table: that is why the document is whole.
#[test]
fn the_router_is_made_of_the_table_alone() {
    let mut found = Vec::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join("src/daemon")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("the sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source");
            let calls = [".route(", ".nest(", ".merge(", "route_service("];
            let count: usize = calls.iter().map(|call| text.matches(call).count()).sum();
            if count > 0 {
                found.push((path.file_name().map(|n| n.to_owned()), count));
            }
        }
    }
    found.sort();
    let expected = [("endpoint.rs", 1), ("mod.rs", 1)];
    let expected: Vec<_> = expected.map(|(n, c)| (Some(n.into()), c)).into();
    assert_eq!(found, expected);
}
