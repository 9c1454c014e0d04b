//! What others do to a session's shim and to its files: it costs that session
//! what cannot be known any more, which is told, and nobody else anything.

use crate::support::events::{assert_dense, of_kind, only, outcome};
use crate::support::{TestEnv, numbered, procfs};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where the only attempt of a session's first run lies.
fn run_dir(env: &TestEnv, id: &str) -> PathBuf {
    let ulid = env.session(id)["ulid"].as_str().expect("a ULID").to_owned();
    env.home().join("sessions").join(ulid).join("r0.1")
}

/// A word of a small file that a shim keeps there.
fn word(dir: &Path, file: &str, at: usize) -> i32 {
    let text = std::fs::read_to_string(dir.join(file)).expect("a shim keeps it");
    let word = text
        .split_ascii_whitespace()
        .nth(at)
        .expect("so many words");
    word.parse().expect("a process id")
}

fn has_note(events: &[Value], code: &str) -> bool {
    of_kind(events, "note")
        .iter()
        .any(|note| note["code"] == code)
}

#[test]
fn a_shim_or_a_keeper_that_is_killed_costs_its_own_session_alone() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("killed").plain().make();
    let works = "[[linesflush 200]][[print up]][[sleep 600000]]";
    let first = env.start(&[&pod, "--prompt", works]);
    let second = env.start(&[&pod, "--prompt", works]);
    let other = format!("[[print up]]{}[[print down]][[exit 4]]", gate.hold());
    let other = env.start(&[&pod, "--prompt", &other]);
    for id in [&first, &second, &other] {
        env.await_line(id, "up");
    }
    let dirs = [&first, &second].map(|id| run_dir(&env, id));
    let programs = dirs.each_ref().map(|dir| word(dir, "keepers", 3));

    procfs::kill9(word(&dirs[0], "pid", 0));
    procfs::kill9(word(&dirs[1], "keepers", 1));
    env.wait(&first);
    assert_eq!(env.wait(&second), 137);
    for program in programs {
        procfs::await_death(program);
    }
    let expected = numbered(200) + "up\n";
    for (id, how) in [(&first, "lost"), (&second, "killed")] {
        assert_eq!(outcome(&env.session(id)), how, "{id}");
        assert_eq!(env.said(id), expected);
        assert_dense(&env.events(id));
    }
    assert_eq!(only(&env.events(&first), "error")["code"], "gone");
    assert!(has_note(&env.events(&second), "keeper_killed"));
    gate.open();
    assert_eq!(env.wait(&other), 4);
    assert_eq!(env.said(&other), "up\ndown\n");
}

/// Done to a spool; with another file at hand.
type Harm = fn(&Path, &Path);

const HARMS: [(&str, Harm); 6] = [
    ("a changed byte", |spool, _| {
        let mut bytes = std::fs::read(spool).expect("it can be read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(spool, bytes).expect("it can be written");
    }),
    ("cut short", |spool, _| {
        let file = std::fs::OpenOptions::new().write(true).open(spool);
        file.and_then(|file| file.set_len(200))
            .expect("it can be cut");
    }),
    ("removed", |spool, _| {
        std::fs::remove_file(spool).expect("it can be removed");
    }),
    ("a link to something of the user's", |spool, other| {
        std::fs::remove_file(spool).expect("it can be removed");
        symlink(other, spool).expect("a link can be made");
    }),
    ("a FIFO", |spool, _| {
        std::fs::remove_file(spool).expect("it can be removed");
        mkfifoat(CWD, spool, Mode::from_raw_mode(0o666)).expect("a FIFO can be made");
    }),
    ("another session's", |spool, other| {
        std::fs::remove_file(spool).expect("it can be removed");
        std::fs::copy(other, spool).expect("it can be copied");
    }),
];

#[test]
fn a_spool_that_is_not_what_the_shim_wrote_is_told_and_the_end_is_known_all_the_same() {
    let env = TestEnv::new();
    let pod = env.local_pod("spoiled").plain().make();
    let mut sessions = Vec::new();
    for number in 0..=HARMS.len() {
        let gate = env.gate(&format!("hold-{number}"));
        let prompt = format!(
            "[[linesflush 50]][[print up]]{}[[print down]][[exit 3]]",
            gate.hold()
        );
        let id = env.start(&[&pod, "--prompt", &prompt]);
        env.await_line(&id, "up");
        sessions.push((id, gate));
    }
    let dirs: Vec<PathBuf> = sessions.iter().map(|(id, _)| run_dir(&env, id)).collect();
    let spool = |dir: &PathBuf| dir.join("spool.0000");
    let (whole, untouched) = (spool(&dirs[HARMS.len()]), &sessions[HARMS.len()]);
    env.kill_daemon();
    for ((_, harm), dir) in HARMS.iter().zip(&dirs) {
        harm(&spool(dir), &whole);
    }
    env.start_daemon();
    let daemon = env.daemon_pid();
    for ((what, _), (id, gate)) in HARMS.iter().zip(&sessions) {
        let note = env.await_event(id, "note");
        assert_eq!(note["code"], "spool_damaged", "{what}: {note}");
        gate.open();
        assert_eq!(env.wait(id), 3, "{what}");
        assert_eq!(env.said(id), numbered(50) + "up\n", "{what}");
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(only(&events, "container_exited")["code"], 3, "{what}");
    }
    untouched.1.open();
    assert_eq!(env.wait(&untouched.0), 3);
    assert_eq!(env.said(&untouched.0), numbered(50) + "up\ndown\n");
    assert_eq!(env.daemon_pid(), daemon, "it was nothing to the daemon");
}

#[test]
fn an_impostor_at_a_shims_socket_is_told_nothing_and_nothing_is_lost() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.docker_pod("impostor").plain().make();
    let prompt = format!("[[print up]]{}[[lines 100]][[exit 6]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "up");
    let socket = run_dir(&env, &id).join("ctl.sock");
    env.kill_daemon();
    std::fs::remove_file(&socket).expect("it can be removed");
    let impostor = UnixListener::bind(&socket).expect("it can be taken");
    env.start_daemon();
    let note = env.await_event(&id, "note");
    let message = note["message"].as_str().expect("words");
    let us = format!("process {}", std::process::id());
    assert!(message.contains(&us), "{message}");
    gate.open();
    assert_eq!(env.wait(&id), 6);
    assert_eq!(env.said(&id), "up\n".to_owned() + &numbered(100));

    impostor.set_nonblocking(true).expect("our own socket");
    let mut met = 0;
    while let Ok((mut stream, _)) = impostor.accept() {
        stream.set_nonblocking(false).expect("our own socket");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("it was closed");
        assert!(heard.is_empty(), "{heard:?}");
        met += 1;
    }
    assert!(met > 0, "it was met");
}

#[test]
fn an_impostor_of_our_own_user_does_not_keep_a_local_session_from_its_end() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("impostor").plain().make();
    let prompt = format!("[[print up]]{}[[lines 100]][[exit 6]]", gate.hold());
    let secret = format!("TOKEN=secret-{}", env.tag());
    let id = env.start(&[&pod, "--env", &secret, "--prompt", &prompt]);
    env.await_line(&id, "up");
    let socket = run_dir(&env, &id).join("ctl.sock");
    env.kill_daemon();
    std::fs::remove_file(&socket).expect("it can be removed");
    let impostor = UnixListener::bind(&socket).expect("it can be taken");
    env.start_daemon();
    let (mut stream, _) = impostor.accept().expect("it is met");
    // Nobody answers: the session is read on all the same.
    gate.open();
    assert_eq!(env.wait(&id), 6);
    assert_eq!(env.said(&id), "up\n".to_owned() + &numbered(100));
    assert_dense(&env.events(&id));
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("it was given up");
    assert!(heard.len() < 64, "no more than a greeting: {heard:?}");
}
