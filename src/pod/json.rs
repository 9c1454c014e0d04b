//! JSON with positions: serde_json decides what is valid, a small scanner then
//! walks the same text and remembers where every key and value stands.
//!
//! Invariant: the scanner runs only over text that serde_json accepted, so its
//! depth is bounded, and what it does not understand is an error, never a panic.

use super::error::Position;

/// A value and where it begins.
#[derive(Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// A value. Deliberately not `Debug`: it may hold secrets.
#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What it is, for messages.
    pub(super) const fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

/// A key of an object and where it begins.
#[derive(Clone, PartialEq)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) text: String,
}

/// Why a text is not JSON, and where.
#[derive(Debug)]
pub(super) struct Syntax {
    pub(super) at: Position,
    pub(super) cause: String,
}

/// Parses a document. A text of nothing but white space is `None`.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Node>, Syntax> {
    let text = std::str::from_utf8(bytes).map_err(|error| Syntax {
        at: position_of(bytes, error.valid_up_to()),
        cause: "this is not UTF-8 text".to_owned(),
    })?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        return Err(syntax(text, &error));
    }
    let mut scanner = Scanner::new(text);
    let node = scanner.value();
    let at = scanner.at;
    node.map(Some).ok_or_else(|| Syntax {
        at,
        cause: "expected a value".to_owned(),
    })
}

/// serde_json's error with the position in characters, and without the position in its text.
fn syntax(text: &str, error: &serde_json::Error) -> Syntax {
    let line = error.line().max(1);
    // Its columns count bytes; 0 stands for the end of the line before.
    let before = text.lines().nth(line - 1).unwrap_or_default().as_bytes();
    let upto = error.column().saturating_sub(1).min(before.len());
    let full = error.to_string();
    let cause = full
        .rfind(" at line ")
        .map_or(full.as_str(), |end| &full[..end]);
    Syntax {
        at: Position {
            line,
            column: count_characters(&before[..upto]) + 1,
        },
        cause: cause.to_owned(),
    }
}

/// The position of the byte `index`.
fn position_of(bytes: &[u8], index: usize) -> Position {
    let before = bytes.get(..index).unwrap_or(bytes);
    let start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |n| n + 1);
    Position {
        line: before.iter().filter(|b| **b == b'\n').count() + 1,
        column: count_characters(&before[start..]) + 1,
    }
}

/// Characters of UTF-8 text: all bytes but the continuing ones.
fn count_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b & 0xc0 != 0x80).count()
}

struct Scanner<'a> {
    text: &'a str,
    next: usize,
    at: Position,
}

impl<'a> Scanner<'a> {
    const fn new(text: &'a str) -> Self {
        Self {
            text,
            next: 0,
            at: Position { line: 1, column: 1 },
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.next).copied()
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.next += 1;
        if byte == b'\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else if byte & 0xc0 != 0x80 {
            self.at.column += 1;
        }
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.bump()? == byte).then_some(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.bump();
        }
    }

    fn value(&mut self) -> Option<Node> {
        self.space();
        let at = self.at;
        let value = match self.peek()? {
            b'{' => self.map()?,
            b'[' => self.list()?,
            b'"' => Value::Text(self.string()?),
            _ => self.scalar()?,
        };
        Some(Node { at, value })
    }

    fn map(&mut self) -> Option<Value> {
        let mut entries = Vec::new();
        self.expect(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            self.bump();
            return Some(Value::Map(entries));
        }
        loop {
            self.space();
            let at = self.at;
            let text = self.string()?;
            self.space();
            self.expect(b':')?;
            entries.push((Key { at, text }, self.value()?));
            self.space();
            match self.bump()? {
                b',' => {}
                b'}' => return Some(Value::Map(entries)),
                _ => return None,
            }
        }
    }

    fn list(&mut self) -> Option<Value> {
        let mut items = Vec::new();
        self.expect(b'[')?;
        self.space();
        if self.peek()? == b']' {
            self.bump();
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            self.space();
            match self.bump()? {
                b',' => {}
                b']' => return Some(Value::List(items)),
                _ => return None,
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let start = self.next;
        self.expect(b'"')?;
        loop {
            match self.bump()? {
                b'\\' => {
                    self.bump()?;
                }
                b'"' => break,
                _ => {}
            }
        }
        serde_json::from_str(self.text.get(start..self.next)?).ok()
    }

    fn scalar(&mut self) -> Option<Value> {
        let start = self.next;
        while let Some(byte) = self.peek() {
            if !byte.is_ascii_alphanumeric() && !matches!(byte, b'+' | b'-' | b'.') {
                break;
            }
            self.bump();
        }
        match self.text.get(start..self.next)? {
            "null" => Some(Value::Null),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            number => serde_json::from_str(number).ok().map(Value::Number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Number(n) => n.clone().into(),
            Value::Text(t) => t.clone().into(),
            Value::List(items) => items.iter().map(plain).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(k, v)| (k.text.clone(), plain(v)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    #[test]
    fn positions_count_characters() {
        let text = "{\n  \"é\": 1, \"x\":\n\t[true, null]}";
        let Ok(Some(node)) = parse(text.as_bytes()) else {
            panic!("must parse");
        };
        let Value::Map(entries) = node.value else {
            panic!("must be an object");
        };
        assert_eq!(entries[0].0.at, Position { line: 2, column: 3 });
        assert_eq!(entries[0].1.at, Position { line: 2, column: 8 });
        assert_eq!(
            entries[1].0.at,
            Position {
                line: 2,
                column: 11
            }
        );
        assert_eq!(entries[1].1.at, Position { line: 3, column: 2 });
    }

    #[test]
    fn errors_say_where() {
        for (text, line, column) in [
            (&b"{"[..], 1, 1),
            (b"{\n  \"a\": 1,\n}", 3, 1),
            (b"{\n  \"a\" 1}", 2, 7),
            (b"{\n \"\xff\"}", 2, 3),
            ("{\"é\": x}".as_bytes(), 1, 7),
            (b"{} x", 1, 4),
        ] {
            let Err(error) = parse(text) else {
                panic!("must not parse: {text:?}");
            };
            assert_eq!(error.at, Position { line, column }, "{error:?} {text:?}");
            assert!(!error.cause.contains(" line "), "{error:?}");
        }
    }

    #[test]
    fn nothing_is_no_document() {
        assert!(matches!(parse(b""), Ok(None)));
        assert!(matches!(parse(b" \n\t"), Ok(None)));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(parse("[".repeat(1 << 20).as_bytes()).is_err());
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        assert!(parse(deep.as_bytes()).is_err());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
            "[\\\\\"\n\t/a]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..6)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_reads(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.map_err(|e| TestCaseError::fail(e.to_string()))?;
            match parse(text.as_bytes()) {
                Ok(Some(node)) => prop_assert_eq!(plain(&node), value),
                _ => prop_assert!(false, "must parse: {}", text),
            }
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn never_panics_on_damaged_documents(value in json(), cut: prop::sample::Index, byte: u8) {
            let mut text = serde_json::to_vec_pretty(&value).unwrap_or_default();
            let index = cut.index(text.len());
            text[index] = byte;
            if let Err(error) = parse(&text) {
                let lines = text.split(|b| *b == b'\n').count();
                prop_assert!(error.at.line >= 1 && error.at.line <= lines);
                prop_assert!(error.at.column >= 1);
            }
        }
    }
}
