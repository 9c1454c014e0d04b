//! `.dockerignore`: which parts of a pod's directory the builder never sees.
//!
//! The rules are docker's own (moby's `patternmatcher`): patterns are rooted at
//! the context, `*` and `?` stop at a slash, `**` does not, what is beneath a
//! directory that matches is ignored with it, and the last pattern that says
//! something about a path has its way, `!` making an exception.

use crate::runtime::{Result, RuntimeError};
use std::io::ErrorKind;
use std::path::Path;

/// Where the patterns may be, the first that is there having its way.
const FILES: [&str; 2] = ["Dockerfile.dockerignore", ".dockerignore"];
/// What the builder needs whatever the patterns say.
const ALWAYS: [&str; 2] = ["Dockerfile", ".dockerignore"];

/// The patterns of a context.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
    /// Exceptions that begin with a wildcard may lie anywhere.
    anywhere: bool,
}

/// Which patterns match a directory, for what is beneath it.
pub(super) type Matches = Vec<bool>;

#[derive(Debug)]
struct Pattern {
    /// `!`: what matches is not ignored after all.
    exception: bool,
    /// As it was written, cleaned.
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// This character.
    Is(char),
    /// `?`: one that is no slash.
    One,
    /// `*`: any number of those.
    Some,
    /// `**` before more: nothing, or whole directories.
    Directories,
    /// `**` at the end: all that comes.
    Rest,
    /// `[a-z]`, `[^a-z]`.
    Among {
        inverted: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// The patterns that hold for the context in `root`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        for name in FILES {
            let path = root.join(name);
            let failed = |action, source| RuntimeError::Io {
                action,
                path: path.clone(),
                source,
            };
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("cannot read", error)),
            };
            return Self::parse(&String::from_utf8_lossy(&text)).map_err(|cause| {
                failed(
                    "cannot use",
                    std::io::Error::new(ErrorKind::InvalidData, cause),
                )
            });
        }
        Ok(Self::default())
    }

    /// Reads patterns, one a line.
    ///
    /// # Errors
    /// The line that is no pattern.
    fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let wrong = |what: &str| format!("line {}: {what}: {}", number + 1, line.trim());
            let line = line.trim();
            let (exception, rest) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if rest.is_empty() {
                return Err(wrong("an exception needs a pattern"));
            }
            let text = clean(rest);
            let parts = parts(&text).ok_or_else(|| wrong("this is no pattern"))?;
            let wild = parts.iter().position(|part| !matches!(part, Part::Is(_)));
            let bare = text.trim_end_matches("/**").chars().count();
            all.anywhere |= exception && wild.is_some_and(|at| at < bare);
            all.patterns.push(Pattern {
                exception,
                text,
                parts,
            });
        }
        Ok(all)
    }

    /// Where no pattern matches yet.
    pub(super) fn at_root(&self) -> Matches {
        vec![false; self.patterns.len()]
    }

    /// Whether `path` is ignored, and what that means for what is beneath it.
    /// `above` is what was found of its directory.
    pub(super) fn look(&self, path: &Path, above: &Matches) -> (bool, Matches) {
        let text: Vec<char> = path.to_string_lossy().chars().collect();
        let mut ignored = false;
        let mut matches = self.at_root();
        for ((pattern, above), found) in self.patterns.iter().zip(above).zip(&mut matches) {
            // One that could change nothing is not asked.
            *found = *above || (pattern.exception == ignored && pattern.matches(&text));
            if *found {
                ignored = !pattern.exception;
            }
        }
        let needed = ALWAYS.iter().any(|name| Path::new(name) == path);
        (ignored && !needed, matches)
    }

    /// Whether there may be an exception beneath the directory `path`, which is ignored.
    pub(super) fn may_hold_exceptions(&self, path: &Path) -> bool {
        if self.anywhere {
            return true;
        }
        let beneath = format!("{}/", path.to_string_lossy());
        let mut exceptions = self.patterns.iter().filter(|pattern| pattern.exception);
        exceptions.any(|pattern| format!("{}/", pattern.text).starts_with(&beneath))
    }
}

impl Pattern {
    fn matches(&self, path: &[char]) -> bool {
        // The places in the path that the parts up to here can lead to.
        let mut at = vec![false; path.len() + 1];
        at[0] = true;
        for part in &self.parts {
            let mut next = vec![false; at.len()];
            let mut running = false;
            for (index, here) in at.iter().enumerate() {
                let before = index.checked_sub(1).and_then(|index| path.get(index));
                let c = path.get(index);
                match part {
                    Part::Is(_) | Part::One | Part::Among { .. } => {
                        if *here && c.is_some_and(|c| part.takes(*c)) {
                            next[index + 1] = true;
                        }
                    }
                    Part::Some => {
                        running = *here || (running && before != Some(&'/'));
                        next[index] = running;
                    }
                    Part::Directories => {
                        next[index] = *here || (running && before == Some(&'/'));
                        running |= *here;
                    }
                    Part::Rest => {
                        running |= *here;
                        next[index] = running;
                    }
                }
            }
            at = next;
        }
        at[path.len()]
    }
}

impl Part {
    /// Whether this part, which stands for one character, stands for `c`.
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Is(own) => *own == c,
            Self::One => c != '/',
            Self::Among { inverted, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *inverted
            }
            Self::Some | Self::Directories | Self::Rest => false,
        }
    }
}

/// The parts of a pattern; `None` when it is not one.
fn parts(text: &str) -> Option<Vec<Part>> {
    let mut rest = text.chars().peekable();
    let mut all = Vec::new();
    let mut plain = true;
    while let Some(c) = rest.next() {
        all.push(match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                // `**/` and `**` mean the same.
                rest.next_if_eq(&'/');
                match rest.peek() {
                    Some(_) => Part::Directories,
                    None => Part::Rest,
                }
            }
            '*' => Part::Some,
            '?' => Part::One,
            '[' => among(&mut rest)?,
            '\\' => {
                plain = false;
                Part::Is(rest.next()?)
            }
            c => Part::Is(c),
        });
    }
    // Before nothing but characters `**` is whatever comes before them, as in `**.log`.
    let (first, others) = all.split_first_mut()?;
    let plain = plain && others.iter().all(|part| matches!(part, Part::Is(_)));
    if *first == Part::Directories && plain && !text.starts_with("**/") {
        *first = Part::Rest;
    }
    Some(all)
}

fn among(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Part> {
    let inverted = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let literal = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        c => Some(c),
    };
    loop {
        if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
            return Some(Part::Among { inverted, ranges });
        }
        let from = literal(rest)?;
        let to = match rest.next_if_eq(&'-') {
            Some(_) => literal(rest)?,
            None => from,
        };
        ranges.push((from, to));
    }
}

/// The pattern as a path: without `.`, `..`, doubled slashes, and one at either end.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        // The context itself, which no path in it is.
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

#[cfg(test)]
mod tests;
