//! How far an agent may go: turns, money, silence, further tries.
//!
//! Unlike [`Limits`](super::spec::Limits), which the engine keeps, these are for
//! cldpd to keep, or for the agent where it can. What is absent is not limited by
//! whoever left it out; 0 is no limit, over one that stands behind it.

use super::retry::RETRIES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// US dollars to a billionth, as a limit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64")]
pub struct Dollars(u64);

/// Billionths.
const ONE: f64 = 1e9;
/// Nobody means more.
const DOLLARS_MAX: f64 = 1e6;

impl Dollars {
    /// That many.
    ///
    /// # Errors
    /// [`NoAmount`] for what is no amount of money.
    pub fn new(amount: f64) -> Result<Self, NoAmount> {
        if !(0.0..=DOLLARS_MAX).contains(&amount) {
            return Err(NoAmount);
        }
        Ok(Self((amount * ONE).round() as u64))
    }

    /// As a number.
    #[must_use]
    pub fn amount(self) -> f64 {
        self.0 as f64 / ONE
    }

    /// What is left of it; nothing is less than none.
    #[must_use]
    pub fn less(self, spent: f64) -> Self {
        Self(self.0.saturating_sub((spent * ONE).round() as u64))
    }

    /// Nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// It is no amount of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number of US dollars from 0 to a million")]
pub struct NoAmount;

impl TryFrom<f64> for Dollars {
    type Error = NoAmount;

    fn try_from(amount: f64) -> Result<Self, NoAmount> {
        Self::new(amount)
    }
}

impl From<Dollars> for f64 {
    fn from(dollars: Dollars) -> Self {
        dollars.amount()
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.amount().to_string();
        let places = plain.split_once('.').map_or(0, |(_, places)| places.len());
        match places {
            0..=2 => write!(f, "${:.2}", self.amount()),
            _ => write!(f, "${plain}"),
        }
    }
}

/// How far an agent may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bounds {
    /// Turns of one prompt: answers of the model, each with the tools that it asks for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// US dollars of the whole session, by the agent's own prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<Dollars>,
    /// Seconds that a run may say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<u32>,
    /// How often a run is tried again that failed because its API did not answer; at
    /// most 10 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

impl Bounds {
    /// What is said here, and for the rest what is said behind it.
    #[must_use]
    pub fn over(self, behind: Self) -> Self {
        Self {
            max_turns: self.max_turns.or(behind.max_turns),
            max_cost: self.max_cost.or(behind.max_cost),
            idle_timeout: self.idle_timeout.or(behind.idle_timeout),
            retries: self.retries.or(behind.retries),
        }
    }

    /// Nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Turns, where they are limited.
    #[must_use]
    pub fn turns(&self) -> Option<u32> {
        self.max_turns.filter(|turns| *turns > 0)
    }

    /// Money, where it is limited.
    #[must_use]
    pub fn cost(&self) -> Option<Dollars> {
        self.max_cost.filter(|cost| !cost.is_zero())
    }

    /// How often it is tried again.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(0).min(RETRIES_MAX)
    }

    /// Seconds of silence, where they are limited.
    #[must_use]
    pub fn silence(&self) -> Option<u32> {
        self.idle_timeout.filter(|seconds| *seconds > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_nothing_else_is_one() {
        for (amount, shown) in [
            (5.0, "$5.00"),
            (0.5, "$0.50"),
            (0.015, "$0.015"),
            (12.25, "$12.25"),
        ] {
            let dollars = Dollars::new(amount).unwrap();
            assert_eq!(dollars.to_string(), shown);
            let json = serde_json::to_string(&dollars).unwrap();
            assert_eq!(serde_json::from_str::<Dollars>(&json).unwrap(), dollars);
        }
        let left = Dollars::new(0.3).unwrap().less(0.1);
        assert_eq!(left, Dollars::new(0.2).unwrap());
        assert!(left.less(7.0).is_zero());
        for no in [-1.0, f64::NAN, f64::INFINITY, 2e6] {
            assert_eq!(Dollars::new(no), Err(NoAmount));
        }
        assert!(serde_json::from_str::<Dollars>("-1").is_err());
    }

    #[test]
    fn what_is_said_first_holds_and_zero_is_no_limit() {
        let pod = Bounds {
            max_turns: Some(3),
            idle_timeout: Some(60),
            ..Bounds::default()
        };
        let flags = Bounds {
            max_turns: Some(0),
            ..Bounds::default()
        };
        let both = flags.over(pod);
        assert_eq!((both.turns(), both.silence()), (None, Some(60)));
        assert_eq!(both.max_turns, Some(0));
        assert!(!both.is_empty() && Bounds::default().is_empty());
    }
}
