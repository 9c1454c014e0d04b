//! What a user of the command line met by hand, and shall not meet again.

pub mod completion;
mod config;
mod doctor;
mod snapshots;
mod stats;

use crate::support::TestEnv;
use crate::support::events::{of_run, only, outcome};
use rustix::process::Signal;
use serde_json::json;

/// A session that says `ready` and then works until it is stopped.
fn working(env: &TestEnv, pod: &str) -> String {
    let id = env.start(&[pod, "--prompt", "[[print ready]][[sleep 600000]]"]);
    env.await_line(&id, "ready");
    id
}

#[test]
fn a_stop_takes_back_what_waits_behind() {
    let env = TestEnv::new();
    let pod = env.fake_pod("stop").make();
    let id = working(&env, &pod);
    for prompt in ["[[print second]]", "[[print third]]"] {
        env.cldpd(["resume", "-d", &id, "--prompt", prompt])
            .run()
            .ok();
    }
    env.cldpd(["stop", &id]).run().ok();
    let session = env.session(&id);
    assert_eq!(
        (&session["state"], outcome(&session), &session["runs"]),
        (&json!("ended"), "stopped", &json!(3)),
        "{session}"
    );
    let events = env.events(&id);
    for run in [1, 2] {
        let of_run = of_run(&events, run);
        assert_eq!(outcome(only(&of_run, "run_ended")), "cancelled");
        assert!(of_run.iter().all(|event| event["kind"] != "run_started"));
    }
    assert_eq!(env.wait(&id), 143);
}

#[test]
fn ctrl_c_on_a_resume_that_waits_takes_it_back_at_once() {
    let env = TestEnv::new();
    let pod = env.fake_pod("wait").make();
    let gate = env.gate("hold");
    let prompt = format!("[[print ready]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let resume = env
        .cldpd(["resume", &id, "--prompt", "[[print second]]"])
        .spawn();
    let follow = env.cldpd(["logs", "-f", "--json", &id]).spawn();
    follow.line("\"how\":\"next\"");
    drop(follow);
    resume.signal(Signal::INT);
    resume.finish().code(130);
    assert_eq!(env.session(&id)["state"], "running");
    gate.open();
    // What was taken back says nothing of how the session ended.
    assert_eq!(env.wait(&id), 0);
    assert_eq!(outcome(&env.session(&id)), "success");
    env.cldpd(["resume", &id, "--prompt", "[[print fourth]]"])
        .run()
        .ok();
}

#[test]
fn a_resume_without_an_engine_is_refused() {
    let env = TestEnv::new();
    let pod = env.fake_pod("away").make();
    let id = env.start(&[&pod, "--prompt", "[[print one]]"]);
    assert_eq!(env.wait(&id), 0);
    let before = env.events(&id);
    let engine = env.home().join("pods/fake.json");
    let away = json!({"unavailable": "connection refused"});
    std::fs::write(&engine, away.to_string()).expect("the home is ours");
    let output = env.cldpd(["resume", &id, "--prompt", "x"]).run().code(69);
    assert!(
        output
            .stderr
            .starts_with("error: fake is not available: connection refused"),
        "{}",
        output.stderr
    );
    assert_eq!(env.events(&id), before);
}

#[test]
fn nothing_asked_is_answered_with_help_whatever_the_home() {
    let env = TestEnv::new();
    let none: [&str; 0] = [];
    let output = env.cldpd(none).run().code(2);
    assert!(
        output.stderr.contains("Usage: cldpd") && output.stdout.is_empty(),
        "{}",
        output.stderr
    );
    // An empty variable is none.
    env.cldpd(["version"]).env("CLDPD_HOME", "").run().ok();
}

#[test]
fn filters_are_checked() {
    let env = TestEnv::new();
    for (args, told) in [
        (["sessions", "--state", "runing"], "stopping, ended"),
        (["sessions", "--pod", "../x"], "invalid pod name"),
        (["sessions", "--label", "=x"], "names no label"),
        (["events", "--kind", "ended"], "run_ended"),
        (["events", "--pod", "X"], "invalid pod name"),
        (["start", "p", "--issue=42"], "is no URL"),
    ] {
        let output = env.cldpd(args).run().code(2);
        assert!(output.stderr.contains(told), "{args:?}: {}", output.stderr);
    }
    let output = env.cldpd(["wait", "--run", "x", "s"]).run().code(2);
    assert!(
        output
            .stderr
            .starts_with("error: invalid value 'x' for --run <N>: not a whole number"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_second_daemon_by_hand_says_so_once() {
    let env = TestEnv::new();
    env.start_daemon();
    let output = env.cldpd(["daemon", "run"]).run().code(5);
    assert_eq!(output.text(), "");
    assert_eq!(output.stderr.matches("another daemon").count(), 1);
}

#[test]
fn a_pod_is_shown_with_its_last_use() {
    let env = TestEnv::new();
    let pod = env.fake_pod("shown").make();
    let show = || env.cldpd(["pod", "show", &pod, "--json"]).run().json();
    assert_eq!(show()["last_used"], json!(null));
    let id = env.start(&[&pod, "--prompt", "x"]);
    env.wait(&id);
    assert!(show()["last_used"].is_string(), "{}", show());
}

#[test]
fn a_command_that_is_not_there_comes_with_a_way_out() {
    let env = TestEnv::new();
    let pod = env
        .local_pod("bare")
        .no_dockerfile()
        .json(json!({"env": {"PATH": "/nonexistent"}}))
        .make();
    let output = env.cldpd(["start", &pod, "--prompt", "x"]).run().code(127);
    assert!(
        output
            .stderr
            .contains("claude was not found in PATH\nhint: set PATH in \"env\" of "),
        "{}",
        output.stderr
    );
}

#[test]
fn rm_all_takes_live_sessions_only_by_force() {
    let env = TestEnv::new();
    let pod = env.local_pod("all").plain().make();
    let ended = env.start(&[&pod, "--prompt", "[[exit 0]]"]);
    assert_eq!(env.wait(&ended), 0);
    let live = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    env.await_line(&live, "up");
    let removed = env.cldpd(["rm", "--all", "--yes"]).run().ok();
    assert_eq!(removed.trim(), ended);
    let removed = env.cldpd(["rm", "--all", "--force", "--yes"]).run().ok();
    assert_eq!(removed.trim(), live);
    assert_eq!(env.session(&live)["state"], "removed");
}
