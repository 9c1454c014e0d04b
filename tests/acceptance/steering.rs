//! 5.7 and 5.6, for agents that take messages while they work: the prompt of a resume
//! goes to the working process.

use crate::support::TestEnv;
use crate::support::events::{assert_dense, of_kind, of_run, only, outcome};
use crate::support::pods::PodBuilder;
use rustix::process::Signal;
use serde_json::{Value, json};

fn steered(pod: PodBuilder<'_>) -> String {
    pod.json(json!({"steer": true})).make()
}

/// Asks for a further run, and returns its number.
#[track_caller]
fn tell(env: &TestEnv, id: &str, prompt: &str) {
    env.cldpd(["resume", "-d", id, "--prompt", prompt])
        .run()
        .ok();
}

/// The kinds of a run's own events, without what is said and noted.
fn story(events: &[Value], run: u64) -> Vec<String> {
    let of_run = of_run(events, run);
    let mut kinds: Vec<String> = of_run
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .filter(|kind| !matches!(*kind, "agent" | "output" | "note"))
        .map(str::to_owned)
        .collect();
    kinds.dedup();
    kinds
}

fn at(events: &[Value], kind: &str, run: u64) -> usize {
    let here = |event: &Value| event["kind"] == kind && event["run"] == run;
    events.iter().position(here).expect("it is recorded")
}

/// How often the agent said this text.
fn times(events: &[Value], text: &str) -> usize {
    let said = of_kind(events, "agent");
    let is = |event: &&&Value| event["event"]["type"] == "text" && event["event"]["text"] == text;
    said.iter().filter(is).count()
}

#[test]
fn a066_resume_of_a_running_session_that_takes_messages_steers_it() {
    let env = TestEnv::new();
    for pod in [
        steered(env.docker_pod("talk")),
        steered(env.local_pod("near")),
    ] {
        let id = env.start(&[&pod, "--prompt", "[[print ready]][[hear]][[print on]]"]);
        env.await_line(&id, "ready");
        let said = env
            .cldpd(["resume", &pod, "--prompt", "[[print steered]]"])
            .run()
            .code(0);
        assert!(said.text().contains("steered"), "{}", said.text());
        assert_eq!(env.wait(&id), 0);

        let events = env.events(&id);
        assert_dense(&events);
        assert_eq!(story(&events, 1), ["queued", "run_started", "run_ended"]);
        assert_eq!(of_kind(&events, "creating").len(), 1, "one process");
        let message = of_run(&events, 1);
        assert_eq!(only(&message, "queued")["how"], "steer");
        assert_eq!(only(&message, "run_started")["how"], "steer");
        assert_eq!(outcome(only(&message, "run_ended")), "success");
        assert!(at(&events, "run_ended", 1) < at(&events, "run_ended", 0));
        assert_eq!(times(&events, "steered"), 1);
        let row = env.session(&id);
        let stands = (&row["run"], &row["runs"], &row["code"]);
        assert_eq!(stands, (&0.into(), &2.into(), &0.into()));
        // What the turn cost is counted once, where it was said.
        assert_eq!(row["usage"]["cost_usd"], 0.01, "{row}");

        // And when it has ended it goes on as any other.
        let last = env
            .cldpd(["resume", &id, "--prompt", "[[print last]]"])
            .run()
            .code(0);
        assert!(last.text().contains("last"), "{}", last.text());
        assert_eq!(only(&of_run(&env.events(&id), 2), "queued")["how"], "next");
    }
}

#[test]
fn a066_a_message_that_comes_late_in_a_turn_is_the_next_turn_of_the_same_process() {
    let env = TestEnv::new();
    let pod = steered(env.local_pod("late"));
    let gate = env.gate("turn");
    let prompt = format!("[[print ready]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let resume = env
        .cldpd(["resume", &id, "--prompt", "[[print second]]"])
        .spawn();
    env.await_event(&id, "run_started");
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    follow.line("\"how\":\"steer\"");
    drop(follow);
    gate.open();
    resume.finish().code(0);
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    assert_eq!(story(&events, 1), ["queued", "run_started", "run_ended"]);
    assert_eq!(times(&events, "second"), 1);
    assert_eq!(of_kind(&events, "creating").len(), 1);
    assert!(of_kind(&events, "note").is_empty(), "nothing to be said");
}

#[test]
fn a070_messages_at_once_reach_one_agent_one_after_the_other() {
    let env = TestEnv::new();
    let pod = steered(env.local_pod("many"));
    let gate = env.gate("all");
    let hears = "[[hear]]".repeat(6);
    let prompt = format!("[[print ready]]{}{hears}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let resumes: Vec<_> = (1..=6)
        .map(|n| {
            let prompt = format!("[[print message {n}]]");
            env.cldpd(["resume", "-d", &id, "--prompt", &prompt])
                .spawn()
        })
        .collect();
    for resume in resumes {
        resume.finish().code(0);
    }
    gate.open();
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(of_kind(&events, "container_started").len(), 1, "one agent");
    for n in 1..=6 {
        assert_eq!(times(&events, &format!("message {n}")), 1);
        let run = of_run(&events, n);
        assert_eq!(outcome(only(&run, "run_ended")), "success");
    }
}

#[test]
fn a070_resumes_of_an_agent_that_takes_no_messages_wait_for_each_other() {
    let env = TestEnv::new();
    let pod = env.local_pod("alone").make();
    let gate = env.gate("held");
    let prompt = format!("[[print ready]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let resumes = [1, 2, 3].map(|n| {
        let prompt = format!("[[print turn {n}]]");
        env.cldpd(["resume", &id, "--prompt", &prompt]).spawn()
    });
    for _ in 0..3 {
        env.await_event(&id, "queued");
    }
    gate.open();
    for resume in resumes {
        resume.finish().code(0);
    }
    assert_eq!(env.wait(&id), 0);
    // Never two at once: each begins when the one before it has ended.
    let events = env.events(&id);
    let marks = ["container_started", "container_exited"];
    let marks: Vec<&str> = events
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .filter(|kind| marks.contains(kind))
        .collect();
    assert_eq!(marks.len(), 8);
    for pair in marks.chunks(2) {
        assert_eq!(pair, ["container_started", "container_exited"]);
    }
}

#[test]
fn a060_ctrl_c_on_a_resume_that_steers_interrupts_its_own_turn() {
    let env = TestEnv::new();
    let pod = steered(env.local_pod("left"));
    let id = env.start(&[&pod, "--prompt", "[[print ready]][[hear]][[print never]]"]);
    env.await_line(&id, "ready");
    let resume = env
        .cldpd(["resume", &id, "--prompt", "[[print busy]][[hear]]"])
        .spawn();
    resume.line("busy");
    resume.signal(Signal::INT);
    let left = resume.finish();
    assert_ne!(left.code, 0, "{}", left.text());
    // Its process was not signalled: it ended by itself, and says that it was interrupted.
    env.wait(&id);
    let events = env.events(&id);
    assert_eq!(outcome(only(&of_run(&events, 1), "run_ended")), "stopped");
    let first = of_run(&events, 0);
    assert!(of_kind(&first, "stopping").is_empty());
    assert_eq!(only(&first, "container_exited")["signal"], Value::Null);
    assert_eq!(outcome(only(&first, "run_ended")), "interrupted");
    assert_eq!(times(&events, "never"), 0);
}

#[test]
fn a060_a_message_that_nobody_took_up_can_be_taken_back() {
    let env = TestEnv::new();
    let pod = steered(env.local_pod("back"));
    let gate = env.gate("deaf");
    let prompt = format!("[[print ready]]{}[[print on]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    tell(&env, &id, "[[print one]]");
    tell(&env, &id, "[[print two]]");
    // One alone, while the agent works on.
    let resume = env
        .cldpd(["resume", &id, "--prompt", "[[print three]]"])
        .spawn();
    resume.error_line("run 3: ");
    resume.signal(Signal::INT);
    resume.finish().code(130);
    assert_eq!(env.session(&id)["state"], "running");
    // All of it: what was not taken up is taken back.
    env.cldpd(["stop", "-t", "0", &id]).run().code(0);
    let events = env.events(&id);
    assert_dense(&events);
    for run in [1, 2, 3] {
        assert_eq!(
            outcome(only(&of_run(&events, run), "run_ended")),
            "cancelled"
        );
    }
    assert_eq!(outcome(only(&of_run(&events, 0), "run_ended")), "stopped");
    assert_eq!(times(&events, "one") + times(&events, "two"), 0);
    assert_eq!(env.session(&id)["state"], "ended");
}

#[test]
fn a_message_that_an_agent_did_not_take_up_before_its_end_is_the_next_run() {
    let env = TestEnv::new();
    let pod = steered(env.local_pod("ends"));
    let gate = env.gate("end");
    let prompt = format!("[[remember blue]][[print ready]]{}[[exit 3]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let resume = env
        .cldpd(["resume", &id, "--prompt", "[[recall]][[print again]]"])
        .spawn();
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    follow.line("\"how\":\"steer\",\"prompt\"");
    drop(follow);
    gate.open();
    let output = resume.finish().code(0);
    assert!(output.text().contains("again"), "{}", output.text());
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(only(&of_run(&events, 0), "container_exited")["code"], 3);
    let second = of_run(&events, 1);
    assert_eq!(only(&second, "deferred")["run"], 1);
    let notes = of_kind(&second, "note");
    assert!(
        notes.iter().any(|note| note["code"] == "maybe_twice"),
        "it had been written: {notes:?}"
    );
    assert_eq!(times(&events, "recalled: blue"), 1);
    assert_eq!(times(&events, "again"), 1);
    let started = of_kind(&second, "run_started");
    assert_eq!(started.last().expect("it ran")["how"], "next");
}

#[test]
fn how_steer_insists_and_says_why_not() {
    let env = TestEnv::new();
    let (deaf, open) = (env.local_pod("deaf").make(), steered(env.local_pod("open")));
    let gates = [env.gate("a"), env.gate("b")];
    let [first, second] = [(&deaf, &gates[0]), (&open, &gates[1])].map(|(pod, gate)| {
        let id = env.start(&[pod, "--prompt", &format!("[[print up]]{}", gate.hold())]);
        env.await_line(&id, "up");
        id
    });
    let steer = |id: &str, more: &[&str]| {
        let args = ["resume", "-d", "--how", "steer", id, "--prompt", "x"];
        env.cldpd([&args[..], more].concat()).run()
    };
    let refused = steer(&first, &[]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("takes no messages while it works"));
    assert!(
        refused.stderr.contains("\"steer\": true"),
        "{}",
        refused.stderr
    );
    let refused = steer(&second, &["--fresh"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    // What is no text can be no JSON: it waits for its turn.
    let file = env.root().join("bytes");
    std::fs::write(&file, [0xff, 0xfe, b'x']).expect("our own directory");
    let file = file.display().to_string();
    let bytes = ["resume", "-d", &second, "--prompt-file", &file];
    let refused = env.cldpd([&bytes[..], &["--how", "steer"]].concat()).run();
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("UTF-8"), "{}", refused.stderr);
    env.cldpd(bytes).run().ok();
    assert_eq!(
        only(&of_run(&env.events(&second), 1), "queued")["how"],
        "next"
    );
    env.cldpd(["resume", "-d", "--how", "next", &second, "--prompt", "x"])
        .run()
        .ok();
    for gate in &gates {
        gate.open();
    }
    for id in [&first, &second] {
        assert_eq!(env.wait(id), 0);
        let refused = steer(id, &[]);
        assert_eq!(refused.code, 5, "{}", refused.stderr);
    }
    assert!(steer(&second, &[]).stderr.contains("is not running"));
}

#[test]
fn a038_prompts_reach_an_agent_that_takes_messages_as_they_are() {
    let env = TestEnv::new();
    let pod = steered(env.local_pod("exact"));
    let quotes = "-x \"quoted\" \\n SCADEOF $(touch /tmp/never) `x` \u{1} \u{7f} é 🙂\r\n\ttab";
    let long = "0123456789abcdef".repeat(65_536);
    for text in [quotes, &long] {
        let prompt = format!("{text}[[echo]]");
        let file = env.root().join("prompt");
        std::fs::write(&file, &prompt).expect("our own directory");
        let file = file.display().to_string();
        let id = env.start(&[&pod, "--prompt-file", &file]);
        assert_eq!(env.wait(&id), 0);
        let hash = crate::support::fnv1a64(prompt.as_bytes());
        let said = format!("prompt: {} bytes, fnv {hash:016x}", prompt.len());
        assert_eq!(times(&env.events(&id), &said), 1, "{said}");
    }
}

/// The daemon dies at each moment of a message's way; nothing is lost, nothing twice.
#[cfg(feature = "failpoints")]
#[test]
fn a_message_outlives_daemons_that_die_on_its_way() {
    let points = [
        "resume.recorded",
        "steer.sending",
        "steer.sent",
        "steer.recorded",
        "capture.read",
        "capture.read@2",
        "messages.ended",
        "steer.closing",
        "capture.ended",
        "run.ended",
    ];
    for point in points {
        let env = TestEnv::new();
        let pod = steered(env.local_pod("dies"));
        let gate = env.gate("held");
        let prompt = format!("[[print ready]]{}[[hear]]", gate.hold());
        let id = env.start(&[&pod, "--prompt", &prompt]);
        env.await_line(&id, "ready");
        env.stop_daemon();
        let start = env.cldpd(["daemon", "start"]);
        let (name, nth) = point.split_once('@').unwrap_or((point, "1"));
        let armed = format!("{name}=kill@{nth}");
        start.env("CLDPD_FAILPOINTS", &armed).run().ok();
        let pid = env.daemon_pid();
        let told = env
            .cldpd(["resume", "-d", &id, "--prompt", "[[print told]]"])
            .spawn();
        gate.open();
        crate::support::procfs::await_death(pid);
        drop(told.try_finish());
        env.start_daemon();
        env.wait(&id);
        let events = env.events(&id);
        assert_dense(&events);
        assert_eq!(times(&events, "told"), 1, "{point}: {events:#?}");
        assert!(of_kind(&events, "deferred").is_empty(), "{point}");
        assert_eq!(of_kind(&events, "creating").len(), 1, "{point}");
        let message = of_run(&events, 1);
        assert_eq!(outcome(only(&message, "run_ended")), "success", "{point}");
        assert_eq!(of_kind(&message, "run_started").len(), 1, "{point}");
        assert_eq!(outcome(only(&of_run(&events, 0), "run_ended")), "success");
    }
}
