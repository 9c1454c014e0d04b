//! How far an agent may go: turns, money, silence.

use crate::support::TestEnv;
use crate::support::events::{of_kind, only, outcome};
use serde_json::{Value, json};

/// A step of opencode's, at that price, after which it goes on or not.
fn step(cost: &str, goes_on: bool) -> String {
    let reason = if goes_on { "tool-calls" } else { "stop" };
    format!(
        r#"[[print {{"type":"step_finish","sessionID":"ses_1","part":{{"reason":"{reason}","cost":{cost},"tokens":{{"input":10,"output":5}} }} }}]]"#
    )
}

fn why(env: &TestEnv, id: &str) -> String {
    let ended = of_kind(&env.events(id), "run_ended").pop().cloned();
    let why = ended.expect("an end")["why"].clone();
    why.as_str().expect("a reason").to_owned()
}

fn last_run(env: &TestEnv, id: &str) -> Value {
    let runs = env.inspect(id)["record"]["runs"].clone();
    runs.as_array()
        .and_then(|runs| runs.last().cloned())
        .expect("a run")
}

#[test]
fn turns_are_counted_also_over_daemons_that_die() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.docker_pod("turns").json(json!({"maxTurns": 9})).make();
    let prompt = format!(
        "[[print one]]{}[[tool Bash two]][[print three]][[sleep 600000]]",
        gate.hold()
    );
    let id = env.start(&[&pod, "--max-turns", "2", "--prompt", &prompt]);
    env.await_line(&id, "one");
    env.kill_daemon();
    gate.open();
    env.start_daemon();
    assert_eq!(env.wait(&id), 1);
    assert_eq!(outcome(&env.session(&id)), "max_turns");
    let events = env.events(&id);
    assert_eq!(only(&events, "stopping")["by"], "max_turns");
    assert_eq!(only(&events, "container_exited")["code"], 143);
    assert_eq!(why(&env, &id), "it took more than 2 turns");
    // The agent was told, too.
    let seen = env.inspect(&id);
    assert_eq!(seen["spec"]["max_turns"], 2);
    assert!(seen.to_string().contains("\"--max-turns\",\"2\""), "{seen}");
    // Each prompt has its own; one that needs no more is not stopped.
    let more = ["resume", &id, "--prompt", "[[print four]][[print five]]"];
    env.cldpd(more).run().ok();
    let all = ["resume", &id, "--max-turns", "1", "--prompt"];
    let all = env.cldpd(
        all.into_iter()
            .chain(["[[print a]][[print b]][[sleep 600000]]"]),
    );
    all.run().code(1);
    assert_eq!(last_run(&env, &id)["bounds"], json!({"max_turns": 1}));
}

#[test]
fn a_session_costs_no_more_than_it_may() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let speaks = json!({"command": {"output": "opencode"}, "maxCost": 1});
    let pod = env.docker_pod("budget").plain().json(speaks).make();
    let id = env.start(&[&pod, "--prompt", &step("0.4", false)]);
    assert_eq!(env.wait(&id), 0);
    let prompt = format!(
        "{}[[print said]]{}{}[[sleep 600000]]",
        step("0.4", true),
        gate.hold(),
        step("0.4", true)
    );
    env.cldpd(["resume", "-d", &id, "--prompt", &prompt])
        .run()
        .ok();
    env.await_line(&id, "said");
    env.kill_daemon();
    gate.open();
    env.start_daemon();
    assert_eq!(env.wait(&id), 75);
    assert_eq!(outcome(&env.session(&id)), "budget");
    assert_eq!(only(&env.events(&id), "stopping")["by"], "budget");
    let told = why(&env, &id);
    assert_eq!(told, "the session may cost $1.00; $1.20 are spent");
    // Nothing is left, so nothing more is taken on; but the user may give more.
    let refused = env.cldpd(["resume", &id, "--prompt", "x"]).run().code(75);
    assert!(
        refused.stderr.contains("may cost $1.00"),
        "{}",
        refused.stderr
    );
    let more = ["resume", &id, "--max-cost", "1.5", "--prompt"];
    let prompt = step("0.2", false);
    env.cldpd(more.into_iter().chain([prompt.as_str()]))
        .run()
        .ok();
    // What waited for a run that spent it all does not begin.
    let gate = env.gate("first");
    let prompt = format!("[[print up]]{}{}", gate.hold(), step("0.2", false));
    let more = [
        "resume",
        "-d",
        "--max-cost",
        "1.5",
        &id,
        "--prompt",
        &prompt,
    ];
    env.cldpd(more).run().ok();
    env.await_line(&id, "up");
    let more = ["resume", "-d", "--max-cost", "1.5", &id, "--prompt", "x"];
    env.cldpd(more).run().ok();
    gate.open();
    assert_eq!(env.wait(&id), 75);
    assert!(
        only(&env.events(&id), "error")["message"]
            .to_string()
            .contains("$1.50")
    );
}

#[test]
fn what_nobody_can_count_is_refused() {
    let env = TestEnv::new();
    let pod = env.fake_pod("plain").plain().make();
    let codex = env
        .fake_pod("codex")
        .json(json!({"agent": "codex", "maxCost": 5}))
        .make();
    let start = |args: &[&str]| {
        env.cldpd(["start", "-d"].iter().chain(args))
            .run()
            .code(2)
            .stderr
    };
    let said = start(&[&pod, "--max-cost", "5", "--prompt", "x"]);
    assert!(said.contains("does not say what it costs"), "{said}");
    let said = start(&[&pod, "--max-turns", "5", "--prompt", "x"]);
    assert!(said.contains("turns cannot be counted"), "{said}");
    let said = start(&[&codex, "--prompt", "x"]);
    assert!(said.contains("codex does not say what it costs"), "{said}");
    let said = start(&[&pod, "--max-cost", "much", "--prompt", "x"]);
    assert!(said.contains("'much'"), "{said}");
    assert_eq!(env.cldpd(["sessions", "-a", "-q"]).run().ok(), "");
    // Said as 0 it is none, over the pod's; another agent may have prices.
    for more in [["--max-cost", "0"], ["--agent", "claude"]] {
        env.start(&[&codex, more[0], more[1], "--prompt", "[[exit 0]]"]);
    }
}

#[test]
fn a_silence_ends_where_its_session_says() {
    let env = TestEnv::new();
    env.config("[agents]\nsilent_after = \"150ms\"\non_silence = \"stop\"\n");
    let pod = env
        .docker_pod("idle")
        .plain()
        .json(json!({"idleTimeout": "3s"}))
        .make();
    let (late, hold) = (env.gate("late"), env.gate("hold"));
    let prompt = format!("[[print up]][[sleep 3500]]{}[[sleep 600000]]", late.hold());
    let idle = env.start(&[&pod, "--prompt", &prompt]);
    let prompt = format!("[[print up]]{}", hold.hold());
    let patient = env.start(&[&pod, "--idle-timeout", "0", "--prompt", &prompt]);
    for id in [&idle, &patient] {
        env.await_line(id, "up");
    }
    // Nobody listens when it is over; who comes next knows since when.
    env.kill_daemon();
    late.open();
    env.start_daemon();
    assert_eq!(env.wait(&idle), 124);
    assert_eq!(outcome(&env.session(&idle)), "idle");
    assert_eq!(only(&env.events(&idle), "stopping")["by"], "silence");
    assert_eq!(why(&env, &idle), "it said nothing for 3 s");
    // The session's word goes over the daemon's.
    let follow = env
        .cldpd(["logs", "-f", "--format", "jsonl", &patient])
        .spawn();
    follow.line("\"code\":\"silent\"");
    hold.open();
    assert_eq!(env.wait(&patient), 0);
}
