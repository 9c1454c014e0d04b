//! 5.6: Ctrl+C and other signals to the command line.

use crate::support::TestEnv;
use crate::support::events::{of_kind, only};
use crate::support::process::Proc;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A session in the foreground that has said `ready`; and its id.
fn foreground(env: &TestEnv, pod: &str, flags: &[&str], prompt: &str) -> (Proc, String) {
    let mut args = vec!["start", pod, "--prompt", prompt];
    args.extend(flags);
    let start = env.cldpd(args).spawn();
    start.line("ready");
    let rows = env.cldpd(["sessions", "--pod", pod, "-q"]).run().ok();
    let id = rows.lines().next().expect("a live session").to_owned();
    (start, id)
}

#[test]
fn a057_ctrl_c_stops_gracefully_and_keeps_printing() {
    let env = TestEnv::new();
    let polite = env.fake_pod("polite").plain().make();
    let prompt = "[[on TERM exit 0 after 3000]][[print ready]][[tick 1000 100]]";
    let (start, id) = foreground(&env, &polite, &[], prompt);
    let asked = Instant::now();
    start.signal(Signal::INT);
    let (output, at) = start.finish_at();
    let took = at.duration_since(asked);
    let output = output.code(0);
    assert!(
        took >= Duration::from_millis(2900) && took < Duration::from_secs(8),
        "{took:?}"
    );
    let events = env.events(&id);
    let stopping = only(&events, "stopping");
    assert_eq!(
        (&stopping["signal"], &stopping["by"]),
        (&"SIGTERM".into(), &"user".into())
    );
    assert_eq!(only(&events, "run_ended")["outcome"], "stopped");
    assert_eq!(only(&events, "container_exited")["code"], 0);
    // All that it said was printed, what it said after Ctrl+C too.
    assert_eq!(output.stdout, env.raw(&id));
    assert!(output.stderr.contains("caught TERM"), "{}", output.stderr);
    let caught = of_kind(&events, "output")
        .into_iter()
        .find(|e| e["data"] == "caught TERM");
    assert!(caught.expect("recorded")["seq"].as_u64() > stopping["seq"].as_u64());

    let deaf = env.fake_pod("deaf").plain().make();
    let prompt = "[[ignore TERM]][[print ready]][[sleep 600000]]";
    let (start, id) = foreground(&env, &deaf, &[], prompt);
    let asked = Instant::now();
    start.signal(Signal::INT);
    let (output, at) = start.finish_at();
    let took = at.duration_since(asked);
    output.code(137);
    assert!(
        took >= Duration::from_secs(9) && took < Duration::from_secs(14),
        "{took:?}"
    );
    let events = env.events(&id);
    let stopping = only(&events, "stopping");
    let seconds = |text: &str| -> f64 {
        let time = chrono::DateTime::parse_from_rfc3339(text).expect("RFC 3339");
        time.timestamp_millis() as f64 / 1000.0
    };
    let at = seconds(stopping["time"].as_str().expect("a time"));
    let deadline = seconds(stopping["deadline"].as_str().expect("a time"));
    assert!((9.0..=11.0).contains(&(deadline - at)), "{stopping}");
    let exited = only(&events, "container_exited");
    assert_eq!(
        (&exited["code"], &exited["signal"]),
        (&137.into(), &"SIGKILL".into())
    );
    assert_eq!(
        only(&events, "run_ended")["outcome"],
        "stopped",
        "never shown as a crash"
    );
}

#[test]
fn a058_a_second_ctrl_c_kills_and_detaching_is_a_choice() {
    let env = TestEnv::new();
    let pod = env.fake_pod("deaf").plain().make();
    let prompt = "[[ignore TERM]][[print ready]][[sleep 600000]]";
    let (start, id) = foreground(&env, &pod, &[], prompt);
    let asked = Instant::now();
    start.signal(Signal::INT);
    env.await_event(&id, "stopping");
    start.signal(Signal::INT);
    start.finish().code(137);
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
    let events = env.events(&id);
    assert_eq!(only(&events, "run_ended")["outcome"], "stopped");

    let gate = env.gate("hold");
    let prompt = format!("[[print ready]]{}[[exit 21]]", gate.hold());
    let (start, id) = foreground(&env, &pod, &["--detach-on-interrupt"], &prompt);
    start.signal(Signal::INT);
    let output = start.finish().code(130);
    assert!(
        output.stderr.contains(&format!("cldpd attach {id}")),
        "{}",
        output.stderr
    );
    assert_eq!(env.session(&id)["state"], "running");
    gate.open();
    assert_eq!(env.wait(&id), 21);
    assert!(of_kind(&env.events(&id), "stopping").is_empty());
}

#[test]
fn a059_a_session_outlives_the_command_line() {
    let env = TestEnv::new();
    for signal in [Signal::TERM, Signal::HUP, Signal::KILL] {
        let pod = env
            .fake_pod(&format!("s{}", signal.as_raw()))
            .plain()
            .make();
        let gate = env.gate(&format!("g{}", signal.as_raw()));
        let prompt = format!("[[print ready]]{}[[print later]][[exit 8]]", gate.hold());
        let (start, id) = foreground(&env, &pod, &[], &prompt);
        start.signal(signal);
        start.finish();
        assert_eq!(env.session(&id)["state"], "running", "{signal:?}");
        let follow = env.follow(&id);
        gate.open();
        let output = follow.finish().code(8);
        assert_eq!(output.text(), "ready\nlater\n", "{signal:?}");
        assert!(of_kind(&env.events(&id), "stopping").is_empty());
    }
}

#[test]
fn a060_ctrl_c_on_a_reader_touches_nothing() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("read").plain().make();
    let id = env.start(&[
        &pod,
        "--prompt",
        &format!("[[print ready]]{}[[exit 14]]", gate.hold()),
    ]);
    env.await_line(&id, "ready");
    for (args, first) in [
        (&["logs", "-f", &id][..], "ready"),
        (&["attach", "--replay", &id], "ready"),
        (&["events", "-f", "--since", "1h"], "created"),
    ] {
        let reader = env.cldpd(args).spawn();
        reader.line(first);
        reader.signal(Signal::INT);
        reader.finish().code(130);
        assert_eq!(env.session(&id)["state"], "running", "{args:?}");
    }

    // A resume of a running session waits; Ctrl+C takes back that run only.
    let resume = env
        .cldpd(["resume", &id, "--prompt", "[[print more]]"])
        .spawn();
    let follow = env
        .cldpd(["events", "-f", "--since", "1h", "--format", "jsonl"])
        .spawn();
    follow.line("\"how\":\"next\"");
    resume.signal(Signal::INT);
    resume.finish().code(130);
    drop(follow);
    assert_eq!(env.session(&id)["state"], "running");
    gate.open();
    let events = {
        env.wait(&id);
        env.events(&id)
    };
    let ends: Vec<_> = of_kind(&events, "run_ended")
        .iter()
        .map(|e| (e["run"].clone(), e["outcome"].clone()))
        .collect();
    assert!(ends.contains(&(0.into(), "failed".into())), "{ends:?}");
    assert!(ends.contains(&(1.into(), "cancelled".into())), "{ends:?}");
    assert_eq!(only(&events, "container_exited")["code"], 14);
    assert_eq!(env.said(&id), "ready\n");
}
