//! Durations and points in time, as people write and read them.

use crate::model::{Error, ErrorCode, Result, Timestamp, units};
use std::time::Duration;

/// Reads `90s`, `15m`, `2h`, `7d`, `2w`, and several in a row as in `1h30m`.
///
/// # Errors
/// `usage`, with what is understood.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let seconds = units::parse_duration(text).ok_or_else(|| {
        Error::new(
            ErrorCode::Usage,
            format!("'{}' is not a duration", text.escape_debug()),
        )
        .hint("write a number with a unit: 90s, 15m, 2h, 7d, 1h30m")
    })?;
    Ok(Duration::from_secs(seconds))
}

/// Reads a point in time: RFC 3339, a date (its beginning in UTC), or a
/// duration, which means so long before `now`.
///
/// # Errors
/// `usage`, with what is understood.
pub fn parse_when(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(ago) = parse_duration(text) {
        let nanos = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
        return Ok(Timestamp(now.0.saturating_sub(nanos)));
    }
    Timestamp::parse(text)
        .or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z")))
        .map_err(|_| {
            Error::new(
                ErrorCode::Usage,
                format!("'{}' is neither a time nor a duration", text.escape_debug()),
            )
            .hint("write 2026-11-21T07:41:00Z, 2026-11-21, or how long ago: 90s, 15m, 2h, 7d")
        })
}

/// A duration in one short word: `42s`, `4m`, `2h`, `3d`.
#[must_use]
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago something was: `4m ago`.
#[must_use]
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", short(now.since(then)))
}

/// A number as a place in a row: `1st`, `2nd`, `3rd`, `11th`.
#[must_use]
pub fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() -> Result<()> {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("2h", 7200),
            ("7d", 604_800),
            ("1h30m", 5400),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text)?,
                Duration::from_secs(seconds),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "5 m",
            "1.5h",
            "5x",
            "99999999999999999999s",
            "9999999999999999w",
            "5mé",
        ] {
            assert_eq!(
                parse_duration(text).map_err(|e| e.code),
                Err(ErrorCode::Usage),
                "{text}"
            );
        }
        Ok(())
    }

    #[test]
    fn times_are_read() -> Result<()> {
        let now = Timestamp::parse("2026-11-21T12:00:00Z")
            .map_err(|e| Error::new(ErrorCode::Internal, e))?;
        let at = |text| parse_when(text, now).map(|t| t.to_string());
        assert_eq!(at("2h")?, "2026-11-21T10:00:00.000000000Z");
        assert_eq!(at("2026-11-20")?, "2026-11-20T00:00:00.000000000Z");
        assert_eq!(
            at("2026-11-20T01:00:00+01:00")?,
            "2026-11-20T00:00:00.000000000Z"
        );
        for text in ["yesterday", "", "2026-13-01", "0000-00-00"] {
            assert!(at(text).is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (7200, "2h"),
            (100_000, "27h"),
            (172_800, "2d"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21, 112].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 21st 112th"
        );
    }
}
