//! 5.15: what a thousand sessions leave behind in the daemon.

use crate::support::TestEnv;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What the daemon holds when nothing is under way.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    tasks: usize,
    /// KiB in memory.
    memory: usize,
}

fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: cldpd\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the daemon reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn held(env: &TestEnv) -> Held {
    // Threads that wait for work to come leave after ten seconds without any.
    let quiet = env.start(&["quiet", "--prompt", "[[sleep 15000]]"]);
    assert_eq!(env.wait(&quiet), 0);
    let pid = env.daemon_pid();
    let count = |dir: &str| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/{dir}"));
        entries.expect("the daemon runs").count()
    };
    let text = |path: String| std::fs::read_to_string(path).expect("the daemon runs");
    let status = text(format!("/proc/{pid}/status"));
    let number = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).expect("a number")
    };
    let socket = env.home().join("run/cldpd.sock");
    Held {
        descriptors: count("fd"),
        threads: count("task"),
        tasks: number(&get(&socket, "/metrics"), "cldpd_tasks "),
        memory: number(&status, "VmRSS:"),
    }
}

fn cycles(env: &TestEnv, count: usize) {
    let number = count.to_string();
    let prompt = ["--prompt", "[[print one]][[exit 3]]"];
    let ids = env.start_many(&[&["pod", "--count", &number][..], &prompt].concat());
    // Handles that are dropped while something is under way.
    let followers: Vec<_> = ids
        .iter()
        .step_by(10)
        .map(|id| env.cldpd(["logs", "-f", id]).spawn())
        .collect();
    let all = env.cldpd(["events", "-f"]).spawn();
    drop((followers, all));
    for some in ids.chunks(50) {
        let mut args = vec!["wait"];
        args.extend(some.iter().map(String::as_str));
        env.cldpd(args).run().code(3);
    }
}

#[test]
fn a125_a_thousand_sessions_leave_nothing_in_the_daemon() {
    let env = TestEnv::new();
    env.fake_pod("pod")
        .plain()
        .json(json!({"keep": "never"}))
        .make();
    env.fake_pod("quiet").plain().make();
    cycles(&env, 50);
    let before = held(&env);
    for _ in 0..10 {
        cycles(&env, 100);
    }
    let after = held(&env);
    let same = |before: usize, after: usize| before.abs_diff(after) <= 5;
    assert!(
        same(before.descriptors, after.descriptors)
            && same(before.threads, after.threads)
            && same(before.tasks, after.tasks),
        "{before:?} {after:?}"
    );
    // The journal's cache may fill: 32 MiB at most.
    let grown = after.memory.saturating_sub(before.memory);
    assert!(grown < 64 << 10, "{before:?} {after:?}");
}
