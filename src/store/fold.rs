//! A session's projection, made of its events again.

use super::error::StoreError;
use super::reader::damaged;
use super::rows;
use super::shared::Sight;
use super::walk::{self, Piece};
use crate::model::{Event, HomeId, SessionRecord, Ulid};

/// What the events so far come to.
#[derive(Debug)]
pub(super) struct Fold {
    session: Ulid,
    imported: Option<HomeId>,
    record: Option<SessionRecord>,
    wrong: Option<(u64, String)>,
}

impl Fold {
    /// Before the first event of a session, which was imported from another home
    /// or not.
    pub(super) const fn new(session: Ulid, imported: Option<HomeId>) -> Self {
        Self {
            session,
            imported,
            record: None,
            wrong: None,
        }
    }

    /// Takes the next event. After one that does not fit, all others are passed over.
    pub(super) fn take(&mut self, event: &Event) {
        if self.wrong.is_some() {
            return;
        }
        let done = match &mut self.record {
            Some(record) => match &event.kind {
                kind if kind.is_passing() => record.check_passing(std::slice::from_ref(event)),
                _ => record.apply(event).map(|_| ()),
            },
            None => SessionRecord::begin(self.session, event).map(|mut record| {
                record.imported = self.imported;
                self.record = Some(record);
            }),
        };
        if let Err(why) = done {
            self.wrong = Some((event.seq, why.to_string()));
        }
    }

    /// Events are missing: what follows cannot be understood.
    pub(super) fn miss(&mut self, seq: u64) {
        if self.wrong.is_none() {
            self.wrong = Some((seq, "events are missing".to_owned()));
        }
    }

    /// The projection; else the event that does not fit, and why.
    pub(super) fn finish(self) -> Result<SessionRecord, (u64, String)> {
        match (self.wrong, self.record) {
            (Some(wrong), _) => Err(wrong),
            (None, Some(record)) => Ok(record),
            (None, None) => Err((1, "there are no events".to_owned())),
        }
    }
}

/// Makes a session's projection of its events.
pub(super) fn of(sight: &Sight<'_>, session: Ulid) -> Result<SessionRecord, StoreError> {
    let mut fold = Fold::new(session, rows::origin(sight, session).unwrap_or(None));
    let last = sight.last_seq(session)?;
    let mut next = 1;
    loop {
        let step = walk::step(sight, session, next, last)?;
        match step.piece {
            Piece::Block(block) => {
                for event in block.events() {
                    let event = event.and_then(|event| event.to_event());
                    let seq = block.header().first_seq;
                    fold.take(&event.map_err(|why| damaged(session, seq, why))?);
                }
            }
            Piece::Missing { from, why, .. } => return Err(damaged(session, from, why)),
            Piece::End => break,
        }
        next = step.next;
    }
    fold.finish().map_err(|(seq, why)| {
        rows::damaged(
            "session",
            session,
            format!("its event {seq} does not follow: {why}"),
        )
    })
}
