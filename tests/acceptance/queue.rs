//! The queue: in which order runs leave it, what holds them back, and that it
//! outlives the daemon.

use crate::support::TestEnv;
use crate::support::events::{assert_dense, kinds, of_kind, only, outcome};
use crate::support::gate::Gate;
use serde_json::{Value, json};

/// `sessions --state queued`, the first to leave first, then those without a place.
fn queued(env: &TestEnv) -> Vec<Value> {
    let rows = env.cldpd(["sessions", "--state", "queued", "--json"]).run();
    let mut rows = rows.json().as_array().expect("a list").clone();
    rows.sort_by_key(|row| row["position"].as_u64().unwrap_or(u64::MAX));
    rows
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter_map(|row| row["id"].as_str()).collect()
}

/// The row of the table of `sessions`.
#[track_caller]
fn row(env: &TestEnv, id: &str) -> String {
    let table = env.cldpd(["sessions", "-a"]).run().ok();
    let found = table.lines().find(|line| line.starts_with(id));
    found
        .unwrap_or_else(|| panic!("{id} in {table}"))
        .to_owned()
}

/// Holds the only place, until the gate is opened.
fn holder(env: &TestEnv, pod: &str, gate: &Gate) -> String {
    let prompt = format!("[[print holds]]{}", gate.hold());
    let id = env.start(&[pod, "--prompt", &prompt]);
    env.await_line(&id, "holds");
    id
}

/// Ids by when their programs began.
fn by_start(env: &TestEnv, ids: &[String]) -> Vec<String> {
    let mut started: Vec<(String, String)> = ids
        .iter()
        .map(|id| {
            let row = env.session(id);
            let at = row["started"].as_str().expect("it ran").to_owned();
            (at, id.clone())
        })
        .collect();
    started.sort();
    started.into_iter().map(|(_, id)| id).collect()
}

#[test]
fn a122_one_at_a_time_in_order_visible_cancellable_bounded_and_durable() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_queued = 5\n");
    let gate = env.gate("hold");
    let pod = env
        .fake_pod("key")
        .plain()
        .json(json!({"maxParallel": 1}))
        .make();
    let first = holder(&env, &pod, &gate);
    // In one request and in several: the order is that of the asking.
    let mut waiting = env.start_many(&[&pod, "--count", "3", "--prompt", "x"]);
    waiting.push(env.start(&[&pod, "--prompt", "x"]));
    waiting.push(env.start(&[&pod, "--prompt", "x"]));
    assert_eq!(ids(&queued(&env)), waiting);
    let positions: Vec<Value> = queued(&env).iter().map(|r| r["position"].clone()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    assert_eq!(
        queued(&env)[0]["waits_for"],
        json!({"reason": "pod", "max": 1})
    );
    assert!(row(&env, &waiting[2]).contains("queued (3rd, pod's limit)"));
    let asked = only(&env.events(&waiting[4]), "queued").clone();
    assert_eq!(asked["position"], 5);
    assert_eq!(asked["reason"], "as many of its pod run as may (1)");

    // Bounded: all of a request or nothing, and further runs of a session too.
    for command in [
        vec!["start", "-d", &pod, "--count", "2", "--prompt", "x"],
        vec!["resume", "-d", &first, "--prompt", "x"],
    ] {
        let refused = env.cldpd(&command).run().code(75);
        assert!(refused.stderr.contains("max_queued"), "{}", refused.stderr);
    }
    let all = env.cldpd(["sessions", "-a", "-q"]).run().ok();
    assert_eq!(all.lines().count(), 6, "nothing was recorded: {all}");

    // Durable, in the same order.
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(ids(&queued(&env)), waiting);
    let status = env.daemon();
    assert_eq!((&status["live"], &status["queued"]), (&json!(1), &json!(5)));

    // Cancellable: one leaves the queue, the others move up.
    let cancelled = waiting.remove(1);
    env.cldpd(["stop", &cancelled]).run().ok();
    assert_eq!(env.wait(&cancelled), 130);
    assert_eq!(outcome(&env.session(&cancelled)), "cancelled");
    assert_eq!(ids(&queued(&env)), waiting);
    assert_eq!(queued(&env)[1]["position"], 2);

    gate.open();
    for id in &waiting {
        assert_eq!(env.wait(id), 0);
        assert_dense(&env.events(id));
    }
    assert_eq!(
        by_start(&env, &waiting),
        waiting,
        "first come, first served"
    );
    // One at a time: each began when the one before it was over.
    let mut earlier = env.session(&first);
    for id in &waiting {
        let row = env.session(id);
        assert!(row["started"].as_str() >= earlier["ended"].as_str());
        earlier = row;
    }
}

#[test]
fn a122_runs_of_a_session_are_one_at_a_time_too() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("runs").plain().make();
    let id = holder(&env, &pod, &gate);
    for word in ["one", "two", "three"] {
        let prompt = format!("[[print {word}]]");
        env.cldpd(["resume", "-d", &id, "--prompt", &prompt])
            .run()
            .ok();
    }
    env.kill_daemon();
    env.start_daemon();
    gate.open();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.said(&id), "holds\none\ntwo\nthree\n");
    let events = env.events(&id);
    let ends_and_starts: Vec<&str> = kinds(&events)
        .into_iter()
        .filter(|kind| matches!(*kind, "container_started" | "run_ended"))
        .collect();
    assert_eq!(
        ends_and_starts,
        ["container_started", "run_ended"].repeat(4)
    );
}

#[test]
fn the_higher_priority_leaves_first_also_after_a_crash() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_parallel = 1\n");
    let gate = env.gate("hold");
    let pod = env.fake_pod("prio").plain().make();
    holder(&env, &pod, &gate);
    let start = |priority: &str| env.start(&[&pod, "--prompt", "x", "--priority", priority]);
    let (low, usual) = (start("-1"), env.start(&[&pod, "--prompt", "x"]));
    let (high, also_high) = (start("7"), start("7"));
    let order = [high.clone(), also_high, usual, low];
    assert_eq!(ids(&queued(&env)), order);
    // What it was told when it asked is the place that it then had.
    assert_eq!(only(&env.events(&high), "queued")["position"], 1);
    assert_eq!(env.inspect(&high)["spec"]["priority"], 7);
    assert_eq!(env.inspect(&high)["waits_for"]["reason"], "room");
    assert!(row(&env, &high).contains("queued (1st)"));
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(ids(&queued(&env)), order);
    gate.open();
    for id in &order {
        assert_eq!(env.wait(id), 0);
    }
    assert_eq!(by_start(&env, &order), order);
}

#[test]
fn who_comes_after_waits_for_success() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_parallel = 2\n");
    let (left, right) = (env.gate("left"), env.gate("right"));
    let pod = env.fake_pod("after").plain().make();
    let (first, second) = (holder(&env, &pod, &left), holder(&env, &pod, &right));
    let unknown = ["start", "-d", &pod, "--prompt", "x", "--after", "nobody"];
    let unknown = env.cldpd(unknown).run().code(3);
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
    let all = env.cldpd(["sessions", "-a", "-q"]).run().ok();
    assert_eq!(all.lines().count(), 2, "nothing was recorded: {all}");

    let prompt = "[[print third]]";
    let third = env.start(&[
        &pod, "--prompt", prompt, "--after", &first, "--after", &second,
    ]);
    let fourth = env.start(&[&pod, "--prompt", "x", "--after", &third]);
    assert!(row(&env, &third).contains(&format!("queued (after {first} and 1 more)")));
    assert!(row(&env, &fourth).contains(&format!("queued (after {third})")));
    let asked = only(&env.events(&fourth), "queued").clone();
    assert_eq!(asked["reason"], format!("after {third}"));
    assert_eq!(asked["position"], Value::Null);
    let spec = &env.inspect(&third)["spec"];
    assert_eq!(spec["after"][0], env.session(&first)["ulid"]);

    // One of them ends while no daemon runs, the other later.
    env.kill_daemon();
    left.open();
    env.start_daemon();
    assert_eq!(env.wait(&first), 0);
    // It holds nobody back.
    let other = env.start(&[&pod, "--prompt", "x"]);
    assert_eq!(env.wait(&other), 0);
    assert_eq!(env.session(&third)["state"], "queued");
    assert!(row(&env, &third).contains(&format!("queued (after {second})")));
    right.open();
    assert_eq!(env.wait(&third), 0);
    assert_eq!(env.said(&third), "third\n");
    assert_eq!(env.wait(&fourth), 0);
    assert_eq!(
        by_start(&env, &[fourth.clone(), third.clone()]),
        [third, fourth.clone()]
    );
    // What is over counts at once, whatever has become of its container.
    env.cldpd(["rm", &fourth]).run().ok();
    let fifth = env.start(&[&pod, "--prompt", "x", "--after", &fourth]);
    assert_eq!(env.wait(&fifth), 0);
}

#[test]
fn who_comes_after_what_failed_never_runs() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("chain").plain().make();
    let prompt = format!("{}[[exit 7]]", gate.hold());
    let fails = env.start(&[&pod, "--prompt", &prompt]);
    let second = env.start(&[&pod, "--prompt", "x", "--after", &fails]);
    let third = env.start(&[&pod, "--prompt", "x", "--after", &second]);
    // The queue is made again from the journal, and so are those who wait.
    env.kill_daemon();
    gate.open();
    env.start_daemon();
    for (id, named) in [
        (
            &second,
            format!("{fails}, which ended: failed (exit code 7)"),
        ),
        (&third, format!("{second}, which ended: cancelled")),
    ] {
        assert_eq!(env.wait(id), 130);
        let events = env.events(id);
        assert_eq!(only(&events, "run_ended")["outcome"], "cancelled");
        let message = format!("it was to run after {named}");
        assert_eq!(only(&events, "error")["message"], message);
        assert_eq!(env.session(id)["error"]["message"], message);
        assert!(of_kind(&events, "preparing").is_empty(), "it never began");
    }
    // What has failed already counts at once, and is said where it was asked.
    let command = ["start", &pod, "--prompt", "x", "--after", &fails];
    let told = env.cldpd(command).run().code(130);
    assert!(told.stderr.contains(&fails), "{}", told.stderr);

    // Taken back, and removed with its history: neither has succeeded.
    let gate = env.gate("again");
    let live = holder(&env, &pod, &gate);
    let stopped = env.start(&[&pod, "--prompt", "x", "--after", &live]);
    let done = env.start(&[&pod, "--prompt", "x"]);
    assert_eq!(env.wait(&done), 0);
    let orphaned = [&pod, "--prompt", "x", "--after", &done, "--after", &live];
    let orphaned = env.start(&orphaned);
    env.cldpd(["rm", "--history", &done]).run().ok();
    assert_eq!(env.wait(&orphaned), 130);
    let message = env.session(&orphaned)["error"]["message"].clone();
    let removed = format!("it was to run after {done}, which was removed");
    assert_eq!(message, removed);
    env.cldpd(["stop", &live]).run().ok();
    assert_eq!(env.wait(&stopped), 130);
    let message = env.session(&stopped)["error"]["message"].clone();
    assert_eq!(
        message,
        format!("it was to run after {live}, which ended: stopped (exit code 143)")
    );
}

#[test]
fn a_further_run_of_what_is_waited_for_is_waited_for_too() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("goeson").plain().make();
    let first = holder(&env, &pod, &gate);
    let second = env.start(&[&pod, "--prompt", "x", "--after", &first]);
    env.cldpd(["resume", "-d", &first, "--prompt", "[[exit 9]]"])
        .run()
        .ok();
    gate.open();
    assert_eq!(env.wait(&second), 130, "its last run failed");
    assert_eq!(env.wait(&first), 9);
}

#[test]
fn memory_that_is_claimed_is_not_claimed_twice() {
    let env = TestEnv::new();
    env.config("[limits]\nmemory = \"8g\"\n");
    let gate = env.gate("hold");
    let pod = |name: &str, memory: Value| {
        let json = json!({"memory": memory});
        env.fake_pod(name).plain().json(json).make()
    };
    let (half, most) = (pod("half", json!("4g")), pod("most", json!("7g")));
    let (small, none) = (pod("small", json!("1g")), pod("none", Value::Null));
    let over = pod("over", json!("20g"));
    let first = holder(&env, &half, &gate);
    let start = |pod: &str| env.start(&[pod, "--prompt", "x"]);
    let (large, behind, whole) = (start(&most), start(&small), start(&over));
    // Who claims nothing is not held back.
    assert_eq!(env.wait(&start(&none)), 0);
    assert_eq!(ids(&queued(&env)), [&large, &behind, &whole]);
    assert!(row(&env, &large).contains("queued (1st, memory)"));
    // It would fit, but the one before it could wait for ever.
    assert!(row(&env, &behind).contains("queued (2nd, memory)"));
    let asked = only(&env.events(&large), "queued").clone();
    assert_eq!(
        asked["reason"],
        "the memory that it claims (7 GiB) is not free"
    );
    let of_daemon = |env: &TestEnv| {
        let status = env.daemon();
        let bytes = |key: &str| status[key].as_u64().expect("bytes") >> 30;
        (bytes("memory_claimed"), bytes("memory"))
    };
    assert_eq!(of_daemon(&env), (4, 8));
    // What runs claims it still when another daemon comes.
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(of_daemon(&env), (4, 8));
    assert_eq!(ids(&queued(&env)), [&large, &behind, &whole]);
    gate.open();
    // One that claims more than there is runs when nobody else claims any.
    let all = [first, large, behind, whole];
    for id in &all {
        assert_eq!(env.wait(id), 0);
    }
    let last = env.session(&all[3]);
    for id in &all[..3] {
        assert!(env.session(id)["ended"].as_str() <= last["started"].as_str());
    }
    assert_eq!(of_daemon(&env), (0, 8));
}
