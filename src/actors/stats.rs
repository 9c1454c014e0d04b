//! What agents used, added up over runs.

use super::directory::Choice;
use super::handle::{Handle, blocking};
use super::view;
use crate::model::api::{StatsBy, StatsQuery, StatsRow};
use crate::model::session::RunRecord;
use crate::model::{Outcome, Result, RunState, SessionRecord, Timestamp, Usage};
use std::collections::BTreeMap;

impl Handle {
    /// What the runs come to that are asked for: a row for each key, in the
    /// keys' order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn stats(&self, query: StatsQuery) -> Result<Vec<StatsRow>> {
        let shared = self.shared.clone();
        blocking(move || {
            let now = Timestamp::now();
            let chosen = shared.directory.select(&Choice {
                pod: query.pod.as_deref(),
                labels: &query.label,
                ..Choice::default()
            });
            let mut rows = Rows::default();
            if query.by == StatsBy::Total {
                rows.of("total");
            }
            for ulid in chosen {
                match shared.reader.session(ulid) {
                    Ok(Some(record)) => rows.add(&record, &query, now),
                    Ok(None) => {}
                    // It is told by `doctor`; the others count all the same.
                    Err(error) if error.damaged_session().is_some() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(rows.0.into_values().collect())
        })
        .await
    }
}

#[derive(Default)]
struct Rows(BTreeMap<String, StatsRow>);

impl Rows {
    fn of(&mut self, key: &str) -> &mut StatsRow {
        let row = self.0.entry(key.to_owned()).or_default();
        if row.key.is_empty() {
            key.clone_into(&mut row.key);
        }
        row
    }

    fn add(&mut self, record: &SessionRecord, query: &StatsQuery, now: Timestamp) {
        let mut keys = Vec::new();
        for run in &record.runs {
            let Some(began) = run.started else { continue };
            let early = query.since.is_some_and(|since| began < since);
            if early || query.until.is_some_and(|until| began > until) {
                continue;
            }
            for (key, usage, turns) in parts(record, run, began, query.by) {
                let row = self.of(&key);
                row.runs += 1;
                row.turns += turns;
                row.usage = row.usage.plus(&usage);
                let end = match &run.state {
                    RunState::Ended { at, outcome, .. } => {
                        row.succeeded += u64::from(*outcome == Outcome::Success);
                        *at
                    }
                    RunState::Live { .. } => {
                        row.live += 1;
                        now
                    }
                };
                row.seconds += end.since(began).as_secs_f64();
                if !keys.contains(&key) {
                    row.sessions += 1;
                    keys.push(key);
                }
            }
        }
    }
}

/// Where a run is counted, with what of it.
fn parts(
    record: &SessionRecord,
    run: &RunRecord,
    began: Timestamp,
    by: StatsBy,
) -> Vec<(String, Usage, u64)> {
    let key = match by {
        StatsBy::Total => "total".to_owned(),
        StatsBy::Day => began.to_string().chars().take("2026-01-31".len()).collect(),
        StatsBy::Pod => record.pod.to_string(),
        StatsBy::Agent => record.agent.to_string(),
        StatsBy::Model if run.account.models.is_empty() => String::new(),
        StatsBy::Model => {
            let models = run.account.models.iter();
            return models
                .map(|(model, usage)| (model.clone(), *usage, 0))
                .collect();
        }
    };
    let turns = match by {
        StatsBy::Model => 0,
        StatsBy::Total | StatsBy::Day | StatsBy::Pod | StatsBy::Agent => run.account.turns,
    };
    vec![(key, view::used_in(run), turns)]
}
