//! Names of pods, made of names that people gave to directories.

use crate::model::PodName;
use std::path::Path;

/// What an image's tag takes.
const LENGTH_MAX: usize = 63;
/// The name of what has no letter or digit in its name.
const NAMELESS: &str = "pod";

/// The name that a pod made from this directory is given.
pub(super) fn of_directory(dir: &Path) -> String {
    // So that `.` is named as what it is.
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let base = dir.file_name().map(|name| name.to_string_lossy());
    legal(base.as_deref().unwrap_or_default())
}

/// `My Project!!` as `my-project`: letters and digits stay, all else separates.
fn legal(base: &str) -> String {
    let mut name = String::new();
    let mut separator = None;
    for c in base.chars() {
        if !c.is_ascii_alphanumeric() {
            separator = match (separator, c) {
                (None, '.' | '_') => Some(c),
                _ => Some('-'),
            };
            continue;
        }
        if name.len() + 2 > LENGTH_MAX {
            break;
        }
        match separator.take() {
            Some(separator) if !name.is_empty() => name.push(separator),
            Some(_) | None => {}
        }
        name.push(c.to_ascii_lowercase());
    }
    if name.is_empty() {
        return NAMELESS.to_owned();
    }
    name
}

/// The name itself, then with numbers from 2 behind it.
pub(super) fn candidates(name: &str) -> impl Iterator<Item = PodName> {
    (1u32..).filter_map(move |number| {
        if number == 1 {
            return PodName::new(name).ok();
        }
        let number = format!("-{number}");
        let room = LENGTH_MAX.saturating_sub(number.len());
        let head = name.get(..room).unwrap_or(name);
        let head = head.trim_end_matches(['-', '.', '_']);
        PodName::new(&format!("{head}{number}")).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SessionId, Ulid};
    use proptest::prelude::*;

    #[test]
    fn names_are_made_legal() {
        for (base, name) in [
            ("My Project!!", "my-project"),
            ("my_project.rs", "my_project.rs"),
            ("a._b", "a-b"),
            ("--x--", "x"),
            ("проект", "pod"),
            ("Übung 3", "bung-3"),
            ("", "pod"),
        ] {
            assert_eq!(legal(base), name, "{base:?}");
        }
        let many: Vec<String> = candidates("pod").take(3).map(|n| n.to_string()).collect();
        assert_eq!(many, ["pod", "pod-2", "pod-3"]);
    }

    proptest! {
        #[test]
        fn any_base_gives_legal_names_without_doubled_hyphens(base in "\\PC{0,80}|[a-zA-Z -]{0,300}") {
            let mut seen = Vec::new();
            for name in candidates(&legal(&base)).take(12) {
                prop_assert!(name.as_str().len() <= LENGTH_MAX);
                prop_assert!(!seen.contains(&name), "{}", name);
                let id = SessionId::new(&name, Ulid(7));
                prop_assert!(!id.container_name(0).contains("--"), "{}", id);
                seen.push(name);
            }
            prop_assert_eq!(seen.len(), 12);
        }
    }
}
