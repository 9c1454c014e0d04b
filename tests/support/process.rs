//! Running the binary: to its end, or in the foreground of a test that reads
//! along and sends signals.
//!
//! Invariant: nothing here polls; a wait ends with what it waits for, or the
//! watchdog fails the test.

use super::WATCHDOG;
use super::env::TestEnv;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Instant;

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// What it was, for messages.
    pub what: String,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
    /// Its exit code; minus the signal when one ended it.
    pub code: i32,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("standard output is UTF-8")
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// Standard output of a command that has to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        self.code(0).text()
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let what = self.what.clone();
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"))
    }

    /// Standard output as one JSON document for each line.
    #[track_caller]
    pub fn jsonl(self) -> Vec<serde_json::Value> {
        let what = self.what.clone();
        let text = self.ok();
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{what}: {e}: {line}"))
            })
            .collect()
    }
}

/// A command that is about to be run.
pub struct Cmd {
    command: Command,
    stdin: Option<Vec<u8>>,
    what: String,
}

impl Cmd {
    /// The binary with `args` in the environment of `env`, and nothing of ours.
    pub fn new<I, S>(env: &TestEnv, program: &str, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let args: Vec<OsString> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let what = args.iter().fold("cldpd".to_owned(), |text, arg| {
            let arg = arg.to_string_lossy();
            format!("{text} {}", arg.chars().take(120).collect::<String>())
        });
        let mut command = Command::new(program);
        command
            .args(&args)
            .env_clear()
            .envs(env.variables())
            .current_dir(env.root());
        Self {
            command,
            stdin: None,
            what,
        }
    }

    /// A further variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from standard input; nothing otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs as another user; only root can.
    pub fn uid(mut self, uid: u32) -> Self {
        use std::os::unix::process::CommandExt;
        self.command.uid(uid).gid(uid);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        self.spawn().finish()
    }

    /// Begins it, and reads along.
    #[track_caller]
    pub fn spawn(mut self) -> Proc {
        let mut child = self.start();
        let pid = Pid::from_child(&child);
        let out = Capture::of(child.stdout.take().expect("piped"));
        let err = Capture::of(child.stderr.take().expect("piped"));
        let (done, exit) = mpsc::channel();
        std::thread::spawn(move || done.send((child.wait(), Instant::now())));
        Proc {
            what: self.what,
            pid,
            out,
            err,
            exit,
            ended: None,
        }
    }

    /// Begins it and reads nothing: the test has the pipes.
    #[track_caller]
    pub fn spawn_unread(mut self) -> Child {
        self.start()
    }

    #[track_caller]
    fn start(&mut self) -> Child {
        let stdin = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.what));
        if let (Some(bytes), Some(mut pipe)) = (self.stdin.take(), child.stdin.take()) {
            // A command that refuses its input closes it early; that is its right.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        child
    }
}

/// A command that runs.
pub struct Proc {
    what: String,
    pid: Pid,
    out: Capture,
    err: Capture,
    exit: mpsc::Receiver<(std::io::Result<ExitStatus>, Instant)>,
    ended: Option<(i32, Instant)>,
}

impl Proc {
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the command is there to be signalled");
    }

    /// Waits for a line of standard output that contains `needle`, and returns it.
    #[track_caller]
    pub fn line(&self, needle: &str) -> String {
        self.out.line(needle).unwrap_or_else(|e| {
            panic!(
                "{}: no line with {needle:?}: {e}\n{}",
                self.what,
                self.so_far()
            )
        })
    }

    /// The same of standard error.
    #[track_caller]
    pub fn error_line(&self, needle: &str) -> String {
        self.err.line(needle).unwrap_or_else(|e| {
            panic!(
                "{}: no line with {needle:?} on standard error: {e}\n{}",
                self.what,
                self.so_far()
            )
        })
    }

    /// Standard output up to now.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        self.out.bytes()
    }

    /// Waits for its end; nothing when the watchdog barks.
    pub fn try_finish(mut self) -> Option<Output> {
        let (status, at) = self.exit.recv_timeout(WATCHDOG).ok()?;
        self.ended = Some((code_of(&status.ok()?), at));
        Some(self.finish())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        self.await_exit();
        let (code, _) = self.ended.expect("it has ended");
        Output {
            what: self.what.clone(),
            stdout: self.out.whole(),
            stderr: String::from_utf8_lossy(&self.err.whole()).into_owned(),
            code,
        }
    }

    /// Waits for its end, and says when that was.
    #[track_caller]
    pub fn finish_at(mut self) -> (Output, Instant) {
        self.await_exit();
        let at = self.ended.expect("it has ended").1;
        (self.finish(), at)
    }

    #[track_caller]
    fn await_exit(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let Ok((status, at)) = self.exit.recv_timeout(WATCHDOG) else {
            panic!("{} does not end\n{}", self.what, self.so_far());
        };
        let status = status.expect("its end can be waited for");
        self.ended = Some((code_of(&status), at));
    }

    fn so_far(&self) -> String {
        let tail = |bytes: Vec<u8>| {
            let from = bytes.len().saturating_sub(4096);
            String::from_utf8_lossy(&bytes[from..]).into_owned()
        };
        format!(
            "--- stdout\n{}\n--- stderr\n{}",
            tail(self.out.bytes()),
            tail(self.err.bytes())
        )
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.ended.is_none() && self.exit.try_recv().is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// The exit code; minus the signal when one ended it.
fn code_of(status: &ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// A pipe that a thread reads to its end.
struct Capture(Arc<(Mutex<Captured>, Condvar)>);

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    /// Lines up to here were looked at by [`Capture::line`].
    seen: usize,
    closed: bool,
}

impl Capture {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Captured::default()), Condvar::new()));
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                let read = pipe.read(&mut chunk).unwrap_or(0);
                let mut state = writer.0.lock().expect("no reader panics with it");
                state.bytes.extend_from_slice(&chunk[..read]);
                state.closed |= read == 0;
                writer.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self(shared)
    }

    /// The next line that contains `needle`, from where the last one was found.
    fn line(&self, needle: &str) -> Result<String, &'static str> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("no reader panics with it");
        loop {
            while let Some(end) = state.bytes[state.seen..].iter().position(|b| *b == b'\n') {
                let line = state.bytes[state.seen..state.seen + end].to_vec();
                state.seen += end + 1;
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.contains(needle) {
                    return Ok(line);
                }
            }
            if state.closed {
                return Err("it ended");
            }
            let (next, timeout) = changed
                .wait_timeout(state, WATCHDOG)
                .expect("no reader panics with it");
            state = next;
            if timeout.timed_out() {
                return Err("the watchdog barked");
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0
            .0
            .lock()
            .expect("no reader panics with it")
            .bytes
            .clone()
    }

    /// Everything, once the other end is closed.
    fn whole(&self) -> Vec<u8> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("no reader panics with it");
        while !state.closed {
            let (next, timeout) = changed
                .wait_timeout(state, WATCHDOG)
                .expect("no reader panics with it");
            assert!(!timeout.timed_out(), "a pipe stays open after its process");
            state = next;
        }
        std::mem::take(&mut state.bytes)
    }
}
