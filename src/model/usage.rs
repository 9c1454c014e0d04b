//! What agents account for: tokens, money and turns.
//!
//! Agents count in different scopes: since the last result, for a process, for a
//! conversation. Their readers turn that into what is new ([`AgentEvent::Usage`]),
//! so that everybody else just adds up. An [`Account`] is that sum for one run.

use super::agent_event::AgentEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Models that are counted apart in one run; all further ones are [`OTHER`].
const MODELS_MAX: usize = 32;
/// Where models beyond that are counted.
const OTHER: &str = "other";
/// Messages that are remembered as counted. Of a conversation and its sub-agents
/// only the last message of each may still be repeated.
const MESSAGES_MAX: usize = 32;
/// Costs are kept to a billionth of a dollar: sums have no dust of binary fractions.
const PRECISION: f64 = 1e9;

/// Tokens, each counted once, and their price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens of the prompt that were neither read from nor written to a cache.
    #[serde(default)]
    pub input: u64,
    /// Tokens of the answer, thinking included.
    #[serde(default)]
    pub output: u64,
    /// Tokens of the prompt that a cache had.
    #[serde(default)]
    pub cache_read: u64,
    /// Tokens of the prompt that were put into a cache.
    #[serde(default)]
    pub cache_write: u64,
    /// US dollars, where the agent says them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// All tokens.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.input
            .saturating_add(self.output)
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
    }

    /// Nothing was used, and no price was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let cost = match (self.cost_usd, other.cost_usd) {
            (None, cost) | (cost, None) => cost,
            (Some(a), Some(b)) => Some(round(a + b)),
        };
        Self {
            cost_usd: cost,
            ..self.each(other, u64::saturating_add)
        }
    }

    /// What is left of it; nothing is less than none.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let less = |cost: f64| round((cost - other.cost_usd.unwrap_or(0.0)).max(0.0));
        Self {
            cost_usd: self.cost_usd.map(less),
            ..self.each(other, u64::saturating_sub)
        }
    }

    /// Of each the smaller.
    #[must_use]
    pub fn at_most(&self, other: &Self) -> Self {
        let cost = match (self.cost_usd, other.cost_usd) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, _) => a,
        };
        Self {
            cost_usd: cost,
            ..self.each(other, u64::min)
        }
    }

    /// Whether no number of tokens is smaller than that of `other`.
    #[must_use]
    pub const fn covers(&self, other: &Self) -> bool {
        self.input >= other.input
            && self.output >= other.output
            && self.cache_read >= other.cache_read
            && self.cache_write >= other.cache_write
    }

    fn each(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            input: with(self.input, other.input),
            output: with(self.output, other.output),
            cache_read: with(self.cache_read, other.cache_read),
            cache_write: with(self.cache_write, other.cache_write),
            cost_usd: None,
        }
    }
}

/// Usage by model; an agent that names none has the empty name.
pub type ByModel = BTreeMap<String, Usage>;

/// The sum over all models.
#[must_use]
pub fn sum(models: &ByModel) -> Usage {
    let add = |sum: Usage, usage: &Usage| sum.plus(usage);
    models.values().fold(Usage::default(), add)
}

/// What an agent accounted for in one run, folded from its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Turns, by the agent's count.
    #[serde(default)]
    pub turns: u64,
    /// What was used, by model.
    #[serde(default)]
    pub models: ByModel,
    /// Lines that should have been events and could not be read.
    #[serde(default)]
    pub malformed: u64,
    /// What `models` was when the agent last reported a result.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settled: ByModel,
    /// Ids of the messages that were counted since, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}

impl Account {
    /// Nothing was accounted for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was used in all.
    #[must_use]
    pub fn total(&self) -> Usage {
        sum(&self.models)
    }

    /// What was used since the last result.
    #[must_use]
    pub fn since_result(&self) -> Usage {
        self.total().minus(&sum(&self.settled))
    }

    /// Whether a message was counted.
    #[must_use]
    pub fn has_counted(&self, message: &str) -> bool {
        self.messages.iter().any(|counted| counted == message)
    }

    /// Takes an event; says whether it changed anything.
    pub fn take(&mut self, event: &AgentEvent) -> bool {
        match event {
            AgentEvent::Usage {
                model,
                usage,
                message,
                ..
            } => {
                let mut name = model.as_deref().unwrap_or_default();
                if !self.models.contains_key(name) && self.models.len() >= MODELS_MAX {
                    name = OTHER;
                }
                let slot = self.models.entry(name.to_owned()).or_default();
                *slot = slot.plus(usage);
                if let Some(message) = message {
                    if self.messages.len() == MESSAGES_MAX {
                        self.messages.remove(0);
                    }
                    self.messages.push(message.clone());
                }
                true
            }
            AgentEvent::Result { turns, .. } => {
                self.turns = self.turns.saturating_add(turns.unwrap_or(0));
                self.settled.clone_from(&self.models);
                self.messages.clear();
                true
            }
            AgentEvent::Unknown { malformed, .. } => {
                self.malformed += u64::from(*malformed);
                *malformed
            }
            AgentEvent::Init { .. }
            | AgentEvent::Heard { .. }
            | AgentEvent::Dropped { .. }
            | AgentEvent::Text { .. }
            | AgentEvent::Thinking { .. }
            | AgentEvent::ToolUse { .. }
            | AgentEvent::ToolResult { .. }
            | AgentEvent::Retry { .. }
            | AgentEvent::Limit { .. }
            | AgentEvent::PermissionDenied { .. } => false,
        }
    }
}

fn round(cost: f64) -> f64 {
    (cost * PRECISION).round() / PRECISION
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_usage() -> impl Strategy<Value = Usage> {
        let small = 0u64..1000;
        (
            small.clone(),
            small.clone(),
            small.clone(),
            small,
            prop::option::of(0u32..1000),
        )
            .prop_map(|(input, output, cache_read, cache_write, cost)| Usage {
                input,
                output,
                cache_read,
                cache_write,
                cost_usd: cost.map(|cents| f64::from(cents) / 100.0),
            })
    }

    fn of(model: &str, usage: Usage, message: Option<&str>) -> AgentEvent {
        AgentEvent::Usage {
            model: Some(model.to_owned()),
            usage,
            parent: None,
            message: message.map(str::to_owned),
        }
    }

    proptest! {
        #[test]
        fn what_is_added_can_be_taken_away(a in any_usage(), b in any_usage()) {
            let sum = a.plus(&b);
            prop_assert!(sum.covers(&a) && sum.covers(&b));
            prop_assert_eq!(sum.minus(&b).tokens(), a.tokens());
            prop_assert_eq!(sum.tokens(), a.tokens() + b.tokens());
            let left = sum.minus(&b).cost_usd.unwrap_or(0.0);
            prop_assert!((left - a.cost_usd.unwrap_or(0.0)).abs() < 1e-9);
            prop_assert!(a.covers(&a.at_most(&b)) && b.covers(&a.at_most(&b)));
        }

        #[test]
        fn an_account_survives_json_and_stays_small(
            list in prop::collection::vec((any_usage(), "[a-z]{1,3}", "[a-z]{1,3}"), 0..80)
        ) {
            let mut account = Account::default();
            let mut all = Usage::default();
            for (usage, model, message) in &list {
                all = all.plus(usage);
                prop_assert!(account.take(&of(model, *usage, Some(message))));
            }
            prop_assert_eq!(account.total().tokens(), all.tokens());
            prop_assert!(account.models.len() <= MODELS_MAX + 1);
            prop_assert!(account.messages.len() <= MESSAGES_MAX);
            let json = serde_json::to_string(&account)?;
            prop_assert_eq!(serde_json::from_str::<Account>(&json)?, account);
        }
    }

    #[test]
    fn dust_of_fractions_is_not_kept() {
        let price = |cost| Usage {
            cost_usd: Some(cost),
            ..Usage::default()
        };
        let sum = price(0.1).plus(&price(0.2));
        assert_eq!(sum.cost_usd, Some(0.3));
        assert_eq!(sum.minus(&price(0.1)).cost_usd, Some(0.2));
        assert_eq!(price(0.1).minus(&price(0.3)).cost_usd, Some(0.0));
    }
}
