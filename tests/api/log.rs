//! The daemon's log: structured, bounded, and no place for secrets.

use crate::support::TestEnv;
use crate::support::procfs;
use serde_json::Value;
use std::fs;

fn log(env: &TestEnv) -> String {
    fs::read_to_string(env.home().join("log/daemon.log")).expect("the daemon has a log")
}

#[test]
fn the_log_is_logfmt_and_status_says_where_it_is() {
    let env = TestEnv::new();
    env.start_daemon();
    let path = env.home().join("log/daemon.log").display().to_string();
    assert_eq!(env.daemon()["log"], path.as_str());
    let status = env.cldpd(["daemon", "status"]).run().ok();
    assert!(status.contains(&path), "{status}");
    let log = log(&env);
    let ready = log.lines().find(|line| line.contains(" message=ready "));
    let ready = ready.unwrap_or_else(|| panic!("{log}"));
    let time = ready
        .strip_prefix("time=")
        .and_then(|rest| rest.split(' ').next());
    assert!(
        time.is_some_and(|time| time.ends_with('Z') && time.len() == 30),
        "{ready}"
    );
    let rest = " level=info message=ready target=cldpd::daemon ";
    assert!(ready.contains(rest), "{ready}");
}

#[test]
fn as_json_each_line_is_a_document_and_names_its_session() {
    let env = TestEnv::new();
    env.config("[daemon]\nlog_format = \"json\"\n");
    let pod = env.local_pod("logged").plain().make();
    env.cldpd(["daemon", "start"])
        .env("CLDPD_LOG", "debug")
        .run()
        .ok();
    let id = env.start(&[&pod, "--prompt", "[[print x]]"]);
    assert_eq!(env.wait(&id), 0);
    let ulid = env.inspect(&id)["ulid"].clone();
    env.stop_daemon();
    let lines: Vec<Value> = log(&env)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for line in &lines {
        for key in ["time", "level", "message", "target"] {
            assert!(line[key].is_string(), "{key}: {line}");
        }
    }
    let of_session = lines.iter().filter(|line| line["session"] == ulid).count();
    assert!(of_session > 0, "{lines:#?}");
}

#[test]
fn a_format_that_there_is_not_is_refused() {
    let env = TestEnv::new();
    env.config("[daemon]\nlog_format = \"xml\"\n");
    let output = env.cldpd(["daemon", "start"]).run().code(2);
    assert!(
        output.stderr.contains("is neither logfmt nor json"),
        "{}",
        output.stderr
    );
}

#[test]
fn no_value_of_a_variable_is_ever_logged() {
    let env = TestEnv::new();
    let secret = "correct-horse-battery-staple";
    let pod = env.local_pod("quiet").plain().make();
    env.cldpd(["daemon", "start"])
        .env("CLDPD_LOG", "trace")
        .run()
        .ok();
    let variable = format!("API_TOKEN={secret}");
    let id = env.start(&[
        &pod,
        "--env",
        &variable,
        "--prompt",
        "[[env API_TOKEN]][[exit 1]]",
    ]);
    assert_eq!(env.wait(&id), 1);
    env.stop_daemon();
    let log = log(&env);
    assert!(
        log.contains("level=trace") || log.contains("level=debug"),
        "{log}"
    );
    assert!(!log.contains(secret), "{log}");
}

#[test]
fn a_log_that_is_large_is_put_aside_by_whoever_writes_next() {
    let env = TestEnv::new();
    env.start_daemon();
    let path = env.home().join("log/daemon.log");
    // As if it had been written for months.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("ours");
    file.set_len(8 << 20).expect("room");
    procfs::kill9(env.daemon_pid());
    for _ in 0..6 {
        env.start_daemon();
        env.stop_daemon();
        let file = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("ours");
        file.set_len(8 << 20).expect("room");
    }
    let dir = fs::read_dir(env.home().join("log")).expect("ours");
    let mut names: Vec<String> = dir
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "daemon.log.lock")
        .collect();
    names.sort();
    let expected = [
        "daemon.log",
        "daemon.log.1",
        "daemon.log.2",
        "daemon.log.3",
        "daemon.log.4",
    ];
    assert_eq!(names, expected);
}
