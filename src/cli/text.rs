//! Making text harmless for a terminal.
//!
//! What an agent or a builder writes may move the cursor, set titles, or read
//! the terminal back. Nothing of that gets through: sequences are taken out
//! whole, other control characters and marks that turn the writing direction
//! are shown as symbols.

use unicode_width::UnicodeWidthStr as _;

/// Takes control sequences out of a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sanitizer {
    state: State,
    /// The beginning of a character whose end has not come.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// In a control sequence, up to a byte from `@` to `~`.
    Sequence,
    /// In a string command (a title, a link), up to BEL or ESC `\`.
    Command,
    /// In such a string, after ESC.
    CommandEscape,
}

impl Sanitizer {
    /// Whether `bytes` are harmless as they are and nothing before them is open,
    /// so that they may be shown without being looked at one by one.
    #[must_use]
    pub fn passes(&self, bytes: &[u8]) -> bool {
        let plain = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == b'\t';
        // Not `all`, which would stop at each byte to ask whether to go on.
        self.state == State::Text
            && self.partial.is_empty()
            && bytes.iter().fold(true, |passes, byte| passes & plain(byte))
    }

    /// Puts the harmless form of `bytes` into `out`. Sequences and characters
    /// may be cut anywhere between two calls.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            joined.as_slice()
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    text.chars().for_each(|c| self.take(c, out));
                    return;
                }
                Err(e) => {
                    let (good, bad) = rest.split_at(e.valid_up_to());
                    String::from_utf8_lossy(good)
                        .chars()
                        .for_each(|c| self.take(c, out));
                    let Some(length) = e.error_len() else {
                        self.partial = bad.to_vec();
                        return;
                    };
                    self.take(char::REPLACEMENT_CHARACTER, out);
                    rest = &bad[length..];
                }
            }
        }
    }

    /// The end of a line: what is open in it ends with it.
    pub fn end_line(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.partial).is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
        self.state = State::Text;
        if out.ends_with('␍') {
            out.pop();
        }
    }

    fn take(&mut self, c: char, out: &mut String) {
        self.state = match (self.state, c) {
            (State::Text, '\x1b') => State::Escape,
            (State::Text, '\u{9b}') => State::Sequence,
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => State::Command,
            (State::Text, c) => {
                if let Some(c) = harmless(c) {
                    out.push(c);
                }
                State::Text
            }
            (State::Escape, '[') => State::Sequence,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Command,
            (State::Escape, '\x1b') => State::Escape,
            // Intermediate bytes; the final one is still to come.
            (State::Escape, ' '..='/') => State::Escape,
            (State::Escape, _) => State::Text,
            (State::Sequence, '\x1b') => State::Escape,
            (State::Sequence, '@'..='~') => State::Text,
            (State::Sequence, _) => State::Sequence,
            (State::Command, '\x07' | '\u{9c}') => State::Text,
            (State::Command, '\x1b') => State::CommandEscape,
            (State::Command, _) => State::Command,
            (State::CommandEscape, '\\') => State::Text,
            (State::CommandEscape, '\x1b') => State::CommandEscape,
            (State::CommandEscape, _) => State::Command,
        };
    }
}

/// The character as it may be shown; none when it says nothing.
fn harmless(c: char) -> Option<char> {
    match c {
        '\t' | '\n' => Some(c),
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)),
        '\x7f' => Some('␡'),
        '\u{80}'..='\u{9f}' => None,
        // Marks that turn the direction, and so can make text read as another.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        c => Some(c),
    }
}

/// A whole text, harmless: its lines stay lines.
#[must_use]
pub fn sanitize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut sanitizer = Sanitizer::default();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        sanitizer.push(line.as_bytes(), &mut out);
        sanitizer.end_line(&mut out);
    }
    out
}

/// How many columns a text takes on a terminal: two for what East Asian
/// writing and pictures need, none for marks that go over the letter before.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// Cut to at most `max` columns, with an ellipsis where something is missing.
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    // A column takes a byte at least, so that most need no counting.
    if text.len() <= max || width(text) <= max {
        return text.to_owned();
    }
    if max == 0 {
        return String::new();
    }
    let mut end = 0;
    for (start, c) in text.char_indices() {
        let next = start + c.len_utf8();
        let taken = width(&text[..next]);
        if taken < max {
            end = next;
        } else if taken > max + 1 {
            // What joins two pictures makes them narrower again, by one of them.
            break;
        }
    }
    format!("{}…", &text[..end])
}

/// A number of tokens: `950`, `12.3k`, `4.5M`.
pub fn count(number: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    // What would be rounded up to the next unit is shown in that.
    let unit = units.iter().find(|(unit, _)| number >= unit - unit / 2000);
    match unit {
        Some((unit, name)) => format!("{:.1}{name}", number as f64 / *unit as f64),
        None => number.to_string(),
    }
}

/// A number of bytes, as people read it.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_are_taken_out_whole() {
        let cases = [
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1bPq#0\x1b\\picture", "picture"),
            ("\x1b(Bplain", "plain"),
            ("\u{9b}2Jcleared", "cleared"),
            ("10%\r20%\r\nnext", "10%␍20%\nnext"),
            ("a\x07b\x08c\x7f", "a␇b␈c␡"),
            ("tab\tand ünï", "tab\tand ünï"),
            ("if \u{202e}evil", "if evil"),
        ];
        for (text, expected) in cases {
            assert_eq!(sanitize(text), expected, "{text:?}");
        }
    }

    #[test]
    fn columns_are_counted_as_a_terminal_does() {
        for (text, columns) in [
            ("plain", 5),
            ("二つ", 4),
            ("e\u{301}t", 2),
            ("🙂!", 3),
            ("👩\u{200d}🔬", 2),
            ("ﾊﾝｶｸ", 4),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
        assert_eq!(cut("二つの言葉", 6), "二つ…");
        assert_eq!(cut("e\u{301}tude", 3), "e\u{301}t…");
    }

    #[test]
    fn an_unfinished_command_ends_with_its_line() {
        assert_eq!(sanitize("\x1b]0;never ends\nshown"), "\nshown");
    }

    proptest! {
        #[test]
        fn no_control_byte_gets_through_however_it_is_cut(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0x1b), Just(b'['), Just(b']'), Just(0x9b), Just(0xc2), any::<u8>()], 0..60),
            at in 0usize..60,
        ) {
            let mut whole = String::new();
            let mut sanitizer = Sanitizer::default();
            sanitizer.push(&bytes, &mut whole);
            sanitizer.end_line(&mut whole);
            prop_assert!(whole.chars().all(|c| !c.is_control() || c == '\t' || c == '\n'));

            let plain = Sanitizer::default().passes(&bytes);
            prop_assert!(!plain || whole.as_bytes() == bytes);

            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            let mut parts = String::new();
            let mut sanitizer = Sanitizer::default();
            sanitizer.push(head, &mut parts);
            sanitizer.push(tail, &mut parts);
            sanitizer.end_line(&mut parts);
            prop_assert_eq!(parts, whole);
        }

        #[test]
        fn what_is_narrow_enough_is_not_cut(text in "\\PC{0,20}") {
            prop_assert_eq!(cut(&text, width(&text)), text);
        }

        #[test]
        fn a_cut_text_fits(text in "\\PC{0,40}", max in 0usize..30) {
            prop_assert!(width(&cut(&text, max)) <= max);
        }
    }
}
