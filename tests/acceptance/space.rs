//! Disk space: low, and what retention gives back.

use crate::support::{TestEnv, WATCHDOG};
use serde_json::json;
use std::time::Instant;

/// Asks again and again, each time a command's length, until it is so.
#[track_caller]
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(
            begun.elapsed() < WATCHDOG,
            "not within {WATCHDOG:?}: {what}"
        );
    }
}

#[test]
fn low_disk_refuses_what_is_new_and_lets_the_rest_go_on() {
    let env = TestEnv::new();
    env.local_pod("p").plain().make();
    let gate = env.gate("low");
    let prompt = format!("[[print begun]]{}[[print over]]", gate.hold());
    let id = env.start(&["p", "--prompt", &prompt]);
    env.await_line(&id, "begun");
    env.stop_daemon();
    env.config("[journal]\nmin_free = \"9999t\"\n");
    env.start_daemon();
    for args in [
        vec!["start", "-d", "p", "--prompt", "x"],
        vec!["resume", "-d", &id, "--prompt", "x"],
    ] {
        let refused = env.cldpd(&args).run().code(75);
        let home = env.home().display().to_string();
        for said in [home.as_str(), "MiB free", "journal.min_free"] {
            assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
        }
    }
    gate.open();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.said(&id), "begun\nover\n");
}

/// The ids of all sessions.
fn ids(env: &TestEnv) -> Vec<String> {
    let listed = env.cldpd(["sessions", "-aq"]).run().ok();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn retention_removes_the_oldest_that_ended_and_nothing_that_is_kept() {
    let env = TestEnv::new();
    env.config("[retention]\ncount = 2\n");
    env.local_pod("gone")
        .plain()
        .json(json!({"keep": "never"}))
        .make();
    env.local_pod("kept")
        .plain()
        .json(json!({"keep": "always"}))
        .make();
    let gate = env.gate("live");
    let live = env.start(&["gone", "--prompt", &gate.hold()]);
    let kept = env.start(&["kept", "--prompt", "[[print kept]]"]);
    assert_eq!(env.wait(&kept), 0);
    let mut ended = Vec::new();
    for n in 0..3 {
        let id = env.start(&["gone", "--prompt", &format!("[[print {n}]]")]);
        assert_eq!(env.wait(&id), 0);
        ended.push(id);
    }
    // What can be resumed stays, and pushes out nothing that is newer.
    let expected = [&ended[2], &ended[1], &kept, &live];
    until("the oldest went", || {
        ids(&env).iter().eq(expected).then_some(())
    });
    let gone = env.cldpd(["logs", &ended[0]]).run();
    gone.code(3);
    assert_eq!(env.said(&kept), "kept\n");
    gate.open();
    assert_eq!(env.wait(&live), 0);
    until("the next went", || {
        let expected = [&ended[2], &kept, &live];
        ids(&env).iter().eq(expected).then_some(())
    });
}
