//! What a queued run waits for.

use super::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a queued run waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WaitsFor {
    /// A free place: as many run as may.
    Room {
        /// How many may (`[limits] max_parallel`).
        max: u32,
    },
    /// A free place of its pod.
    Pod {
        /// How many of the pod may run at once (`maxParallel`).
        max: u32,
    },
    /// Memory: what it claims does not fit beside what running ones claim, or
    /// one before it waits for that.
    Memory {
        /// Bytes that it claims.
        claims: u64,
    },
    /// Other sessions, which have to succeed first.
    After {
        /// Those that have not ended, by their ids.
        sessions: Vec<String>,
    },
    /// The time when it tries again what failed.
    Retry {
        /// When.
        at: Timestamp,
    },
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room { max } => write!(f, "as many run as may ({max})"),
            Self::Pod { max } => write!(f, "as many of its pod run as may ({max})"),
            Self::Memory { claims } => {
                write!(
                    f,
                    "the memory that it claims ({}) is not free",
                    size(*claims)
                )
            }
            Self::Retry { at } => write!(f, "retry at {at}"),
            Self::After { sessions } => match &sessions[..] {
                [] => f.write_str("what it was to run after did not succeed"),
                sessions => write!(f, "after {}", sessions.join(", ")),
            },
        }
    }
}

fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        Some((unit, name)) if bytes.is_multiple_of(unit) => format!("{} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_in_words() {
        let claims = (3 << 30) / 2;
        for (waits, words) in [
            (WaitsFor::Room { max: 8 }, "as many run as may (8)"),
            (
                WaitsFor::Memory { claims },
                "the memory that it claims (1.5 GiB) is not free",
            ),
            (
                WaitsFor::After {
                    sessions: vec!["a-1".to_owned(), "b-2".to_owned()],
                },
                "after a-1, b-2",
            ),
        ] {
            assert_eq!(waits.to_string(), words);
        }
    }
}
