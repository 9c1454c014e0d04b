//! What a script's words mean.

use crate::{sys, voice};
use std::io;
use std::time::Duration;

/// What stands between `[[` and `]]`.
pub fn directives(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let find = |text: &[u8], pair: &[u8]| text.windows(2).position(|w| w == pair);
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = find(rest, b"[[")? + 2;
        let end = start + find(&rest[start..], b"]]")?;
        let directive = &rest[start..end];
        rest = &rest[end + 2..];
        Some(directive)
    })
}

pub fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// The word at `n` of a directive's arguments, as a number.
pub fn count(words: &[&str], n: usize) -> io::Result<u64> {
    let word = words.get(n).and_then(|word| word.parse().ok());
    word.ok_or_else(|| bad("a number is missing or wrong"))
}

pub fn pause(words: &[&str], n: usize) -> io::Result<Duration> {
    count(words, n).map(Duration::from_millis)
}

pub fn sig(words: &[&str], n: usize) -> io::Result<i32> {
    let number = words.get(n).and_then(|name| sys::number(name));
    number.ok_or_else(|| bad("a signal is missing or unknown"))
}

/// `label 0000042`, padded to `length` bytes.
pub fn numbered(line: &mut Vec<u8>, label: &str, n: u64, length: usize) {
    line.extend_from_slice(label.as_bytes());
    line.push(b' ');
    let mut digits = [b'0'; 20];
    let (mut rest, mut first) = (n, 20);
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line.extend_from_slice(&digits[first.min(13)..]);
    let padding = length.saturating_sub(line.len());
    line.extend(b" abcdefghijklmnopqrstuvwxyz".iter().cycle().take(padding));
    line.push(b'\n');
}

pub fn hex(text: &str) -> io::Result<Vec<u8>> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    if digits.len() % 2 != 0 || text.chars().any(|c| !c.is_ascii_hexdigit() && c != ' ') {
        return Err(bad("has to be pairs of hexadecimal digits"));
    }
    Ok(digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect())
}

pub fn fnv(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

pub fn is_uuid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

pub fn result(text: &str) -> io::Result<voice::Result> {
    let mut result = voice::Result::default();
    let (keys, last) = match text.find("text=") {
        Some(at) => (&text[..at], Some(text[at + "text=".len()..].to_owned())),
        None => (text, None),
    };
    result.text = last;
    for pair in keys.split_whitespace() {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| bad("has to be KEY=VALUE"))?;
        let some = Some(value.to_owned());
        match key {
            "subtype" => result.subtype = some,
            "is_error" => result.is_error = Some(value == "true"),
            "terminal_reason" => result.terminal_reason = some,
            "api_error_status" => result.api_error_status = some,
            "stop_reason" => result.stop_reason = some,
            _ => return Err(bad("no such key")),
        }
    }
    Ok(result)
}
