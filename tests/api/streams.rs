//! Streams that break off and go on: nothing is missing, nothing comes twice.

use super::lines::{Form, Lines};
use crate::support::events::of_kind;
use crate::support::{TestEnv, procfs};
use serde_json::Value;

/// Where a stream goes on after `event`.
fn place(event: &Value) -> String {
    match event["cursor"].as_str() {
        Some(cursor) => cursor.to_owned(),
        None => event["seq"].to_string(),
    }
}

/// Reads a stream to where `done` says so, breaking off after 1, 2, 4, … events
/// and going on after the last that was seen.
fn in_pieces(
    env: &TestEnv,
    target: &str,
    form: Form,
    parameter: &str,
    done: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let mut seen: Vec<Value> = Vec::new();
    let mut piece = 1;
    loop {
        let last = seen.last().map(place);
        let mut lines = match (form, &last) {
            (Form::Ndjson, Some(last)) => {
                Lines::open(env, &format!("{target}&{parameter}={last}"), form, None)
            }
            (Form::Sse, last) => Lines::open(env, target, form, last.as_deref()),
            (Form::Ndjson, None) => Lines::open(env, target, form, None),
        };
        for _ in 0..piece {
            let Some(event) = lines.event() else {
                return seen;
            };
            seen.push(event);
            if done(&seen) {
                return seen;
            }
        }
        piece *= 2;
    }
}

/// What two lists of events are compared by.
fn places(events: &[Value]) -> Vec<(String, u64)> {
    let place = |event: &Value| {
        let session = event["session"].as_str().expect("a session");
        (session.to_owned(), event["seq"].as_u64().expect("a number"))
    };
    events.iter().map(place).collect()
}

#[test]
fn streams_go_on_after_the_last_event_that_was_seen() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("pieces").plain().make();
    let prompt = format!("[[lines 700]]{}[[lines 900]][[exit 3]]", gate.hold());
    let sessions = [&prompt, "[[lines 800]]"].map(|prompt| env.start(&[&pod, "--prompt", prompt]));
    let one = format!("/v1/sessions/{}/events?follow=true", sessions[0]);
    let all = "/v1/events?follow=true";
    std::thread::scope(|scope| {
        let env = &env;
        let (one, forms) = (&one, [Form::Ndjson, Form::Sse]);
        let of_one =
            forms.map(|form| scope.spawn(move || in_pieces(env, one, form, "after", |_| false)));
        let ends = |seen: &[Value]| of_kind(seen, "run_ended").len() == 2;
        let of_all = forms.map(|form| {
            scope.spawn(move || {
                let from_the_first = format!("{all}&since=2020-01-01T00:00:00Z");
                in_pieces(env, &from_the_first, form, "from", ends)
            })
        });
        gate.open();
        for (form, read) in forms.into_iter().zip(of_one) {
            let read = read.join().expect("it reads to the end");
            assert_eq!(places(&read), places(&env.events(&sessions[0])), "{form:?}");
        }
        let whole: Vec<usize> = sessions.iter().map(|id| env.events(id).len()).collect();
        for (form, read) in forms.into_iter().zip(of_all) {
            let read = read.join().expect("it reads to the end");
            assert_eq!(read.len(), whole.iter().sum::<usize>(), "{form:?}");
            for id in &sessions {
                let mine: Vec<Value> = read
                    .iter()
                    .filter(|event| event["session"] == id.as_str())
                    .cloned()
                    .collect();
                assert_eq!(places(&mine), places(&env.events(id)), "{form:?}");
            }
        }
    });
}

/// What a daemon may need beyond what it needs when idle, in KiB, while one
/// session floods and three clients follow. See ARCHITECTURE, "Bounds of memory".
const FLOOD_KIB: u64 = 128 * 1024;
/// Lines that flood.
const LINES: usize = 250_000;
/// Bytes of each, with its end.
const LENGTH: usize = 101;

/// The most memory that a process had so far, in KiB.
fn most_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.expect("a process has memory").trim();
    most.trim_end_matches(" kB").parse().expect("a number")
}

/// Reads a session's stream to its end and counts its lines of output.
fn count(mut lines: Lines) -> usize {
    let (mut outputs, mut last) = (0, 0);
    while let Some(event) = lines.event() {
        last += 1;
        assert_eq!(event["seq"], last, "none missing, none twice");
        if event["kind"] == "output" {
            outputs += 1;
            let data = event["data"].as_str().expect("text");
            assert!(data.starts_with(&format!("line {outputs:07}")), "{data}");
        }
    }
    outputs
}

#[test]
fn a_flood_and_a_reader_that_stands_still_need_little_memory() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    // The engine makes no difference: output never passes it.
    let pod = env.local_pod("flood").plain().make();
    let prompt = format!("{}[[lines {LINES} {}]]", gate.hold(), LENGTH - 1);
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let daemon = env.daemon_pid();
    let idle = most_memory(daemon);
    let target = format!("/v1/sessions/{id}/events?follow=true");
    let stalled = Lines::open(&env, &target, Form::Ndjson, None);
    std::thread::scope(|scope| {
        let events = Lines::open(&env, &target, Form::Sse, None);
        let events = scope.spawn(move || count(events));
        let mut logs = env.cldpd(["logs", "-f", "--raw", &id]).spawn_unread();
        let mut pipe = logs.stdout.take().expect("piped");
        let bytes = scope.spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
        gate.open();
        assert_eq!(env.wait(&id), 0);
        assert_eq!(events.join().expect("it reads to the end"), LINES);
        let bytes = bytes.join().expect("it reads to the end");
        assert_eq!(bytes.expect("a pipe"), (LINES * LENGTH) as u64);
        assert!(logs.wait().expect("it ends").success());
    });
    let flooded = most_memory(daemon);
    assert_eq!(count(stalled), LINES);
    let most = most_memory(daemon);
    assert!(
        most - idle <= FLOOD_KIB,
        "idle {idle} KiB, flooded {flooded} KiB, after the stalled one {most} KiB"
    );
    procfs::kill9(daemon);
}

#[test]
fn what_the_last_events_are_is_settled_once() {
    let env = TestEnv::new();
    let pod = env.local_pod("again").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[lines 20]]"]);
    assert_eq!(env.wait(&id), 0);
    let all = places(&env.events(&id));
    let target = format!("/v1/sessions/{id}/events?last=3");
    let read = |seen: Option<&str>| {
        let mut lines = Lines::open(&env, &target, Form::Sse, seen);
        let events: Vec<Value> = std::iter::from_fn(|| lines.event()).collect();
        places(&events)
    };
    assert_eq!(read(None), all[all.len() - 3..]);
    // Who asks again has all that came after what was seen, however much that is.
    assert_eq!(read(Some("5")), all[5..]);
}

/// Lines of 120 bytes: many times what lies between a daemon and who reads slowly.
const MANY: usize = 30_000;

#[test]
fn who_does_not_follow_is_given_what_there_was_when_it_began() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("slow").plain().make();
    let prompt = format!(
        "[[lines {MANY} 120]][[print before]]{}[[lines 500]]",
        gate.hold()
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "before");
    let target = format!("/v1/sessions/{id}/events");
    let mut lines = Lines::open(&env, &target, Form::Ndjson, None);
    let first = lines.event();
    gate.open();
    assert_eq!(env.wait(&id), 0);
    let events: Vec<Value> = first
        .into_iter()
        .chain(std::iter::from_fn(|| lines.event()))
        .collect();
    assert_eq!(events.last().expect("some")["data"], "before");
    assert_eq!(of_kind(&events, "output").len(), MANY + 1);
}

#[test]
fn who_reads_a_history_that_is_removed_is_told() {
    let env = TestEnv::new();
    let pod = env.local_pod("removed").plain().make();
    let id = env.start(&[&pod, "--prompt", &format!("[[lines {MANY} 120]]")]);
    assert_eq!(env.wait(&id), 0);
    let mut readers = Vec::new();
    for target in ["events", "events?follow=true"] {
        let target = format!("/v1/sessions/{id}/{target}");
        let mut lines = Lines::open(&env, &target, Form::Ndjson, None);
        assert_eq!(lines.event().expect("the first")["seq"], 1);
        readers.push(lines);
    }
    env.cldpd(["rm", "--history", &id]).run().ok();
    for mut lines in readers {
        let told = loop {
            let said = lines.said();
            if said["seq"].is_null() {
                break said;
            }
        };
        assert_eq!(told["error"]["code"], "gone", "{told}");
    }
}
