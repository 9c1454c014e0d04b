//! A FIFO that holds a scripted agent (or the fake engine) until the test opens it.

use super::WATCHDOG;
use rustix::fs::{CWD, Mode, mkfifoat};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

/// A place where the agent waits: `[[fifo PATH]]`.
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// Makes the FIFO.
    pub fn new(path: PathBuf) -> Self {
        mkfifoat(CWD, &path, Mode::from_raw_mode(0o666)).expect("a FIFO can be made");
        // Not narrowed by our umask: the agent may be another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, mode).expect("our own FIFO");
        Self { path }
    }

    /// Where it lies, also inside a container.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the agent is told to wait here.
    pub fn hold(&self) -> String {
        format!("[[fifo {}]]", self.path.display())
    }

    /// Waits until somebody stands at the gate, and lets them through.
    #[track_caller]
    pub fn open(&self) {
        drop(self.meet());
    }

    /// Waits until somebody stands at the gate. They go through when this is dropped.
    #[track_caller]
    pub fn meet(&self) -> File {
        let (opened, done) = mpsc::channel();
        let path = self.path.clone();
        // Opening for writing returns when a reader is there, and its end of
        // file comes with our closing.
        std::thread::spawn(move || opened.send(File::options().write(true).open(path)));
        match done.recv_timeout(WATCHDOG) {
            Ok(result) => result.expect("the FIFO can be opened"),
            Err(_) => panic!("nobody came to the gate {}", self.path.display()),
        }
    }
}
