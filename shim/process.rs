//! Who descends from whom, and killing them.

use crate::stat;
use crate::sys::{self, signals};
use std::collections::HashMap;
use std::fs;

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
        if let Some(process) = stat::read(pid) {
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
