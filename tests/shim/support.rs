//! A shim as a real process, commanded and read as the daemon does it.

use cldpd::model::{Stream, Ulid};
use cldpd::runtime::session_dir::{RunDir, SessionDir};
use cldpd::runtime::shim::{
    self, Control, Peer, Record, RecordBody, RunBody, Shim, ShimError, Spool, SpoolError,
};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longer than anything here takes; only a failing test ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh id.
pub fn id() -> Ulid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Ulid(0x0199_0000_0000 << 80 | u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A program of the shell.
pub fn sh(script: &str) -> RunBody {
    program(&["/bin/sh", "-c", script])
}

/// A program with arguments, as the primary run 0.
pub fn program(argv: &[&str]) -> RunBody {
    RunBody {
        id: id(),
        run: 0,
        argv: argv.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env: Vec::new(),
        cwd: None,
        stdin: Vec::new(),
        keep_stdin_open: false,
        tty: None,
        primary: true,
        secrets: Vec::new(),
        files: Vec::new(),
    }
}

/// An attempt's directory, with a shim in it. What still runs at the end of the test is killed.
pub struct Place {
    pub dir: RunDir,
    _home: tempfile::TempDir,
}

impl Place {
    /// A directory without a shim.
    pub fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = SessionDir::new(home.path(), id()).run(0, 1);
        shim::install(&dir.session).unwrap();
        shim::prepare_run(&dir).unwrap();
        Self { dir, _home: home }
    }

    /// A directory with a shim that was called with these options, too.
    pub fn with(options: &[&str]) -> Self {
        let place = Self::empty();
        let output = place.start(options);
        assert!(output.status.success(), "{output:?}");
        place
    }

    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Starts a shim and waits until it is ready.
    pub fn start(&self, options: &[&str]) -> Output {
        let mut command = Command::new(self.dir.session.shim());
        command.args(shim::local_arguments(&self.dir)).args(options);
        loop {
            match command.output() {
                // Another test forked while the file was being written.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                result => return result.unwrap(),
            }
        }
    }

    /// The shim's process.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.dir.path().join("pid")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    pub fn kill_shim(&self) {
        kill(self.pid());
    }

    pub async fn try_connect(&self, generation: u64) -> Result<Shim, ShimError> {
        Shim::connect(&self.dir, Peer::Local, generation, Duration::ZERO).await
    }

    pub async fn connect(&self, generation: u64) -> Shim {
        self.try_connect(generation).await.unwrap()
    }

    pub fn spool(&self) -> Result<Spool, SpoolError> {
        Spool::open(&self.dir, (self.dir.session.session(), 0, 1))
    }

    /// Reads along from the spool's beginning.
    pub fn follow(&self, shim: &Shim) -> Reader {
        Reader {
            spool: self.spool().unwrap(),
            shim: shim.clone(),
            records: Vec::new(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(text) = std::fs::read_to_string(self.dir.path().join("pid"))
            && let Some(Ok(pid)) = text.split(' ').next().map(str::parse)
            && is_shim(pid)
        {
            kill(pid);
        }
    }
}

/// Whether the process is a shim of ours and not one that got its pid later.
fn is_shim(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"shim\n")
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Completes when the process has ended.
pub async fn gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let fd = tokio::net::unix::pipe::Receiver::from_owned_fd_unchecked(fd).unwrap();
    tokio::time::timeout(PATIENCE, fd.readable())
        .await
        .unwrap()
        .unwrap();
}

/// Reads a spool while it is written, and to its end when the shim is gone.
pub struct Reader {
    pub spool: Spool,
    pub shim: Shim,
    pub records: Vec<Record>,
}

impl Reader {
    /// Reads until a record is one of these; all records so far are in `records`.
    pub async fn until(&mut self, wanted: impl Fn(&RecordBody) -> bool) -> RecordBody {
        let mut looked = 0;
        loop {
            if let Some(found) = self.records[looked..].iter().find(|r| wanted(&r.body)) {
                return found.body.clone();
            }
            looked = self.records.len();
            assert!(self.more().await, "not found in {:#?}", self.controls());
        }
    }

    /// Reads what there is; false at the end.
    pub async fn more(&mut self) -> bool {
        let position = self.spool.position();
        let written = tokio::time::timeout(PATIENCE, self.shim.written(position))
            .await
            .expect("nothing more was written");
        let upto = written.ok();
        let records = self.spool.read(upto, 1 << 20).unwrap();
        let any = !records.is_empty();
        self.records.extend(records);
        any
    }

    /// Reads to the end of a shim that ends.
    pub async fn end(mut self) -> Vec<Record> {
        while self.more().await {}
        self.records
    }

    pub async fn until_control(&mut self, wanted: impl Fn(&Control) -> bool) -> Control {
        let found = self
            .until(|body| matches!(body, RecordBody::Control { control, .. } if wanted(control)))
            .await;
        match found {
            RecordBody::Control { control, .. } => control,
            RecordBody::Output { .. } => unreachable!(),
        }
    }

    /// Reads until the run's standard output holds `text`.
    pub async fn until_output(&mut self, run: u32, text: &str) {
        while !String::from_utf8_lossy(&output(&self.records, run, Stream::Stdout)).contains(text) {
            assert!(self.more().await, "{text} never came");
        }
    }

    pub fn controls(&self) -> Vec<Control> {
        controls(&self.records)
    }
}

pub fn controls(records: &[Record]) -> Vec<Control> {
    records
        .iter()
        .filter_map(|record| match &record.body {
            RecordBody::Control { control, .. } => Some(control.clone()),
            RecordBody::Output { .. } => None,
        })
        .collect()
}

/// All of a stream, checked to be without a gap.
pub fn output(records: &[Record], of: u32, from: Stream) -> Vec<u8> {
    let mut all = Vec::new();
    for record in records {
        if let RecordBody::Output {
            run,
            stream,
            position,
            bytes,
            ..
        } = &record.body
            && (*run, *stream) == (of, from)
        {
            assert_eq!(*position, all.len() as u64);
            all.extend_from_slice(bytes);
        }
    }
    all
}

pub fn text(records: &[Record], run: u32) -> String {
    String::from_utf8(output(records, run, Stream::Stdout)).unwrap()
}

pub fn exit_of(records: &[Record], of: u32) -> Option<(u8, Option<i32>)> {
    controls(records).iter().find_map(|control| match control {
        Control::Exited { run, code, signal } if *run == of => Some((*code, *signal)),
        _ => None,
    })
}

/// Runs one program in a shim of its own, to the end.
pub async fn run_to_end(body: &RunBody) -> Vec<Record> {
    let place = Place::new();
    let shim = place.connect(1).await;
    shim.run(body).await.unwrap();
    place.follow(&shim).end().await
}

/// Bytes that files of the spool take.
pub fn spool_size(place: &Place) -> u64 {
    let entries = std::fs::read_dir(place.dir.path()).unwrap();
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("spool."))
        .map(|entry| entry.metadata().unwrap().size())
        .sum()
}
