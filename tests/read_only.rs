//! A home whose file system becomes read-only under live sessions, as a kernel makes
//! one that has found an error in it; and what is left of that after a repair.

use crate::support::events::{assert_dense, of_kind, outcome};
use crate::support::{TestEnv, numbered, procfs};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in a file, which is gone with this.
struct Volume {
    image: PathBuf,
    place: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("our own path")
}

impl Volume {
    fn make(env: &TestEnv) -> Self {
        let (image, place) = (env.root().join("volume"), env.home());
        let file = fs::File::create(&image).expect("there is room");
        file.set_len(192 << 20).expect("there is room");
        run("mkfs.ext4", &["-q", "-F", shown(&image)]);
        let volume = Self { image, place };
        volume.mount();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&volume.place, private).expect("our own directory");
        fs::create_dir_all(volume.place.join("pods")).expect("there is room");
        volume
    }

    fn mount(&self) {
        let options = "loop,errors=remount-ro";
        run(
            "mount",
            &["-o", options, shown(&self.image), shown(&self.place)],
        );
    }

    /// The kernel finds an error in it.
    fn spoil(&self) {
        let device = run("findmnt", &["-no", "SOURCE", shown(&self.place)]);
        let device = device.rsplit('/').next().expect("a device").to_owned();
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(trigger, "1").expect("only root can");
        fs::write(self.place.join("probe"), "x").expect_err("it is read-only");
    }

    /// What a boot would do. A copy is mended: whoever has a mount namespace of its own
    /// since, such as a container that just starts, still has the old one as it was.
    fn repair(&mut self) {
        run("umount", &[shown(&self.place)]);
        let mended = self.image.with_extension("mended");
        fs::copy(&self.image, &mended).expect("there is room");
        self.image = mended;
        // Its exit code says what it mended.
        let _ = Command::new("fsck.ext4")
            .args(["-y", shown(&self.image)])
            .output();
        self.mount();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
        if let Some(root) = self.image.parent() {
            let _ = fs::remove_dir_all(root);
        }
    }
}

#[test]
fn a_home_that_becomes_read_only_loses_nothing_that_was_recorded() {
    let mut volume;
    let env = TestEnv::new();
    volume = Volume::make(&env);
    let pod = env.local_pod("p").plain().make();
    let gates = [env.gate("first"), env.gate("second")];
    let prompts = gates
        .each_ref()
        .map(|gate| format!("[[print begun]]{}[[linesflush 3000]]", gate.hold()));
    let ended = env.start(&[&pod, "--prompt", "[[lines 500]]"]);
    assert_eq!(env.wait(&ended), 0);
    let live = prompts.map(|prompt| env.start(&[&pod, "--prompt", &prompt]));
    for id in &live {
        env.await_line(id, "begun");
    }
    let daemon = env.daemon_pid();
    volume.spoil();
    gates[0].open();
    // What was recorded is there to be read, and nobody calls anything a success.
    assert_eq!(env.said(&ended), numbered(500));
    let start = env.cldpd(["start", "-d", &pod, "--prompt", "x"]);
    let refused = start.run().code(75);
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
    for id in &live {
        let row = env.session(id);
        assert_eq!(row["state"], "running");
        let why = row["degraded"].as_str().unwrap_or_default();
        assert!(why.contains("Read-only"), "{row}");
    }
    let problem = env.daemon()["problems"][0].clone();
    let why = problem.as_str().unwrap_or_default();
    assert!(why.contains("Read-only"), "{problem}");
    assert_eq!(env.daemon_pid(), daemon, "it stays");

    procfs::kill_all_of(&env.home());
    volume.repair();
    env.start_daemon();
    assert_eq!(env.said(&ended), numbered(500));
    for id in &live {
        env.wait(id);
        let row = env.session(id);
        assert_eq!(outcome(&row), "lost", "{row}");
        let said = env.said(id);
        assert!(format!("begun\n{}", numbered(3000)).starts_with(&said));
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(of_kind(&events, "run_ended").len(), 1);
        let again = ["resume", "-d", id, "--prompt", "[[print again]]"];
        env.cldpd(again).run().ok();
        assert_eq!(env.wait(id), 0);
        assert!(env.said(id).ends_with("again\n"));
    }
    env.cldpd(["journal", "verify"]).run().ok();
    env.stop_daemon();
    drop(env);
    drop(volume);
}
