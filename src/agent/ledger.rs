//! From what an agent states, in whatever scope, to what is new.

use super::Before;
use crate::model::usage::{ByModel, sum};
use crate::model::{Account, AgentEvent, Usage};

/// What a run's reader has told so far, and what was used before the run.
pub(super) struct Ledger {
    earlier: ByModel,
    account: Account,
    /// The model that is at work, as far as is known.
    pub(super) model: Option<String>,
}

impl Ledger {
    pub(super) fn new(before: Before) -> Self {
        Self {
            earlier: before.earlier,
            account: before.account,
            model: before.model,
        }
    }

    /// Tells an event.
    pub(super) fn say(&mut self, event: AgentEvent, events: &mut Vec<AgentEvent>) {
        self.account.take(&event);
        events.push(event);
    }

    /// Whether a message's usage was told.
    pub(super) fn has_counted(&self, message: &str) -> bool {
        self.account.has_counted(message)
    }

    /// Tells what is new, where the agent states all that was used since its last result.
    pub(super) fn settle(&mut self, since: &ByModel, events: &mut Vec<AgentEvent>) {
        let counted = beyond(&self.account.models, &self.account.settled);
        for (model, usage) in beyond(since, &counted) {
            let event = AgentEvent::Usage {
                model: Some(model).filter(|model| !model.is_empty()),
                usage,
                parent: None,
                message: None,
            };
            self.say(event, events);
        }
    }

    /// What was told since the last result.
    pub(super) fn since_result(&self) -> Option<Usage> {
        Some(self.account.since_result()).filter(|usage| !usage.is_empty())
    }

    /// What was used since the last result, where the agent states the whole: of its
    /// process, or, in some versions, of the conversation with all that earlier runs
    /// used. `turn` is what it states of the last turn alone: a whole that is not
    /// even that more than what was before does not go on from there.
    pub(super) fn since_of_whole(&self, whole: &ByModel, turn: Option<&Usage>) -> ByModel {
        let settled = &self.account.settled;
        let mut both = self.earlier.clone();
        add(&mut both, settled);
        let least = sum(&both).plus(&turn.copied().unwrap_or_default());
        let continues = !self.earlier.is_empty() && sum(whole).covers(&least);
        beyond(whole, if continues { &both } else { settled })
    }

    /// What was used since the last result, where the agent states what its process used.
    pub(super) fn since_of_process(&self, whole: &ByModel) -> ByModel {
        beyond(whole, &self.account.settled)
    }

    /// What the model at work used, as the whole of a [`ByModel`].
    pub(super) fn of_model(&self, usage: Usage) -> ByModel {
        let model = self.model.clone().unwrap_or_default();
        ByModel::from([(model, usage)])
    }

    /// What a price comes to since the last result; `continues` says that it goes on
    /// from earlier runs, where it can.
    pub(super) fn price_since(&self, price: f64, continues: bool) -> f64 {
        let cost = |models: &ByModel| sum(models).cost_usd.unwrap_or(0.0);
        let settled = cost(&self.account.settled);
        let both = settled + cost(&self.earlier);
        let base = if continues && price >= both {
            both
        } else {
            settled
        };
        (price - base).max(0.0)
    }
}

/// Adds `more` to `models`.
pub(super) fn add(models: &mut ByModel, more: &ByModel) {
    for (model, usage) in more {
        let slot = models.entry(model.clone()).or_default();
        *slot = slot.plus(usage);
    }
}

/// What is stated beyond what was counted, by model, and never more than that in
/// all: a model may have been counted under another of its names.
fn beyond(stated: &ByModel, counted: &ByModel) -> ByModel {
    let mut left = sum(stated).minus(&sum(counted));
    let mut new = ByModel::new();
    for (model, usage) in stated {
        let known = counted.get(model).copied().unwrap_or_default();
        let more = usage.minus(&known).at_most(&left);
        left = left.minus(&more);
        if more.tokens() > 0 || more.cost_usd.is_some_and(|cost| cost > 0.0) {
            new.insert(model.clone(), more);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str, input: u64, output: u64, cost: Option<f64>) -> ByModel {
        let usage = Usage {
            input,
            output,
            cost_usd: cost,
            ..Usage::default()
        };
        ByModel::from([(model.to_owned(), usage)])
    }

    #[test]
    fn what_was_counted_under_another_name_is_not_counted_again() {
        let new = beyond(&of("b", 120, 30, Some(0.5)), &of("a", 100, 1, None));
        assert_eq!(new, of("b", 20, 29, Some(0.5)));
        assert!(beyond(&of("b", 90, 1, None), &of("a", 100, 1, None)).is_empty());
    }

    #[test]
    fn a_whole_is_taken_for_what_it_can_be() {
        let before = Before {
            earlier: of("m", 1000, 100, Some(1.0)),
            ..Before::default()
        };
        let ledger = Ledger::new(before);
        let turn = Usage {
            input: 400,
            output: 40,
            ..Usage::default()
        };
        let continues = ledger.since_of_whole(&of("m", 1400, 140, Some(1.4)), Some(&turn));
        assert_eq!(continues, of("m", 400, 40, Some(0.4)));
        let begins = ledger.since_of_whole(&of("m", 400, 40, Some(0.4)), Some(&turn));
        assert_eq!(begins, of("m", 400, 40, Some(0.4)));
        assert!((ledger.price_since(1.4, true) - 0.4).abs() < 1e-9);
        assert!((ledger.price_since(0.4, true) - 0.4).abs() < 1e-9);
        assert!((ledger.price_since(1.4, false) - 1.4).abs() < 1e-9);
    }
}
