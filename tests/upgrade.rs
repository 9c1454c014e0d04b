//! Programs of two versions at one home: sessions notice nothing, and people are told.

use crate::support::env::BINARY;
use crate::support::events::{assert_dense, of_kind};
use crate::support::process::{Cmd, Output};
use crate::support::{TestEnv, numbered, procfs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const OURS: &str = env!("CARGO_PKG_VERSION");

/// This program as another version would be: the same but for its number.
pub struct Other {
    program: String,
    pub version: String,
}

impl Other {
    pub fn new(env: &TestEnv) -> Self {
        let (rest, last) = OURS.split_at(OURS.len() - 1);
        let version = format!("{rest}{}", if last == "9" { "8" } else { "9" });
        let program = env.bin().join("other").display().to_string();
        let replaced = format!("s/{}/{version}/g", OURS.replace('.', "\\."));
        let file = std::fs::File::create(&program).expect("our own directory");
        let status = Command::new("sed")
            .args([&replaced, BINARY])
            .stdout(file)
            .status();
        assert!(status.expect("sed is everywhere").success());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("our own file");
        Self { program, version }
    }

    pub fn program(&self) -> &str {
        &self.program
    }

    pub fn cldpd(&self, env: &TestEnv, args: &[&str]) -> Cmd {
        Cmd::new(env, &self.program, args)
    }
}

#[track_caller]
fn differs(output: Output, daemon: &str, command: &str) {
    let said = output.code(69).stderr;
    let wanted = format!(
        "error: the daemon is version {daemon}, and this is {command}\n\
         hint: `cldpd daemon restart` (sessions go on)\n"
    );
    assert_eq!(said, wanted);
}

#[test]
fn sessions_do_not_notice_that_the_program_is_replaced() {
    let env = TestEnv::new();
    let other = Other::new(&env);
    let gates: Vec<_> = (0..4).map(|n| env.gate(&format!("hold-{n}"))).collect();
    let prompt = |number: usize| {
        let hold = gates[number].hold();
        format!("[[lines 2000]][[print ready]]{hold}[[lines 500]][[exit 4]]")
    };
    let pods = [
        env.docker_pod("live").plain().make(),
        env.local_pod("local").plain().make(),
        env.fake_pod("fake")
            .plain()
            .json(json!({"maxParallel": 1}))
            .make(),
    ];
    let mut ids: Vec<String> = Vec::new();
    for (number, pod) in pods.iter().enumerate() {
        let started = other
            .cldpd(&env, &["start", "-d", pod, "--prompt", &prompt(number)])
            .run()
            .ok();
        ids.push(started.trim().to_owned());
        let follow = other
            .cldpd(&env, &["logs", "-f", "--raw", started.trim()])
            .spawn();
        follow.line("ready");
    }
    // It waits for its turn, and is let go by the next daemon.
    let waits = ["start", "-d", &pods[2], "--prompt", "[[exit 4]]"];
    ids.push(other.cldpd(&env, &waits).run().ok().trim().to_owned());

    // Everything but what manages the daemon says so, and changes nothing.
    differs(env.cldpd(["sessions"]).run(), &other.version, OURS);
    differs(
        env.cldpd(["start", "-d", &pods[1], "--prompt", "x"]).run(),
        &other.version,
        OURS,
    );
    assert_eq!(env.daemon()["version"], other.version.as_str());
    env.cldpd(["daemon", "restart"]).run().ok();
    assert_eq!(env.daemon()["version"], OURS);
    assert_eq!(env.daemon()["adopted"], 3);

    // Shims of before take everything that there is.
    for id in &ids[..3] {
        let beside = env
            .cldpd(["exec", "-i", id, "--", "claude"])
            .stdin("[[print beside]]");
        assert_eq!(beside.run().ok(), "beside\n");
    }
    // Back again: a session of ours under the program of before.
    let ours = env.start(&[&pods[1], "--prompt", &prompt(3)]);
    env.await_line(&ours, "ready");
    differs(other.cldpd(&env, &["sessions"]).run(), OURS, &other.version);
    other.cldpd(&env, &["daemon", "restart"]).run().ok();
    assert_eq!(env.daemon()["version"], other.version.as_str());
    assert_eq!(env.daemon()["adopted"], 4);
    for gate in &gates {
        gate.open();
    }
    assert_eq!(other.cldpd(&env, &["wait", &ours]).run().code, 4);
    env.cldpd(["daemon", "restart"]).run().ok();
    ids.push(ours);

    for id in &ids {
        assert_eq!(env.wait(id), 4, "{id}");
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(of_kind(&events, "run_started").len(), 1, "{id}");
        assert_eq!(of_kind(&events, "creating").len(), 1, "{id}");
    }
    let said = format!("{}ready\n{}", numbered(2000), numbered(500));
    for id in [&ids[0], &ids[1], &ids[2], &ids[4]] {
        assert_eq!(env.said(id), said, "{id}");
    }
}

/// Everything in a directory, but for sled's own note of where its log ends.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if !entry.file_name().as_encoded_bytes().starts_with(b"snap.") {
            let bytes = std::fs::read(&path).expect("our own file");
            all.insert(path.display().to_string(), bytes);
        }
    }
    all
}

#[test]
fn a_journal_of_a_later_version_is_not_served_by_an_earlier_one() {
    let env = TestEnv::new();
    let pod = env.local_pod("pod").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print before]]"]);
    assert_eq!(env.wait(&id), 0);
    env.stop_daemon();
    let journal = env.home().join("journal");
    let set = |schema: u32| {
        let db = sled::open(journal.join("0001")).expect("the journal");
        let key = [&[1_u8][..], b"schema"].concat();
        let had = db.insert(key, &schema.to_be_bytes()).expect("a row");
        assert!(had.is_some(), "that is the row");
    };
    set(99);
    let before = contents(&journal);
    for command in [&["sessions"][..], &["daemon", "start"], &["daemon", "run"]] {
        let output = env.cldpd(command).run();
        assert_eq!(output.code, 125, "{}", output.stderr);
        let said = &output.stderr;
        assert!(
            said.contains("schema 99") && said.contains("or a newer one"),
            "{said}"
        );
    }
    assert!(contents(&journal) == before, "nothing was touched");
    set(1);
    assert_eq!(env.said(&id), "before\n");
}

#[test]
fn a_daemon_that_is_to_end_waits_for_nobody_for_long() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("pod").plain().make();
    let prompt = format!("[[lines 100000]][[print ready]]{}[[exit 3]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    // One asks for all of it and never reads, one never says what it wants.
    let mut stalled = env.cldpd(["logs", "-f", "--raw", &id]).spawn_unread();
    let mut half = UnixStream::connect(env.home().join("run/cldpd.sock")).expect("it listens");
    half.write_all(b"POST /v1/sessions HTTP/1.1\r\nhost: cldpd\r\ncontent-length: 100\r\n\r\n{")
        .expect("it listens");
    let pid = env.daemon_pid();
    let asked = Instant::now();
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::TERM).expect("it runs");
    procfs::await_death(pid);
    assert!(
        asked.elapsed() < Duration::from_secs(30),
        "{:?}",
        asked.elapsed()
    );
    stalled.kill().expect("ours");
    stalled.wait().expect("ours");
    assert_eq!(env.session(&id)["state"], "running");
    gate.open();
    assert_eq!(env.wait(&id), 3);
}
