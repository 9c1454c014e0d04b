//! What `/proc` says about processes: parents, start times, and so who descends
//! from whom.

use crate::sys::{self, signals};
use std::collections::HashMap;
use std::fs;

/// A process, as its `stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its parent.
    pub parent: u32,
    /// It has ended and was not reaped.
    pub zombie: bool,
    /// When it began, in ticks since the machine's boot: with the pid its identity.
    pub start: u64,
}

/// Reads `/proc/<pid>/stat`.
pub fn read(pid: u32) -> Option<Process> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the text of a `stat`. The name in it is the program's to choose: what
/// counts comes behind the last parenthesis.
pub fn parse(stat: &[u8]) -> Option<Process> {
    let close = stat.iter().rposition(|b| *b == b')')?;
    let text = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Process {
        parent,
        zombie: matches!(state, "Z" | "X"),
        start,
    })
}

/// Sends KILL to all descendants of `ancestor` but `spared` and theirs. Says
/// whether any was found that had not ended yet.
pub fn kill_descendants(ancestor: u32, spared: &[u32]) -> bool {
    let mut children: HashMap<u32, Vec<(u32, bool)>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(process) = read(pid) {
            let siblings = children.entry(process.parent).or_default();
            siblings.push((pid, process.zombie));
        }
    }
    let mut found = false;
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        // Removed, so that a parent is met once whatever /proc says.
        for (pid, zombie) in children.remove(&parent).unwrap_or_default() {
            if spared.contains(&pid) {
                continue;
            }
            open.push(pid);
            if let (false, Ok(pid)) = (zombie, i32::try_from(pid)) {
                found = true;
                let _ = sys::kill(pid, signals::KILL);
            }
        }
    }
    found
}
