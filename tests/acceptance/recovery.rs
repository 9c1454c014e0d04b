//! 5.5 and 5.15: what is left when the daemon dies at any moment.

use crate::support::engine;
use crate::support::events::{assert_dense, of_kind, only};
use crate::support::{TestEnv, numbered, procfs, scripted_agent, ticks};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a046_kill9_loses_nothing() {
    let env = TestEnv::new();
    let pod = env.docker_pod("tick").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[tick 1000 10]][[exit 6]]"]);
    // Three times, at different lines, and once with a moment without any daemon.
    for line in ["tick 50", "tick 333", "tick 600"] {
        env.await_line(&id, line);
        env.kill_daemon();
        env.start_daemon();
        assert_eq!(env.daemon()["adopted"], 1);
    }
    assert_eq!(env.wait(&id), 6);
    assert_eq!(env.said(&id), ticks(1000), "every line once, in order");
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(
        of_kind(&events, "run_started").len(),
        1,
        "the prompt was sent once"
    );
    assert_eq!(of_kind(&events, "creating").len(), 1);
    assert_eq!(only(&events, "container_exited")["code"], 6);
    let ulid = env.session(&id)["ulid"]
        .as_str()
        .expect("a ULID")
        .to_owned();
    let containers = engine::containers_with_label(&format!("cldpd.session={ulid}"));
    assert_eq!(containers.len(), 1);
}

#[test]
fn a047_what_ended_without_the_daemon_has_its_true_end() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.docker_pod("meanwhile").plain().make();
    let prompt = format!("[[print before]]{}[[print after]][[exit 9]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "before");
    let container = format!("cldpd-{id}-r0");
    env.kill_daemon();
    gate.open();
    engine::await_exit(&container);

    let restarted = Instant::now();
    env.start_daemon();
    assert_eq!(env.wait(&id), 9);
    assert!(
        restarted.elapsed() < Duration::from_secs(5),
        "{:?}",
        restarted.elapsed()
    );
    assert_eq!(env.said(&id), "before\nafter\n");
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(only(&events, "container_exited")["code"], 9);
    assert_eq!(of_kind(&events, "run_started").len(), 1);
    // It ended before this daemon was there to see it, and says so.
    let since = env.daemon()["since"].as_str().expect("a time").to_owned();
    let ended = env.session(&id)["ended"]
        .as_str()
        .expect("a time")
        .to_owned();
    assert!(ended < since, "ended {ended}, daemon since {since}");
    let finished = engine::inspect_json(&container)["State"]["FinishedAt"]
        .as_str()
        .expect("a time")
        .to_owned();
    assert_eq!(
        ended[..15],
        finished[..15],
        "within seconds of the engine's word"
    );
}

#[test]
fn a050_fifty_sessions_that_talk_at_once_lose_nothing() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_parallel = 50\n");
    let pod = env.local_pod("talk").plain().make();
    // A thousand lines a second, for ten seconds.
    let second = "[[lines 10]][[sleep 10]]".repeat(100);
    let prompt = format!("{}[[exit 3]]", second.repeat(10));
    let ids = env.start_many(&[&pod, "--count", "50", "--prompt", &prompt]);
    assert_eq!(ids.len(), 50);
    // Lists are answered meanwhile, with all of them in it.
    env.await_line(&ids[49], "line 0000010");
    let rows = env.cldpd(["sessions", "--json"]).run().json();
    assert_eq!(rows.as_array().map(Vec::len), Some(50));
    let waited = ids.iter().map(|id| env.cldpd(["wait", id]).spawn());
    for wait in waited.collect::<Vec<_>>() {
        wait.finish().code(3);
    }
    let expected = numbered(10).repeat(1000);
    for id in &ids {
        assert!(env.said(id) == expected, "{id} lost or doubled something");
        assert_eq!(env.session(id)["state"], "ended");
    }
    let verified = env.cldpd(["journal", "verify", "--json"]).run().json();
    assert_eq!(verified["damage"].as_array().map(Vec::len), Some(0));
}

/// A while, in which nothing of this test has to be awake.
fn a_while(ms: u32) {
    let mut agent = Command::new(scripted_agent())
        .stdin(Stdio::null())
        .env("CLDPD_SCRIPT", format!("[[sleep {ms}]]"))
        .spawn()
        .expect("the scripted agent is built");
    assert!(agent.wait().expect("ours").success());
}

#[test]
fn a046_a_machine_that_was_asleep_loses_nothing() {
    let env = TestEnv::new();
    let pod = env.local_pod("asleep").plain().make();
    let ids = env.start_many(&[
        &pod,
        "--count",
        "3",
        "--prompt",
        "[[tick 200 10]][[exit 6]]",
    ]);
    let pid = env.daemon_pid();
    for line in ["tick 30", "tick 120"] {
        env.await_line(&ids[0], line);
        // Everything of it: the daemon, shims, agents.
        let all = procfs::processes_of(env.root());
        assert!(all.len() > 6, "{all:?}");
        let send = |signal: Signal| {
            for (pid, _) in &all {
                // Some are over at any moment.
                let _ = kill_process(Pid::from_raw(*pid).expect("a pid"), signal);
            }
        };
        send(Signal::STOP);
        a_while(8000);
        send(Signal::CONT);
    }
    for id in &ids {
        assert_eq!(env.wait(id), 6);
        assert_eq!(env.said(id), ticks(200), "every line once, in order");
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(of_kind(&events, "run_started").len(), 1);
    }
    assert_eq!(env.daemon_pid(), pid);
}

#[test]
fn a051_the_end_is_known_to_everybody_who_asks() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("wait").plain().make();
    let id = env.start(&[
        &pod,
        "--prompt",
        &format!("[[lines 5000]]{}[[exit 33]]", gate.hold()),
    ]);
    let waiters: Vec<_> = (0..20).map(|_| env.cldpd(["wait", &id]).spawn()).collect();
    gate.open();
    for waiter in waiters {
        assert_eq!(waiter.finish().code(33).text(), "33\n");
    }
    assert_eq!(env.cldpd(["wait", &id]).run().code(33).text(), "33\n");
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(
        env.cldpd(["wait", &id]).run().code(33).text(),
        "33\n",
        "from the journal"
    );
    // Several at once: the first that is not 0.
    let good = env.start(&[&pod, "--prompt", "[[exit 0]]"]);
    let bad = env.start(&[&pod, "--prompt", "[[exit 12]]"]);
    let output = env.cldpd(["wait", &good, &bad, &id]).run().code(12);
    assert_eq!(output.text().lines().count(), 3, "{}", output.text());
}

#[test]
fn a126_any_interleaving_leaves_one_start_and_one_end() {
    let env = TestEnv::new();
    let pod = env.fake_pod("chaos").plain().make();
    let mut ids = env.start_many(&[&pod, "--count", "4", "--prompt", "[[tick 300 3]][[exit 2]]"]);
    let stubborn = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    env.await_line(&ids[0], "tick 20");
    env.kill_daemon();
    // A session that is dispatched by the client that starts the next daemon.
    ids.push(env.start(&[&pod, "--prompt", "[[tick 50 3]][[exit 2]]"]));
    env.await_line(&ids[1], "tick 120");
    let stop = env.cldpd(["stop", &stubborn]).spawn();
    env.kill_daemon();
    env.start_daemon();
    stop.finish();
    env.await_line(&ids[2], "tick 200");
    env.kill_daemon();
    env.cldpd([
        "resume",
        "-d",
        &ids[3],
        "--prompt",
        "[[print again]][[exit 2]]",
    ])
    .run()
    .ok();
    env.kill_daemon();
    env.start_daemon();
    for id in &ids {
        assert_eq!(env.wait(id), 2, "{id}");
    }
    env.cldpd(["stop", &stubborn]).run().ok();

    let mut expected = vec![ticks(300); 4];
    expected[3].push_str("again\n");
    expected.push(ticks(50));
    for (id, expected) in ids.iter().zip(expected) {
        assert_eq!(env.said(id), expected, "{id}");
    }
    ids.push(stubborn);
    for id in &ids {
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(of_kind(&events, "created").len(), 1);
        let runs = of_kind(&events, "queued").len();
        for run in 0..runs as u64 {
            let of_run: Vec<Value> = events.iter().filter(|e| e["run"] == run).cloned().collect();
            assert_eq!(of_kind(&of_run, "run_started").len(), 1, "{id} run {run}");
            assert_eq!(
                of_kind(&of_run, "container_started").len(),
                1,
                "{id} run {run}"
            );
            let ends = of_kind(&of_run, "container_exited").len() + of_kind(&of_run, "error").len();
            assert_eq!(ends, 1, "{id} run {run}");
            assert_eq!(of_kind(&of_run, "run_ended").len(), 1, "{id} run {run}");
        }
    }
    // What a daemon knows is what the journal tells the next one.
    let live = env.cldpd(["sessions", "-a", "--json"]).run().json();
    let details: Vec<Value> = ids
        .iter()
        .map(|id| env.inspect(id)["record"].clone())
        .collect();
    env.stop_daemon();
    assert_eq!(env.cldpd(["sessions", "-a", "--json"]).run().json(), live);
    let replayed: Vec<Value> = ids
        .iter()
        .map(|id| env.inspect(id)["record"].clone())
        .collect();
    assert_eq!(replayed, details);
}
