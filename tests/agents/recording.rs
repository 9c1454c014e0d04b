//! What the agents wrote, checked in for the parsers' tests.
//!
//! `NAME.N.jsonl` is standard output of a case's run N, byte for byte, and
//! `NAME.json` what cldpd has to find in it: a list with an object for each run.

use crate::agent::Agent;
use crate::ledger::Told;
use crate::world::Ended;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Larger ones are not checked in.
const MAX: usize = 64 * 1024;

/// Writes a case if that is wanted; otherwise it has to be there, for this version.
#[track_caller]
pub fn record(agent: &Agent, case: &str, runs: &[&Ended]) {
    let dir = directory(agent);
    let file = dir.join(format!("{case}.json"));
    if std::env::var_os("CLDPD_AGENTS").is_none_or(|wish| wish != "record") {
        assert!(file.exists(), "{}: CLDPD_AGENTS=record", file.display());
        return;
    }
    fs::create_dir_all(&dir).expect("the source tree is ours");
    let mut expected = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        assert!(run.raw.len() < MAX, "{case} is too large to be kept");
        let raw = dir.join(format!("{case}.{number}.jsonl"));
        fs::write(raw, &run.raw).expect("the source tree is ours");
        expected.push(json!({
            "code": run.code,
            "outcome": run.outcome,
            "told": Told::shown(&run.events),
            "events": kinds(run),
        }));
    }
    let text = format!("{:#}\n", Value::from(expected));
    fs::write(file, text).expect("the source tree is ours");
}

fn kinds(run: &Ended) -> Vec<&str> {
    let agent = run.events.iter().filter(|e| e["kind"] == "agent");
    agent.filter_map(|e| e["event"]["type"].as_str()).collect()
}

fn directory(agent: &Agent) -> PathBuf {
    let name = format!("{}-{}", agent.name, agent.version());
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/agents")
        .join(name)
}
