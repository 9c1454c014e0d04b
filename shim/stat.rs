//! What `/proc/<pid>/stat` says of a process: its parent, and when it began,
//! which with its pid tells it from every other.

use std::fs;

/// A process, as its `stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its parent.
    pub parent: u32,
    /// It has ended and was not reaped.
    pub zombie: bool,
    /// When it began, in ticks since the machine's boot.
    pub start: u64,
}

/// Reads the process of that number, if there is one.
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

/// The machine's boot, or zeros where that is not told.
pub fn boot() -> [u8; 16] {
    let mut boot = [0; 16];
    let text = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.iter().filter_map(|b| char::from(*b).to_digit(16));
    for (at, digit) in digits.take(32).enumerate() {
        boot[at / 2] = boot[at / 2] << 4 | u8::try_from(digit).unwrap_or(0);
    }
    boot
}

/// The same in digits, as files have it.
pub fn boot_text() -> String {
    boot().iter().map(|byte| format!("{byte:02x}")).collect()
}
