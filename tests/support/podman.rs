//! A Podman of one test's own: its service, with everything of it beneath one
//! directory. The machine's own Podman is not touched.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Containers get no more than the tests themselves have, which may be less
/// than what Podman wants to give them.
const CONFIG: &str =
    "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A running service; what it has is removed when it is dropped.
pub struct Podman {
    root: PathBuf,
    service: Child,
}

impl Podman {
    /// Starts one.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// One that sees nothing of what lies beneath `dir`, as an engine on
    /// another machine would; only root can.
    pub fn blind_to(dir: &Path) -> Self {
        Self::launch(Some(dir))
    }

    /// A directory that it sees in any case.
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    fn launch(hidden: Option<&Path>) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: sockets of its own lie in it, whose paths are bounded.
        let root = PathBuf::from(format!("/tmp/cldpd-podman-{}-{number}", std::process::id()));
        std::fs::create_dir(&root).expect("a temporary directory can be made");
        std::fs::write(root.join("containers.conf"), CONFIG).expect("it is ours");
        let socket = UnixListener::bind(root.join("s")).expect("it is ours");
        // It is given a socket that listens already, as systemd would, so that
        // nobody has to wait until it does.
        let serve = r#"exec 3<&0 </dev/null
            if [ -n "$HIDDEN" ]; then mount -t tmpfs none "$HIDDEN" || exit; fi
            LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#;
        let mut command = match hidden {
            None => Command::new("sh"),
            Some(_) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh"]);
                command
            }
        };
        command.args(["-c", serve, "podman"]).args(words(&root));
        command.env("HIDDEN", hidden.unwrap_or(Path::new("")));
        command.args(["system", "service", "--time", "0"]);
        let log = std::fs::File::create(root.join("log")).expect("it is ours");
        let service = command
            .env("CONTAINERS_CONF", root.join("containers.conf"))
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("there is a shell");
        Self { root, service }
    }

    /// Where it listens.
    pub fn host(&self) -> String {
        format!("unix://{}", self.root.join("s").display())
    }

    /// What a command of its own says.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let words = words(&self.root);
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(args)
            .env("CONTAINERS_CONF", self.root.join("containers.conf"))
            .output()
            .expect("these tests need podman: see scripts/podman.sh");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {args:?}: {error}");
        String::from_utf8(output.stdout).expect("podman speaks UTF-8")
    }
}

/// The program with the options that keep it to its directory.
fn words(root: &Path) -> Vec<String> {
    let beneath = |name: &str| root.join(name).display().to_string();
    [
        "podman",
        "--root",
        &beneath("root"),
        "--runroot",
        &beneath("run"),
        "--tmpdir",
        &beneath("tmp"),
        "--storage-driver",
        "vfs",
        "--cgroup-manager",
        "cgroupfs",
        "--events-backend",
        "file",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.root.join("log")).unwrap_or_default();
            eprintln!("--- podman's log\n{log}");
        }
        // Containers first: they have mounts and processes.
        let emptied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.run(&["rm", "--all", "--force", "--time", "0"]);
        }));
        let _ = self.service.kill();
        let _ = self.service.wait();
        let removed = std::fs::remove_dir_all(&self.root);
        if !std::thread::panicking() {
            assert!(emptied.is_ok(), "podman's containers are left");
            removed.expect("podman's directory can be removed");
        }
    }
}
