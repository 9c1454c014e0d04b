//! A clock that is set back and forth an hour while sessions run, for the daemon, their
//! shims and the commands: what is recorded keeps its order, and no limit of time is
//! taken for over, or for longer than it is.

use crate::support::events::{assert_dense, of_kind, only, outcome};
use crate::support::process::Cmd;
use crate::support::{TestEnv, numbered, procfs};
use serde_json::Value;
use std::path::PathBuf;

/// A file that says by how many seconds the clock is wrong.
struct Clock<'e> {
    env: &'e TestEnv,
    file: PathBuf,
}

impl<'e> Clock<'e> {
    fn new(env: &'e TestEnv) -> Self {
        let clock = Self {
            env,
            file: env.shared().join("clock"),
        };
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, seconds.to_string()).expect("our own file");
        std::fs::rename(aside, &self.file).expect("our own file");
    }

    fn cldpd(&self, args: &[&str]) -> Cmd {
        self.env.cldpd(args).env("CLDPD_CLOCK", &self.file)
    }

    fn start(&self, args: &[&str]) -> String {
        let all = [&["start", "-d"], args].concat();
        self.cldpd(&all).run().ok().trim().to_owned()
    }
}

const HOUR: i64 = 3600;

fn times(events: &[Value]) -> Vec<&str> {
    let times = events.iter().map(|event| event["time"].as_str());
    times.map(|time| time.expect("a time")).collect()
}

#[test]
fn a_clock_that_is_set_changes_no_order_and_stops_nobody() {
    let env = TestEnv::new();
    env.config("[agents]\nsilent_after = \"30m\"\non_silence = \"stop\"\n");
    let clock = Clock::new(&env);
    clock.cldpd(&["daemon", "start"]).run().ok();
    let local = env.local_pod("clock").plain().make();
    let docker = env.docker_pod("clock").plain().make();
    let mut sessions = Vec::new();
    for pod in [&local, &docker] {
        let gates: Vec<_> = (0..4).map(|n| env.gate(&format!("{pod}-{n}"))).collect();
        let mut prompt = String::new();
        for (number, gate) in gates.iter().enumerate() {
            prompt.push_str(&format!(
                "[[print at {number}]][[lines 100]]{}",
                gate.hold()
            ));
        }
        let prompt = format!("{prompt}[[exit 3]]");
        let id = clock.start(&[pod, "--timeout", "20m", "--prompt", &prompt]);
        let follow = env.follow(&id);
        sessions.push((id, gates, follow));
    }
    for (number, wrong) in [HOUR, -HOUR, 0, HOUR].into_iter().enumerate() {
        for (id, _, _) in &sessions {
            env.await_line(id, &format!("at {number}"));
        }
        clock.set(wrong);
        for (_, gates, _) in &sessions {
            gates[number].open();
        }
        if number == 1 {
            env.kill_daemon();
            clock.cldpd(&["daemon", "start"]).run().ok();
        }
    }
    let said: String = (0..4)
        .map(|n| format!("at {n}\n{}", numbered(100)))
        .collect();
    for (id, _, follow) in sessions {
        assert_eq!(env.wait(&id), 3, "{id}");
        assert_eq!(outcome(&env.session(&id)), "failed");
        assert_eq!(env.said(&id), said);
        let followed = follow.finish().code(3);
        assert_eq!(followed.text(), said, "{id}");
        let events = env.events(&id);
        assert_dense(&events);
        let times = times(&events);
        assert!(times.is_sorted(), "{times:#?}");
        assert_eq!(of_kind(&events, "stopping").len(), 0);
        let args = ["logs", "--since", "3h", "--raw", &id];
        assert_eq!(clock.cldpd(&args).run().ok(), said);
    }
    clock.set(-HOUR);
    let verified = clock.cldpd(&["journal", "verify"]).run();
    verified.ok();
}

#[test]
fn limits_are_kept_however_the_clock_is_set() {
    let env = TestEnv::new();
    let clock = Clock::new(&env);
    clock.cldpd(&["daemon", "start"]).run().ok();
    let pod = env.local_pod("limits").plain().make();
    let works = "[[ignore TERM]][[print up]][[sleep 600000]]";
    let timed = clock.start(&[&pod, "--timeout", "2s", "--prompt", works]);
    let stopped = clock.start(&[&pod, "--prompt", works]);
    env.await_line(&timed, "up");
    env.await_line(&stopped, "up");
    clock.set(-HOUR);
    clock.cldpd(&["stop", "-t", "1", &stopped]).run().ok();
    assert_eq!(outcome(&env.session(&stopped)), "stopped");
    assert_eq!(env.wait(&timed), 124);
    assert_eq!(only(&env.events(&timed), "stopping")["by"], "timeout");

    // Dispatched before what was dispatched before it, it is found all the same.
    let earlier = clock.start(&[&pod, "--timeout", "1h", "--prompt", "[[print done]]"]);
    assert_eq!(env.wait(&earlier), 0);
    assert_eq!(env.said(&earlier), "done\n");
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert_eq!(rows.as_array().expect("a list").len(), 3);
}

#[test]
fn what_a_dead_daemon_had_for_looking_is_found_when_it_is_old() {
    let env = TestEnv::new();
    let clock = Clock::new(&env);
    env.docker_pod("looked").plain().make();
    let start = clock.cldpd(&["daemon", "start"]);
    let start = start.env("CLDPD_FAILPOINTS", "helper.started=kill");
    start.run().ok();
    let pid = env.daemon_pid();
    clock.cldpd(&["doctor"]).run();
    procfs::await_death(pid);
    let found = |force: &[&str]| {
        let shown = clock.cldpd(&[&["gc"], force].concat()).run().ok();
        let lines = shown.lines().map(str::to_owned);
        lines
            .filter(|line| line.contains("it helped a daemon that is gone"))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), Vec::<String>::new(), "somebody may wait for it");
    clock.set(3 * HOUR);
    // The container, and the image that it was made of.
    assert_eq!(found(&[]).len(), 2);
    assert_eq!(found(&["--force"]).len(), 2);
    assert_eq!(found(&[]), Vec::<String>::new());
}
