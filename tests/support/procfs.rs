//! Processes of this machine, as `/proc` shows them.

use super::WATCHDOG;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Waits until the process `pid`, which need not be our child, has ended.
#[track_caller]
pub fn await_death(pid: i32) {
    assert!(ends_within(pid, WATCHDOG), "process {pid} does not end");
}

/// Waits until the process `pid` has ended; false if it has not within `limit`.
pub fn ends_within(pid: i32, limit: Duration) -> bool {
    let pid = Pid::from_raw(pid).expect("a process id");
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
    let patience = rustix::time::Timespec::try_from(limit).expect("a short time");
    // A library in this process may have taken a signal meanwhile.
    let ended = rustix::io::retry_on_intr(|| poll(&mut watched, Some(&patience)));
    ended.expect("a pidfd can be polled") == 1
}

/// Kills `pid` as `kill -9` does, and waits until it is gone.
#[track_caller]
pub fn kill9(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("it runs");
    await_death(pid);
}

/// Kills all processes that have to do with `place`. With one of them others go.
pub fn kill_all_of(place: &Path) {
    for (pid, _) in processes_of(place) {
        match kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => await_death(pid),
            Err(error) => panic!("process {pid}: {error}"),
        }
    }
}

/// The processes that have to do with `place`: their program lies beneath it,
/// or it stands in their arguments, environment or working directory.
pub fn processes_of(place: &Path) -> Vec<(i32, String)> {
    let needle = place.as_os_str().as_bytes();
    let mentions = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let us = std::process::id().cast_signed();
    pids()
        .filter(|pid| *pid != us)
        .filter_map(|pid| {
            let proc = Path::new("/proc").join(pid.to_string());
            let file = |name: &str| std::fs::read(proc.join(name)).unwrap_or_default();
            let link = |name: &str| {
                std::fs::read_link(proc.join(name)).map(|p| p.into_os_string().into_encoded_bytes())
            };
            let cmdline = file("cmdline");
            let ours = mentions(&cmdline)
                || mentions(&file("environ"))
                || link("exe").is_ok_and(|exe| mentions(&exe))
                || link("cwd").is_ok_and(|cwd| mentions(&cwd));
            let shown = String::from_utf8_lossy(&cmdline).replace('\0', " ");
            // A zombie has no command line and waits for its parent only.
            (ours && !cmdline.is_empty()).then_some((pid, shown))
        })
        .collect()
}

/// The arguments of every process, each as one string.
pub fn all_arguments() -> Vec<String> {
    pids()
        .filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .collect()
}

/// Inodes of the TCP sockets that `pid` listens on.
pub fn tcp_listeners(pid: i32) -> Vec<String> {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        panic!("process {pid} is gone");
    };
    let ours: Vec<String> = descriptors
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|target| {
            let target = target.to_string_lossy().into_owned();
            Some(
                target
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    assert!(!ours.is_empty(), "process {pid} has no socket at all");
    [
        "/proc/net/tcp",
        "/proc/net/tcp6",
        "/proc/net/udp",
        "/proc/net/udp6",
    ]
    .iter()
    .filter_map(|table| std::fs::read_to_string(table).ok())
    .flat_map(|table| {
        table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned))
            .collect::<Vec<_>>()
    })
    .filter(|inode| ours.contains(inode))
    .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A namespace of process ids. While this is held no later one has its number.
pub struct PidNamespace {
    name: PathBuf,
    _held: File,
}

/// The namespace of process ids that `pid` is in.
pub fn pid_namespace(pid: i64) -> PidNamespace {
    let link = format!("/proc/{pid}/ns/pid");
    let held = File::open(&link).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    let name = std::fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd()));
    PidNamespace {
        name: name.expect("a name"),
        _held: held,
    }
}

/// The processes in a namespace of process ids.
pub fn processes_in(namespace: &PidNamespace) -> Vec<i32> {
    let inside = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == namespace.name)
    };
    pids().filter(inside).collect()
}

/// The processes that have `word` among their arguments.
pub fn processes_with(word: &str) -> Vec<i32> {
    let among = |pid: &i32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        arguments.any(|argument| argument == word.as_bytes())
    };
    pids().filter(among).collect()
}
