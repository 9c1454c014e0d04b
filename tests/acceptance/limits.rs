//! What containers may use, and what happens to who wants more.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::{of_kind, only, outcome};
use serde_json::{Value, json};

fn host_config(id: &str) -> Value {
    engine::inspect_json(&format!("cldpd-{id}-r0"))["HostConfig"].clone()
}

/// What an engine says of a limit that is not there.
fn unlimited(value: &Value) -> bool {
    value.is_null() || *value == 0
}

#[test]
fn a028_limits_of_a_pod_are_the_containers() {
    let env = TestEnv::new();
    let pod = |name: &str, keys: Value| env.docker_pod(name).plain().json(keys).make();
    let run = |pod: &str| {
        let id = env.start(&[pod, "--prompt", "[[print done]]"]);
        assert_eq!(env.wait(&id), 0);
        host_config(&id)
    };
    let said = pod(
        "said",
        json!({"memory": 512, "cpus": 1.5, "pids": 64, "shm": "16m"}),
    );
    let host = run(&said);
    assert_eq!(host["Memory"], 536_870_912_u64);
    assert_eq!(host["MemorySwap"], 536_870_912_u64, "no swap beside it");
    assert_eq!(host["NanoCpus"], 1_500_000_000_u64);
    assert_eq!(host["PidsLimit"], 64);
    assert_eq!(host["ShmSize"], 16 << 20);

    let free = pod("free", json!({"memory": 0, "cpus": 0, "pids": 0}));
    let host = run(&free);
    for key in ["Memory", "NanoCpus", "PidsLimit"] {
        assert!(unlimited(&host[key]), "{key}: {host}");
    }

    let silent = pod("silent", json!({}));
    let host = run(&silent);
    assert!(host["Memory"].as_u64() > Some(0), "a default: {host}");
    assert_eq!(host["PidsLimit"], 4096);
    assert!(unlimited(&host["NanoCpus"]));

    for (keys, named) in [
        (json!({"memory": -1}), "memory"),
        (json!({"memory": "much"}), "memory"),
        (json!({"cpus": -0.5}), "cpus"),
        (json!({"cpus": "two"}), "cpus"),
        (json!({"pids": -1}), "pids"),
    ] {
        let wrong = env.pod("wrong").json(keys.clone()).make();
        let start = env
            .cldpd(["start", &wrong, "--prompt", "x"])
            .run()
            .code(125);
        assert!(
            start.stderr.contains("pod.json"),
            "{keys}: {}",
            start.stderr
        );
        assert!(start.stderr.contains(named), "{keys}: {}", start.stderr);
    }

    // What only the engine can refuse is told with the key.
    let many = pod("many", json!({"cpus": 100_000}));
    let start = env.cldpd(["start", &many, "--prompt", "x"]).run().code(125);
    assert!(start.stderr.contains("\"cpus\""), "{}", start.stderr);
    let ended = env.cldpd(["sessions", "-a", "--json"]).run().json();
    let id = ended[0]["id"].as_str().expect("an id").to_owned();
    let events = env.events(&id);
    assert_eq!(only(&events, "error")["code"], "container_failed");
}

#[test]
fn a028_the_user_of_a_pod_is_the_agents() {
    let env = TestEnv::new();
    // The image's user is root, and Claude Code is told so; the pod's is not.
    let root = env.docker_pod("root").make();
    let id = env.start(&[&root, "--prompt", "[[env IS_SANDBOX]]"]);
    assert_eq!(env.wait(&id), 0);
    let argv = env.inspect(&id)["argv"].to_string();
    assert!(env.said(&id).contains("IS_SANDBOX=1"), "{argv}");

    let shared = env.shared();
    let state = shared.join("state");
    std::fs::create_dir(&state).expect("our own directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&state, open).expect("our own directory");
    let pod = env
        .docker_pod("user")
        .json(json!({
            "user": "1234:77",
            "groupAdd": ["4242"],
            "env": {"CLDPD_SCRIPTED_STATE": state},
        }))
        .make();
    let own = state.join("own");
    let prompt = format!("[[env IS_SANDBOX]][[touch {}]]", own.display());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    assert_eq!(env.wait(&id), 0, "{}", env.said(&id));
    assert!(env.said(&id).contains("IS_SANDBOX is not set"));
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(&own).expect("the agent made it");
    assert_eq!((meta.uid(), meta.gid()), (1234, 77));
    let container = engine::inspect_json(&format!("cldpd-{id}-r0"));
    assert_eq!(container["Config"]["User"], "1234:77");
    assert_eq!(container["HostConfig"]["GroupAdd"], json!(["4242"]));

    // And of the next run.
    env.cldpd(["resume", "-d", &id, "--prompt", "[[env IS_SANDBOX]]"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    let container = engine::inspect_json(&format!("cldpd-{id}-r1"));
    assert_eq!(container["Config"]["User"], "1234:77");
    assert!(!env.said(&id).contains("IS_SANDBOX=1"));
}

#[test]
fn a064_a_child_killed_for_want_of_memory_is_noted_with_the_limit() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env
        .docker_pod("greedy")
        .plain()
        .json(json!({"memory": 64}))
        .make();
    let prompt = format!("[[glut 256]][[print lives on]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    let line = follow.line("oom_kill");
    let note: Value = serde_json::from_str(&line).expect("an event is JSON");
    let message = note["message"].as_str().expect("a message");
    assert!(message.contains("killed for want of memory"), "{message}");
    assert!(message.ends_with("the limit is 64 MiB"), "{message}");
    drop(follow);

    // A daemon that comes later hears of it again, and knows it.
    env.kill_daemon();
    env.start_daemon();
    env.await_line(&id, "lives on");
    gate.open();
    assert_eq!(env.wait(&id), 0, "the agent decides");
    assert!(
        env.said(&id).contains("glut: signal: 9"),
        "{}",
        env.said(&id)
    );
    let events = env.events(&id);
    assert_eq!(outcome(only(&events, "run_ended")), "success");
    let exited = only(&events, "container_exited");
    assert_eq!(
        (&exited["code"], &exited["oom_killed"]),
        (&json!(0), &json!(false))
    );
    let mut notes: Vec<&str> = of_kind(&events, "note")
        .iter()
        .filter(|note| note["code"] == "oom_kill")
        .filter_map(|note| note["message"].as_str())
        .collect();
    let all = notes.len();
    notes.dedup();
    assert_eq!(notes.len(), all, "none twice");
}
