//! Flags that say how far an agent may go.

use super::error::usage;
use super::time::parse_duration;
use crate::model::retry::RETRIES_MAX;
use crate::model::{Bounds, Dollars, Result};

/// How far an agent may go.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct BoundsArgs {
    /// Stop a run that takes more turns; 0 for no limit
    #[arg(long, value_name = "N")]
    max_turns: Option<u32>,
    /// Stop a session that costs more, all its runs together; 0 for no limit
    #[arg(long, value_name = "USD")]
    max_cost: Option<String>,
    /// Stop a run that says nothing for so long, such as 20m; 0 for no limit
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<String>,
    /// Try a run again, so often at most, when its API did not answer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(RETRIES_MAX)))]
    retries: Option<u32>,
}

impl BoundsArgs {
    /// What was said.
    ///
    /// # Errors
    /// `usage` for what is no amount of money, and no duration.
    pub fn read(&self) -> Result<Bounds> {
        let silence = self.idle_timeout.as_deref();
        Ok(Bounds {
            max_turns: self.max_turns,
            max_cost: self.max_cost.as_deref().map(cost).transpose()?,
            idle_timeout: silence
                .map(|text| seconds("--idle-timeout", text))
                .transpose()?,
            retries: self.retries,
        })
    }
}

/// Reads a duration, in seconds; 0 is none.
///
/// # Errors
/// `usage`, naming the flag.
pub fn seconds(flag: &str, text: &str) -> Result<u32> {
    if text == "0" {
        return Ok(0);
    }
    let seconds = parse_duration(text)?.as_secs();
    u32::try_from(seconds).map_err(|_| usage(format!("{flag} {text} is longer than 136 years")))
}

fn cost(text: &str) -> Result<Dollars> {
    let amount = text.strip_prefix('$').unwrap_or(text).parse();
    let cost = amount.ok().and_then(|amount| Dollars::new(amount).ok());
    cost.ok_or_else(|| {
        usage(format!(
            "--max-cost '{text}' is no number of US dollars such as 2.5"
        ))
    })
}
