//! The end of a run, and in the same commit what tries it again.

use super::{Link, Session, over};
use crate::model::{Error, ErrorCode, EventKind, Timestamp};
use actix::prelude::*;

impl Link {
    /// Records the end of a run, and in the same commit the run that tries it again,
    /// unless another was asked for meanwhile.
    pub(in crate::actors) async fn end(
        &self,
        run: u32,
        ended: EventKind,
        next: Option<EventKind>,
    ) -> Result<(), Error> {
        let end = EndRun { run, ended, next };
        let recorded = self.addr.send(end).await.map_err(|_| over())?;
        recorded.map(|_| ())
    }
}

/// The end of a run, and what tries it again.
#[derive(Message, Clone)]
#[rtype(result = "Result<u64, Error>")]
pub(super) struct EndRun {
    run: u32,
    ended: EventKind,
    next: Option<EventKind>,
}

impl Handler<EndRun> for Session {
    type Result = ResponseActFuture<Self, Result<u64, Error>>;

    fn handle(&mut self, message: EndRun, _: &mut Self::Context) -> Self::Result {
        let EndRun { run, ended, next } = message;
        let now = Timestamp::now();
        let record = self.recorder.record();
        let waited_for = record.is_some_and(|record| record.is_waited_for(run));
        let number = record.map_or(0, |record| record.runs.len());
        let next = next.filter(|_| !waited_for);
        let mut staged = self.recorder.stage(run, vec![(now, ended)]);
        if let (Ok(first), Some(next)) = (&mut staged, next) {
            match self.recorder.stage(number as u32, vec![(now, next)]) {
                Ok(then) => {
                    first.events.extend(then.events);
                    first.record = then.record.or(first.record.take());
                }
                Err(illegal) => staged = Err(illegal),
            }
        }
        match staged {
            Ok(staged) => self.commit(staged, Vec::new(), Vec::new()),
            Err(illegal) => {
                let error = Error::new(ErrorCode::Internal, illegal.to_string());
                Box::pin(fut::ready(Err(error)))
            }
        }
    }
}
