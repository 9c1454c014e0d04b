//! The journal: damaged, looked through, carried to another home.

use crate::support::TestEnv;
use crate::support::events::assert_dense;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Three sessions of a local pod, ended; no daemon any more.
fn three(env: &TestEnv) -> Vec<String> {
    let ids = ended(env);
    env.stop_daemon();
    ids
}

fn ended(env: &TestEnv) -> Vec<String> {
    let pod = env.local_pod("kept").plain().make();
    ["[[lines 200]]", "[[lines 30]][[exit 4]]", "[[print last]]"]
        .iter()
        .map(|prompt| {
            let id = env.start(&[&pod, "--prompt", prompt]);
            env.wait(&id);
            id
        })
        .collect()
}

fn journal(env: &TestEnv) -> PathBuf {
    env.home().join("journal")
}

fn database(env: &TestEnv) -> PathBuf {
    journal(env).join("0001").join("db")
}

/// How much of the file is written to.
fn used(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.expect("something is written") + 1
}

#[test]
fn a048_a_torn_last_record_costs_that_record() {
    let env = TestEnv::new();
    let ids = ended(&env);
    let whole: Vec<_> = ids.iter().map(|id| env.events(id)).collect();
    env.stop_daemon();
    let kept = env.root().join("kept");
    copy(&journal(&env), &kept);
    // At the very end there may be merged blocks alone, which were there before:
    // then nothing is lost, and more has to be cut off.
    let lost = [20, 8, 7, 6].into_iter().any(|share| {
        fs::remove_dir_all(journal(&env)).expect("our own directory");
        copy(&kept, &journal(&env));
        loses_the_end(&env, &ids, &whole, share)
    });
    assert!(lost, "no commit was torn");
    // And it goes on from there.
    let more = env.start(&["kept", "--prompt", "[[print more]]"]);
    assert_eq!(env.wait(&more), 0);
    env.stop_daemon();
    env.cldpd(["journal", "verify"]).run().ok();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp is there").success());
}

/// Cuts off a part of the log, and looks at what a daemon makes of it. Returns
/// whether the last session has lost something; nobody else may.
fn loses_the_end(env: &TestEnv, ids: &[String], whole: &[Vec<Value>], share: usize) -> bool {
    let db = database(env);
    let bytes = fs::read(&db).expect("a database");
    let used = used(&bytes);
    fs::write(&db, &bytes[..used - used / share]).expect("it can be cut");
    let log = env.home().join("log").join("daemon.log");
    let before = fs::read_to_string(&log).expect("a log").len();
    let listed = env.cldpd(["sessions", "-a", "-q"]).run().ok();
    assert_eq!(listed.lines().count(), 3);
    // What is lost of the last one's end is told anew by who takes it over.
    let lost: Vec<bool> = ids
        .iter()
        .zip(whole)
        .map(|(id, whole)| {
            let left = env.events(id);
            assert_dense(&left);
            left != *whole
        })
        .collect();
    assert_eq!(lost[..2], [false, false]);
    let log = fs::read_to_string(&log).expect("a log").split_off(before);
    let warned: Vec<&str> = log.lines().filter(|l| l.contains("damaged")).collect();
    let [warned] = warned[..] else {
        assert!(warned.is_empty() && !lost[2], "{log}");
        env.stop_daemon();
        return false;
    };
    assert!(warned.contains("level=warn"), "{log}");
    assert!(warned.contains("its last commit is"), "{log}");
    true
}

#[test]
fn a048_damage_before_the_end_is_refused_with_the_way_out() {
    type Harm = fn(&TestEnv);
    let harms: [(&str, Harm); 5] = [
        ("lie behind", |env| {
            let db = database(env);
            let mut bytes = fs::read(&db).expect("a database");
            let at = used(&bytes) / 2;
            bytes[at] ^= 1;
            fs::write(db, bytes).expect("it can be written");
        }),
        ("", |env| {
            fs::write(database(env), b"").expect("it can be written")
        }),
        ("there is no database", |env| {
            fs::remove_file(database(env)).expect("it is there");
        }),
        ("CURRENT", |env| {
            fs::write(journal(env).join("CURRENT"), b"\xff?\n").expect("it can be written");
        }),
        ("0007", |env| {
            fs::write(journal(env).join("CURRENT"), "0007\n").expect("it can be written");
        }),
    ];
    for (says, harm) in harms {
        let env = TestEnv::new();
        three(&env);
        harm(&env);
        let before = fs::read(database(&env)).ok();
        let refused = env.cldpd(["sessions", "-a"]).run().code(65);
        let told = refused.stderr;
        assert!(
            told.contains("damaged") && told.contains(says),
            "{says}: {told}"
        );
        assert!(told.contains("cldpd journal"), "{says}: {told}");
        assert!(
            fs::read(database(&env)).ok() == before,
            "{says}: it was changed"
        );
        env.cldpd(["journal", "verify"]).run().code(65);
        let saved = env.root().join("saved.ndjson");
        let to = saved.display().to_string();
        let exported = env.cldpd(["journal", "export", "-o", &to]).run();
        if before.is_some_and(|bytes| !bytes.is_empty()) {
            assert!(matches!(exported.code, 0 | 65), "{says}");
            let text = fs::read_to_string(&saved).expect("an export");
            assert!(text.lines().count() > 200, "{says}");
            assert!(
                text.trim_end()
                    .lines()
                    .last()
                    .is_some_and(|l| l.starts_with("{\"done\""))
            );
        }
    }
}

#[test]
fn what_is_exported_is_history_in_another_home() {
    let here = TestEnv::new();
    let gate = here.gate("hold");
    let ids = three(&here);
    // One is live when it is exported.
    let prompt = format!("[[print before]]{}", gate.hold());
    let live = here.start(&["kept", "--prompt", &prompt]);
    here.await_line(&live, "before");
    let export = here.cldpd(["journal", "export"]).run().ok();
    let there = TestEnv::new();
    let import = |env: &TestEnv| {
        env.cldpd(["journal", "import", "-"])
            .stdin(export.clone())
            .run()
    };
    assert_eq!(import(&there).ok().lines().count(), 4);
    // With a daemon it is the same, and nothing comes twice.
    assert_eq!(there.cldpd(["sessions", "-q"]).run().ok(), "");
    assert_eq!(there.daemon()["adopted"], 0);
    assert_eq!(import(&there).ok(), "");
    for id in &ids {
        assert_eq!(there.raw(id), here.raw(id));
        assert_eq!(
            there.inspect(id)["record"]["runs"],
            here.inspect(id)["record"]["runs"]
        );
    }
    assert_eq!(there.cldpd(["wait", &ids[1]]).run().code(4).text(), "4\n");
    assert_eq!(there.session(&live)["state"], "imported");
    there.cldpd(["wait", &live]).run().code(5);
    let refused = there
        .cldpd(["resume", &ids[0], "--prompt", "on"])
        .run()
        .code(5);
    assert!(refused.stderr.contains("was imported from home"));
    there.cldpd(["rm", "--history", &live]).run().ok();
    assert_eq!(
        here.session(&live)["state"],
        "running",
        "its home has it still"
    );
    gate.open();
    assert_eq!(here.wait(&live), 0);
    there.stop_daemon();
    there.cldpd(["journal", "verify"]).run().ok();
    there.cldpd(["journal", "rebuild"]).run().ok();
}

#[test]
fn the_journal_is_verified_while_agents_work() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("busy").plain().make();
    let prompt = format!("[[lines 3000]][[print there]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "there");
    let told = env.cldpd(["journal", "verify", "--json"]).run().json();
    assert_eq!(told["damage"].as_array().map(Vec::len), Some(0), "{told}");
    assert_eq!(told["verified"]["sessions"], 1);
    let refused = env.cldpd(["journal", "rebuild"]).run().code(5);
    assert!(refused.stderr.contains("cldpd daemon stop"));
    gate.open();
    assert_eq!(env.wait(&id), 0);
}

#[test]
fn the_journal_is_compacted_while_agents_work_and_others_read() {
    let env = TestEnv::new();
    let pod = env.local_pod("busy").plain().make();
    let (first, second) = (env.gate("first"), env.gate("second"));
    let large = env.start(&[&pod, "--prompt", "[[lines 20000]]"]);
    assert_eq!(env.wait(&large), 0);
    let prompt = format!(
        "[[lines 2000]][[print one]]{}[[lines 3000]][[print two]]{}[[lines 500]]",
        first.hold(),
        second.hold()
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let follower = env.follow(&id);
    follower.line("one");
    env.cldpd(["rm", "--history", &large]).run().ok();
    let compact = || env.cldpd(["journal", "compact", "--json"]).run().json();
    // It writes while the journal is compacted, again and again.
    first.open();
    for _ in 0..3 {
        let done = compact();
        assert_eq!(done["sessions"], 1, "{done}");
        assert_eq!(done["damaged"], 0, "{done}");
    }
    follower.line("two");
    let stats = env.cldpd(["journal", "stats", "--json"]).run().json();
    assert_eq!(stats["database"], "0004");
    assert_eq!(stats["sessions"], 1);
    assert!(
        stats["compaction"]["last"]["compacted"].is_object(),
        "{stats}"
    );
    second.open();
    assert_eq!(env.wait(&id), 0);
    let followed = follower.finish().code(0).stdout;
    assert_eq!(followed.iter().filter(|byte| **byte == b'\n').count(), 5502);
    assert!(followed == env.raw(&id));
    assert_dense(&env.events(&id));
    // Without a daemon it is the same.
    env.stop_daemon();
    let shown = env.cldpd(["journal", "stats"]).run().ok();
    assert!(shown.contains("sessions   1\n"), "{shown}");
    assert!(shown.contains("retention  off\n"), "{shown}");
    assert_eq!(compact()["sessions"], 1);
    let stats = env.cldpd(["journal", "stats", "--json"]).run().json();
    assert_eq!(stats["database"], "0005");
    env.cldpd(["journal", "verify"]).run().ok();
    assert!(followed == env.raw(&id));
}

#[test]
fn what_retention_would_remove_is_shown_first() {
    let env = TestEnv::new();
    let ids = three(&env);
    let due = |args: &[&str]| {
        let args = [&["journal", "stats", "--json"], args].concat();
        let stats = env.cldpd(args).run().json();
        let due = stats["retention"]["due"].as_array().cloned();
        let due = due.expect("a list");
        due.iter()
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    for with_daemon in [false, true] {
        if with_daemon {
            env.start_daemon();
        }
        assert_eq!(due(&[]), [""; 0]);
        // They can be resumed, and so none goes.
        assert_eq!(due(&["--if-count", "0"]), [""; 0]);
    }
    env.cldpd(["rm", &ids[0], &ids[1]]).run().ok();
    assert_eq!(due(&["--if-count", "0"]), ids[..2]);
    assert_eq!(due(&["--if-age", "90d"]), [""; 0]);
    env.cldpd(["journal", "stats", "--if-age", "soon"])
        .run()
        .code(2);
    assert_eq!(env.cldpd(["sessions", "-aq"]).run().ok().lines().count(), 3);
}
