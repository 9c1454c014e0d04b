//! Signals of this process.

use crate::model::{Error, ErrorCode, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was sent to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Ctrl+C.
    Interrupt,
    /// We are to go: SIGTERM, or the terminal has gone (SIGHUP).
    Leave,
}

/// The signals that a foreground command takes care of.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Signals that a test sends.
    #[cfg(test)]
    pub(super) scripted: std::collections::VecDeque<Sent>,
}

impl Signals {
    /// From now on they are ours.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take() -> Result<Self> {
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: take(SignalKind::hangup())?,
            #[cfg(test)]
            scripted: std::collections::VecDeque::new(),
        })
    }

    /// The next one. Nothing is lost when this is dropped before it resolves.
    pub async fn next(&mut self) -> Sent {
        #[cfg(test)]
        if let Some(sent) = self.scripted.pop_front() {
            return sent;
        }
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Sent::Leave,
            _ = self.hangup.recv() => Sent::Leave,
            _ = self.interrupt.recv() => Sent::Interrupt,
        }
    }
}

impl Signals {
    /// What `work` comes to; nothing when a signal comes first.
    pub async fn unless_sent<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.next() => None,
            done = work => Some(done),
        }
    }

    /// What `work`, which ought not to be left alone, comes to, and whether
    /// Ctrl+C came meanwhile; nothing when we are to go, or at a second Ctrl+C.
    pub async fn holding<T>(&mut self, work: impl Future<Output = T>) -> Option<(T, bool)> {
        tokio::pin!(work);
        let mut interrupted = false;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some((done, interrupted)),
                sent = self.next() => {
                    if interrupted || sent == Sent::Leave {
                        return None;
                    }
                    interrupted = true;
                }
            }
        }
    }
}

/// Resolves with Ctrl+C.
///
/// # Errors
/// When the system refuses.
pub async fn interrupted() -> Result<()> {
    take(SignalKind::interrupt())?.recv().await;
    Ok(())
}

fn take(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| {
        Error::new(
            ErrorCode::Internal,
            format!("cannot take care of signals: {e}"),
        )
    })
}
