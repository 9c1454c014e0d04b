//! `cldpd exec`: a command beside the agent.

use crate::support::gate::Gate;
use crate::support::process::Cmd;
use crate::support::{TestEnv, fnv1a64, numbered, procfs};
use rustix::process::Signal;
use std::io::Read;

/// A session whose agent has printed `ready` and waits at a gate.
struct Working<'e> {
    env: &'e TestEnv,
    id: String,
    gate: Gate,
}

impl<'e> Working<'e> {
    /// On `pod`, with this to do once it is let go.
    fn new(env: &'e TestEnv, pod: &str, then: &str) -> Self {
        let gate = env.gate(&format!("gate-{pod}"));
        let prompt = format!("[[print ready]]{}{then}", gate.hold());
        let id = env.start(&[pod, "--env", "FLAG=agents", "--prompt", &prompt]);
        env.await_line(&id, "ready");
        Self { env, id, gate }
    }

    /// Lets the agent go and gives what it said.
    fn end(&self) -> String {
        self.gate.open();
        assert_eq!(self.env.wait(&self.id), 0);
        self.env.said(&self.id)
    }

    /// `cldpd exec` of any command.
    fn exec(&self, flags: &[&str], command: &[&str]) -> Cmd {
        let args = [&["exec"][..], flags, &[&self.id, "--"], command].concat();
        self.env.cldpd(args)
    }

    /// `cldpd exec` of the scripted agent's program.
    fn script(&self, script: &str) -> Cmd {
        let script = format!("CLDPD_SCRIPT={script}");
        self.exec(&["-e", &script], &["claude"])
    }
}

fn speaks(env: &TestEnv, pod: &str) {
    let working = Working::new(env, pod, "[[print done]]");
    let output = working
        .script("[[print out]][[err wrong]][[env FLAG]][[env OWN]][[stdin]][[exit 7]]")
        .env("OWN", "not passed on")
        .run()
        .code(7);
    // It has the agent's variables, its own, and no input.
    let expected = "out\nFLAG=agents\nOWN is not set\nstdin: at its end\n";
    assert_eq!(output.text(), expected, "{pod}");
    assert_eq!(output.stderr, "wrong\n");
    let told = working.exec(
        &["-e", "OWN", "-e", "FLAG=mine", "-w", "/tmp", "-i"],
        &["claude"],
    );
    let told = told
        .env("OWN", "passed")
        .stdin("[[env OWN]][[env FLAG]][[cwd]]");
    assert_eq!(told.run().ok(), "OWN=passed\nFLAG=mine\ncwd: /tmp\n");
    assert_eq!(working.script("[[die KILL]]").run().code, 137);
    let missing = working.exec(&[], &["no-such-program"]).run().code(127);
    assert!(
        missing.stderr.contains("no-such-program was not found"),
        "{}",
        missing.stderr
    );
    let denied = working.exec(&[], &["/tmp"]).run().code(126);
    assert!(denied.stderr.contains("/tmp"), "{}", denied.stderr);
    // Nothing of it is the agent's, or recorded.
    assert_eq!(working.end(), "ready\ndone\n");
    let events = env
        .cldpd(["logs", "--format", "jsonl", &working.id])
        .run()
        .ok();
    assert!(
        !events.contains("wrong") && !events.contains("passed"),
        "{events}"
    );
    let over = working.script("[[print late]]").run().code(125);
    for word in ["has ended", "cldpd resume", "cldpd cp"] {
        assert!(over.stderr.contains(word), "{}", over.stderr);
    }
}

#[test]
fn exec_exit_codes_and_streams_of_a_container() {
    let env = TestEnv::new();
    let pod = env.docker_pod("beside").plain().make();
    speaks(&env, &pod);
}

#[test]
fn exec_exit_codes_and_streams_of_a_process() {
    let env = TestEnv::new();
    let pod = env.local_pod("beside").plain().make();
    speaks(&env, &pod);
    let pod = env.fake_pod("beside-fake").plain().make();
    speaks(&env, &pod);
}

/// A command that is over before its standard input is ended from here.
#[test]
fn exec_of_commands_that_end_at_once_is_heard_to_the_end() {
    let env = TestEnv::new();
    let pod = env.local_pod("brief").plain().make();
    let working = Working::new(&env, &pod, "");
    for _ in 0..60 {
        let output = working.exec(&[], &["/bin/echo", "said"]).run().code(0);
        assert_eq!(output.text(), "said\n");
    }
    working.end();
}

#[test]
fn exec_of_what_does_not_run_says_what_to_do() {
    let env = TestEnv::new();
    let unknown = env.cldpd(["exec", "nobody", "--", "true"]).run().code(125);
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
    env.cldpd(["exec", "nobody"]).run().code(2);
    let pod = env.local_pod("waits").plain();
    let pod = pod.json(serde_json::json!({"maxParallel": 1})).make();
    let working = Working::new(&env, &pod, "");
    let queued = env.start(&[&pod, "--prompt", "[[print x]]"]);
    let refused = env.cldpd(["exec", &queued, "--", "true"]).run().code(125);
    assert!(refused.stderr.contains("queued"), "{}", refused.stderr);
    working.end();
    assert_eq!(env.wait(&queued), 0);
}

#[test]
fn exec_passes_ten_megabytes_there_and_back() {
    let env = TestEnv::new();
    let pod = env.docker_pod("there-and-back").plain().make();
    let working = Working::new(&env, &pod, "");
    let mut state = 1u64;
    let bytes: Vec<u8> = (0..10 << 20)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        })
        .collect();
    let back = working
        .exec(&["-i"], &["claude", "--cat"])
        .stdin(bytes.clone());
    let back = back.run().code(0).stdout;
    assert_eq!((back.len(), fnv1a64(&back)), (bytes.len(), fnv1a64(&bytes)));
    // A program that does not read its input is not waited for by anybody.
    let unread = working
        .exec(&["-i"], &["claude", "--orphan", "0"])
        .stdin(bytes);
    unread.run().code(0);
    working.end();
}

/// The most memory that a process has had, in KiB.
fn peak(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .and_then(|number| number.trim().parse().ok())
        .expect("a number")
}

#[test]
fn exec_of_a_hundred_megabytes_waits_for_its_reader_alone() {
    const LINES: usize = 1_000_000;
    /// With its line end.
    const LINE: usize = 101;
    let env = TestEnv::new();
    let pod = env.local_pod("much").plain().make();
    let working = Working::new(&env, &pod, "[[lines 5000]]");
    let (daemon, before) = (env.daemon_pid(), peak(env.daemon_pid()));
    let script = format!("[[lines {LINES} 100]]");
    let mut slow = working.script(&script).spawn_unread();
    let mut out = slow.stdout.take().expect("piped");
    let mut first = vec![0; LINE];
    out.read_exact(&mut first).expect("the first line");
    assert!(first.starts_with(b"line 0000001 "));
    // Nobody reads on: neither another command nor the agent minds.
    assert_eq!(working.script("[[print quick]]").run().ok(), "quick\n");
    let mut rest = Vec::with_capacity(LINE * LINES);
    out.read_to_end(&mut rest).expect("the rest");
    assert_eq!(slow.wait().expect("it ends").code(), Some(0));
    assert_eq!(first.len() + rest.len(), LINE * LINES);
    let last = rest[rest.len() - LINE..].to_vec();
    assert!(last.starts_with(b"line 1000000 "));
    let grown = peak(daemon).saturating_sub(before);
    assert!(grown < 32 * 1024, "the daemon grew by {grown} KiB");
    let session = env.home().join("sessions").join(&env.session_dirs()[0]);
    let shim = std::fs::read_to_string(session.join("r0.1/pid")).expect("a shim");
    let shim = shim.split(' ').next().and_then(|pid| pid.parse().ok());
    let held = peak(shim.expect("a process id"));
    assert!(held < 16 * 1024, "the shim took {held} KiB");
    assert_eq!(working.end(), format!("ready\n{}", numbered(5000)));
}

#[test]
fn exec_passes_signals_on() {
    let env = TestEnv::new();
    let pod = env.docker_pod("signalled").plain().make();
    let working = Working::new(&env, &pod, "");
    for (signal, name) in [(Signal::INT, "INT"), (Signal::TERM, "TERM")] {
        let script = format!("[[on {name} exit 9]][[print up]][[sleep 600000]]");
        let exec = working.script(&script).spawn();
        exec.line("up");
        exec.signal(signal);
        let output = exec.finish();
        assert_eq!(output.code, 9, "{name}: {}", output.stderr);
    }
    working.end();
}

#[test]
fn exec_ends_with_its_command_line() {
    let env = TestEnv::new();
    let pod = env.local_pod("left").plain().make();
    let working = Working::new(&env, &pod, "[[print done]]");
    let script = "[[orphan 600000 setsid]][[print up]][[sleep 600000]]";
    let exec = working.script(script).spawn();
    let line = exec.line("orphan ");
    let orphan: i32 = line["orphan ".len()..].parse().expect("a process id");
    exec.line("up");
    exec.signal(Signal::KILL);
    exec.finish();
    procfs::await_death(orphan);
    assert_eq!(working.end(), "ready\ndone\n");
}

#[test]
fn exec_and_a_daemon_that_is_killed() {
    let env = TestEnv::new();
    let pod = env.docker_pod("survives").plain().make();
    let working = Working::new(&env, &pod, "[[lines 5000]]");
    let exec = working.script("[[print up]][[sleep 600000]]").spawn();
    exec.line("up");
    env.kill_daemon();
    let output = exec.finish().code(125);
    assert!(output.stderr.contains("connection"), "{}", output.stderr);
    // The agent has noticed nothing, and the next daemon misses nothing.
    assert_eq!(working.script("[[print again]]").run().ok(), "again\n");
    assert_eq!(working.end(), format!("ready\n{}", numbered(5000)));
}

#[test]
fn exec_ends_with_its_session() {
    let env = TestEnv::new();
    let pod = env.local_pod("over").plain().make();
    let working = Working::new(&env, &pod, "");
    let exec = working.script("[[print up]][[sleep 600000]]").spawn();
    exec.line("up");
    working.end();
    assert_eq!(exec.finish().code, 143);
}
