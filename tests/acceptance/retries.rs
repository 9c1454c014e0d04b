//! Trying again what an API did not answer.

use crate::support::TestEnv;
use crate::support::events::{of_kind, outcome};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const SOON: &str = "[agents]\nretry_after = \"100ms\"\n";
const LATE: &str = "[agents]\nretry_after = \"1h\"\n";
const SECRET: &str = "DEPLOY_TOKEN=hush-hush-hush";

fn runs(env: &TestEnv, id: &str) -> Vec<Value> {
    let runs = env.inspect(id)["record"]["runs"].clone();
    runs.as_array().cloned().expect("runs")
}

fn hows(env: &TestEnv, id: &str) -> Vec<String> {
    let how = |run: &Value| run["how"].as_str().unwrap_or_default().to_owned();
    runs(env, id).iter().map(how).collect()
}

fn why(env: &TestEnv, id: &str) -> String {
    let ended = of_kind(&env.events(id), "run_ended").pop().cloned();
    let why = ended.expect("an end")["why"].clone();
    why.as_str().expect("a reason").to_owned()
}

/// The file with the values of a session's first run.
fn values(env: &TestEnv, id: &str) -> PathBuf {
    let dir = env.inspect(id)["directory"].clone();
    Path::new(dir.as_str().expect("a path")).join("env.r0")
}

/// Waits until a session's first run is over and another one waits for its time.
fn await_retry(env: &TestEnv, id: &str) {
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", id]).spawn();
    follow.line("\"how\":\"retry\"");
}

#[test]
fn a069_what_an_api_did_not_answer_is_tried_again() {
    let env = TestEnv::new();
    env.config(SOON);
    let pod = env.docker_pod("again").json(json!({"retries": 1}));
    let pod = pod.template("[[print from the template]]").make();
    let prompt = "[[refuse 2 529 Overloaded]][[print done]][[env DEPLOY_TOKEN]]";
    let args = [
        "start",
        &pod,
        "--retries",
        "3",
        "--env",
        SECRET,
        "--prompt",
        prompt,
    ];
    let output = env.cldpd(args).run().ok();
    // Who follows sees it to its end, each thing once.
    for said in ["from the template", "done", "[redacted:DEPLOY_TOKEN]"] {
        assert_eq!(output.matches(said).count(), 1, "{said}: {output}");
    }
    let id = env.cldpd(["ps", "-a", "-q"]).run().ok().trim().to_owned();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(outcome(&env.session(&id)), "success");
    assert_eq!(hows(&env, &id), ["new", "retry", "retry"]);
    let events = env.events(&id);
    let queued = of_kind(&events, "queued");
    let prompts: Vec<&Value> = queued
        .iter()
        .skip(1)
        .map(|event| &event["prompt"])
        .collect();
    assert_eq!(prompts, [prompt, prompt], "without the template");
    let tries = queued
        .iter()
        .map(|event| event["retry"]["attempt"].as_u64());
    assert_eq!(tries.collect::<Vec<_>>(), [None, Some(1), Some(2)]);
    let outcomes = of_kind(&events, "run_ended").into_iter();
    let outcomes: Vec<&Value> = outcomes.map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes, ["api_error", "api_error", "success"]);
    let argv = env.inspect(&id)["argv"].to_string();
    assert!(argv.contains("--resume"), "{argv}");
    assert!(!values(&env, &id).exists());
    // The same conversation, told once each time.
    let usage = &env.session(&id)["usage"];
    let of_runs = runs(&env, &id);
    let input = |run: &Value| {
        let models = run["account"]["models"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        models
            .values()
            .filter_map(|usage| usage["input"].as_u64())
            .sum::<u64>()
    };
    assert_eq!(
        usage["input"].as_u64(),
        Some(of_runs.iter().map(input).sum())
    );
}

#[test]
fn a069_the_first_error_is_told_where_it_does_not_help() {
    let env = TestEnv::new();
    env.config(SOON);
    let pod = env.local_pod("never").make();
    let prompt = "[[refuse 1 529 Overloaded]][[refuse 9 500 Broken]]";
    let id = env.start(&[&pod, "--retries", "1", "--env", SECRET, "--prompt", prompt]);
    assert_eq!(env.wait(&id), 1);
    assert_eq!(hows(&env, &id), ["new", "retry"]);
    assert_eq!(why(&env, &id), "Overloaded\nthe last retry: Broken");
    assert!(!values(&env, &id).exists());
    // An agent that takes messages while it works is tried again as any other.
    let steered = env.local_pod("steered").json(json!({"steer": true})).make();
    let prompt = "[[refuse 1 529 Overloaded]][[print done]]";
    let id = env.start(&[&steered, "--retries", "1", "--prompt", prompt]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(hows(&env, &id), ["new", "retry"]);
    // The conversation is too long: it is shortened first.
    let prompt = "[[refuse 1 400 Prompt is too long]][[print fits]]";
    let id = env.start(&[&pod, "--retries", "1", "--prompt", prompt]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(hows(&env, &id), ["new", "retry", "retry"]);
    let events = env.events(&id);
    let asked = of_kind(&events, "queued").into_iter();
    let asked: Vec<&Value> = asked.map(|event| &event["prompt"]).collect();
    assert_eq!(asked, [prompt, "/compact", prompt]);
    let prompt = "[[refuse 9 400 Prompt is too long]]";
    let id = env.start(&[&pod, "--retries", "5", "--prompt", prompt]);
    assert_eq!(env.wait(&id), 1);
    assert_eq!(hows(&env, &id).len(), 3, "once is enough");
    assert_eq!(why(&env, &id), "Prompt is too long");
}

#[test]
fn a069_nothing_else_is_tried_again() {
    let env = TestEnv::new();
    env.config(SOON);
    let pod = env.local_pod("once").json(json!({"retries": 2})).make();
    for prompt in [
        "[[refuse 9 401 Not you]]",
        "[[refuse 9 403 Not you]]",
        "[[refuse 9 400 Nonsense]]",
        "[[exit 1]]",
        "[[die KILL]]",
        "[[maxturns]]",
    ] {
        let id = env.start(&[&pod, "--env", SECRET, "--prompt", prompt]);
        assert_ne!(env.wait(&id), 0, "{prompt}");
        assert_eq!(hows(&env, &id), ["new"], "{prompt}");
        assert!(!values(&env, &id).exists(), "{prompt}");
    }
    let id = env.start(&[
        &pod,
        "--retries",
        "0",
        "--prompt",
        "[[refuse 9 529 Overloaded]]",
    ]);
    assert_eq!(env.wait(&id), 1);
    assert_eq!(hows(&env, &id), ["new"]);
    // Stopped, it is over, whatever it says then.
    let prompt = "[[ignore TERM]][[result is_error=true terminal_reason=api_error]][[print up]][[sleep 600000]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    env.await_line(&id, "up");
    env.cldpd(["stop", "-t", "0", &id]).run().ok();
    assert_eq!(hows(&env, &id), ["new"]);
    // A prompt that waits goes on with the conversation instead.
    let gate = env.gate("hold");
    let prompt = format!("[[print up]]{}[[refuse 9 529 Overloaded]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "up");
    env.cldpd(["resume", "-d", &id, "--prompt", "[[print went on]]"])
        .run()
        .ok();
    gate.open();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(hows(&env, &id), ["new", "next"]);
    let wrong = ["start", "-d", &pod, "--retries", "11", "--prompt", "x"];
    env.cldpd(wrong).run().code(2);
}

#[test]
fn a069_who_waits_for_its_retry_is_seen_and_can_be_stopped() {
    let env = TestEnv::new();
    env.config(LATE);
    let pod = env.docker_pod("waits").make();
    let prompt = "[[refuse 1 529 Overloaded]][[env DEPLOY_TOKEN]]";
    let start = || {
        let id = env.start(&[&pod, "--retries", "1", "--env", SECRET, "--prompt", prompt]);
        await_retry(&env, &id);
        id
    };
    let (stopped, removed) = (start(), start());
    env.kill_daemon();
    env.start_daemon();
    for id in [&stopped, &removed] {
        let row = env.session(id);
        assert_eq!(row["state"], "queued");
        assert_eq!(row["waits_for"]["reason"], "retry");
        let mode = values(&env, id)
            .metadata()
            .expect("they are kept")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    let table = env.cldpd(["ps"]).run().ok();
    assert_eq!(table.matches("queued (retry in ").count(), 2, "{table}");
    let file = values(&env, &stopped);
    env.cldpd(["stop", &stopped]).run().ok();
    assert_eq!(env.wait(&stopped), 1);
    assert_eq!(outcome(&env.session(&stopped)), "api_error");
    assert!(!file.exists());
    let file = values(&env, &removed);
    env.cldpd(["rm", "-f", &removed]).run().ok();
    assert!(!file.exists());
    // What the journal says of all this has no value.
    let all = env.cldpd(["events", "--since", "1h", "--json"]).run().ok();
    assert!(!all.contains("hush-hush-hush"));
}

#[test]
fn a069_a_retry_comes_also_where_the_daemon_died_meanwhile() {
    let env = TestEnv::new();
    env.config("[agents]\nretry_after = \"2s\"\n");
    let pod = env.docker_pod("dies").make();
    let prompt = "[[refuse 1 529 Overloaded]][[env DEPLOY_TOKEN]]";
    let id = env.start(&[&pod, "--retries", "1", "--env", SECRET, "--prompt", prompt]);
    await_retry(&env, &id);
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(hows(&env, &id), ["new", "retry"]);
    assert!(env.said(&id).contains("[redacted:DEPLOY_TOKEN]"));
    assert!(!values(&env, &id).exists());
}

#[test]
fn a069_a_daemon_with_nothing_else_to_do_stays_for_a_retry() {
    let env = TestEnv::new();
    env.config("[daemon]\nidle_exit = \"1s\"\n[agents]\nretry_after = \"3s\"\n");
    let gate = env.gate("again");
    let pod = env.local_pod("alone").make();
    let prompt = format!("[[refuse 1 529 Overloaded]]{}", gate.hold());
    let id = env.start(&[&pod, "--retries", "1", "--prompt", &prompt]);
    // Nobody asks it anything meanwhile.
    drop(gate.meet());
    assert_eq!(env.wait(&id), 0);
}

#[cfg(feature = "failpoints")]
#[test]
fn a069_values_go_also_with_a_daemon_that_dies() {
    for (point, retries) in [("run.ended", "1"), ("launch.recorded", "0")] {
        let env = TestEnv::new();
        let pod = env.local_pod("dies").make();
        let start = env.cldpd(["daemon", "start"]);
        let armed = format!("{point}=kill");
        start.env("CLDPD_FAILPOINTS", armed).run().ok();
        let pid = env.daemon_pid();
        let args = [&pod, "--retries", retries, "--env", SECRET, "--prompt"];
        let id = env.start(&[&args[..], &["[[print done]]"]].concat());
        crate::support::procfs::await_death(pid);
        env.start_daemon();
        assert_eq!(env.wait(&id), 0);
        assert!(!values(&env, &id).exists(), "{point}");
    }
}
