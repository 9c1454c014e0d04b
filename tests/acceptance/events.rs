//! 5.5: events and the journal, on the scripted engine.

use crate::support::events::{assert_dense, kinds, lines, of_kind, of_run, only, outline};
use crate::support::{TestEnv, numbered};
use serde_json::json;
use std::io::Read;

#[test]
fn a040_events_come_in_their_order() {
    let env = TestEnv::new();
    let pod = env
        .fake_pod("order")
        .fake(json!({"build": {"steps": ["step"]}}))
        .plain()
        .make();
    let id = env.start(&[&pod, "--prompt", "[[print one]][[err two]][[print three]]"]);
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    assert_dense(&events);
    let expected = [
        "created",
        "queued",
        "preparing",
        "build_started",
        "build_output",
        "build_complete",
        "creating",
        "run_started",
        "container_started",
        "output",
        "container_exited",
        "run_ended",
    ];
    assert_eq!(outline(&events), expected);

    env.cldpd(["resume", "-d", &id, "--prompt", "[[print four]]"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    assert_dense(&events);
    let next = of_run(&events, 1);
    let outline = outline(&next);
    assert_eq!(outline.first(), Some(&"queued"));
    assert!(
        !outline.contains(&"build_started") && !outline.contains(&"build_output"),
        "{outline:?}"
    );
    let expected = [
        "creating",
        "run_started",
        "container_started",
        "output",
        "container_exited",
        "run_ended",
    ];
    assert_eq!(outline[outline.len() - 6..], expected);
    assert_eq!(only(&next, "run_started")["how"], "next");
    assert_eq!(lines(&next, "stdout"), ["four"]);

    // What could not be started was not started.
    let pod = env
        .fake_pod("nostart")
        .fake(json!({"calls": {"start": {"error": "no space for it"}}}))
        .make();
    let id = env.start(&[&pod, "--prompt", "x"]);
    assert_eq!(env.wait(&id), 125);
    let events = env.events(&id);
    assert!(of_kind(&events, "container_started").is_empty());
    assert!(of_kind(&events, "container_exited").is_empty());
    let error = only(&events, "error");
    assert_eq!(error["code"], "container_failed");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|m| m.contains("no space for it")),
        "{error}"
    );
    assert_eq!(kinds(&events).last(), Some(&"run_ended"));
}

#[test]
fn a041_no_line_is_dropped_for_a_slow_reader() {
    let env = TestEnv::new();
    let pod = env.fake_pod("flood").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[lines 200000]][[exit 4]]"]);
    // Neither reads while the agent writes; the one never will.
    let mut never = env.cldpd(["logs", "-f", "--raw", &id]).spawn_unread();
    let mut late = env.cldpd(["logs", "-f", "--raw", &id]).spawn_unread();
    assert_eq!(env.wait(&id), 4, "the agent was not held up");
    let mut read = Vec::new();
    let mut pipe = late.stdout.take().expect("piped");
    pipe.read_to_end(&mut read).expect("a pipe can be read");
    let expected = numbered(200_000);
    assert!(
        read == expected.as_bytes(),
        "{} of {} bytes",
        read.len(),
        expected.len()
    );
    assert_eq!(late.wait().expect("it ends").code(), Some(4));
    assert!(env.raw(&id) == expected.as_bytes());
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(of_kind(&events, "output").len(), 200_000);
    never.kill().expect("it is ours");
    never.wait().expect("it ends");
}

#[test]
fn a042_long_and_open_lines_are_kept_whole() {
    let env = TestEnv::new();
    let pod = env.fake_pod("long").plain().make();
    for (prompt, length) in [("[[long 70000]]", 70_000), ("[[long 2097152]]", 2_097_152)] {
        let id = env.start(&[
            &pod,
            "--prompt",
            &format!("{prompt}[[print after]][[exit 9]]"),
        ]);
        assert_eq!(env.wait(&id), 9);
        let raw = env.raw(&id);
        let newline = raw.iter().position(|b| *b == b'\n').expect("a line's end");
        assert_eq!(newline, length);
        assert_eq!(&raw[newline..], b"\nafter\n");
        let events = env.events(&id);
        assert_dense(&events);
        let outputs = of_kind(&events, "output");
        let (line, after) = outputs.split_at(outputs.len() - 1);
        assert_eq!(after[0]["data"], "after");
        let pieces: usize = line
            .iter()
            .map(|e| e["data"].as_str().map_or(0, str::len))
            .sum();
        assert_eq!(pieces, length);
        let (last, rest) = line.split_last().expect("pieces");
        assert!(rest.iter().all(|e| e["continued"] == true));
        assert!(last["continued"].is_null(), "the last piece ends the line");
        assert!(line.len() > 1, "pieces of at most 64 KiB");
    }
    let id = env.start(&[
        &pod,
        "--prompt",
        "[[print whole]][[open no newline]][[exit 9]]",
    ]);
    assert_eq!(env.wait(&id), 9);
    assert_eq!(env.said(&id), "whole\nno newline");
    let events = env.events(&id);
    assert_eq!(only(&events, "container_exited")["code"], 9);
    assert_eq!(of_kind(&events, "output")[1]["continued"], true);
}

#[test]
fn a043_standard_error_and_the_engines_errors_are_kept() {
    let env = TestEnv::new();
    let pod = env.fake_pod("streams").plain().make();
    let id = env.start(&[
        &pod,
        "--prompt",
        "[[print out]][[err bad]][[print more]][[err worse]][[exit 1]]",
    ]);
    assert_eq!(env.wait(&id), 1);
    let events = env.events(&id);
    assert_eq!(lines(&events, "stdout"), ["out", "more"]);
    assert_eq!(lines(&events, "stderr"), ["bad", "worse"]);
    let only_err = env
        .cldpd(["logs", "--raw", "--stream", "stderr", &id])
        .run()
        .code(0);
    assert_eq!([only_err.text(), only_err.stderr].concat(), "bad\nworse\n");
    let start = env
        .cldpd(["start", &pod, "--prompt", "[[print out]][[err bad]]"])
        .run()
        .code(0);
    assert_eq!(start.text(), "out\n");
    assert!(start.stderr.contains("bad"), "{}", start.stderr);

    let pod = env
        .fake_pod("conflict")
        .fake(json!({"calls": {"create": {"conflict": true}}}))
        .make();
    let id = env.start(&[&pod, "--prompt", "x"]);
    assert_eq!(env.wait(&id), 125);
    let message = only(&env.events(&id), "error")["message"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(message.contains(&format!("cldpd-{id}-r0")), "{message}");
    let logs = env.cldpd(["logs", &id]).run();
    assert!(
        (logs.text() + &logs.stderr).contains(&message),
        "shown by logs"
    );

    let pod = env
        .fake_pod("absent")
        .no_dockerfile()
        .json(json!({"image": "cldpd-absent"}))
        .fake(json!({"missing": true}))
        .make();
    let id = env.start(&[&pod, "--prompt", "x"]);
    assert_eq!(env.wait(&id), 125);
    let message = only(&env.events(&id), "error")["message"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(message.contains("cldpd-absent"), "{message}");
}

#[test]
fn a044_bytes_survive_that_are_no_text() {
    let env = TestEnv::new();
    let pod = env.fake_pod("bytes").plain().make();
    let bytes: Vec<u8> = [
        b"\xff\xfe broken \xc3\x28\n".as_slice(),
        b"10%\r20%\r100%\r\n",
        b"\x1b[31mred\x1b[0m\x00\x01\n",
        &(0..=255).collect::<Vec<u8>>(),
        b"\xe2\x82",
    ]
    .concat();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let id = env.start(&[&pod, "--prompt", &format!("[[raw {hex}]]")]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.raw(&id), bytes);
    let events = env.events(&id);
    let encoded = of_kind(&events, "output");
    assert_eq!(encoded[0]["data_b64"], "//4gYnJva2VuIMMo");
    assert_eq!(encoded[1]["data"], "10%\r20%\r100%\r");
    // Another reader, another daemon, the same bytes.
    env.stop_daemon();
    assert_eq!(env.raw(&id), bytes);
}

#[test]
fn a045_every_event_says_whose_when_and_what() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env
        .fake_pod("kinds")
        .fake(json!({"build": {"steps": ["building"]}, "exit": {"oom_killed": true}}))
        .make();
    let prompt = format!("[[print begin]]{}[[die KILL]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_event(&id, "agent");
    env.kill_daemon();
    env.start_daemon();
    env.cldpd(["kill", "-s", "CONT", &id]).run().ok();
    gate.open();
    assert_eq!(env.wait(&id), 137);

    let stopped = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    env.await_event(&stopped, "agent");
    env.cldpd(["stop", &stopped]).run().ok();

    let mut seen = Vec::new();
    for id in [&id, &stopped] {
        let events = env.events(id);
        assert_dense(&events);
        let ulid = env.session(id)["ulid"].clone();
        for event in &events {
            assert_eq!(event["session"], id.as_str());
            assert_eq!(event["ulid"], ulid);
            assert_eq!(event["run"], 0);
            let time = event["time"].as_str().expect("a time");
            assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
            seen.push(event["kind"].as_str().expect("a kind").to_owned());
        }
    }
    let events = env.events(&id);
    assert_eq!(only(&events, "container_exited")["oom_killed"], true);
    assert_eq!(only(&events, "container_exited")["signal"], "SIGKILL");
    assert_eq!(only(&events, "run_ended")["outcome"], "oom");
    assert_eq!(only(&events, "signalled")["signal"], "SIGCONT");
    let notes: Vec<_> = of_kind(&events, "note")
        .iter()
        .map(|e| e["code"].clone())
        .collect();
    assert_eq!(notes, ["adopted"]);
    for kind in [
        "build_output",
        "stopping",
        "signalled",
        "note",
        "agent",
        "output",
    ] {
        assert!(seen.iter().any(|k| k == kind), "{kind} in {seen:?}");
    }
}
