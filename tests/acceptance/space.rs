//! Disk space: full, low, and given back.

use crate::support::{TestEnv, WATCHDOG, numbered};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// A small file system that is gone with it.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many MiB in an environment's home. Only root can.
    fn mount(env: &TestEnv, mib: u32) -> Self {
        let home = env.home();
        let options = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "cldpd-test"])
            .arg(&home)
            .status()
            .expect("there is a mount command");
        assert!(
            mounted.success(),
            "a tmpfs cannot be mounted: only root can"
        );
        fs::create_dir(home.join("pods")).expect("there is room");
        Self(home)
    }

    /// Takes all room that there is. Returns whether there was any.
    fn fill(&self) -> bool {
        let path = self.0.join("filling");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("a name takes no room");
        let (mut piece, mut any) = (1 << 20, false);
        while piece > 0 {
            match file.write(&vec![0; piece]) {
                Ok(_) => any = true,
                Err(_) => piece /= 16,
            }
        }
        any
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filling")).expect("it was made");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        if let Some(root) = self.0.parent() {
            let _ = fs::remove_dir_all(root);
        }
    }
}

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
fn a049_a_full_disk_degrades_sessions_and_loses_nothing() {
    let disk;
    let env = TestEnv::new();
    disk = Disk::mount(&env, 96);
    env.local_pod("p").plain().make();
    let gate = env.gate("full");
    let count = 300_000;
    let prompt = format!("[[print begun]]{}[[lines {count}]]", gate.hold());
    let id = env.start(&["p", "--prompt", &prompt]);
    env.await_line(&id, "begun");
    let daemon = env.daemon_pid();
    disk.fill();
    gate.open();
    // What the journal had set aside is given up first, and taken here, too.
    let reason = until("the session is degraded", || {
        let any = disk.fill();
        let row = env.session(&id);
        let ballast = env.home().join("journal/ballast").exists();
        let reason = row["degraded"].as_str().filter(|_| !any && !ballast)?;
        Some(reason.to_owned())
    });
    assert!(reason.contains("the journal cannot be written"), "{reason}");
    // It is live, it says why, and nobody calls it a success.
    let inspected = env.inspect(&id);
    assert_eq!(inspected["state"], "running");
    assert!(inspected["degraded"].is_string(), "{inspected}");
    let table = env.cldpd(["sessions"]).run().code(0);
    assert!(table.text().contains("degraded"), "{}", table.text());
    assert_eq!(env.daemon()["problems"][0], inspected["degraded"]);
    // Nothing new is begun.
    let refused = env
        .cldpd(["start", "-d", "p", "--prompt", "x"])
        .run()
        .code(75);
    assert!(refused.stderr.contains("free"), "{}", refused.stderr);
    assert_eq!(env.daemon_pid(), daemon, "the daemon stayed up");
    disk.free();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.said(&id), format!("begun\n{}", numbered(count)));
    assert_eq!(env.session(&id)["degraded"], Value::Null);
    assert_eq!(env.daemon_pid(), daemon);
    assert_eq!(env.daemon()["problems"], json!([]));
    drop(env);
    drop(disk);
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
    let expected = [&ended[2], &kept, &live];
    until("the two oldest went", || {
        ids(&env).iter().eq(expected).then_some(())
    });
    let gone = env.cldpd(["logs", &ended[0]]).run();
    gone.code(3);
    assert_eq!(env.said(&kept), "kept\n");
    gate.open();
    assert_eq!(env.wait(&live), 0);
    until("the next went", || {
        ids(&env).iter().eq([&kept, &live]).then_some(())
    });
}
