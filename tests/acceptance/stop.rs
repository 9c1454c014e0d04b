//! 5.6: stopping sessions, and the daemon.

use crate::support::events::{of_kind, only, outcome};
use crate::support::{TestEnv, procfs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a061_stop_is_one_sequence_for_everybody() {
    let env = TestEnv::new();
    let pod = env.fake_pod("stop").plain().make();
    let id = env.start(&[
        &pod,
        "--prompt",
        "[[ignore TERM]][[print ready]][[sleep 600000]]",
    ]);
    env.await_line(&id, "ready");
    let asked = Instant::now();
    let stops: Vec<_> = (0..10)
        .map(|_| env.cldpd(["stop", "-t", "2", &id]).spawn())
        .collect();
    for stop in stops {
        stop.finish().code(0);
    }
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(1900) && took < Duration::from_secs(9),
        "{took:?}"
    );
    let events = env.events(&id);
    assert_eq!(of_kind(&events, "stopping").len(), 1);
    assert_eq!(only(&events, "container_exited")["code"], 137);
    assert_eq!(env.wait(&id), 137);

    // Again: nothing to do, and that is no error.
    let again = env.cldpd(["stop", &id]).run().code(0);
    assert!(
        (again.text() + &again.stderr).contains("has ended already"),
        "{} {}",
        again.text(),
        again.stderr
    );
    assert_eq!(env.events(&id), events);
    let unknown = env.cldpd(["stop", "nobody"]).run().code(3);
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);

    // A second stop with less grace shortens what is left.
    let id = env.start(&[
        &pod,
        "--prompt",
        "[[ignore TERM]][[print ready]][[sleep 600000]]",
    ]);
    env.await_line(&id, "ready");
    let asked = Instant::now();
    let patient = env.cldpd(["stop", "-t", "600", &id]).spawn();
    env.await_event(&id, "stopping");
    env.cldpd(["stop", "-t", "1", &id]).run().ok();
    patient.finish().code(0);
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(env.wait(&id), 137);

    // What has children leaves none.
    let id = env.start(&[
        &pod,
        "--prompt",
        "[[orphan 600000]][[print ready]][[sleep 600000]]",
    ]);
    env.await_line(&id, "ready");
    env.cldpd(["stop", "--all", "--yes"]).run().ok();
    assert_eq!(env.wait(&id), 143);
    let left: Vec<_> = procfs::processes_of(&env.root().join("bin"))
        .into_iter()
        .filter(|(_, arguments)| arguments.contains("claude"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a063_stopped_is_not_crashed() {
    let env = TestEnv::new();
    let pod = env.fake_pod("ends").plain().make();
    let stopped = env.start(&[&pod, "--prompt", "[[print ready]][[sleep 600000]]"]);
    env.await_line(&stopped, "ready");
    env.cldpd(["stop", &stopped]).run().ok();
    let crashed = env.start(&[&pod, "--prompt", "[[exit 1]]"]);
    let killed = env.start(&[&pod, "--prompt", "[[die TERM]]"]);
    let waiting = env
        .fake_pod("queue")
        .plain()
        .json(json!({"maxParallel": 1}))
        .make();
    let first = env.start(&[&waiting, "--prompt", "[[print ready]][[sleep 600000]]"]);
    env.await_line(&first, "ready");
    let cancelled = env.start(&[&waiting, "--prompt", "x"]);
    assert_eq!(env.session(&cancelled)["state"], "queued");
    assert_eq!(env.session(&cancelled)["position"], 1);
    env.cldpd(["stop", &cancelled]).run().ok();
    let oom = env
        .fake_pod("oom")
        .plain()
        .fake(json!({"exit": {"oom_killed": true}}))
        .make();
    let oom = env.start(&[&oom, "--prompt", "[[die KILL]]"]);

    for (id, code, expected) in [
        (&stopped, 143, "stopped"),
        (&crashed, 1, "failed"),
        (&killed, 143, "killed"),
        (&cancelled, 130, "cancelled"),
        (&oom, 137, "oom"),
    ] {
        assert_eq!(env.wait(id), code, "{expected}");
        assert_eq!(outcome(&env.session(id)), expected);
        assert_eq!(only(&env.events(id), "run_ended")["outcome"], expected);
    }
    assert!(of_kind(&env.events(&cancelled), "creating").is_empty());
    let table = env.cldpd(["sessions", "-a"]).run().ok();
    let row = |id: &str| table.lines().find(|line| line.contains(id)).expect("a row");
    assert!(row(&stopped).contains("stopped"), "{table}");
    assert!(row(&crashed).contains("(1)"), "{table}");
    assert!(row(&cancelled).contains("cancelled"), "{table}");
    env.cldpd(["stop", "--pod", &waiting, "--yes"]).run().ok();
}

#[test]
fn a065_the_daemon_goes_and_sessions_stay() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("stay").plain().make();
    let prompt = format!("[[lines 1000]][[print ready]]{}[[exit 5]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let follow = env.follow(&id);
    follow.line("ready");

    // One at a time.
    let second = env.cldpd(["daemon", "run"]).run();
    assert_ne!(second.code, 0);
    let pid = env.daemon_pid();
    assert!(
        second.stderr.contains(&pid.to_string()),
        "{}",
        second.stderr
    );

    let asked = Instant::now();
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::TERM).expect("it runs");
    procfs::await_death(pid);
    assert!(
        asked.elapsed() < Duration::from_secs(12),
        "{:?}",
        asked.elapsed()
    );
    // The reader found the next daemon by itself, and the session never noticed.
    gate.open();
    let output = follow.finish().code(5);
    assert!(output.text().ends_with("line 0001000\nready\n"));
    assert_ne!(env.daemon_pid(), pid);
    assert_eq!(env.wait(&id), 5);

    let id = env.start(&[&pod, "--prompt", "[[print ready]][[sleep 600000]]"]);
    env.await_line(&id, "ready");
    let pid = env.daemon_pid();
    env.cldpd(["daemon", "stop", "--stop-sessions"]).run().ok();
    procfs::await_death(pid);
    let status = env.cldpd(["daemon", "status"]).run();
    assert_ne!(status.code, 0, "it is not started to be asked");
    assert_eq!(outcome(&env.session(&id)), "stopped");
    assert_eq!(env.wait(&id), 143);
}
