//! Going through all that is there, damaged or not, and while work goes on.
//!
//! Each step takes a fresh look and holds nothing afterwards. What was merged
//! between two steps has the same events; what is damaged is told with what it
//! takes away, and the walk goes on behind it.

use super::block::{Block, BlockError, Header};
use super::error::StoreError;
use super::reader::Reader;
use super::shared::Sight;
use super::{keys, parts};
use crate::model::Ulid;

/// Gives looks at a database, each consistent in itself.
pub(super) trait Look {
    /// Takes one look. `take` is also given the last commit that may be seen.
    fn look<T>(
        &self,
        take: impl FnOnce(&Sight<'_>, u64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError>;
}

impl Look for Reader {
    fn look<T>(
        &self,
        take: impl FnOnce(&Sight<'_>, u64) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let view = self.shared.view()?;
        take(&view.sees(), view.watermark())
    }
}

/// The next of a session's events, or why there are none.
pub(super) enum Piece {
    /// A whole block; it may begin before the event that was asked for.
    Block(Block),
    /// These events cannot be read; up to `u64::MAX` where nobody knows how many
    /// there were.
    Missing { from: u64, to: u64, why: BlockError },
    /// There are no more.
    End,
}

/// One step of a walk.
pub(super) struct Step {
    pub(super) piece: Piece,
    /// The event that the next step is for.
    pub(super) next: u64,
    /// Rows that belong to no block, found on the way.
    pub(super) stray: Option<String>,
}

/// Whether a session was removed, or is being.
pub(super) fn is_gone(look: &impl Look, session: Ulid) -> Result<bool, StoreError> {
    look.look(|sight, _| {
        let deleting = sight.get(&keys::deleting(session))?.is_some();
        let rows = sight.key_from(&keys::blocks(session), &keys::blocks(session))?;
        Ok(deleting || rows.is_none())
    })
}

/// The first session after `after` that anything is recorded of.
pub(super) fn next_session(
    sight: &Sight<'_>,
    after: Option<Ulid>,
) -> Result<Option<Ulid>, StoreError> {
    let from = match after {
        None => Ulid(0),
        Some(Ulid(u128::MAX)) => return Ok(None),
        Some(after) => Ulid(after.0 + 1),
    };
    let mut first: Option<Ulid> = None;
    let froms = [keys::blocks(from), keys::cursors(from), keys::session(from)];
    for (kind, from) in keys::all_of_sessions().into_iter().zip(froms) {
        let key = sight.key_from(&kind, &from)?;
        let found = key.as_deref().and_then(keys::ulid_in);
        first = match (first, found) {
            (Some(first), Some(found)) => Some(first.min(found)),
            (first, found) => first.or(found),
        };
    }
    Ok(first)
}

/// The block of `session` that has event `next`, of those up to `last`.
pub(super) fn step(
    sight: &Sight<'_>,
    session: Ulid,
    next: u64,
    last: u64,
) -> Result<Step, StoreError> {
    let end = |stray| Step {
        piece: Piece::End,
        next,
        stray,
    };
    if next > last {
        return Ok(end(None));
    }
    let from = keys::with_part(&keys::block(session, next), 0);
    let found = sight.key_from(&keys::blocks(session), &from)?;
    let found = found.as_deref().and_then(keys::block_part);
    if found == Some((next, 0)) {
        return at(sight, session, next, last);
    }
    // It may have been merged into the one before it since the last step.
    if let Ok(header) = sight.header_at(session, next)
        && header.first_seq < next
        && let Ok(block) = whole(sight, session, &header)
    {
        return Ok(Step {
            piece: Piece::Block(block),
            next: header.last_seq() + 1,
            stray: None,
        });
    }
    match found {
        None if last == u64::MAX => Ok(end(None)),
        None => Ok(missing(next, last, BlockError::Part(0))),
        Some((seq, _)) if seq > last => Ok(missing(next, last, BlockError::Part(0))),
        Some((seq, 0)) => Ok(missing(next, seq - 1, BlockError::Part(0))),
        // Parts without a beginning: what they held ends where the next block begins.
        Some((seq, _)) => {
            let after = following(sight, session, seq)?;
            let to = after.map_or(seq.max(next), |after| after - 1).min(last);
            Ok(missing(next, to, BlockError::Part(0)))
        }
    }
}

fn missing(from: u64, to: u64, why: BlockError) -> Step {
    Step {
        piece: Piece::Missing { from, to, why },
        next: to.saturating_add(1),
        stray: None,
    }
}

/// The block that begins with event `first`, whose first row is there.
fn at(sight: &Sight<'_>, session: Ulid, first: u64, last: u64) -> Result<Step, StoreError> {
    let after = following(sight, session, first)?;
    let header = sight.header_at(session, first);
    let block = match header {
        Ok(header) => whole(sight, session, &header).map_err(|why| (Some(header), why)),
        Err(StoreError::Block { source, .. }) => Err((None, source)),
        Err(error) => return Err(error),
    };
    match block {
        Ok(block) => {
            let header = *block.header();
            let beyond = header.last_seq() + 1;
            let overlaps = after.filter(|after| *after < beyond);
            let stray = match overlaps {
                Some(after) => Some(format!("a block of event {after} lies within another")),
                None => surplus(sight, session, &header)?,
            };
            Ok(Step {
                piece: Piece::Block(block),
                next: beyond,
                stray,
            })
        }
        Err((header, why)) => {
            // What the header says is believed as far as what follows agrees.
            let says = header.map(|header| header.last_seq());
            let to = match (after, says) {
                (Some(after), _) => after - 1,
                (None, Some(says)) => says,
                // Nobody knows how many there were.
                (None, None) => last,
            };
            Ok(missing(first, to.min(last), why))
        }
    }
}

fn whole(sight: &Sight<'_>, session: Ulid, header: &Header) -> Result<Block, BlockError> {
    match sight.block_at(session, header.first_seq) {
        Ok(bytes) => Block::decode(&bytes),
        Err(StoreError::Block { source, .. }) => Err(source),
        Err(_) => Err(BlockError::Length),
    }
}

/// The first event of the block after the one that begins with `first`.
fn following(sight: &Sight<'_>, session: Ulid, first: u64) -> Result<Option<u64>, StoreError> {
    let Some(beyond) = first.checked_add(1) else {
        return Ok(None);
    };
    let key = sight.key_from(&keys::blocks(session), &keys::block(session, beyond))?;
    Ok(key
        .as_deref()
        .and_then(keys::block_part)
        .map(|(seq, _)| seq))
}

/// Parts of a block that it does not need.
fn surplus(
    sight: &Sight<'_>,
    session: Ulid,
    header: &Header,
) -> Result<Option<String>, StoreError> {
    let prefix = keys::block(session, header.first_seq);
    let beyond = keys::with_part(&prefix, parts::count(header.size()));
    let key = sight.key_from(&prefix, &beyond)?;
    Ok(key
        .as_deref()
        .and_then(keys::block_part)
        .map(|(_, part)| format!("part {part} belongs to no block")))
}
