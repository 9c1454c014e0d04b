//! Disk space: full, low, and what retention gives back.

use crate::support::{TestEnv, WATCHDOG, numbered};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A small file system, which is gone with this.
struct Disk {
    place: PathBuf,
    root: PathBuf,
}

impl Disk {
    /// Mounts one of so many MiB in a directory of an environment. Only root can.
    fn mount(env: &TestEnv, place: &Path, size: u32) -> Self {
        fs::create_dir_all(place).expect("there is room");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size}m,mode=0700"))
            .arg("cldpd-test")
            .arg(place)
            .status()
            .expect("there is a mount command");
        assert!(mounted.success(), "only root can mount a file system");
        Self {
            place: place.to_owned(),
            root: env.root().to_owned(),
        }
    }

    /// Takes all room that there is.
    fn fill(&self) {
        let path = self.place.join("filling");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("a name takes no room");
        let mut piece = 1 << 20;
        while piece > 0 {
            if file.write(&vec![0; piece]).is_err() {
                piece /= 16;
            }
        }
    }

    /// Free bytes.
    fn left(&self) -> u64 {
        let room = rustix::fs::statvfs(&self.place).expect("it is mounted");
        room.f_bavail * room.f_frsize
    }

    fn free(&self) {
        fs::remove_file(self.place.join("filling")).expect("it was made");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
        let _ = fs::remove_dir_all(&self.root);
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

/// So many lines that no compression makes much smaller, 100 bytes each.
fn noise(lines: usize) -> String {
    let mut state = 1u64;
    let mut noise = String::with_capacity(lines * 100);
    for _ in 0..lines * 99 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        noise.push(char::from(b'0' + (state >> 58) as u8));
        if noise.len() % 100 == 99 {
            noise.push('\n');
        }
    }
    noise
}

/// An agent says a great deal while the disk at `place` is full. Then there is room again.
#[track_caller]
fn survives_a_full_disk(place: &str, reason: &str) {
    let says_why = |why: &str| why.contains(reason);
    let disk;
    let env = TestEnv::new();
    disk = Disk::mount(&env, &env.home().join(place), 192);
    env.local_pod("p").plain().make();
    let before = env.start(&["p", "--prompt", "[[print before]]"]);
    assert_eq!(env.wait(&before), 0);
    let gate = env.gate("full");
    // Twice what the journal has set aside for such times.
    let noise = noise(320_000);
    let file = env.root().join("noise");
    fs::write(&file, &noise).expect("there is room");
    let prompt = format!("[[print begun]]{}[[read {}]]", gate.hold(), file.display());
    let id = env.start(&["p", "--prompt", &prompt]);
    env.await_line(&id, "begun");
    let daemon = env.daemon_pid();
    disk.fill();
    gate.open();
    let degraded = || {
        let row = env.session(&id);
        let why = row["degraded"].as_str().unwrap_or_default();
        says_why(why).then_some(row)
    };
    // What is given back while the database is tidied up is taken, too.
    let row = until("the session is degraded", || {
        disk.fill();
        degraded()?;
        disk.fill();
        degraded()
    });
    // It is live, it says why, and nobody calls it a success.
    assert_eq!(row["state"], "running", "{row}");
    let inspected = env.inspect(&id);
    assert_eq!(inspected["state"], "running", "{inspected}");
    let why = inspected["degraded"].as_str().expect("it says why");
    assert!(says_why(why), "{why}");
    let table = env.cldpd(["sessions"]).run().code(0);
    let text = format!("{}{}", table.text(), table.stderr);
    assert!(text.contains("degraded"), "{text}");
    assert!(says_why(&text), "{text}");
    let problem = env.daemon()["problems"][0].clone();
    assert!(problem.as_str().is_some_and(says_why), "{problem}");
    let acknowledged = env.events(&id);
    if place == "journal" {
        assert!(acknowledged.len() > 1_000, "what was set aside is used");
    }
    // Nothing new is begun.
    let refused = env
        .cldpd(["start", "-d", "p", "--prompt", "x"])
        .run()
        .code(75);
    assert!(refused.stderr.contains("MiB free"), "{}", refused.stderr);
    assert_eq!(env.said(&before), "before\n");
    // What makes room can be done.
    let removed = env.cldpd(["rm", "--history", &before]).run();
    removed.code(0);
    env.cldpd(["logs", &before]).run().code(3);
    assert_eq!(env.daemon_pid(), daemon, "the daemon stayed up");
    disk.free();
    assert_eq!(env.wait(&id), 0);
    assert!(env.said(&id) == format!("begun\n{noise}\n"), "all of it");
    assert!(env.events(&id).starts_with(&acknowledged));
    assert_eq!(env.session(&id)["degraded"], Value::Null);
    assert_eq!(env.daemon_pid(), daemon);
    assert_eq!(env.daemon()["problems"], json!([]));
    let log = fs::read_to_string(env.home().join("log/daemon.log")).expect("there is one");
    assert!(!log.contains("the journal failed"), "{log}");
    drop(env);
    drop(disk);
}

#[test]
fn a049_a_full_home_degrades_sessions_and_loses_nothing() {
    survives_a_full_disk(".", "0 MiB free: agents wait");
}

#[test]
fn a049_a_journal_on_a_full_disk_degrades_sessions_and_loses_nothing() {
    survives_a_full_disk("journal", "MiB free, and 8 MiB are needed");
}

#[test]
fn a049_spools_on_a_full_disk_degrade_sessions_and_lose_nothing() {
    survives_a_full_disk("sessions", "0 MiB free: agents wait");
}

#[test]
fn a_daemon_that_begins_on_a_full_disk_shows_and_removes_what_is_recorded() {
    let disk;
    let env = TestEnv::new();
    disk = Disk::mount(&env, &env.home().join("journal"), 64);
    env.local_pod("p").plain().make();
    let ids = [(); 2].map(|()| env.start(&["p", "--prompt", "[[lines 3000]]"]));
    for id in &ids {
        assert_eq!(env.wait(id), 0);
    }
    for _ in 0..2 {
        env.stop_daemon();
        disk.fill();
        assert_eq!(env.said(&ids[0]), numbered(3000));
    }
    env.cldpd(["rm", "--history", &ids[1]]).run().ok();
    assert_eq!(env.said(&ids[0]), numbered(3000));
    env.cldpd(["logs", &ids[1]]).run().code(3);
    drop(env);
    drop(disk);
}

#[test]
fn a_disk_that_spools_filled_is_emptied_by_the_next_daemon() {
    let disk;
    let env = TestEnv::new();
    disk = Disk::mount(&env, &env.home(), 64);
    env.local_pod("p").plain().make();
    let gate = env.gate("fill");
    // More than there is room for, as long as nobody reads it.
    let count = 360_000;
    let prompt = format!("[[print begun]]{}[[lines {count} 100]]", gate.hold());
    let ids = [(); 2].map(|()| env.start(&["p", "--prompt", &prompt]));
    for id in &ids {
        env.await_line(id, "begun");
    }
    env.kill_daemon();
    gate.open();
    // A quarter of so small a disk is left free, but for what each has asked for already.
    until("agents wait", || {
        let left = disk.left();
        let same = |_| {
            env.cldpd(["--version"]).run().ok();
            disk.left() == left
        };
        (left < 20 << 20 && (0..20).all(same)).then_some(())
    });
    env.start_daemon();
    for id in &ids {
        assert_eq!(env.wait(id), 0);
        let said = env.said(id);
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some("begun"));
        for n in 1..=count {
            let line = lines.next().expect("none is missing");
            assert!(line.starts_with(&format!("line {n:07}")), "{line}");
        }
        assert_eq!(lines.next(), None);
    }
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
