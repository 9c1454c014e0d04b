//! Trying again what failed because an API did not answer, as often as the user allows.
//!
//! Whatever is tried again goes on with the same conversation, in a further run with
//! the same prompt, but without the pod's template. It is recorded together with the
//! end of the run before it: so nobody sees the session ended in between. A prompt
//! that waits takes its place.

use super::driver::Driver;
use crate::agent;
use crate::model::retry::Retry;
use crate::model::run::End;
use crate::model::{
    AgentKind, Blob, Error, EventKind, How, Outcome, RunRecord, SessionRecord, Timestamp,
};
use std::time::Duration;

/// The longest time before one.
const DELAY_MAX: Duration = Duration::from_secs(600);
/// Has Claude Code shorten its conversation.
const COMPACT: &str = "/compact";

/// What is to be tried after a run that is about to end so, and whether that may be.
pub(super) fn after(
    driver: &Driver,
    record: &SessionRecord,
    run: &RunRecord,
    outcome: &Outcome,
    why: Option<&str>,
) -> Result<Option<EventKind>, Error> {
    let asked = record.runs.get(run.asked() as usize);
    let Some(asked) = asked.filter(|_| is_alone(record, run)) else {
        return Ok(None);
    };
    let tried = run.retry.as_ref().map_or(0, |retry| retry.attempt);
    let retry = |attempt, delay, compacts| Retry {
        of: asked.number,
        attempt,
        after: Timestamp::now().plus(delay),
        compacts,
    };
    let retry = match outcome {
        Outcome::Success if run.compacts() => retry(tried, Duration::ZERO, false),
        _ if run.compacts() || !record.may_retry(run) => return Ok(None),
        Outcome::ApiError {
            retryable: true, ..
        } if run.limit.is_none() => {
            let first = driver.link.shared.settings.retry_after;
            let delay = first.saturating_mul(1 << tried.min(16)).min(DELAY_MAX);
            retry(tried + 1, delay, false)
        }
        Outcome::ApiError { .. } | Outcome::Failed if is_too_long(driver, record, run, why) => {
            retry(tried + 1, Duration::ZERO, true)
        }
        _ => return Ok(None),
    };
    let prompt = match retry.compacts {
        true => Blob::from(COMPACT),
        false => task(driver, asked)?,
    };
    let reason = reason(record, run, &retry, outcome);
    Ok(Some(EventKind::Queued {
        how: How::Retry,
        task: (!retry.compacts).then(|| asked.prompt.clone()),
        prompt,
        task_at: 0,
        env: asked.env.clone(),
        fresh: None,
        branch: asked.branch,
        bounds: asked.bounds,
        retry: Some(retry),
        position: None,
        reason: Some(reason),
    }))
}

/// How a run ended: one that shortens its conversation has nothing to answer.
pub(super) fn settled(run: &RunRecord, end: &End, outcome: Outcome) -> Outcome {
    match (outcome, end) {
        (Outcome::Failed, End::Exited { code: 0, .. }) if run.compacts() => Outcome::Success,
        (outcome, _) => outcome,
    }
}

/// Completes when a run may begin.
pub(super) async fn due(run: &RunRecord) {
    let Some(retry) = &run.retry else { return };
    loop {
        let left = retry.after.since(Timestamp::now());
        if left.is_zero() {
            return;
        }
        // The clock may be set meanwhile.
        tokio::time::sleep(left.min(DELAY_MAX)).await;
    }
}

/// Why a run failed: what went wrong first, where trying again did not help.
pub(super) fn first_error(record: &SessionRecord, run: &RunRecord, why: String) -> String {
    let asked = run
        .retry
        .as_ref()
        .and_then(|retry| record.runs.get(retry.of as usize));
    match asked.and_then(RunRecord::why) {
        Some(first) if first != why => format!("{first}\nthe last retry: {why}"),
        Some(_) | None => why,
    }
}

/// Nobody stopped it, it has a container to go on from, and no prompt waits for its end.
fn is_alone(record: &SessionRecord, run: &RunRecord) -> bool {
    let waited_for = record.is_waited_for(run.number);
    !waited_for && run.started.is_some() && run.state.stop().is_none()
}

/// The conversation is longer than the model takes, and was not shortened for it before.
fn is_too_long(
    driver: &Driver,
    record: &SessionRecord,
    run: &RunRecord,
    why: Option<&str>,
) -> bool {
    let mut tries = record
        .runs
        .iter()
        .filter(|other| other.asked() == run.asked());
    let compacted = tries.any(RunRecord::compacts);
    let can = agent::speaks(&driver.spec) == AgentKind::Claude;
    can && !compacted && why.is_some_and(agent::says_too_long)
}

fn reason(record: &SessionRecord, run: &RunRecord, retry: &Retry, outcome: &Outcome) -> String {
    if retry.compacts {
        return "the conversation is too long: it is shortened, and tried again".to_owned();
    }
    let left = retry.after.since(Timestamp::now()).as_secs_f64().ceil();
    let status = match outcome {
        Outcome::ApiError {
            status: Some(status),
            ..
        } => format!(" {status}"),
        _ => String::new(),
    };
    match left > 0.0 {
        true => format!(
            "{outcome}{status}: retry {} of {} in {left} s",
            retry.attempt,
            record.bounds_of(run).retries()
        ),
        false => "the conversation was shortened".to_owned(),
    }
}

/// A run's prompt without the pod's template.
fn task(driver: &Driver, run: &RunRecord) -> Result<Blob, Error> {
    let mut prompt = super::order::prompt(driver, run)?;
    let at = usize::try_from(run.task_at).unwrap_or(0);
    if at <= prompt.len() {
        prompt.drain(..at);
    }
    Ok(Blob(prompt))
}
