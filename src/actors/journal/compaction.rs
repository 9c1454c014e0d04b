//! Compacting while the journal works on: it is copied on another thread, and only
//! the exchange at the end is a message among others.

use super::{Journal, JournalHandle, stopped};
use crate::actors::handle::blocking;
use crate::model::Error;
use crate::model::api::CompactResponse;
use crate::store::{Compacted, Compaction, Old};
use actix::prelude::*;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

impl JournalHandle {
    /// Compacts the journal while it works on.
    pub(in crate::actors) async fn compact(
        &self,
        leaving: &CancellationToken,
    ) -> Result<CompactResponse, Error> {
        let began = self.addr.send(BeginCompaction).await;
        let mut compaction = began.map_err(|_| stopped())??;
        loop {
            let left = leaving.clone();
            let copy = move || {
                let copied = compaction.copy(&|| left.is_cancelled());
                copied.map(|()| compaction).map_err(Error::from)
            };
            let copied = match blocking(copy).await {
                Ok(copied) => copied,
                Err(error) => {
                    self.addr.do_send(AbandonCompaction);
                    return Err(error);
                }
            };
            let finish = self.addr.send(FinishCompaction(copied)).await;
            match finish.map_err(|_| stopped())? {
                Ok(Finished::NotYet(more)) => compaction = *more,
                Err(Unfinished(error, left)) => {
                    let discard = move || {
                        drop(left);
                        Ok(())
                    };
                    blocking(discard).await?;
                    return Err(error);
                }
                Ok(Finished::Done(done, old)) => {
                    let discard = move || old.discard().map_err(Error::from);
                    if let Err(error) = blocking(discard).await {
                        tracing::warn!(%error, "an old database is left until the next start");
                    }
                    return Ok(done);
                }
            }
        }
    }
}

#[derive(Message)]
#[rtype(result = "Result<Compaction, Error>")]
struct BeginCompaction;

#[derive(Message)]
#[rtype(result = "()")]
struct AbandonCompaction;

#[derive(Message)]
#[rtype(result = "Result<Finished, Unfinished>")]
struct FinishCompaction(Compaction);

/// A compaction that failed, to be dropped where its files may be waited for.
struct Unfinished(Error, Box<Compaction>);

/// Where a compaction stands after a round.
enum Finished {
    /// Much has changed meanwhile: another round is made first.
    NotYet(Box<Compaction>),
    /// It is done, and this is left.
    Done(CompactResponse, Old),
}

impl Handler<BeginCompaction> for Journal {
    type Result = Result<Compaction, Error>;

    fn handle(&mut self, _: BeginCompaction, ctx: &mut Context<Self>) -> Self::Result {
        self.commit(ctx);
        self.ready()?;
        self.store.begin_compaction().map_err(Error::from)
    }
}

impl Handler<AbandonCompaction> for Journal {
    type Result = ();

    fn handle(&mut self, _: AbandonCompaction, _: &mut Context<Self>) {
        self.store.abandon_compaction();
    }
}

impl Handler<FinishCompaction> for Journal {
    type Result = Result<Finished, Unfinished>;

    fn handle(
        &mut self,
        FinishCompaction(mut compaction): FinishCompaction,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        self.commit(ctx);
        let begun = Instant::now();
        let done = match self.store.finish_compaction(&mut compaction) {
            Ok(Some(done)) => done,
            Ok(None) => return Ok(Finished::NotYet(Box::new(compaction))),
            Err(error) => {
                if self.store.has_failed() {
                    self.note(&error);
                }
                return Err(Unfinished(error.into(), Box::new(compaction)));
            }
        };
        tracing::debug!(pause = ?begun.elapsed(), "the journal was exchanged");
        let Compacted {
            before,
            after,
            sessions,
            damaged,
            old,
        } = done;
        let done = CompactResponse {
            before,
            after,
            sessions,
            damaged,
        };
        Ok(Finished::Done(done, old))
    }
}
