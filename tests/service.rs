//! The daemon as a service, under a real systemd: a manager of a user's own,
//! which believes that the machine was booted with it.

use crate::support::env::BINARY;
use crate::support::process::{Cmd, Output};
use crate::support::{TestEnv, WATCHDOG, procfs};
use crate::upgrade::Other;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A systemd of the test's own.
struct Manager<'a> {
    env: &'a TestEnv,
    process: Child,
}

impl<'a> Manager<'a> {
    fn start(env: &'a TestEnv) -> Self {
        let runtime = env.root().join("r");
        std::fs::create_dir(&runtime).expect("our own directory");
        let told = runtime.join("told");
        let socket = UnixDatagram::bind(&told).expect("a socket");
        // It asks this directory whether the machine was booted by systemd.
        let script = "mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system && \
                      exec /lib/systemd/systemd --user --unit=basic.target";
        std::fs::create_dir_all("/run/systemd").expect("tests that mount are root's");
        let process = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .env_clear()
            .envs(env.variables())
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("NOTIFY_SOCKET", &told)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("unshare is of util-linux");
        let manager = Self { env, process };
        let limit = socket.set_read_timeout(Some(WATCHDOG));
        limit.expect("a time limit");
        let mut message = [0; 4096];
        loop {
            let len = socket.recv(&mut message).expect("systemd becomes ready");
            if message[..len].starts_with(b"READY=1") {
                return manager;
            }
        }
    }

    /// A command as somebody would give it who is logged in.
    fn run(&self, program: &str, args: &[&str]) -> Output {
        let pid = self.process.id().to_string();
        let outer = ["-t", &pid, "-m", "--", program];
        Cmd::new(self.env, "nsenter", outer.iter().chain(args))
            .env("XDG_RUNTIME_DIR", self.env.root().join("r"))
            .run()
    }

    fn cldpd(&self, args: &[&str]) -> Output {
        self.run(BINARY, args)
    }

    /// What systemd knows of the service.
    fn property(&self, name: &str) -> String {
        let args = ["--user", "show", "--value", "-p", name, "cldpd.service"];
        self.run("systemctl", &args).ok().trim().to_owned()
    }

    /// The daemon's process, which systemd knows as the service's.
    fn daemon(&self) -> i32 {
        let status = self.cldpd(&["daemon", "status", "--json"]).json();
        let pid = status["pid"].as_i64().expect("a pid");
        assert_eq!(self.property("MainPID"), pid.to_string());
        i32::try_from(pid).expect("a pid")
    }
}

impl Drop for Manager<'_> {
    fn drop(&mut self) {
        let pid = self.process.id().cast_signed();
        let pid = Pid::from_raw(pid).expect("a pid");
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.process.wait();
    }
}

fn units(env: &TestEnv) -> [PathBuf; 2] {
    let dir = env.user_home().join(".config/systemd/user");
    [dir.join("cldpd.socket"), dir.join("cldpd.service")]
}

#[test]
fn a_service_is_started_by_who_connects_and_sessions_outlive_it() {
    let env = TestEnv::new();
    let gate = env.gate("end");
    let pod = env.local_pod("pod").plain().make();
    // One that a command started gives way to the service, and what it dispatched goes on.
    let prompt = format!("[[print ready]]{}[[exit 3]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let before = env.daemon_pid();

    let manager = Manager::start(&env);
    manager.cldpd(&["daemon", "install"]).ok();
    assert!(units(&env).iter().all(|path| path.is_file()));
    let first = manager.daemon();
    assert_ne!(first, before);
    assert_eq!(env.session(&id)["state"], "running");

    procfs::kill9(first);
    let second = manager.daemon();
    assert_ne!(second, first);

    manager.cldpd(&["daemon", "stop"]).ok();
    procfs::await_death(second);
    assert_eq!(env.session(&id)["state"], "running");
    let third = manager.daemon();
    assert_ne!(third, second);
    manager.cldpd(&["daemon", "restart"]).ok();
    assert_ne!(manager.daemon(), third);

    gate.open();
    assert_eq!(env.wait(&id), 3);

    // Of another version, and from elsewhere: the service starts that until it is told.
    let other = Other::new(&env);
    manager.run(other.program(), &["daemon", "install"]).ok();
    let restarted = manager.cldpd(&["daemon", "restart"]).code(0).stderr;
    assert!(
        restarted.contains("a service starts another program"),
        "{restarted}"
    );
    manager.cldpd(&["daemon", "install"]).ok();
    assert_eq!(env.daemon()["version"], env!("CARGO_PKG_VERSION"));
    let last = manager.daemon();
    manager.cldpd(&["daemon", "uninstall"]).ok();
    procfs::await_death(last);
    assert!(!units(&env).iter().any(|path| path.exists()));
    assert_eq!(env.wait(&id), 3);
    manager.cldpd(&["daemon", "uninstall"]).code(2);
}

#[test]
fn units_of_others_are_left_alone() {
    let env = TestEnv::new();
    let shown = env.cldpd(["daemon", "install", "--print"]).run().ok();
    let [socket, service] = units(&env);
    assert!(
        shown.contains(&format!("# {}", service.display())),
        "{shown}"
    );
    assert!(!socket.exists());

    env.cldpd(["daemon", "install", "--no-start"]).run().ok();
    let verified = Command::new("systemd-analyze")
        .args(["--user", "verify"])
        .args([&socket, &service])
        .env("XDG_RUNTIME_DIR", env.root())
        .output()
        .expect("systemd-analyze is of systemd");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(!said.contains("cldpd"), "{said}");

    let other = env.root().join("other");
    let other = other.to_str().expect("text");
    let refused = env.cldpd(["--home", other, "daemon", "install", "--no-start"]);
    let refused = refused.run().code(5);
    assert!(
        refused.stderr.contains("is for the home"),
        "{}",
        refused.stderr
    );
    std::fs::write(&service, "[Service]\nExecStart=/bin/true\n").expect("our own directory");
    for verb in ["install", "uninstall"] {
        let refused = env.cldpd(["daemon", verb]).run().code(5);
        assert!(
            refused.stderr.contains("was not made by"),
            "{}",
            refused.stderr
        );
    }
    assert!(socket.exists() && service.exists());
    let bad = env.cldpd(["daemon", "install", "--name", "a/b"]).run();
    bad.code(2);
}

#[test]
fn a_displaced_daemon_leaves_its_successors_socket() {
    let env = TestEnv::new();
    env.start_daemon();
    let pid = env.daemon_pid();
    let (place, new) = (env.home().join("run/cldpd.sock"), env.root().join("new"));
    let successor = UnixListener::bind(&new).expect("a socket");
    std::fs::rename(&new, &place).expect("our own directory");
    let process = Pid::from_raw(pid).expect("a pid");
    kill_process(process, Signal::TERM).expect("it runs");
    procfs::await_death(pid);
    UnixStream::connect(&place).expect("it is there");
    drop(successor);
    // Nobody listens at it any more: then it is in nobody's way.
    env.start_daemon();
    env.stop_daemon();
    assert!(!place.exists());
}

#[test]
fn a_socket_of_another_home_is_refused() {
    let env = TestEnv::new();
    let socket = env.root().join("other.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // The protocol's descriptor is the third, and the process is to be told its own id.
    let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" daemon run 3<&0";
    let output = Command::new("sh")
        .args(["-c", script, BINARY])
        .env_clear()
        .envs(env.variables())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("and this home's is"), "{said}");
    assert_eq!(output.status.code(), Some(69));
}
