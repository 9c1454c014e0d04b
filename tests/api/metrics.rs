//! `GET /metrics`: strictly in the text format, and true.

use super::client::ask;
use crate::support::TestEnv;
use std::collections::{BTreeMap, HashSet};

/// Samples by name and labels as they are written.
type Samples = BTreeMap<String, f64>;

/// Reads an exposition as the text format 0.0.4 has it, and nothing looser:
/// HELP and TYPE before a family's samples, families in one piece, names that
/// fit their type, no sample twice, a newline at the end.
#[track_caller]
fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has an end");
    let mut samples = Samples::new();
    let mut families = HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help text");
            assert!(
                !text.is_empty() && families.insert(name.to_owned()),
                "{line}"
            );
            let types = lines.next().expect("a type").strip_prefix("# TYPE ");
            let (named, of) = types.expect(line).split_once(' ').expect(line);
            assert_eq!(named, name, "{line}");
            assert!(matches!(of, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            assert!(
                lines.peek().is_some_and(|next| next.starts_with(name)),
                "{line}"
            );
            (family, kind) = (name.to_owned(), of.to_owned());
            continue;
        }
        assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
            None => (series, ""),
        };
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(legal), "{line}");
        let suffix = name.strip_prefix(family.as_str()).expect(line);
        match kind.as_str() {
            "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (label, text) = pair.split_once('=').expect(line);
            assert!(label.chars().all(legal), "{line}");
            let text = text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            assert!(
                text.is_some_and(|text| !text.contains(['"', '\\'])),
                "{line}"
            );
        }
        let value: f64 = value.parse().expect(line);
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let before = samples.insert(series.to_owned(), value);
        assert!(before.is_none(), "{line} twice");
    }
    samples
}

#[track_caller]
fn scrape(env: &TestEnv) -> Samples {
    let answer = ask(env, "GET", "/metrics", None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.kind, "text/plain");
    parse(&answer.text())
}

#[test]
fn the_numbers_are_those_of_what_was_done() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_parallel = 1\n");
    let gate = env.gate("hold");
    let pod = env.local_pod("count").plain().make();
    env.start_daemon();
    let none = scrape(&env);
    for (series, value) in &none {
        // What is counted begins at nothing, and is there from the beginning.
        if series.contains("_total") && !series.starts_with("process") {
            assert_eq!(*value, 0.0, "{series}");
        }
    }
    let good = env.start(&[&pod, "--prompt", "[[lines 10]][[open half]]"]);
    assert_eq!(env.wait(&good), 0);
    let bad = env.start(&[&pod, "--prompt", "[[err no]][[exit 3]]"]);
    assert_eq!(env.wait(&bad), 3);
    let prompt = format!("[[print ready]]{}", gate.hold());
    let live = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&live, "ready");
    let waiting = env.start(&[&pod, "--prompt", "[[print later]]"]);
    let follow = env.follow(&live);
    follow.line("ready");

    let now = scrape(&env);
    let recorded: usize = [&good, &bad, &live, &waiting]
        .iter()
        .map(|id| env.events(id).len())
        .sum();
    let lines = 10 * "line 0000001\n".len() + "half".len() + "no\n".len() + "ready\n".len();
    for (series, value) in [
        ("cldpd_sessions{state=\"running\"}", 1),
        ("cldpd_sessions{state=\"queued\"}", 1),
        ("cldpd_sessions{state=\"ended\"}", 2),
        ("cldpd_sessions_over{outcome=\"success\"}", 1),
        ("cldpd_sessions_over{outcome=\"failed\"}", 1),
        ("cldpd_runs_ended_total{outcome=\"success\"}", 1),
        ("cldpd_runs_ended_total{outcome=\"failed\"}", 1),
        ("cldpd_runs_ended_total{outcome=\"stopped\"}", 0),
        ("cldpd_queue_length", 1),
        ("cldpd_runs_live", 1),
        ("cldpd_runs_live_limit", 1),
        ("cldpd_followers{of=\"session\"}", 1),
        ("cldpd_followers{of=\"all\"}", 0),
        ("cldpd_events_total", recorded),
        ("cldpd_output_bytes_total", lines),
        ("cldpd_journal_commits_failed_total", 0),
    ] {
        assert_eq!(now.get(series), Some(&(value as f64)), "{series}: {now:#?}");
    }
    let status = env.daemon();
    let commits = now["cldpd_journal_commit_seconds_count"];
    // The first commit of a journal is its making.
    assert!(commits >= 1.0 && commits <= status["commits"].as_f64().expect("a number"));
    let buckets: Vec<f64> = now
        .iter()
        .filter(|(series, _)| series.starts_with("cldpd_journal_commit_seconds_bucket"))
        .map(|(_, count)| *count)
        .collect();
    assert_eq!(buckets.len(), 12);
    assert!(buckets.iter().all(|count| *count <= commits));
    assert_eq!(
        now["cldpd_journal_commit_seconds_bucket{le=\"+Inf\"}"],
        commits
    );
    assert!(now["cldpd_journal_commit_seconds_sum"] > 0.0);
    assert!(now["cldpd_journal_size_bytes"] > 0.0);
    assert!(now["process_resident_memory_bytes"] > 1e6);
    assert!(now["process_open_fds"] > 3.0);
    let version = format!(
        "cldpd_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(now.get(&version), Some(&1.0));

    gate.open();
    follow.finish().code(0);
    assert_eq!(env.wait(&waiting), 0);
    let then = scrape(&env);
    assert_eq!(then["cldpd_runs_ended_total{outcome=\"success\"}"], 3.0);
    assert_eq!(then["cldpd_sessions{state=\"ended\"}"], 4.0);
    assert_eq!(then["cldpd_queue_length"], 0.0);

    // Another daemon counts anew; what is in the journal stays.
    env.kill_daemon();
    env.start_daemon();
    let anew = scrape(&env);
    assert_eq!(anew["cldpd_runs_ended_total{outcome=\"success\"}"], 0.0);
    assert_eq!(anew["cldpd_sessions_over{outcome=\"success\"}"], 3.0);
    env.cldpd(["rm", "--history", &bad]).run().ok();
    let less = scrape(&env);
    assert_eq!(less["cldpd_sessions_over{outcome=\"failed\"}"], 0.0);
}

#[test]
fn an_engine_that_is_away_is_told() {
    let env = TestEnv::new();
    env.config("[docker]\nhost = \"unix:///nonexistent/docker.sock\"\n");
    env.start_daemon();
    assert_eq!(scrape(&env)["cldpd_engine_up"], 0.0);
}
