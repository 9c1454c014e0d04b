//! What was dispensed, a JSON object a line, in a file that tests fetch.
//!
//! A run begins with `{"run": NAME, "argv": […]}`. Every answer, given or
//! refused, is one line more, written before its first byte is sent.

use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

const FILE: &str = "/tmp/mock-api.jsonl";

/// A run begins.
pub fn begin(name: &OsStr, args: &[OsString]) -> io::Result<()> {
    let argv: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    note(&json!({"run": name.to_string_lossy(), "argv": argv}))
}

/// One write: lines of several threads do not mix.
pub fn note(value: &Value) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(FILE)?;
    file.write_all(format!("{value}\n").as_bytes())
}
