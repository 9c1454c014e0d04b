//! 5.8: what was said, whenever and from wherever it is asked for.

use crate::support::engine;
use crate::support::events::outcome;
use crate::support::{TestEnv, numbered};

#[test]
fn a072_the_history_outlives_the_terminal() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.docker_pod("later").plain().make();
    let prompt = format!(
        "[[lines 3]]{}[[err late]][[print end]][[exit 11]]",
        gate.hold()
    );
    let start = env.cldpd(["start", &pod, "--prompt", &prompt]).spawn();
    start.line("0000003");
    start.signal(rustix::process::Signal::KILL);
    start.finish();

    let live = env.cldpd(["sessions", "-q"]).run().ok();
    let id = live.trim().to_owned();
    assert!(id.starts_with(&format!("{pod}-")), "{live}");
    assert_eq!(env.cldpd(["logs", &id]).run().ok(), numbered(3));
    let follow = env.cldpd(["logs", "-f", &id]).spawn();
    follow.line("0000003");
    gate.open();
    let output = follow.finish().code(11);
    assert_eq!(output.text(), numbered(3) + "end\n");
    assert_eq!(output.stderr, "late\n");

    assert_eq!(env.cldpd(["sessions", "-q"]).run().ok(), "", "none is live");
    let row = env.session(&id);
    assert_eq!((outcome(&row), &row["code"]), ("failed", &11.into()));
    let whole = env.cldpd(["logs", &id]).run().code(0);
    assert_eq!(
        (whole.text(), whole.stderr.as_str()),
        (numbered(3) + "end\n", "late\n")
    );
    // After the container is gone, and the daemon too.
    env.cldpd(["rm", &id]).run().ok();
    assert!(!engine::container_exists(&format!("cldpd-{id}-r0")));
    env.stop_daemon();
    assert_eq!(env.cldpd(["logs", &id]).run().ok(), numbered(3) + "end\n");
    env.cldpd(["logs", "-f", &id]).run().code(11);
    assert_eq!(env.session(&id)["state"], "removed");
}

#[test]
fn a073_parts_of_a_log() {
    let env = TestEnv::new();
    // The order between the two streams is exact only where the test makes it so.
    let (first, second) = (env.gate("first"), env.gate("second"));
    let pod = env.fake_pod("parts").plain().make();
    let prompt = format!(
        "[[err e1]][[err e2]]{}[[lines 100]][[print ready]]{}[[print live]]",
        first.hold(),
        second.hold()
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let events = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    events.line("\"e2\"");
    first.open();
    events.line("\"ready\"");
    let follow = env.cldpd(["logs", "-n", "3", "-f", &id]).spawn();
    follow.line("ready");
    second.open();
    let output = follow.finish().code(0);
    assert_eq!(output.text(), "line 0000099\nline 0000100\nready\nlive\n");
    assert_eq!(output.stderr, "");
    events.finish().code(0);

    let logs = |args: &[&str]| {
        let mut all = vec!["logs", id.as_str()];
        all.extend(args);
        env.cldpd(all).run().code(0)
    };
    assert_eq!(
        logs(&["-n", "2", "--stream", "stdout"]).text(),
        "ready\nlive\n"
    );
    assert_eq!(logs(&["--tail", "0"]).text(), "");
    assert_eq!(
        logs(&["-n", "1000"]).text(),
        numbered(100) + "ready\nlive\n"
    );
    let events = logs(&["--format", "jsonl", "--stream", "stderr"]).jsonl();
    let texts: Vec<&str> = events.iter().filter_map(|e| e["data"].as_str()).collect();
    assert_eq!(texts, ["e1", "e2"]);

    // Since the moment of a line, that line and what follows.
    let all = env.events(&id);
    let live = all.iter().find(|e| e["data"] == "live").expect("recorded");
    let since = live["time"].as_str().expect("a time");
    assert_eq!(logs(&["--since", since]).text(), "live\n");
    assert_eq!(
        logs(&["--since", "1h"]).text(),
        numbered(100) + "ready\nlive\n"
    );
    assert_eq!(logs(&["--until", "2001-01-01T00:00:00Z"]).text(), "");
    let stamped = logs(&["-t", "-n", "1", "--stream", "stdout"]).text();
    let (time, text) = stamped.trim_end().split_once(' ').expect("time and text");
    assert_eq!(text, "live");
    assert!(
        chrono::DateTime::parse_from_rfc3339(time).is_ok(),
        "{stamped}"
    );

    env.cldpd(["resume", "-d", &id, "--prompt", "[[print second]]"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(logs(&["--run", "1"]).text(), "second\n");
    assert_eq!(logs(&["--run", "0", "-n", "1"]).text(), "live\n");
    let unknown = env.cldpd(["logs", &id, "--run", "7"]).run().code(3);
    assert!(unknown.stderr.contains("run 7"), "{}", unknown.stderr);
    assert!(
        unknown.stderr.contains('0') && unknown.stderr.contains('1'),
        "{}",
        unknown.stderr
    );

    // A unique prefix, the ULID and the pod name the same session.
    let ulid = env.session(&id)["ulid"]
        .as_str()
        .expect("a ULID")
        .to_owned();
    for name in [&id[..id.len() - 3], &ulid, &pod] {
        assert_eq!(
            env.cldpd(["logs", name, "--run", "1"]).run().ok(),
            "second\n"
        );
    }
}

#[test]
fn who_follows_is_told_that_the_daemon_was_stopped() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("goes").plain().make();
    let id = env.start(&[
        &pod,
        "--prompt",
        &format!("[[print up]]{}[[exit 3]]", gate.hold()),
    ]);
    let follow = env.follow(&id);
    follow.line("up");
    let waiting = env.cldpd(["wait", &id]).spawn();
    // Another one follows at once: so does who follows.
    env.cldpd(["daemon", "restart"]).run().ok();
    let events = env.cldpd(["events", "-f", "--since", "1h"]).spawn();
    events.line("started");
    env.stop_daemon();
    for left in [follow, events, waiting] {
        let output = left.finish().code(69);
        assert!(
            output
                .stderr
                .starts_with("error: the daemon was stopped\nhint: "),
            "{}",
            output.stderr
        );
    }
    assert!(
        !env.home().join("run/cldpd.sock").exists(),
        "nobody started another"
    );
    gate.open();
    assert_eq!(env.wait(&id), 3, "the session worked on");
}

#[test]
fn lines_of_several_sessions_stand_beneath_each_other() {
    let env = TestEnv::new();
    let (short, long) = (
        env.fake_pod("s").plain().make(),
        env.fake_pod("longer").plain().make(),
    );
    let start = env
        .cldpd(["start", &short, &long, "--prompt", "[[print hi]]"])
        .run()
        .code(0);
    let text = start.text();
    let bars: Vec<Option<usize>> = text.lines().map(|line| line.find(" | hi")).collect();
    assert_eq!(bars, [Some("longer-12345678".len()); 2], "{text}");
    let coloured = env
        .cldpd(["--color", "always", "logs", &short, &long])
        .run()
        .ok();
    assert!(
        coloured.contains("\u{1b}[36m") && coloured.contains("\u{1b}[33m"),
        "{coloured}"
    );
    let forced = |name: &str, value: &str| {
        let output = env
            .cldpd(["logs", &short, &long])
            .env("CLICOLOR_FORCE", "1")
            .env(name, value);
        output.run().ok().contains('\u{1b}')
    };
    assert!(forced("CLICOLOR", "1") && !forced("NO_COLOR", "1"));
}

#[test]
fn a_failed_build_says_its_last_words_once() {
    let env = TestEnv::new();
    let pod = env
        .fake_pod("breaks")
        .fake(serde_json::json!({"build": {
            "steps": ["the last word"], "fail": {"code": 1, "text": "no luck"},
        }}))
        .make();
    let failed = env.cldpd(["start", &pod, "--prompt", "x"]).run().code(125);
    assert_eq!(
        failed.stderr.matches("the last word").count(),
        1,
        "{}",
        failed.stderr
    );
}

#[test]
fn a118_history_outlives_the_container() {
    let env = TestEnv::new();
    let pod = env.docker_pod("history").make();
    let id = env.start(&[&pod, "--prompt", "[[print kept]][[exit 7]]"]);
    env.wait(&id);
    let look = || (env.said(&id), env.inspect(&id), env.events(&id));
    let (said, before, events) = look();
    assert!(said.contains("kept"), "{said}");
    env.cldpd(["rm", &id]).run().ok();
    assert!(!engine::container_exists(&format!("cldpd-{id}-r0")));
    assert_eq!(env.session_dirs(), [] as [&str; 0]);
    // Another daemon, that has the journal and nothing else.
    env.stop_daemon();
    let (said_after, after, events_after) = look();
    assert_eq!(said_after, said);
    assert_eq!(events_after[..events.len()], events);
    let row = env.session(&id);
    assert_eq!(
        (&row["state"], &row["code"]),
        (&"removed".into(), &7.into())
    );
    for key in [
        "outcome", "code", "cost_usd", "started", "ended", "runs", "prompt",
    ] {
        assert_eq!(row[key], before[key], "{key}: {before}");
        assert_eq!(after[key], before[key], "{key}: {after}");
    }
    assert!(row["cost_usd"].is_number(), "what it used: {row}");
    let list = env.cldpd(["sessions", "-a"]).run().ok();
    let line = list.lines().nth(1).expect("a line");
    assert!(
        line.contains("exited (7)") && line.contains("removed"),
        "{list}"
    );
    let failed = env
        .cldpd(["sessions", "-q", "--state", "failed"])
        .run()
        .ok();
    assert_eq!(failed.trim(), id);
    // Only whoever asks for that removes the history.
    env.cldpd(["rm", "--history", &id]).run().ok();
    assert_eq!(env.cldpd(["sessions", "-aq"]).run().ok(), "");
    env.cldpd(["logs", &id]).run().code(3);
}

#[test]
fn the_last_lines_are_whole_and_the_last_events_are_all_there_is() {
    let env = TestEnv::new();
    let pod = env.local_pod("last").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[lines 9]][[long 200000]][[raw 656e64]]"]);
    assert_eq!(env.wait(&id), 0);
    let logs = |args: &[&str]| env.cldpd([&["logs", &id], args].concat()).run().code(0);
    // A line of several pieces is one line, and so is one without an end.
    assert_eq!(logs(&["-n", "1"]).text(), "end");
    let two = logs(&["-n", "2"]).text();
    assert_eq!((two.len(), &two[200_000..]), (200_004, "\nend"));
    let three = logs(&["-n", "3", "--raw"]).text();
    assert!(three.starts_with("line 0000009\nabcd"), "{}", &three[..20]);
    // Where events are printed, events are counted.
    let all = env.events(&id);
    for count in [0, 1, 2, 7, all.len(), all.len() + 5] {
        let number = count.to_string();
        let last = logs(&["-n", &number, "--format", "jsonl"]).jsonl();
        assert_eq!(last, all[all.len().saturating_sub(count)..], "{count}");
        let follow = logs(&["-f", "-n", &number, "--json"]).jsonl();
        assert_eq!(follow, last, "{count}");
    }
    assert_eq!(logs(&["-n", "1", "--json"]).jsonl()[0]["kind"], "run_ended");
}

#[test]
fn lines_are_found_by_what_is_in_them() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("found").plain().make();
    // The line is recorded in pieces, since it is open for more than a second.
    let prompt = format!(
        "[[lines 500]][[open needle-in-]][[sleep 1200]][[open a-hay]][[sleep 1200]][[print stack]]\
         [[err no Luck]][[print ready]]{}[[print unlucky]][[print end]]",
        gate.hold()
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let follow = env
        .cldpd(["logs", "-f", "-n", "2", "--grep", "(?i)luck|stack", &id])
        .spawn();
    let whole = "needle-in-a-haystack\n";
    follow.line(whole.trim_end());
    gate.open();
    let output = follow.finish().code(0);
    assert_eq!(output.text(), format!("{whole}unlucky\n"));
    assert_eq!(output.stderr, "no Luck\n");

    let logs = |args: &[&str]| env.cldpd([&["logs", &id], args].concat()).run().code(0);
    assert_eq!(logs(&["--grep", "^needle.*stack$"]).text(), whole);
    assert_eq!(logs(&["--raw", "--grep", "haystack"]).text(), whole);
    assert_eq!(
        logs(&["--grep", "^stack"]).text(),
        "",
        "that is within a line"
    );
    assert_eq!(
        logs(&["--grep", "0(1|2)$", "-n", "3"]).text(),
        "line 0000302\nline 0000401\nline 0000402\n"
    );
    assert_eq!(
        logs(&["--grep", "0000001|ready", "-n", "9"]).text(),
        "line 0000001\nready\n"
    );
    assert_eq!(
        logs(&["--grep", "k", "--stream", "stderr", "-n", "1"]).stderr,
        "no Luck\n"
    );
    assert_eq!(logs(&["--grep", "line", "-n", "0"]).text(), "");
    let events = logs(&["--grep", "needle|ready", "--json"]).jsonl();
    assert!(
        events.iter().all(|event| event["kind"] == "output"),
        "{events:?}"
    );
    let said: String = events
        .iter()
        .filter_map(|event| event["data"].as_str())
        .collect();
    assert_eq!(said, "needle-in-a-haystackready");

    let wrong = env.cldpd(["logs", "--grep", "a(b", &id]).run().code(2);
    assert!(wrong.stderr.contains("unclosed group"), "{}", wrong.stderr);
}
