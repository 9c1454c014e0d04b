//! Signals on their way to the shim.
//!
//! A signal is recorded before it is sent. What a daemon did not get to send, the
//! next one does: the shim takes each once, by its id.

use super::Reading;
use crate::actors::driver::Driver;
use crate::actors::session::Signal;
use crate::model::signal;
use crate::runtime::shim::Shim;

impl Reading {
    /// Sends what is recorded and did not arrive on an earlier connection.
    pub(super) async fn repeat_signals(&mut self, driver: &Driver, shim: &Shim) {
        let record = driver.record();
        let Some(run) = record.runs.get(self.number as usize) else {
            return;
        };
        for sent in &run.signals {
            let number = signal::number(&sent.signal);
            let Some(number) = number.filter(|_| !shim.hello().knows(sent.id)) else {
                continue;
            };
            let (id, run) = (sent.id, self.number);
            self.pass_on(driver, shim, Signal { id, run, number }).await;
        }
    }

    /// Sends a signal, if it is for this run.
    pub(super) async fn pass_on(&mut self, driver: &Driver, shim: &Shim, signal: Signal) {
        if signal.run != self.number {
            return;
        }
        let sent = shim.signal(signal.id, signal.run, signal.number);
        if let Err(error) = self.answer(sent).await {
            tracing::warn!(session = %driver.link.ulid, %error, "the shim did not take the signal");
        }
    }
}
