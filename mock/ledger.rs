//! What was dispensed, a JSON object a line, in a file that tests fetch.
//!
//! A run begins with `{"run": NAME, "argv": […]}`. Every answer, given or
//! refused, is one line more, written before its first byte is sent.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

const FILE: &str = "/tmp/mock-api.jsonl";
/// Which steps failed how often, for runs to come.
const FAILED: &str = "/tmp/mock-failed.jsonl";

/// A run begins.
pub fn begin(name: &OsStr, args: &[OsString]) -> io::Result<()> {
    let argv: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    note(&json!({"run": name.to_string_lossy(), "argv": argv}))
}

/// How often which step of which script failed in earlier runs of the session.
pub fn failures() -> HashMap<(String, usize), usize> {
    let mut failures = HashMap::new();
    let text = std::fs::read_to_string(FAILED).unwrap_or_default();
    for line in text.lines() {
        if let Ok(step) = serde_json::from_str::<(String, usize)>(line) {
            *failures.entry(step).or_default() += 1;
        }
    }
    failures
}

/// A step failed.
pub fn failed(script: &str, taken: usize) -> io::Result<()> {
    append(FAILED, &json!([script, taken]))
}

/// One write: lines of several threads do not mix.
pub fn note(value: &Value) -> io::Result<()> {
    append(FILE, value)
}

fn append(path: &str, value: &Value) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    file.write_all(format!("{value}\n").as_bytes())
}
