//! 5.1: the command line and its exit codes.

use crate::support::TestEnv;
use crate::support::events::{of_kind, only};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};

const URL: &str = "https://github.com/org/repo/issues/42";

/// What a session is to run, without what is chosen anew for each.
fn frozen(env: &TestEnv, id: &str) -> (Value, Value) {
    let mut spec = env.inspect(id)["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("agent_session");
    }
    let events = env.events(id);
    let queued = of_kind(&events, "queued").pop().expect("queued").clone();
    let prompt = queued["prompt"].clone();
    (spec, prompt)
}

/// The engine's calls, without ids.
fn calls(env: &TestEnv, pod: &str, ids: &[&str]) -> Vec<String> {
    let mut log = env.fake_log(pod);
    for line in &mut log {
        for id in ids {
            *line = line.replace(id, "ID");
        }
    }
    log
}

#[test]
fn a001_flags_in_any_order() {
    let env = TestEnv::new();
    let mut seen = Vec::new();
    let orders: [&[&str]; 4] = [
        &["start", "-d", "POD", "--issue", URL, "--env", "A=b"],
        &["start", "--issue", URL, "-d", "--env", "A=b", "POD"],
        &["start", "--env=A=b", "POD", "--issue", URL, "--detach"],
        &["start", "--issue", URL, "POD", "-d", "--env", "A=b"],
    ];
    for (index, order) in orders.iter().enumerate() {
        let pod = env.fake_pod(&format!("p{index}")).make();
        let args = order
            .iter()
            .map(|arg| if *arg == "POD" { &pod } else { *arg });
        let id = env.cldpd(args).run().ok().trim().to_owned();
        assert_eq!(env.wait(&id), 0);
        let ulid = env.session(&id)["ulid"]
            .as_str()
            .expect("a ULID")
            .to_owned();
        let (mut spec, prompt) = frozen(&env, &id);
        spec["pod"]["name"] = Value::Null;
        spec["pod"]["dir"] = Value::Null;
        spec["pod"]["image"] = Value::Null;
        let calls = calls(&env, &pod, &[&id, &ulid, &pod]);
        assert!(!calls.is_empty(), "the engine was asked");
        assert_eq!(prompt, format!("Work on this GitHub issue: {URL}"));
        seen.push((spec, calls));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");

    let pod = env.fake_pod("again").make();
    let id = env.start(&[&pod, "--prompt", "[[print first]]"]);
    assert_eq!(env.wait(&id), 0);
    let orders: [&[&str]; 3] = [
        &["resume", "-d", &id, "--prompt", "[[print more]]"],
        &["resume", "--prompt", "[[print more]]", "-d", &id],
        &["resume", &id, "--prompt", "[[print more]]", "-d"],
    ];
    for order in orders {
        env.cldpd(order).run().ok();
        assert_eq!(env.wait(&id), 0);
    }
    let events = env.events(&id);
    let queued = of_kind(&events, "queued");
    let prompts: Vec<&Value> = queued.iter().map(|e| &e["prompt"]).collect();
    assert_eq!(prompts[1..], ["[[print more]]"; 3]);
    assert_eq!(env.session(&id)["runs"], 4);
}

#[test]
fn a002_a_missing_argument_is_named() {
    let env = TestEnv::new();
    let pod = env.docker_pod("p").make();
    let cases: [(&[&str], &str); 4] = [
        (&["start"], "<POD>"),
        (&["start", &pod], "--prompt"),
        (&["start", "--issue", URL], "<POD>"),
        (&["resume", "--prompt", "x"], "<SESSION"),
    ];
    for (args, missing) in cases {
        let output = env.cldpd(args).run().code(2);
        assert_eq!(output.stdout, b"", "{args:?}");
        let first = output.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: "), "{args:?}: {}", output.stderr);
        assert!(
            output.stderr.contains(missing),
            "{args:?}: {}",
            output.stderr
        );
    }
    let output = env.cldpd(["start", &pod]).run().code(2);
    assert!(output.stderr.contains("--issue"), "{}", output.stderr);
    assert!(output.stderr.contains("--prompt-file"), "{}", output.stderr);
    // Nothing was started for it: no daemon, so no engine was asked.
    assert!(!env.home().join("run").exists());
    assert!(!env.home().join("journal").exists());
}

#[test]
fn a003_help_and_unknown_commands() {
    let env = TestEnv::new();
    for args in [
        &["-h"][..],
        &["--help"],
        &["help"],
        &["start", "-h"],
        &["help", "start"],
    ] {
        let output = env.cldpd(args).run().code(0);
        assert!(
            output.text().contains("Usage: cldpd"),
            "{args:?}: {}",
            output.text()
        );
        assert_eq!(output.stderr, "", "{args:?}");
    }
    let output = env.cldpd::<_, &str>([]).run().code(2);
    assert_eq!(output.stdout, b"");
    assert!(output.stderr.contains("Usage: cldpd"), "{}", output.stderr);

    let output = env.cldpd(["strat", "p"]).run().code(2);
    assert_eq!(output.stdout, b"");
    assert!(
        output.stderr.contains("unknown command 'strat'"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("'start'"), "{}", output.stderr);

    let output = env.cldpd(["start", "p", "--promt", "x"]).run().code(2);
    assert!(output.stderr.contains("--promt"), "{}", output.stderr);
    assert!(output.stderr.contains("--prompt"), "{}", output.stderr);
    assert!(!env.home().join("run").exists());
}

#[test]
fn a004_exit_codes_pass_through() {
    let env = TestEnv::new();
    let pod = env.docker_pod("codes").plain().make();
    // The image is built once, before the others ask for it.
    let first = env
        .cldpd(["start", &pod, "--prompt", "[[print hi]][[exit 7]]"])
        .run();
    assert_eq!(first.code(7).text(), "hi\n");
    let cases = [
        ("[[exit 0]]", 0),
        ("[[exit 137]]", 137),
        ("[[exit 139]]", 139),
        ("[[exit 143]]", 143),
        ("[[die KILL]]", 137),
        ("[[die TERM]]", 143),
    ];
    let running: Vec<_> = cases
        .iter()
        .map(|(prompt, code)| {
            (
                env.cldpd(["start", &pod, "--prompt", prompt]).spawn(),
                prompt,
                code,
            )
        })
        .collect();
    for (start, prompt, code) in running {
        assert_eq!(start.finish().code, *code, "{prompt}");
    }
}

#[test]
fn a005_resume_of_an_unknown_session() {
    let env = TestEnv::new();
    let output = env
        .cldpd(["resume", "nope-12345678", "--prompt", "x"])
        .run()
        .code(3);
    assert_eq!(output.stdout, b"");
    assert!(output.stderr.contains("nope-12345678"), "{}", output.stderr);
    assert!(
        output.stderr.contains("cldpd sessions"),
        "{}",
        output.stderr
    );
}

#[test]
fn a006_without_an_engine_the_history_is_there() {
    let env = TestEnv::new();
    let pod = env.docker_pod("down").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print before]]"]);
    assert_eq!(env.wait(&id), 0);
    env.stop_daemon();
    env.config(&format!(
        "[docker]\nhost = \"unix://{}/no.sock\"\n",
        env.root().display()
    ));

    let unavailable = "docker is not available: ";
    let start = env.cldpd(["start", &pod, "--prompt", "x"]).run().code(69);
    assert!(start.stderr.contains(unavailable), "{}", start.stderr);
    assert!(start.stderr.contains("no.sock"), "{}", start.stderr);
    let resume = env.cldpd(["resume", &id, "--prompt", "x"]).run().code(69);
    assert!(resume.stderr.contains(unavailable), "{}", resume.stderr);
    assert_eq!(env.session(&id)["runs"], 1, "nothing was created");
    // What needs no engine works without one.
    let attach = env.cldpd(["attach", "--replay", &id]).run().code(0);
    assert_eq!(attach.text(), "before\n");

    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert!(rows.as_array().is_some_and(|rows| !rows.is_empty()));
    assert_eq!(
        env.cldpd(["logs", "--run", "0", &id]).run().ok(),
        "before\n"
    );
    let doctor = env.cldpd(["doctor"]).run().code(1);
    assert!(doctor.text().contains("no.sock"), "{}", doctor.text());
}

#[test]
fn a008_every_listing_is_json_with_stable_keys() {
    let env = TestEnv::new();
    let pod = env.fake_pod("json").plain().make();
    let id = env.start(&[
        &pod,
        "--name",
        "named",
        "--label",
        "k=v",
        "--prompt",
        "[[print x]][[exit 3]]",
    ]);
    assert_eq!(env.wait(&id), 3);

    let keys = |value: &Value| -> Vec<String> {
        let object = value
            .as_object()
            .unwrap_or_else(|| panic!("an object: {value}"));
        let mut keys: Vec<String> = object.keys().cloned().collect();
        keys.sort();
        keys
    };
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    let expected = [
        "agent",
        "code",
        "container",
        "created",
        "ended",
        "id",
        "image",
        "labels",
        "name",
        "outcome",
        "pod",
        "prompt",
        "run",
        "runs",
        "runtime",
        "started",
        "state",
        "turns",
        "ulid",
    ];
    assert_eq!(keys(&rows[0]), expected);
    assert_eq!(rows[0]["code"], 3);
    assert_eq!(rows[0]["labels"]["k"], "v");
    for time in ["created", "started", "ended"] {
        let text = rows[0][time].as_str().expect("a time");
        assert!(
            text.len() == "2026-11-21T07:41:14.123456789Z".len() && text.ends_with('Z'),
            "{text}"
        );
    }
    assert_eq!(
        env.cldpd(["sessions", "-a", "--format", "jsonl"])
            .run()
            .jsonl()
            .len(),
        1
    );
    assert_eq!(env.cldpd(["ps", "-a", "-q"]).run().ok(), format!("{id}\n"));

    let pods = env.cldpd(["pods", "--json"]).run().json();
    assert_eq!(pods[0]["name"], "json");
    let pods = env.cldpd(["pods", "--format", "jsonl"]).run().jsonl();
    assert_eq!(pods.len(), 1);
    let daemon = env.daemon();
    for key in ["pid", "version", "socket", "live", "queued", "adopted"] {
        assert!(!daemon[key].is_null(), "{key} in {daemon}");
    }
    for args in [
        &["inspect", &id][..],
        &["pod", "show", "json", "--json"],
        &["doctor", "--json"],
        &["version", "--json"],
        &["wait", &id, "--json"],
    ] {
        let output = env.cldpd(args).run();
        let text = output.text();
        assert!(
            serde_json::from_str::<Value>(&text).is_ok(),
            "{args:?}: {text}"
        );
    }
    let events = env.events(&id);
    assert_eq!(only(&events, "run_ended")["outcome"], "failed");
    let firehose = env
        .cldpd(["events", "--since", "1h", "--format", "jsonl"])
        .run()
        .jsonl();
    assert_eq!(firehose.len(), events.len());
    assert!(firehose.iter().all(|e| e["cursor"].is_string()));
}

#[test]
fn a009_a_closed_pipe_ends_quietly() {
    let env = TestEnv::new();
    let pod = env.fake_pod("pipe").plain().make();
    let gate = env.gate("open");
    let prompt = format!("[[lines 100000]]{}[[print last]][[exit 5]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    for args in [
        &["logs", "-f", &id][..],
        &["logs", "-f", "--raw", &id],
        &["events", "-f", "--since", "1h"],
    ] {
        let mut child = env.cldpd(args).spawn_unread();
        let mut first = String::new();
        let mut pipe = BufReader::with_capacity(64, child.stdout.take().expect("piped"));
        pipe.read_line(&mut first).expect("a first line");
        assert!(!first.is_empty(), "{args:?}");
        drop(pipe);
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("piped");
        pipe.read_to_string(&mut stderr).expect("UTF-8");
        assert_eq!(stderr, "", "{args:?}");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{args:?}: {status}");
    }
    gate.open();
    assert_eq!(env.wait(&id), 5, "the session never noticed");
    assert!(env.said(&id).ends_with("line 0100000\nlast\n"));
}
