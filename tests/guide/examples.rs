//! The programs of the guide, compiled by cargo and run here.

use super::block::blocks;
use crate::support::TestEnv;
use crate::support::env::BINARY;
use crate::support::process::Output;
use std::path::Path;

/// Runs an example with what it reads, and gives what it said.
#[track_caller]
fn example(env: &TestEnv, name: &str, args: &[&str], stdin: &str) -> Output {
    // Beside the binary under test, where cargo puts examples when it builds tests.
    let path = Path::new(BINARY).with_file_name("examples").join(name);
    let path = path.display().to_string();
    crate::support::process::Cmd::new(env, &path, args)
        .stdin(stdin)
        .run()
}

#[test]
fn programs_of_the_guide_are_the_examples() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let examples: Vec<String> = std::fs::read_dir(dir)
        .expect("there are examples")
        .flatten()
        .map(|entry| std::fs::read_to_string(entry.path()).expect("a program"))
        .collect();
    let mut shown = 0;
    for block in blocks("library.md") {
        if block.info != "rust" {
            continue;
        }
        let found = examples.iter().any(|text| text.ends_with(&block.text));
        assert!(found, "{} is the end of none of examples/", block.place);
        shown += 1;
    }
    assert_eq!(shown, 3);
}

#[test]
fn many_are_dispatched_and_their_outcomes_collected() {
    let env = TestEnv::new();
    let pod = env.local_pod("work").plain().make();
    let tasks = "[[print a]]\n[[exit 3]]\n[[print c]]\n";
    let text = example(&env, "collect", &[&pod], tasks).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    let ends = ["  success", "  failed", "  success", "2 of 3 succeeded"];
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end), "{text}");
    }
}

#[test]
fn what_fails_is_resumed_by_who_follows() {
    let env = TestEnv::new();
    env.fake_pod("myrepo").make();
    let text = example(&env, "react", &["[[print no]][[exit 1]]"], "").ok();
    let count = |end: &str| text.lines().filter(|line| line.ends_with(end)).count();
    assert_eq!(
        (count(" run 0: failed"), count(" run 1: success")),
        (2, 2),
        "{text}"
    );
}

#[test]
fn a_session_is_replayed_without_an_engine() {
    let env = TestEnv::new();
    env.fake_pod("myrepo").plain().make();
    let id = env.start(&["myrepo", "--prompt", "[[print one]][[err two]]"]);
    assert_eq!(env.wait(&id), 0);
    env.stop_daemon();
    // Neither engine nor pod is left.
    std::fs::remove_dir_all(env.home().join("pods")).expect("ours");
    let text = example(&env, "replay", &[&id], "").ok();
    for line in [
        "-- created",
        "stdout  one",
        "stderr  two",
        "run 0 ended: success",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
}
