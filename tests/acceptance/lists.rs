//! 5.9: listing sessions and finding them again.

use crate::support::TestEnv;
use serde_json::Value;

/// The cells of a table's line; columns are two blanks apart.
fn cells(line: &str) -> Vec<&str> {
    let cells = line.split("  ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a082_the_columns_of_sessions() {
    let env = TestEnv::new();
    let pod = env
        .fake_pod("list")
        .plain()
        .template("You work on the parser.\n")
        .make();
    let ended = env.start(&[&pod, "--prompt", "[[exit 3]] fix it\nand well"]);
    assert_eq!(env.wait(&ended), 3);
    let removed = env.start(&[&pod, "--prompt", "[[exit 0]] tidy"]);
    assert_eq!(env.wait(&removed), 0);
    env.cldpd(["rm", &removed]).run().ok();
    let live = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]] work"]);
    env.await_line(&live, "up");

    let table = |args: &[&str]| {
        let all: Vec<&str> = std::iter::once("sessions")
            .chain(args.iter().copied())
            .collect();
        // Wherever in the world the terminal is.
        env.cldpd(all).env("TZ", "Asia/Tokyo").run().ok()
    };
    let running = table(&[]);
    let lines: Vec<&str> = running.lines().collect();
    assert_eq!(lines.len(), 2, "{running}");
    let titles = [
        "SESSION", "POD", "STATE", "RUNS", "COST", "TOKENS", "STARTED", "PROMPT",
    ];
    assert_eq!(cells(lines[0]), titles);
    let row = cells(lines[1]);
    assert_eq!(row[..2], [live.as_str(), "list"]);
    assert!(row[2].starts_with("running "), "{running}");
    assert_eq!((row[3], row[4]), ("1", "-"));
    // The task, not the line that all prompts of the pod begin with.
    assert_eq!(row[7], "[[print up]][[sleep 600000]] work");

    let all = table(&["--all"]);
    let rows: Vec<Vec<&str>> = all.lines().skip(1).map(cells).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(
        ids,
        [&live, &removed, &ended],
        "newest first, none lost: {all}"
    );
    let state = rows[1][2];
    assert!(
        state.starts_with("exited (0) ") && state.ends_with(" ago, removed"),
        "{all}"
    );
    assert!(rows[2][2].starts_with("exited (3) "), "{all}");
    for row in &rows {
        let ago = row[6].strip_suffix(" ago").expect("so long ago");
        let number = ago.trim_end_matches(['s', 'm']);
        assert!(number.parse::<u32>().is_ok(), "{all}");
    }
    assert_eq!(table(&["--all", "--no-headers"]).lines().count(), 3);
    let wide = table(&["-a", "-o", "wide"]);
    for title in ["CONTAINER", "IMAGE", "LABELS", "AGENT SESSION", "RUNTIME"] {
        assert!(
            wide.lines().next().is_some_and(|line| line.contains(title)),
            "{wide}"
        );
    }

    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    let rows = rows.as_array().expect("a list");
    let created: Vec<i64> = rows
        .iter()
        .map(|row| {
            let text = row["created"].as_str().expect("a time");
            let time = chrono::DateTime::parse_from_rfc3339(text).expect("RFC 3339");
            time.timestamp_nanos_opt().expect("of our time")
        })
        .collect();
    assert!(
        created.is_sorted_by(|newer, older| newer > older),
        "{created:?}"
    );
}

#[test]
fn lists_are_filtered_by_all_that_is_asked_for() {
    let env = TestEnv::new();
    let (one, two) = (
        env.fake_pod("one").plain().make(),
        env.fake_pod("two").plain().make(),
    );
    let first = env.start(&[
        &one,
        "-l",
        "team=a b",
        "-l",
        "big",
        "--prompt",
        "[[exit 0]]",
    ]);
    env.wait(&first);
    let second = env.start(&[&two, "-l", "team=a b", "--prompt", "[[exit 1]]"]);
    env.wait(&second);
    let ids = |args: &[&str]| -> Vec<String> {
        let all: Vec<&str> = ["sessions", "-aq"].iter().chain(args).copied().collect();
        let text = env.cldpd(all).run().ok();
        text.lines().map(str::to_owned).collect()
    };
    assert_eq!(
        ids(&["-l", "team=a b"]),
        [&second, &first].map(Clone::clone)
    );
    assert_eq!(
        ids(&["-l", "team=a b", "-l", "big"]),
        std::slice::from_ref(&first)
    );
    assert_eq!(ids(&["--label", "team=c"]), [""; 0]);
    assert_eq!(
        ids(&["--pod", &two, "--state", "failed"]),
        std::slice::from_ref(&second)
    );
    assert_eq!(ids(&["--limit", "1"]), std::slice::from_ref(&second));
    let created = env.session(&first)["created"]
        .as_str()
        .expect("a time")
        .to_owned();
    assert_eq!(ids(&["--until", &created]), std::slice::from_ref(&first));

    let events = |args: &[&str]| -> Vec<Value> {
        let all: Vec<&str> = ["events", "--format", "jsonl"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        env.cldpd(all).run().jsonl()
    };
    let sessions = |args: &[&str]| {
        let mut sessions: Vec<String> = events(args)
            .iter()
            .map(|event| event["session"].as_str().expect("an id").to_owned())
            .collect();
        sessions.dedup();
        sessions
    };
    assert_eq!(
        sessions(&["-l", "team=a b", "-l", "big"]),
        std::slice::from_ref(&first)
    );
    assert_eq!(sessions(&["--state", "failed"]), [second]);
    assert_eq!(events(&["--limit", "3"]).len(), 3);
    let until = events(&["--until", &created]);
    assert!(!until.is_empty() && until.iter().all(|event| event["session"] == first));
    // One that follows leaves when its time has come.
    env.cldpd(["events", "-f", "--until", &created]).run().ok();
}

#[test]
fn a083_a_part_of_an_id_is_enough() {
    let env = TestEnv::new();
    let (pod, other) = (
        env.fake_pod("pre").plain().make(),
        env.fake_pod("zed").plain().make(),
    );
    let first = env.start(&[&pod, "--prompt", "[[print one]]"]);
    env.wait(&first);
    let second = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    env.await_line(&second, "up");
    // Short enough to be a part, long enough to fit one.
    let same = first
        .bytes()
        .zip(second.bytes())
        .take_while(|(a, b)| a == b);
    let part = &first[..=same.count()];
    for args in [
        &["logs", part][..],
        &["logs", "-f", part],
        &["inspect", part],
        &["wait", part],
        &["attach", "--replay", part],
        &["stop", part],
        &["kill", part],
        &["rm", part],
    ] {
        let output = env.cldpd(args).run().code(0);
        assert!(!output.text().is_empty(), "{args:?}");
    }
    let shared = &first[.."pre-".len()];
    for args in [
        &["logs", shared][..],
        &["stop", shared],
        &["resume", shared, "--prompt", "x"],
    ] {
        let output = env.cldpd(args).run().code(2);
        for id in [&first, &second] {
            assert!(
                output.stderr.contains(id.as_str()),
                "{args:?}: {}",
                output.stderr
            );
        }
    }
    let third = env.start(&[&other, "--prompt", "[[exit 0]]"]);
    env.wait(&third);
    use crate::cli::completion::bash;
    assert_eq!(bash(&env, &["stop", ""]), [second.as_str()], "live ones");
    let all = bash(&env, &["logs", ""]);
    assert_eq!(
        all,
        [&second, &third, &first].map(String::as_str),
        "live ones first"
    );
    assert_eq!(bash(&env, &["start", ""]), [pod.as_str(), &other]);
    assert_eq!(
        bash(&env, &["logs", &first[..5]]).first(),
        bash(&env, &["wait", &first[..5]]).first()
    );
}

#[test]
fn a114_many_at_once_only_after_asking() {
    let env = TestEnv::new();
    let (pod, other) = (
        env.fake_pod("one").plain().make(),
        env.fake_pod("two").plain().make(),
    );
    let hold = "[[print up]][[sleep 600000]]";
    let ended = env.start(&[&pod, "--prompt", "[[exit 0]]"]);
    env.wait(&ended);
    let ids = [&pod, &pod, &other].map(|pod| env.start(&[pod, "--prompt", hold]));
    ids.iter().for_each(|id| env.await_line(id, "up"));
    let [first, _, third] = &ids;

    // Nobody can be asked: what it would touch is said, and nothing is touched.
    for args in [
        &["stop", "--all"][..],
        &["stop", "--pod", &pod],
        &["rm", "--all"],
    ] {
        let refused = env.cldpd(args).run().code(2);
        assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
        let target = if args[0] == "rm" { &ended } else { first };
        assert!(
            refused.stderr.contains(target.as_str()),
            "{}",
            refused.stderr
        );
        assert_eq!(refused.stdout, b"");
    }
    let live = env.cldpd(["sessions", "-q"]).run().ok();
    assert_eq!(live.lines().count(), 3);

    let single = env.cldpd(["rm", first]).run().code(5);
    assert!(single.stderr.contains("--force"), "{}", single.stderr);
    let removed = env.cldpd(["rm", "--pod", &pod, "--yes"]).run().code(0);
    assert_eq!(removed.text().trim(), ended, "running ones are left alone");
    assert!(removed.stderr.contains("2 are live"), "{}", removed.stderr);

    let stopped = env.cldpd(["stop", "--pod", &pod, "--yes"]).run().code(0);
    assert_eq!(stopped.text().lines().count(), 2);
    assert_eq!(env.session(third)["state"], "running");
    // Of several some fail: those are told, and the code is not 0.
    let partly = env.cldpd(["rm", first, third]).run().code(5);
    assert_eq!(partly.text().trim(), first.as_str());
    assert!(partly.stderr.contains(third.as_str()), "{}", partly.stderr);
    assert!(
        partly.stderr.contains("1 of 2 could not be removed"),
        "{}",
        partly.stderr
    );

    // On a terminal a person answers.
    let answered = |answer: &str, line: &str| {
        let command = format!("{} {line}", crate::support::env::BINARY);
        let args = ["-qec", &command, "/dev/null"];
        crate::support::process::Cmd::new(&env, "/usr/bin/script", args)
            .stdin(answer)
            .run()
            .code(0)
            .text()
    };
    let no = answered("n\n", "stop --all");
    assert!(
        no.contains("[y/N]") && no.contains("nothing was done"),
        "{no}"
    );
    assert_eq!(env.session(third)["state"], "running");
    let yes = answered("y\n", "rm --all --force");
    assert!(yes.contains(third.as_str()), "{yes}");
    let states = env.cldpd(["sessions", "-a", "--json"]).run().json();
    let rows = states.as_array().expect("a list");
    assert!(rows.iter().all(|row| row["state"] == "removed"), "{states}");
}
