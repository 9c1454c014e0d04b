//! What the tests ask of a session's events.

use serde_json::Value;

/// The kinds, in order.
pub fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|e| e["kind"].as_str()).collect()
}

/// The events of one kind.
pub fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["kind"] == kind).collect()
}

/// The only event of its kind.
#[track_caller]
pub fn only<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(events, kind);
    assert_eq!(found.len(), 1, "one {kind} in {:?}", kinds(events));
    found[0]
}

/// The events of one run.
pub fn of_run(events: &[Value], run: u64) -> Vec<Value> {
    events.iter().filter(|e| e["run"] == run).cloned().collect()
}

/// Fails unless seqs are dense from 1 and times never go back.
#[track_caller]
pub fn assert_dense(events: &[Value]) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "dense from 1: {event}");
    }
    let times: Vec<&str> = events.iter().filter_map(|e| e["time"].as_str()).collect();
    assert_eq!(times.len(), events.len(), "every event has a time");
    assert!(times.is_sorted(), "times never go back");
}

/// The texts of the output events of one stream.
pub fn lines<'a>(events: &'a [Value], stream: &str) -> Vec<&'a str> {
    events
        .iter()
        .filter(|e| e["kind"] == "output" && e["stream"] == stream)
        .filter_map(|e| e["data"].as_str())
        .collect()
}

/// Kinds in order, each once where it stands several times in a row, without
/// those that may stand anywhere.
pub fn outline(events: &[Value]) -> Vec<&str> {
    let mut outline: Vec<&str> = kinds(events)
        .into_iter()
        .filter(|kind| !matches!(*kind, "note" | "agent"))
        .collect();
    outline.dedup();
    outline
}

/// The outcome in a row of `sessions`, or in `run_ended`.
pub fn outcome(value: &Value) -> &str {
    let outcome = &value["outcome"];
    outcome
        .as_str()
        .or_else(|| outcome["outcome"].as_str())
        .unwrap_or("none")
}
