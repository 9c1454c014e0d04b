//! A Docker engine of one test's own, which may be killed, frozen and started
//! again: everything of it lies beneath one directory, and in namespaces of its
//! own. The machine's engine is not touched.

use super::WATCHDOG;
use super::engine::block_on;
use super::procfs;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A running engine; what it has is removed when it is dropped.
pub struct OwnEngine {
    root: PathBuf,
    args: &'static str,
    /// Its data lie on a file system of their own.
    disk: bool,
}

impl OwnEngine {
    /// Starts one, with these further arguments.
    pub fn start(args: &'static str) -> Self {
        let engine = Self::place(args, false);
        engine.run();
        engine
    }

    /// Starts one that has so many MiB for images and containers; only root can.
    pub fn with_disk(mib: u32) -> Self {
        let engine = Self::place("", true);
        let data = engine.root.join("data");
        std::fs::create_dir(&data).expect("it is ours");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(&data)
            .status();
        assert!(mounted.expect("there is mount").success());
        engine.run();
        engine
    }

    /// Gives it so much room in all.
    #[track_caller]
    pub fn resize_disk(&self, mib: u32) {
        let size = format!("remount,size={mib}m");
        let mounted = Command::new("mount")
            .args(["-o", &size])
            .arg(self.root.join("data"))
            .status();
        assert!(mounted.expect("there is mount").success());
    }

    fn place(args: &'static str, disk: bool) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: sockets of its own lie in it, whose paths are bounded.
        let root = PathBuf::from(format!("/tmp/cldpd-engine-{}-{number}", std::process::id()));
        std::fs::create_dir(&root).expect("a temporary directory can be made");
        Self { root, args, disk }
    }

    /// Starts it again, and returns when it answers.
    #[track_caller]
    pub fn run(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/engine.sh");
        let output = Command::new(script)
            .env("ENGINE_ROOT", &self.root)
            .env("ENGINE_ARGS", self.args)
            .output()
            .expect("the script is there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// Kills it as the kernel would; what runs in its containers may go on.
    #[track_caller]
    pub fn kill(&self) {
        procfs::kill9(self.pid());
    }

    /// Stops it in its tracks: it accepts connections, and answers nobody.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    /// `config.toml` of a home that uses it.
    pub fn config(&self) -> String {
        format!("[docker]\nhost = \"{}\"\n", self.host())
    }

    /// What it knows of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> ContainerInspectResponse {
        block_on(async {
            let found = self.client().await.inspect_container(container, None).await;
            found.unwrap_or_else(|e| panic!("container {container}: {e}"))
        })
    }

    fn host(&self) -> String {
        format!("unix://{}", self.root.join("docker.sock").display())
    }

    fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.root.join("docker.pid"));
        let text = text.expect("it has written its process id");
        text.trim().parse().expect("a process id")
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a process id");
        kill_process(pid, signal).expect("it runs");
    }

    async fn client(&self) -> Docker {
        let seconds = WATCHDOG.as_secs();
        Docker::connect_with_unix(&self.host(), seconds, API_DEFAULT_VERSION)
            .expect("a socket's address")
            .negotiate_version()
            .await
            .expect("it answers")
    }

    /// Removes all containers: they have processes.
    async fn clear(&self) {
        let docker = self.client().await;
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let all = docker.list_containers(Some(all)).await.expect("a list");
        for container in all {
            let force = RemoveContainerOptionsBuilder::new().force(true).build();
            let id = container.id.unwrap_or_default();
            let _ = docker.remove_container(&id, Some(force)).await;
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.root.join("dockerd.log")).unwrap_or_default();
            let from = log.len().saturating_sub(6000);
            eprintln!("--- dockerd.log\n{}", log.get(from..).unwrap_or(&log));
        }
        let emptied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(self.clear());
            self.send(Signal::TERM);
            procfs::await_death(self.pid());
        }));
        procfs::kill_all_of(&self.root);
        if self.disk {
            let _ = Command::new("umount").arg(self.root.join("data")).status();
        }
        let removed = std::fs::remove_dir_all(&self.root);
        if !std::thread::panicking() {
            assert!(emptied.is_ok(), "the engine's containers are left");
            removed.expect("the engine's directory can be removed");
        }
    }
}
