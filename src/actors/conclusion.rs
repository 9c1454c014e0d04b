//! Why a run did not succeed, in words.

use super::driver::Driver;
use crate::agent;
use crate::model::run::End;
use crate::model::{AgentEvent, Dollars, Event, EventKind, Outcome, RunRecord, Stream};

/// Events looked at, from the end, for the last of standard error.
const EVENTS_BACK: u64 = 400;
/// Bytes of events read at once.
const BATCH: usize = 1 << 20;
/// Lines of standard error that are told.
const LINES: usize = 5;
/// Bytes of them.
const WORDS: usize = 1000;

/// Why it did not succeed; nothing where that was asked for or is told by an error.
pub(super) fn why(
    driver: &Driver,
    run: &RunRecord,
    end: &End,
    outcome: &Outcome,
) -> Option<String> {
    if let Some(why) = bounds(driver, run, outcome) {
        return Some(why);
    }
    let why = words(driver, run, end, outcome)?;
    if agent::has_lost_conversation(&why) {
        return Some(format!("{why}\nhint: {FRESH}"));
    }
    Some(why)
}

/// Which of its bounds it was stopped at by cldpd.
fn bounds(driver: &Driver, run: &RunRecord, outcome: &Outcome) -> Option<String> {
    // Of an agent that keeps them itself its own words are told.
    run.state.stop()?;
    let bounds = driver.record().bounds_of(run);
    match outcome {
        Outcome::MaxTurns => Some(format!("it took more than {} turns", bounds.turns()?)),
        Outcome::Budget => {
            let spent = driver.record().spent_before(run.number + 1);
            let spent = Dollars::new(spent).ok()?;
            Some(format!(
                "the session may cost {}; {spent} are spent",
                bounds.cost()?
            ))
        }
        Outcome::Idle => Some(format!("it said nothing for {} s", bounds.silence()?)),
        _ => None,
    }
}

/// What to do about a conversation that is gone.
const FRESH: &str = "`cldpd resume --fresh` begins a new conversation in the same place";

fn words(driver: &Driver, run: &RunRecord, end: &End, outcome: &Outcome) -> Option<String> {
    let End::Exited { code, .. } = end else {
        return None;
    };
    match outcome {
        Outcome::Success | Outcome::Stopped | Outcome::Cancelled | Outcome::Timeout => return None,
        _ => {}
    }
    let said = match &run.result {
        Some(AgentEvent::Result { outcome, text, .. }) => Some((outcome, text.trim())),
        _ => None,
    };
    let mut parts = Vec::new();
    match said {
        Some((Outcome::Success, _)) => {
            parts.push(format!(
                "the agent says that it succeeded, but exited with {code}"
            ));
        }
        // What it said is all there is to say, unless it said nothing.
        Some((_, text)) if !text.is_empty() => return Some(text.to_owned()),
        Some((Outcome::Failed, _)) => parts.push("the agent ended without an answer".to_owned()),
        Some(_) => {}
        None if agent::reports(agent::speaks(&driver.spec)) => {
            parts.push(format!(
                "the agent exited with {code} and reported no result"
            ));
        }
        None => {}
    }
    parts.extend(last_errors(driver, run.number));
    (!parts.is_empty()).then(|| parts.join(": "))
}

/// The last lines of a run's standard error.
fn last_errors(driver: &Driver, run: u32) -> Option<String> {
    let (reader, ulid) = (&driver.link.shared.reader, driver.link.ulid);
    let mut at = driver
        .link
        .published
        .borrow()
        .seq
        .saturating_sub(EVENTS_BACK);
    let mut text = Vec::new();
    let errors = |event: &Event| match &event.kind {
        EventKind::Output(output) if event.run == run && output.stream == Stream::Stderr => {
            Some((output.data.clone(), output.continued))
        }
        _ => None,
    };
    while let Ok(events) = reader.events(ulid, at, BATCH) {
        let Some(last) = events.last() else { break };
        at = last.seq;
        for (data, continued) in events.iter().filter_map(errors) {
            text.extend(data);
            if !continued {
                text.push(b'\n');
            }
        }
    }
    let from = text.len().saturating_sub(WORDS);
    let text = String::from_utf8_lossy(&text[from..]).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    (!last.is_empty()).then(|| last.join("\n"))
}
