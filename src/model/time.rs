//! Points in time, as they are recorded.

use chrono::DateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::Duration;

/// Nanoseconds since 1970-01-01T00:00:00Z.
///
/// Written as RFC 3339 in UTC with nanoseconds. The model never reads the
/// clock: whoever stands at an edge does, and passes the time in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock, read now. Only the edges (daemon, command line, tests) call this.
    #[must_use]
    pub fn now() -> Self {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let now = Self(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX));
        #[cfg(feature = "failpoints")]
        let now = Self(now.0.saturating_add(crate::failpoint::clock()));
        now
    }

    /// The same moment, later by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was, zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// Parses RFC 3339.
    ///
    /// # Errors
    /// When `text` is no RFC 3339 time, or lies outside the years 1678 to 2261.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|e| e.to_string())?;
        parsed
            .timestamp_nanos_opt()
            .map(Self)
            .ok_or_else(|| "the year is out of range".to_owned())
    }

    /// Milliseconds since the epoch, as a ULID carries them.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0 / 1_000_000).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each line of a log may begin with one, so that this is done by hand.
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let mut put = |range: std::ops::Range<usize>, mut value: u64| {
            for at in range.rev() {
                text[at] = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        let seconds = self.0.div_euclid(1_000_000_000);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400) as u64;
        put(0..4, year);
        put(5..7, month);
        put(8..10, day);
        put(11..13, of_day / 3_600);
        put(14..16, of_day / 60 % 60);
        put(17..19, of_day % 60);
        put(20..29, self.0.rem_euclid(1_000_000_000) as u64);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// The date so many days after 1 January 1970, in the Gregorian calendar: counted
/// from 1 March of the year 0, so that a leap day is the last of its year.
const fn civil(days: i64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = years + era * 400 + (month <= 2) as i64;
    (year as u64, month as u64, day as u64)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{SecondsFormat, Utc};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_time_is_written_as_rfc_3339_has_it(time: i64) {
            let theirs: DateTime<Utc> = DateTime::from_timestamp_nanos(time);
            let text = Timestamp(time).to_string();
            prop_assert_eq!(&text, &theirs.to_rfc3339_opts(SecondsFormat::Nanos, true));
            prop_assert_eq!(Timestamp::parse(&text), Ok(Timestamp(time)));
        }
    }
}
