//! Messages on their way to a working agent, and the end of its input.
//!
//! What is next follows from the record, so whichever daemon reads the run does the same.
//! A message is recorded before it is sent, and sent under an id that depends on session
//! and run alone: the shim takes each once. Once the agent has answered all that it took
//! up its input is closed, behind whatever was written there: it reads that, answers it,
//! and ends by itself.

use super::Reading;
use crate::actors::driver::{Driver, Over, gone};
use crate::actors::session::Published;
use crate::actors::{launch, messages, order};
use crate::agent;
use crate::model::message::message_id;
use crate::model::signal;
use crate::model::{EventKind, How, Message, RunRecord, SessionRecord, Ulid};
use crate::runtime::shim::{Shim, ShimError};
use tokio::sync::watch;

/// What this connection to a shim has done about messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// The input is closed.
    closed: bool,
    /// The agent was told to leave off, for these stops.
    interrupted: Vec<Ulid>,
    /// The agent was asked to give up what it had not taken up, for these stops.
    taken_back: Vec<Ulid>,
}

/// What is to be done next about messages to a run's agent.
enum Work<'a> {
    Send(&'a RunRecord),
    Answered(&'a RunRecord),
    LetGo(&'a RunRecord, Message),
    TakeBack(&'a RunRecord, Ulid),
    Interrupt(Ulid),
    Close,
}

fn next<'a>(record: &'a SessionRecord, to: u32, done: &Done) -> Option<Work<'a>> {
    let target = record.runs.get(to as usize).filter(|run| run.steerable)?;
    let ends = target.state.stop().is_some();
    for (run, message) in record.messages_to(to) {
        if message == Message::Heard && run.result.is_some() {
            return Some(Work::Answered(run));
        }
        match (run.state.stop(), message) {
            (Some(_), Message::Asked) => return Some(Work::LetGo(run, message)),
            // In a hurry: the agent may leave off or not.
            (Some(stop), _) if stop.signal == "SIGKILL" => {
                return Some(Work::LetGo(run, message));
            }
            // With the run it goes to.
            (Some(_), _) | (None, Message::Asked) if ends => {}
            (Some(stop), Message::Heard) if !done.interrupted.contains(&stop.id) => {
                return Some(Work::Interrupt(stop.id));
            }
            (Some(stop), Message::Sent) if !done.taken_back.contains(&stop.id) => {
                return Some(Work::TakeBack(run, stop.id));
            }
            (None, Message::Asked) => return Some(Work::Send(run)),
            (Some(_), Message::Heard | Message::Sent) | (None, Message::Heard | Message::Sent) => {}
        }
    }
    let working = |(_, message)| message == Message::Heard;
    let answered = target.result.is_some() && !record.messages_to(to).any(working);
    (answered && !done.closed).then_some(Work::Close)
}

/// Completes when there is something to be done about messages to the agent of run `to`.
pub(super) async fn asked(published: &mut watch::Receiver<Published>, to: u32, done: &Done) {
    let asked = |published: &Published| next(&published.record, to, done).is_some();
    if published.wait_for(asked).await.is_err() {
        // The actor is gone; the driver is about to be cancelled.
        std::future::pending::<()>().await;
    }
}

impl Reading {
    /// Does what is to be done about messages to this run's agent.
    pub(super) async fn steer(&mut self, driver: &Driver, shim: &Shim) -> Result<(), Over> {
        loop {
            let record = driver.record();
            let Some(work) = next(&record, self.number, &self.messages) else {
                return Ok(());
            };
            match work {
                Work::Send(run) => {
                    if !self.send(driver, shim, run).await? {
                        return Ok(());
                    }
                }
                Work::Answered(run) => messages::answered(driver, run).await?,
                Work::LetGo(run, message) => messages::let_go(driver, run, message).await?,
                Work::TakeBack(run, stop) => {
                    self.messages.taken_back.push(stop);
                    let message = message_id(driver.link.ulid, run.number);
                    let agent = agent::agent(driver.spec.agent);
                    let bytes = agent.take_back(&message, &stop.to_string());
                    // Where it says nothing to that it is interrupted when it takes it up.
                    let told = shim.steer(stop, self.number, bytes.unwrap_or_default());
                    if let Err(error) = self.answer(told).await {
                        tracing::debug!(%error, "a message was not taken back");
                    }
                }
                Work::Interrupt(stop) => {
                    self.messages.interrupted.push(stop);
                    self.leave_off(driver, shim, stop).await;
                }
                Work::Close => {
                    self.messages.closed = true;
                    fail_point!("steer.closing");
                    let close = shim.input(self.number, &[], true);
                    if let Err(error) = self.answer(close).await {
                        tracing::debug!(%error, "an agent's input was closed already");
                    }
                }
            }
        }
    }

    /// Hands a message to the shim. False when that does not answer.
    async fn send(&mut self, driver: &Driver, shim: &Shim, run: &RunRecord) -> Result<bool, Over> {
        let ulid = driver.link.ulid;
        let message = message_id(ulid, run.number);
        let bytes = order::message(driver, run, &message)?;
        let id = order::message_id(ulid, run.number);
        fail_point!("steer.sending");
        let sent = self.answer(shim.steer(id, self.number, bytes)).await;
        fail_point!("steer.sent");
        match sent {
            Ok(()) => {
                let (how, prompt) = (How::Steer, run.prompt.clone());
                let started = EventKind::RunStarted { how, prompt };
                driver.link.record(run.number, vec![started]).await?;
                fail_point!("steer.recorded");
                Ok(true)
            }
            // Its input is closed: it has answered, and ends.
            Err(ShimError::Refused { .. }) => {
                messages::defer(driver, run.number, false).await?;
                Ok(true)
            }
            Err(ShimError::Displaced { .. }) => Err(gone()),
            // It is met again, and tells whether it knows the message.
            Err(error) => {
                tracing::warn!(session = %ulid, %error, "a message is not sent yet");
                Ok(false)
            }
        }
    }

    /// Has the agent leave off what it does: by a message, or where it reads no more by a signal.
    async fn leave_off(&mut self, driver: &Driver, shim: &Shim, stop: Ulid) {
        let agent = agent::agent(driver.spec.agent);
        let Some(bytes) = agent.interrupt(&stop.to_string()) else {
            return;
        };
        let id = Ulid(stop.0 ^ 2);
        let told = self.answer(shim.steer(id, self.number, bytes)).await;
        let told = match (told, signal::number("SIGINT")) {
            (Err(ShimError::Refused { .. }), Some(number)) => {
                let id = Ulid(stop.0 ^ 1);
                self.answer(shim.signal(id, self.number, number)).await
            }
            (told, _) => told,
        };
        if let Err(error) = told {
            tracing::warn!(session = %driver.link.ulid, %error, "the agent was not interrupted");
        }
    }

    /// The shim is dead: what it had accepted of messages is in its spool alone.
    pub(super) async fn own_up(&self, driver: &Driver) -> Result<(), Over> {
        let record = driver.record();
        let owner = driver.owner(self.number, self.place.attempt);
        for (run, message) in record.messages_to(self.number) {
            let id = order::message_id(driver.link.ulid, run.number);
            if message == Message::Asked && launch::has_taken(&self.dir, &owner, id).await {
                let (how, prompt) = (How::Steer, run.prompt.clone());
                let started = EventKind::RunStarted { how, prompt };
                driver.link.record(run.number, vec![started]).await?;
            }
        }
        Ok(())
    }

    /// Those that the shim says it did not write whole wait for their turn.
    pub(super) async fn give_back(&self, driver: &Driver) -> Result<(), Over> {
        let record = driver.record();
        for (run, message) in record.messages_to(self.number) {
            let id = order::message_id(driver.link.ulid, run.number);
            let stopped = run.state.stop().is_some();
            if message == Message::Sent && !stopped && self.tracker.is_unwritten(id) {
                messages::defer(driver, run.number, false).await?;
            }
        }
        Ok(())
    }
}
