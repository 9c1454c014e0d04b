//! 5.7: one conversation, many runs.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::{of_kind, of_run, only};
use serde_json::Value;

/// The agent's own session id, as it was recorded.
fn agent_session(env: &TestEnv, id: &str) -> String {
    let record = env.inspect(id)["record"].clone();
    let ids = record["agent_sessions"].as_array().expect("ids").clone();
    ids.last()
        .and_then(Value::as_str)
        .expect("an id")
        .to_owned()
}

#[test]
fn a066_resume_of_a_running_session_waits() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.docker_pod("talk").make();
    let prompt = format!("[[remember the plan]][[print ready]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_event(&id, "agent");
    env.await_line(&id, "ready");
    let conversation = agent_session(&env, &id);

    // The pod's only live session is meant; its prompt waits, visibly.
    let resume = env
        .cldpd(["resume", &pod, "--prompt", "[[recall]][[args]]"])
        .spawn();
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    follow.line("\"how\":\"next\"");
    drop(follow);
    let row = env.session(&id);
    assert_eq!(
        (&row["state"], &row["runs"]),
        (&"running".into(), &2.into())
    );
    gate.open();
    let output = resume.finish().code(0);
    assert!(output.text().contains("the plan"), "{}", output.text());
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    let second = of_run(&events, 1);
    let raw = second.iter().map(Value::to_string).collect::<String>();
    assert!(
        raw.contains("--resume") && raw.contains(&conversation),
        "{raw}"
    );
    let first_end = events
        .iter()
        .position(|e| e["kind"] == "run_ended")
        .expect("an end");
    let second_start = events
        .iter()
        .position(|e| e["kind"] == "run_started" && e["run"] == 1);
    assert!(
        second_start.is_some_and(|at| at > first_end),
        "one after the other"
    );

    let gates = [env.gate("a"), env.gate("b")];
    let ids: Vec<String> = gates
        .iter()
        .map(|gate| env.start(&[&pod, "--prompt", &format!("[[print up]]{}", gate.hold())]))
        .collect();
    for id in &ids {
        env.await_line(id, "up");
    }
    let output = env.cldpd(["resume", &pod, "--prompt", "x"]).run().code(2);
    for id in &ids {
        assert!(output.stderr.contains(id), "{}", output.stderr);
    }
    assert!(
        !output.stderr.contains(&id),
        "only live ones: {}",
        output.stderr
    );
    env.cldpd(["resume", "-d", &ids[1], "--prompt", "[[print chosen]]"])
        .run()
        .ok();
    for gate in &gates {
        gate.open();
    }
    for id in &ids {
        assert_eq!(env.wait(id), 0);
    }
    assert_eq!(env.session(&ids[0])["runs"], 1);
    assert_eq!(env.session(&ids[1])["runs"], 2);
}

#[test]
fn a067_resume_of_an_ended_session_goes_on_where_it_was() {
    let env = TestEnv::new();
    let pod = env.docker_pod("again").make();
    let id = env.start(&[
        &pod,
        "--prompt",
        "[[remember blue]][[write /tmp/work.txt half done]][[cwd]]",
    ]);
    assert_eq!(env.wait(&id), 0);
    let conversation = agent_session(&env, &id);
    // A pod that has changed since does not change a conversation.
    let dockerfile = env.home().join("pods").join(&pod).join("Dockerfile");
    std::fs::write(dockerfile, "FROM scratch\nCOPY nowhere /\n").expect("the home is ours");

    let prompt = "[[recall]][[read /tmp/work.txt]][[cwd]][[args]][[exit 4]]";
    let output = env.cldpd(["resume", &id, "--prompt", prompt]).run().code(4);
    for needle in ["blue", "half done", "--resume", &conversation, "/tmp"] {
        assert!(
            output.text().contains(needle),
            "{needle} in {}",
            output.text()
        );
    }
    assert!(
        !output.text().contains("remember"),
        "only its own run is shown"
    );
    let row = env.session(&id);
    assert_eq!(
        (&row["runs"], &row["run"], &row["code"]),
        (&2.into(), &1.into(), &4.into())
    );
    assert_eq!(row["container"], format!("cldpd-{id}-r1"));
    let events = env.events(&id);
    let second = of_run(&events, 1);
    assert!(of_kind(&second, "build_started").is_empty());
    assert_eq!(only(&second, "queued")["how"], "next");

    // And on, from what the second left.
    env.cldpd([
        "resume",
        "-d",
        &pod,
        "--prompt",
        "[[recall]][[read /tmp/work.txt]]",
    ])
    .run()
    .ok();
    assert_eq!(env.wait(&id), 0);
    let third = env.cldpd(["logs", "--run", "2", &id]).run().ok();
    assert!(
        third.contains("blue") && third.contains("half done"),
        "{third}"
    );
    let (first, last) = (
        engine::inspect(&format!("cldpd-{id}-r2")),
        agent_session(&env, &id),
    );
    assert_eq!(last, conversation);
    let config = first.config.expect("a configuration");
    assert_eq!(config.working_dir.as_deref(), Some("/tmp"));

    let gone = env.cldpd(["rm", &id]).run().code(0);
    assert!(
        !engine::container_exists(&format!("cldpd-{id}-r2")),
        "{}",
        gone.stderr
    );
    let refused = env.cldpd(["resume", &id, "--prompt", "x"]).run();
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains(&id) && refused.stderr.contains("removed"),
        "{}",
        refused.stderr
    );
}
