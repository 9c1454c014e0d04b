//! What real agents wrote, recorded by `make test-agents`: each directory of
//! `tests/fixtures/agents` is one agent in one version, each `NAME.json` a case of
//! some runs, and `NAME.N.jsonl` what run N wrote.

use super::used;
use crate::agent::{Agent, Before, agent, last_answer};
use crate::model::usage::ByModel;
use crate::model::{Account, AgentEvent, AgentKind, Usage};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A recorded run.
struct Recorded {
    what: String,
    agent: &'static dyn Agent,
    lines: Vec<Vec<u8>>,
    expected: Value,
    /// What the runs before it used.
    earlier: ByModel,
}

impl Recorded {
    /// All events, where the reader is replaced before the line `restart`, as when
    /// a daemon goes on with what another one began.
    fn read(&self, restart: usize) -> (Vec<AgentEvent>, Account) {
        let mut all = Vec::new();
        let mut account = Account::default();
        let (first, second) = self.lines.split_at(restart);
        // Lines that said nothing yet.
        let mut silent = Vec::new();
        for (lines, ends) in [(first, false), (second, true)] {
            let before = Before {
                earlier: self.earlier.clone(),
                account: account.clone(),
                model: None,
                answer: last_answer(all.iter()),
            };
            let mut reader = self.agent.reader(before).unwrap();
            for line in silent.drain(..) {
                reader.read(line, &mut Vec::new());
            }
            let mut events = Vec::new();
            for line in lines {
                let before = events.len();
                reader.read(line, &mut events);
                match events.len() == before {
                    true => silent.push(line),
                    false => silent.clear(),
                }
            }
            if ends {
                reader.finish(&mut events);
            }
            for event in &events {
                account.take(event);
            }
            all.extend(events);
        }
        (all, account)
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Gives every recorded run to `check`.
fn each(mut check: impl FnMut(&Recorded)) {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/agents");
    let mut kinds = Vec::new();
    for dir in files(&all) {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let kind = name.split('-').next().unwrap();
        let kind = AgentKind::ALL
            .into_iter()
            .find(|k| k.name() == kind)
            .unwrap();
        kinds.push(kind);
        for case in files(&dir) {
            if case.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let runs: Vec<Value> = serde_json::from_slice(&fs::read(&case).unwrap()).unwrap();
            let mut earlier = ByModel::new();
            for (number, expected) in runs.into_iter().enumerate() {
                let raw = fs::read(case.with_extension(format!("{number}.jsonl"))).unwrap();
                let lines = raw
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty());
                let recorded = Recorded {
                    what: format!("{name}/{}, run {number}", case.display()),
                    agent: agent(kind),
                    lines: lines.map(<[u8]>::to_vec).collect(),
                    expected,
                    earlier: earlier.clone(),
                };
                check(&recorded);
                for (model, usage) in recorded.read(0).1.models {
                    let slot = earlier.entry(model).or_default();
                    *slot = slot.plus(&usage);
                }
            }
        }
    }
    for kind in AgentKind::ALL {
        assert!(
            kind == AgentKind::Command || kinds.contains(&kind),
            "{kind}"
        );
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn expected_usage(told: &Value) -> Usage {
    let count = |key: &str| told[key].as_u64().unwrap();
    Usage {
        input: count("input"),
        output: count("output"),
        cache_read: count("cache_read"),
        cache_write: count("cache_write"),
        cost_usd: told["cost_nano_usd"].as_f64().map(|nano| nano / 1e9),
    }
}

#[test]
fn recordings_say_what_was_dispensed() {
    each(|run| {
        let (events, _) = run.read(0);
        let told = &run.expected["told"];
        assert_eq!(used(&events), expected_usage(told), "{}", run.what);
        let events: Vec<Value> = events
            .iter()
            .map(|event| serde_json::to_value(event).unwrap())
            .collect();
        let kinds: Vec<&str> = events.iter().map(|event| text(event, "type")).collect();
        assert_eq!(Value::from(kinds), run.expected["events"], "{}", run.what);
        let of = |kind: &str| -> Vec<&Value> {
            events
                .iter()
                .filter(|event| text(event, "type") == kind)
                .collect()
        };
        let said: String = of("text").iter().map(|event| text(event, "text")).collect();
        assert_eq!(said, text(told, "texts"), "{}", run.what);
        let tools: Vec<[&str; 2]> = of("tool_use")
            .iter()
            .map(|event| [text(event, "name"), text(event, "summary")])
            .collect();
        assert_eq!(serde_json::json!(tools), told["tools"], "{}", run.what);
        assert_eq!(
            of("unknown")
                .iter()
                .filter(|e| e["malformed"] == true)
                .count(),
            0
        );
    });
}

/// What the results say.
fn answers(events: &[AgentEvent]) -> Vec<&str> {
    let answers = events.iter().filter_map(|event| match event {
        AgentEvent::Result { text, .. } => Some(text.as_str()),
        _ => None,
    });
    answers.collect()
}

#[test]
fn whoever_reads_on_counts_nothing_twice() {
    each(|run| {
        let (whole, account) = run.read(0);
        for restart in 1..=run.lines.len() {
            let (events, again) = run.read(restart);
            let what = format!("{}, restarted before line {restart}", run.what);
            assert_eq!(used(&events), used(&whole), "{what}");
            assert_eq!(again.total(), account.total(), "{what}");
            assert_eq!(answers(&events), answers(&whole), "{what}");
        }
    });
}

#[test]
fn recordings_are_shown_without_escapes() {
    each(|run| {
        let Some(mut teller) = run.agent.teller() else {
            return;
        };
        let lines = run.lines.iter().filter_map(|line| teller.line(line));
        let mut shown: Vec<_> = lines.flatten().collect();
        shown.extend(teller.end());
        assert!(!shown.is_empty(), "{}", run.what);
        for shown in shown {
            let control = |c: char| c.is_control() && c != '\n' && c != '\t';
            assert!(!shown.text.contains(control), "{}: {shown:?}", run.what);
        }
    });
}
