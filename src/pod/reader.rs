//! Typed values out of `pod.json`, by the table of keys; and which key was
//! probably meant.
//!
//! Invariant: everything that is wrong is collected; nothing stops the reading
//! of the rest of the file.

use super::error::{PodError, Position};
use super::json::{Key, Node, Value};
use super::keys::{RESERVED, SCHEMA, Shape};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The entries of one object, by key, and where it stands.
pub(super) struct Object<'a> {
    /// What it is called in messages: empty for the whole file.
    path: String,
    shape: &'static Shape,
    entries: BTreeMap<&'a str, &'a Node>,
}

impl Object<'_> {
    /// The full name of one of its keys.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Where the name `entry` stands in the table `key`, if it does.
    pub(super) fn key_of_table(&self, key: &str, entry: &str) -> Option<Position> {
        match &self.get(key)?.value {
            Value::Map(entries) => {
                let found = entries.iter().find(|(name, _)| name.text == entry);
                found.map(|(name, _)| name.at)
            }
            _ => None,
        }
    }

    /// The value of one of its keys.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        debug_assert!(self.shape.names().any(|name| name == key), "{key}");
        self.entries.get(key).copied()
    }
}

/// A text, where it stands and what it is called.
pub(super) struct Text {
    pub(super) at: Position,
    pub(super) key: String,
    pub(super) text: String,
}

/// Reads typed values and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) problems: Vec<PodError>,
}

impl Reader<'_> {
    /// Says that a value is of the wrong type.
    pub(super) fn wrong_type(&mut self, key: &str, node: &Node, expected: &'static str) {
        self.problems.push(PodError::WrongType {
            file: self.file.to_owned(),
            at: node.at,
            key: key.to_owned(),
            expected,
            found: node.value.describe(),
        });
    }

    /// Says that a value cannot be used.
    pub(super) fn wrong_value(
        &mut self,
        key: &str,
        at: Position,
        problem: impl Into<String>,
        hint: Option<&str>,
    ) {
        self.problems.push(PodError::WrongValue {
            file: self.file.to_owned(),
            at,
            key: key.to_owned(),
            problem: problem.into(),
            hint: hint.map(str::to_owned),
        });
    }

    /// Says that something of this machine is not there, or cannot be used.
    pub(super) fn missing(
        &mut self,
        what: &'static str,
        at: Position,
        source_path: PathBuf,
        error: &std::io::Error,
    ) {
        self.problems.push(PodError::MissingSource {
            file: self.file.to_owned(),
            at,
            what,
            source_path,
            cause: match error.kind() {
                std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("cannot be used: {error}"),
            },
        });
    }

    /// An object of this shape.
    pub(super) fn object<'n>(
        &mut self,
        path: &str,
        node: &'n Node,
        shape: &'static Shape,
    ) -> Option<Object<'n>> {
        let Value::Map(list) = &node.value else {
            let key = if path.is_empty() { "pod.json" } else { path };
            self.wrong_type(key, node, "an object");
            return None;
        };
        let mut object = Object {
            path: path.to_owned(),
            shape,
            entries: BTreeMap::new(),
        };
        for (key, value) in list {
            let full = object.name(&key.text);
            if shape.names().any(|name| name == key.text) {
                if object.entries.insert(&key.text, value).is_some() {
                    self.twice(key, full);
                }
                continue;
            }
            let of_file = path.is_empty();
            if of_file && key.text == SCHEMA {
                continue;
            }
            self.problems
                .push(if of_file && RESERVED.contains(&key.text.as_str()) {
                    PodError::UnsupportedKey {
                        file: self.file.to_owned(),
                        at: key.at,
                        key: full,
                    }
                } else {
                    PodError::UnknownKey {
                        file: self.file.to_owned(),
                        at: key.at,
                        nearest: nearest(&key.text, shape.names()),
                        key: shown(&full),
                        known: shape.names().collect::<Vec<_>>().join(", "),
                    }
                });
        }
        self.complete(node.at, &object);
        Some(object)
    }

    /// Looks for keys that have to be there, and for two that exclude each other.
    fn complete(&mut self, at: Position, object: &Object<'_>) {
        for missing in object.shape.required {
            if object.get(missing).is_none() {
                self.problems.push(PodError::MissingKey {
                    file: self.file.to_owned(),
                    at,
                    key: object.path.clone(),
                    missing,
                });
            }
        }
        if let Some([one, other]) = object.shape.either
            && object.get(one).is_some()
            && let Some(node) = object.get(other)
        {
            let problem = format!("cannot be there beside \"{one}\"");
            let hint = Some("remove one of the two");
            self.wrong_value(&object.name(other), node.at, problem, hint);
        }
    }

    fn twice(&mut self, key: &Key, full: String) {
        self.problems.push(PodError::DuplicateKey {
            file: self.file.to_owned(),
            at: key.at,
            key: shown(&full),
        });
    }

    /// A string without NUL, which no file name, argument or variable can hold.
    fn string(&mut self, key: String, node: &Node, expected: &'static str) -> Option<Text> {
        let Value::Text(text) = &node.value else {
            self.wrong_type(&key, node, expected);
            return None;
        };
        if text.contains('\0') {
            self.wrong_value(&key, node.at, "has a NUL character in it", None);
            return None;
        }
        Some(Text {
            at: node.at,
            key,
            text: text.clone(),
        })
    }

    /// A string.
    pub(super) fn text(&mut self, object: &Object<'_>, key: &str) -> Option<Text> {
        let node = object.get(key)?;
        self.string(object.name(key), node, "a string")
    }

    /// A string with something in it.
    pub(super) fn word(&mut self, object: &Object<'_>, key: &str) -> Option<Text> {
        let text = self.text(object, key)?;
        if text.text.trim().is_empty() {
            self.wrong_value(&text.key, text.at, "is empty", Some("leave the key out"));
            return None;
        }
        Some(text)
    }

    /// A truth value, false when absent.
    pub(super) fn flag(&mut self, object: &Object<'_>, key: &str) -> bool {
        match object.get(key) {
            Some(Node {
                value: Value::Bool(flag),
                ..
            }) => *flag,
            Some(node) => {
                self.wrong_type(&object.name(key), node, "true or false");
                false
            }
            None => false,
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count(&mut self, key: &str, node: &Node, expected: &'static str) -> Option<u32> {
        let Value::Number(number) = &node.value else {
            self.wrong_type(key, node, expected);
            return None;
        };
        let count = number.as_u64().and_then(|n| u32::try_from(n).ok());
        let Some(count) = count.filter(|n| *n > 0) else {
            self.wrong_value(key, node.at, format!("has to be {expected}"), None);
            return None;
        };
        Some(count)
    }

    /// The items of a list, none when absent.
    pub(super) fn items<'n>(
        &mut self,
        object: &Object<'n>,
        key: &str,
        expected: &'static str,
    ) -> Vec<(String, &'n Node)> {
        let Some(node) = object.entries.get(key).copied() else {
            return Vec::new();
        };
        let name = object.name(key);
        let Value::List(items) = &node.value else {
            self.wrong_type(&name, node, expected);
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(n, item)| (format!("{name}[{n}]"), item))
            .collect()
    }

    /// A list of strings. Whole numbers are taken too when `numbers`.
    pub(super) fn texts(&mut self, object: &Object<'_>, key: &str, numbers: bool) -> Vec<Text> {
        let mut texts = Vec::new();
        for (key, item) in self.items(object, key, "a list of strings") {
            match &item.value {
                Value::Number(number) if numbers && number.is_u64() => texts.push(Text {
                    at: item.at,
                    key,
                    text: number.to_string(),
                }),
                _ => texts.extend(self.string(key, item, "a string")),
            }
        }
        texts
    }

    /// An object of strings, by name, with where the names stand.
    pub(super) fn table(
        &mut self,
        object: &Object<'_>,
        key: &str,
    ) -> BTreeMap<String, (Position, String)> {
        let mut table = BTreeMap::new();
        let Some(node) = object.get(key) else {
            return table;
        };
        let name = object.name(key);
        let Value::Map(entries) = &node.value else {
            self.wrong_type(&name, node, "an object of strings");
            return table;
        };
        for (entry, value) in entries {
            let full = format!("{name}.{}", entry.text);
            if entry.text.is_empty() || entry.text.contains(['\0', '=']) {
                let problem = "is no usable name: it has to be without = and NUL, and not empty";
                self.wrong_value(&shown(&full), entry.at, problem, None);
                continue;
            }
            let Some(text) = self.string(shown(&full), value, "a string") else {
                continue;
            };
            if table
                .insert(entry.text.clone(), (entry.at, text.text))
                .is_some()
            {
                self.twice(entry, full);
            }
        }
        table
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        object: &Object<'_>,
        key: &str,
        expected: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let node = object.get(key)?;
        let text = self.string(object.name(key), node, expected)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text.text) {
            return Some(*choice);
        }
        let problem = format!("has to be {expected}, but is \"{}\"", shown(&text.text));
        self.wrong_value(&text.key, text.at, problem, None);
        None
    }
}

/// The name that `text` is most like, if it is like any.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| {
        name.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .take(64)
            .collect::<String>()
    };
    let wanted = plain(text);
    names
        .map(|name| {
            let have = plain(name);
            let distance = strsim::damerau_levenshtein(&wanted, &have);
            (distance, have.chars().count(), name)
        })
        // A third of the letters may differ: more is another word.
        .filter(|(distance, length, _)| distance * 3 <= (*length).max(wanted.chars().count()))
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., name)| name)
}

/// A text for a message: without control characters, and not endless.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}
