//! A home of one test's own, and what is in it.
//!
//! Invariant: when it is dropped, nothing of it is left: no daemon, no process,
//! no container, no image. What a passing test leaves behind fails it.

use super::engine;
use super::gate::Gate;
use super::pods::PodBuilder;
use super::process::{Cmd, Output, Proc};
use super::procfs;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_cldpd");

/// What is on its way out when a test is over is gone within this.
const LAST_WORD: Duration = Duration::from_secs(5);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A temporary home with a clean environment.
pub struct TestEnv {
    root: PathBuf,
    tag: String,
    docker: AtomicBool,
    images: Mutex<Vec<String>>,
    foreign: Mutex<Vec<String>>,
}

impl TestEnv {
    /// Makes a home. Nothing runs yet.
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Of one length: no home's path may begin with another's.
        let tag = format!("{}-{number:03}", std::process::id());
        // Short, since a socket's path has to fit 108 bytes, and made by name,
        // since no other process has our id.
        let root = PathBuf::from(format!("/tmp/cldpd-it-{tag}"));
        let _ = std::fs::remove_dir_all(&root);
        for dir in ["", "u", "s", "bin", "c/pods"] {
            std::fs::create_dir_all(root.join(dir)).expect("a temporary directory can be made");
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(root.join("c"), private).expect("our own directory");
        let agent = super::scripted_agent();
        std::os::unix::fs::symlink(agent, root.join("bin/claude")).expect("a link can be made");
        Self {
            root,
            tag,
            docker: AtomicBool::new(false),
            images: Mutex::new(Vec::new()),
            foreign: Mutex::new(Vec::new()),
        }
    }

    /// The directory that everything of this test lies beneath.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `$CLDPD_HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.join("c")
    }

    /// `$HOME`.
    pub fn user_home(&self) -> PathBuf {
        self.root.join("u")
    }

    /// A directory that pods' containers see under the same path.
    pub fn shared(&self) -> PathBuf {
        self.root.join("s")
    }

    /// Where `claude` lies for the runtimes without images.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// What no other test's names contain.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The whole environment of the binary.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("HOME".to_owned(), self.user_home().display().to_string()),
            ("CLDPD_HOME".to_owned(), self.home().display().to_string()),
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("COLUMNS".to_owned(), "160".to_owned()),
            ("TERM".to_owned(), "dumb".to_owned()),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), "UTC".to_owned()),
        ];
        // Where the engine is, is the machine's affair.
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            variables.push(("DOCKER_HOST".to_owned(), host));
        }
        variables
    }

    /// The binary with these arguments.
    pub fn cldpd<I, S>(&self, args: I) -> Cmd
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Cmd::new(self, BINARY, args)
    }

    /// Begins a pod; its directory is there when the builder is finished.
    pub fn pod(&self, name: &str) -> PodBuilder<'_> {
        PodBuilder::new(self, name)
    }

    /// A pod of the scripted engine.
    pub fn fake_pod(&self, name: &str) -> PodBuilder<'_> {
        self.pod(name).on_fake()
    }

    /// A pod of plain processes.
    pub fn local_pod(&self, name: &str) -> PodBuilder<'_> {
        self.pod(name).on_local()
    }

    /// A pod on the real engine. Its name is made unique: images are shared by
    /// all homes of a machine.
    pub fn docker_pod(&self, name: &str) -> PodBuilder<'_> {
        self.docker.store(true, Ordering::Relaxed);
        let name = format!("{name}-{}", self.tag);
        self.images
            .lock()
            .expect("no test panics with it")
            .push(format!("cldpd-{name}"));
        self.pod(&name).on_docker()
    }

    /// An image that is to go with this home.
    pub fn owns_image(&self, image: &str) {
        self.docker.store(true, Ordering::Relaxed);
        let mut images = self.images.lock().expect("no test panics with it");
        images.push(image.to_owned());
    }

    /// A container that is to go with this home although it is not cldpd's.
    pub fn owns_container(&self, name: &str) {
        let mut foreign = self.foreign.lock().expect("no test panics with it");
        foreign.push(name.to_owned());
    }

    /// Writes `config.toml`.
    pub fn config(&self, text: &str) {
        std::fs::write(self.home().join("config.toml"), text).expect("the home is ours");
    }

    /// A gate that agents see under the same path.
    pub fn gate(&self, name: &str) -> Gate {
        Gate::new(self.shared().join(name))
    }

    /// Dispatches one session and returns its id.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> String {
        let ids = self.start_many(args);
        assert_eq!(ids.len(), 1, "one session: {ids:?}");
        ids.into_iter().next().expect("one")
    }

    /// Dispatches sessions and returns their ids.
    #[track_caller]
    pub fn start_many(&self, args: &[&str]) -> Vec<String> {
        let mut all = vec!["start", "-d"];
        all.extend(args);
        let text = self.cldpd(all).run().ok();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a session's end; its exit code.
    #[track_caller]
    pub fn wait(&self, id: &str) -> i32 {
        self.cldpd(["wait", id]).run().code
    }

    /// Everything recorded of a session.
    #[track_caller]
    pub fn events(&self, id: &str) -> Vec<Value> {
        self.cldpd(["logs", "--format", "jsonl", id])
            .run()
            .code(0)
            .jsonl()
    }

    /// Exactly what a session's processes wrote to their standard output.
    #[track_caller]
    pub fn raw(&self, id: &str) -> Vec<u8> {
        let output = self
            .cldpd(["logs", "--raw", "--stream", "stdout", id])
            .run();
        output.code(0).stdout
    }

    /// The same as text.
    #[track_caller]
    pub fn said(&self, id: &str) -> String {
        String::from_utf8(self.raw(id)).expect("the scripted agent spoke UTF-8")
    }

    /// Reads along from the beginning; holds until the session is over.
    #[track_caller]
    pub fn follow(&self, id: &str) -> Proc {
        self.cldpd(["logs", "-f", "--raw", id]).spawn()
    }

    /// Waits until a session has said a line with `needle`.
    #[track_caller]
    pub fn await_line(&self, id: &str, needle: &str) {
        let follow = self.follow(id);
        follow.line(needle);
        drop(follow);
    }

    /// Waits until an event of this kind is recorded, and returns it.
    #[track_caller]
    pub fn await_event(&self, id: &str, kind: &str) -> Value {
        let follow = self.cldpd(["logs", "-f", "--format", "jsonl", id]).spawn();
        let line = follow.line(&format!("\"kind\":\"{kind}\""));
        serde_json::from_str(&line).expect("an event is JSON")
    }

    /// `inspect` of one session.
    #[track_caller]
    pub fn inspect(&self, id: &str) -> Value {
        let value = self.cldpd(["inspect", id]).run().json();
        match value {
            Value::Array(mut items) if items.len() == 1 => items.remove(0),
            other => other,
        }
    }

    /// A session's row of `sessions -a`.
    #[track_caller]
    pub fn session(&self, id: &str) -> Value {
        let rows = self.cldpd(["sessions", "-a", "--json"]).run().json();
        let rows = rows.as_array().expect("a list of sessions");
        let row = rows.iter().find(|row| row["id"] == id);
        row.unwrap_or_else(|| panic!("{id} is not in {rows:#?}"))
            .clone()
    }

    /// The daemon, as it describes itself.
    #[track_caller]
    pub fn daemon(&self) -> Value {
        self.cldpd(["daemon", "status", "--format", "json"])
            .run()
            .json()
    }

    /// The daemon's process.
    #[track_caller]
    pub fn daemon_pid(&self) -> i32 {
        let pid = self.daemon()["pid"].as_i64().expect("a process id");
        i32::try_from(pid).expect("a process id")
    }

    /// Kills the daemon as the kernel would, and waits until it is gone.
    #[track_caller]
    pub fn kill_daemon(&self) {
        procfs::kill9(self.daemon_pid());
    }

    /// Starts the daemon and waits until it serves.
    #[track_caller]
    pub fn start_daemon(&self) {
        self.cldpd(["daemon", "start"]).run().ok();
    }

    /// Stops the daemon; sessions go on.
    #[track_caller]
    pub fn stop_daemon(&self) {
        let pid = self.daemon_pid();
        self.cldpd(["daemon", "stop"]).run().ok();
        procfs::await_death(pid);
    }

    /// The calls that the scripted engine got from this pod's sessions.
    pub fn fake_log(&self, pod: &str) -> Vec<String> {
        let path = self.home().join("pods").join(pod).join("fake.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// ULIDs of the sessions that have a directory.
    pub fn session_dirs(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.home().join("sessions")) else {
            return Vec::new();
        };
        let names = entries.flatten().map(|e| e.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    }

    /// `text` without what differs from run to run of the tests.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.root.display().to_string(), "ROOT")
            .replace(&self.tag, "TAG")
    }

    fn shut_down(&self) -> Option<Output> {
        self.cldpd(["daemon", "stop", "--stop-sessions"])
            .spawn()
            .try_finish()
    }

    fn clear_engine(&self) {
        for ulid in self.session_dirs() {
            for container in engine::containers_with_label(&format!("cldpd.session={ulid}")) {
                engine::remove_container(&container.id.unwrap_or_default());
            }
            for image in engine::images_with_label(&format!("cldpd.session={ulid}")) {
                engine::remove_image(&image);
            }
        }
        for container in engine::containers_of(&self.root) {
            engine::remove_container(&container);
        }
        for container in self.foreign.lock().expect("no test panics with it").iter() {
            engine::remove_container(container);
        }
        for image in self.images.lock().expect("no test panics with it").iter() {
            engine::remove_image(image);
        }
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            // The test's own message says what is wrong; this says what the daemon thought.
            let log = std::fs::read_to_string(self.home().join("log/daemon.log"));
            let log = log.unwrap_or_default();
            let from = log.len().saturating_sub(6000);
            eprintln!("--- daemon.log\n{}", log.get(from..).unwrap_or(&log));
        }
        let stopped = self.home().join("run").exists().then(|| self.shut_down());
        // A shim that has said its last word is over a moment later.
        let mut left = procfs::processes_of(&self.root);
        left.retain(|(pid, _)| !procfs::ends_within(*pid, LAST_WORD));
        for (pid, _) in &left {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for (pid, _) in &left {
            let _ = std::panic::catch_unwind(|| procfs::await_death(*pid));
        }
        let mut running = Vec::new();
        if self.docker.load(Ordering::Relaxed) {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                running = engine::containers_of(&self.root)
                    .into_iter()
                    .filter(|name| {
                        let state = engine::inspect(name).state;
                        state.and_then(|state| state.running).unwrap_or_default()
                    })
                    .collect();
                self.clear_engine();
            }));
        }
        let _ = std::fs::remove_dir_all(&self.root);
        if failing {
            return;
        }
        assert!(
            left.is_empty(),
            "processes are left: {left:#?} (stop: {stopped:?})"
        );
        assert!(
            running.is_empty(),
            "containers run on: {running:?} (stop: {stopped:?})"
        );
    }
}
