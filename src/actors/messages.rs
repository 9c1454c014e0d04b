//! Messages to a working agent, once nothing more can be done about them there: they
//! were answered, taken back, or the run that they went to is over.

use super::driver::{Driver, Over, taken_back};
use super::environment;
use crate::model::{AgentEvent, EventKind, Message, Outcome, RunRecord, Timestamp};

/// Why a message becomes a run of its own.
const NOT_HEARD: &str = "the agent ended before it took this up; it is the next run";
/// Said of one that was taken back on its way.
const NOT_WANTED: &str = "taken back before the agent took it up";

/// The agent answered: the message's run is over, and ends as that answer says.
pub(super) async fn answered(driver: &Driver, run: &RunRecord) -> Result<(), Over> {
    let Some(AgentEvent::Result { outcome, text, .. }) = &run.result else {
        return Ok(());
    };
    let outcome = match run.state.stop() {
        Some(_) => Outcome::Stopped,
        None => outcome.clone(),
    };
    let told = !matches!(outcome, Outcome::Success | Outcome::Stopped) && !text.is_empty();
    let why = told.then(|| text.clone());
    end(driver, run.number, vec![ended(outcome, why)]).await
}

/// Nobody waits for the answer any more.
pub(super) async fn let_go(driver: &Driver, run: &RunRecord, message: Message) -> Result<(), Over> {
    let kinds = match message {
        Message::Heard => {
            let outcome = Outcome::Stopped;
            vec![ended(outcome, None)]
        }
        Message::Asked | Message::Sent => {
            let kinds = taken_back(Timestamp::now(), NOT_WANTED);
            kinds.into_iter().map(|(_, kind)| kind).collect()
        }
    };
    end(driver, run.number, kinds).await
}

/// It did not reach the agent, or whether it did is not known: it waits for its turn.
pub(super) async fn defer(driver: &Driver, number: u32, maybe_twice: bool) -> Result<(), Over> {
    let why = NOT_HEARD.to_owned();
    let mut kinds = vec![EventKind::Deferred { why }];
    if maybe_twice {
        let message = "the agent may have read this before it ended, and gets it again".to_owned();
        let code = "maybe_twice".to_owned();
        kinds.insert(0, EventKind::Note { code, message });
    }
    driver.link.record(number, kinds).await?;
    fail_point!("messages.deferred");
    Ok(())
}

/// The run that they went to is over: what was taken up ends as it did, the rest waits
/// for its turn.
pub(super) async fn conclude(
    driver: &Driver,
    to: u32,
    outcome: &Outcome,
    why: Option<&str>,
) -> Result<(), Over> {
    let record = driver.record();
    for (run, message) in record.messages_to(to) {
        let stopped = run.state.stop().is_some();
        match message {
            Message::Heard if run.result.is_some() => answered(driver, run).await?,
            Message::Heard if stopped => let_go(driver, run, message).await?,
            Message::Heard => {
                let (outcome, why) = (outcome.clone(), why.map(str::to_owned));
                end(driver, run.number, vec![ended(outcome, why)]).await?;
            }
            Message::Asked | Message::Sent if stopped => let_go(driver, run, message).await?,
            Message::Asked => defer(driver, run.number, false).await?,
            Message::Sent => defer(driver, run.number, true).await?,
        }
    }
    Ok(())
}

/// The end of a message's run. What it took is the run's that it went to.
const fn ended(outcome: Outcome, why: Option<String>) -> EventKind {
    EventKind::RunEnded {
        outcome,
        why,
        usage: None,
        turns: None,
    }
}

/// Ends a message's run, which needs the values that came with it no more.
async fn end(driver: &Driver, number: u32, kinds: Vec<EventKind>) -> Result<(), Over> {
    driver.link.record(number, kinds).await?;
    fail_point!("messages.ended");
    environment::forget(&driver.link.shared.session_dir(driver.link.ulid), number);
    Ok(())
}
