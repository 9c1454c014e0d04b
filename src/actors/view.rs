//! Records as the API shows them.

use super::admission::Waits;
use super::context::Shared;
use super::directory;
use crate::model::api::{ListQuery, RunEnd, SessionView};
use crate::model::run::Phase;
use crate::model::{
    AgentEvent, Error, ErrorCode, Outcome, RunRecord, RunState, SessionRecord, Usage, WaitsFor,
};

/// A session as `sessions` shows it.
pub(super) fn session(
    record: &SessionRecord,
    waits: Option<&Waits>,
    shared: &Shared,
) -> SessionView {
    let current = record.current_run();
    let ended = current.and_then(end);
    let state = state(record);
    let ended_at = current.and_then(|run| match &run.state {
        RunState::Ended { at, .. } => Some(*at),
        RunState::Live { .. } => None,
    });
    let used = used(record);
    let waits = waits.filter(|_| state == "queued");
    let retry = current.and_then(|run| run.retry.as_ref());
    let retries = retry.map(|retry| WaitsFor::Retry { at: retry.after });
    SessionView {
        id: record.id.clone(),
        ulid: record.ulid,
        name: record.name.clone(),
        pod: record.pod.clone(),
        runtime: record.runtime,
        agent: record.agent,
        state: state.to_owned(),
        outcome: ended.as_ref().map(|end| end.outcome.clone()),
        code: ended.as_ref().and_then(|end| end.code),
        error: ended.and_then(|end| end.error),
        degraded: record.is_live().then(|| shared.degraded()).flatten(),
        position: waits.and_then(Waits::place),
        waits_for: waits
            .map(|waits| waits.shown(&shared.directory))
            .or_else(|| retries.filter(|_| state == "queued")),
        runs: u32::try_from(record.runs.len()).unwrap_or(u32::MAX),
        run: current.map_or(0, |run| run.number),
        created: record.created,
        started: current.and_then(|run| run.started),
        ended: ended_at,
        cost_usd: used.and_then(|used| used.cost_usd),
        usage: used,
        waiting_limit: current.and_then(|run| run.limit.clone()),
        turns: record.runs.iter().map(|run| run.account.turns).sum(),
        container: current
            .and_then(|run| run.state.place())
            .map(|place| place.container.clone()),
        image: current.and_then(|run| run.image.clone()),
        agent_session: record.agent_sessions.last().cloned(),
        prompt: record
            .runs
            .first()
            .map(|run| run.prompt.clone())
            .unwrap_or_default(),
        labels: record.labels.clone(),
    }
}

fn state(record: &SessionRecord) -> &'static str {
    match (record.removed, record.current_run()) {
        (Some(true), _) => "removed",
        (Some(false), _) => "removing",
        // What it was doing then it does elsewhere, if at all.
        (None, Some(run)) if record.imported.is_some() && !run.state.is_ended() => "imported",
        (None, Some(run)) => run.state.name(),
        (None, None) => "queued",
    }
}

/// What its agent used in all its runs; nothing where it said nothing.
fn used(record: &SessionRecord) -> Option<Usage> {
    let runs = record.runs.iter().map(used_in);
    let used = runs.fold(Usage::default(), |sum, usage| sum.plus(&usage));
    Some(used).filter(|used| !used.is_empty())
}

/// What its agent used in a run.
pub(super) fn used_in(run: &RunRecord) -> Usage {
    match &run.result {
        // Of before usage was recorded by itself.
        Some(AgentEvent::Result { cost_usd, .. }) if run.account.models.is_empty() => Usage {
            cost_usd: *cost_usd,
            ..Usage::default()
        },
        _ => run.account.total(),
    }
}

/// How a run ended, if it has.
pub(super) fn end(run: &RunRecord) -> Option<RunEnd> {
    let RunState::Ended {
        outcome,
        code,
        why,
        error,
        ..
    } = &run.state
    else {
        return None;
    };
    let exit_code = match (error, outcome) {
        // What it was stopped for is more than that it could not be read to its end.
        (
            _,
            Outcome::Stopped
            | Outcome::Lost
            | Outcome::Timeout
            | Outcome::Idle
            | Outcome::MaxTurns
            | Outcome::Budget,
        )
        | (None, _) => outcome.exit_code(*code),
        (Some((code, _)), _) => code.exit_code(),
    };
    let error = error.as_ref().map(|(code, text)| split_hint(*code, text));
    Some(RunEnd {
        run: run.number,
        outcome: outcome.clone(),
        code: *code,
        exit_code,
        why: why.clone(),
        error,
        retry: None,
    })
}

/// An error's hint travels in the last line of its event's message.
fn split_hint(code: ErrorCode, text: &str) -> Error {
    match text.rsplit_once("\nhint: ") {
        Some((message, hint)) => Error::new(code, message).hint(hint),
        None => Error::new(code, text),
    }
}

/// Whether a session is one of those asked for.
pub(super) fn matches(record: &SessionRecord, query: &ListQuery) -> bool {
    if !query.all && query.state.is_none() && !record.is_live() {
        return false;
    }
    if query
        .pod
        .as_ref()
        .is_some_and(|pod| record.pod.as_str() != pod)
    {
        return false;
    }
    if query.since.is_some_and(|since| record.created < since) {
        return false;
    }
    if query.until.is_some_and(|until| record.created > until) {
        return false;
    }
    has_labels(record, &query.label) && in_state(record, query.state.as_deref())
}

/// Whether a session has all of these labels, `key` or `key=value`.
pub(super) fn has_labels(record: &SessionRecord, labels: &[String]) -> bool {
    directory::has_labels(&record.labels, labels)
}

/// Whether a session is in this state, a state's or an outcome's name; in any
/// when there is none.
pub(super) fn in_state(record: &SessionRecord, state: Option<&str>) -> bool {
    let Some(state) = state else { return true };
    let current = record.current_run();
    let outcome = current.and_then(end).map(|end| end.outcome);
    self::state(record) == state || outcome.is_some_and(|outcome| outcome.name() == state)
}

/// Runs that a daemon finds under way when it starts.
pub(super) fn is_under_way(run: &RunRecord) -> bool {
    match &run.state {
        RunState::Live { phase, .. } => {
            matches!(
                phase,
                Phase::Accepted { .. } | Phase::Running { .. } | Phase::Over { .. }
            )
        }
        RunState::Ended { .. } => false,
    }
}
