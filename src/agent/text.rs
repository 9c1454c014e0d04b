//! Words that agents say, made short enough to be kept beside their lines.

use super::json::{self, Raw};
use crate::model::Outcome;

/// A text is kept up to so many bytes; the raw line has all of it.
pub(super) const TEXT_MAX: usize = 4096;
/// Longest name of anything.
pub(super) const NAME_MAX: usize = 200;
/// Longest summary of a tool's use, in bytes.
pub(super) const SUMMARY_MAX: usize = 120;
/// A tool's input is kept up to so many bytes.
const INPUT_MAX: usize = 1024;

/// At most `max` bytes of `text`, whole characters, with a mark where it was cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}…", head(text, max.saturating_sub('…'.len_utf8())))
}

/// The whole characters of the first `max` bytes.
pub(super) fn head(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The first `max` bytes of `text`, and the rest of the character that they end in.
pub(super) fn head_over(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    &text[..end]
}

/// A text of a line, cut to be kept.
pub(super) fn said(value: Raw<'_>) -> String {
    json::text(value).map_or_else(String::new, |text| cut(&text, TEXT_MAX))
}

/// A name in a line.
pub(super) fn name(value: Raw<'_>) -> Option<String> {
    json::text(value).map(|text| cut(&text, NAME_MAX))
}

/// A conversation's id, if it can be given back as an argument.
pub(super) fn conversation(value: Raw<'_>) -> Option<String> {
    let id = json::text(value)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let usable = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.len() <= 128
        && id.chars().all(legal);
    usable.then(|| id.into_owned())
}

/// What a tool is used for, in one line.
pub(super) fn summary(tool: &str, input: Raw<'_>) -> String {
    let keys: &[&str] = match tool.to_ascii_lowercase().as_str() {
        "bash" | "shell" | "run_shell_command" | "command_execution" => &["command"],
        "read" | "edit" | "write" | "multiedit" | "notebookedit" | "read_file" | "write_file"
        | "replace" => &[
            "file_path",
            "filePath",
            "notebook_path",
            "absolute_path",
            "path",
        ],
        "glob" | "grep" | "search_file_content" => &["pattern"],
        "agent" | "task" => &["description"],
        "askuserquestion" | "exitplanmode" => {
            return one_line(
                input.map(|input| input.get()).unwrap_or_default(),
                SUMMARY_MAX,
            );
        }
        _ => &[],
    };
    let any = [
        "description",
        "query",
        "prompt",
        "path",
        "url",
        "command",
        "pattern",
    ];
    let mut keys = keys.iter().chain(&any);
    let found = keys.find_map(|key| json::text(json::at(input, &[key])));
    one_line(&found.unwrap_or_default(), SUMMARY_MAX)
}

/// A tool's input, where it is short enough to be kept.
pub(super) fn input(value: Raw<'_>) -> Option<String> {
    let json = value?.get();
    (json.len() <= INPUT_MAX && json != "{}").then(|| json.to_owned())
}

/// The words of a text with single spaces between them, cut.
pub(super) fn one_line(text: &str, max: usize) -> String {
    // Enough to fill the line even if much of it is white space.
    let mut line = String::new();
    for word in head(text, max * 40).split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > max {
            break;
        }
    }
    cut(&line, max)
}

/// Bytes of text in a tool's result: a text, or a list of parts that have one.
pub(super) fn size(content: Raw<'_>) -> u64 {
    if let Some(text) = json::text(content) {
        return text.len() as u64;
    }
    let parts = json::items(content);
    let size = |part: &&serde_json::value::RawValue| {
        json::text(json::at(Some(part), &["text"])).map_or(0, |text| text.len() as u64)
    };
    parts.iter().map(size).sum()
}

/// Whether a request with such an answer may be tried again.
pub(super) const fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}

/// What an error message of a model's provider means: agents that have no field
/// for the HTTP status say it in words.
pub(super) fn api_error(message: &str, status: Option<u64>) -> Outcome {
    let status = status.and_then(|status| u16::try_from(status).ok());
    let status = status.or_else(|| status_in(message));
    if let Some(status) = status.filter(|status| *status >= 400) {
        return Outcome::ApiError {
            status: Some(status),
            retryable: is_retryable(status),
        };
    }
    let lower = message.to_lowercase();
    let broken = [
        "stream disconnected",
        "connection",
        "timed out",
        "timeout",
        "econnre",
        "fetch failed",
        "error sending request",
        "api error: terminated",
        "overloaded",
        "high demand",
    ];
    if broken.iter().any(|word| lower.contains(word)) {
        return Outcome::ApiError {
            status: None,
            retryable: true,
        };
    }
    Outcome::Failed
}

/// The HTTP status of a failure that a message names: `status 429`, `last status: 500`,
/// `{"code":401`.
fn status_in(message: &str) -> Option<u16> {
    let lower = message.to_ascii_lowercase();
    let named = lower.match_indices("status");
    let mut named = named.chain(lower.match_indices("\"code\":"));
    named.find_map(|(at, word)| {
        let after = lower.get(at + word.len()..)?;
        let after = after.trim_start_matches(|c: char| {
            c.is_ascii_whitespace() || matches!(c, ':' | '"' | '=' | '(' | '_')
        });
        let after = after.strip_prefix("code").unwrap_or(after);
        let after = after.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let end = after.find(|c: char| !c.is_ascii_digit());
        let digits = after.get(..end.unwrap_or(after.len()))?;
        let status = digits.parse().ok()?;
        (400..600).contains(&status).then_some(status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_found_in_words() {
        for (message, status) in [
            ("unexpected status 401 Unauthorized: x", Some(401)),
            (
                "exceeded retry limit, last status: 429 Too Many Requests",
                Some(429),
            ),
            (r#"{"statusCode":500}"#, Some(500)),
            ("got status: 503. x", Some(503)),
            ("status 200", None),
            ("status unknown", None),
            ("401", None),
            ("status", None),
        ] {
            assert_eq!(status_in(message), status, "{message}");
        }
        let cut_off = api_error("stream disconnected before completion: x", None);
        assert_eq!(
            cut_off,
            Outcome::ApiError {
                status: None,
                retryable: true
            }
        );
        let words = [
            "[API Error: terminated]",
            "We’re currently experiencing high demand, which may cause temporary errors.",
        ];
        for words in words {
            assert_eq!(api_error(words, None), cut_off);
        }
        let in_json = r#"[API Error: {"error":{"code":401,"status":"UNAUTHENTICATED"}}]"#;
        assert_eq!(
            api_error(in_json, None),
            Outcome::ApiError {
                status: Some(401),
                retryable: false
            }
        );
        assert_eq!(api_error("no such file", None), Outcome::Failed);
        let asked = api_error("x", Some(400));
        assert_eq!(
            asked,
            Outcome::ApiError {
                status: Some(400),
                retryable: false
            }
        );
    }

    #[test]
    fn summaries_are_one_line_cut_between_characters() {
        let of =
            |tool: &str, input: &str| summary(tool, Some(serde_json::from_str(input).unwrap()));
        assert_eq!(
            of("Bash", r#"{"description":"d","command":"a\n  b"}"#),
            "a b"
        );
        assert_eq!(of("read", r#"{"filePath":"/x"}"#), "/x");
        assert_eq!(of("WebFetch", r#"{"url":"u","prompt":"p"}"#), "p");
        assert_eq!(of("ExitPlanMode", r#"{"plan": "p"}"#), r#"{"plan": "p"}"#);
        assert_eq!(of("Odd", "[1]"), "");
        let long = of("Bash", &format!(r#"{{"command":"{}"}}"#, "é".repeat(500)));
        assert!(long.len() <= SUMMARY_MAX && long.ends_with('…'), "{long}");
    }
}
