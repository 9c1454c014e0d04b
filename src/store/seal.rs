//! Merging small blocks into full ones.
//!
//! A live session writes what one commit held, often a single event, and
//! reading back thousands of such blocks is slow. So blocks are merged by
//! levels: [`FAN_OUT`] neighbours of one level become one of the next, and
//! each event is rewritten [`LEVELS`] times at most. What is merged has the
//! same events under the same numbers, and is exchanged in one batch.

use super::block::{Block, BlockError, Encoded, Encoder, Header, RAW_FULL};
use super::error::StoreError;
use super::shared::Sight;
use super::space::Space;
use super::{keys, parts};
use crate::model::Ulid;
use sled::Batch;
use std::ops::{Deref, Range};

/// So many neighbours of one level are merged.
const FAN_OUT: usize = 32;
/// Blocks of this level are left alone.
const LEVELS: u8 = 3;
/// Blocks from this payload on are left alone as well.
const BIG: usize = RAW_FULL / 2;
/// So many of a session's last blocks are looked at when it is claimed.
const LOAD_MAX: usize = 128;

/// A block that may be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Small {
    first_seq: u64,
    /// What it says about itself.
    header: Header,
    level: u8,
}

impl Small {
    /// Bytes of it as it is stored.
    pub(super) const fn size(&self) -> u64 {
        self.header.size() as u64
    }

    const fn is_small(&self) -> bool {
        self.header.raw_len() < BIG
    }
}

/// The last blocks of a session, oldest first. Their levels never rise.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<Small>);

impl Deref for Tail {
    type Target = [Small];

    fn deref(&self) -> &[Small] {
        &self.0
    }
}

impl Tail {
    /// The last blocks of a session, of which nothing is known yet.
    pub(super) fn load(
        sight: &Sight<'_>,
        session: Ulid,
        next_seq: u64,
    ) -> Result<Self, StoreError> {
        let mut blocks = Vec::new();
        let mut seq = next_seq - 1;
        while seq > 0 && blocks.len() < LOAD_MAX {
            let header = sight.header_at(session, seq)?;
            seq = header.first_seq - 1;
            blocks.push(Small {
                first_seq: header.first_seq,
                header,
                level: 0,
            });
        }
        blocks.reverse();
        Ok(Self(blocks))
    }

    /// Adds blocks that were just written.
    pub(super) fn extend(&mut self, blocks: &[Encoded]) {
        self.0.extend(blocks.iter().map(|block| small(block, 0)));
    }

    /// Which blocks are to be merged now.
    pub(super) fn due(&self, ended: bool) -> Option<Range<usize>> {
        let all = self.0.len();
        if ended {
            return (all > 1).then_some(0..all);
        }
        let level = self.0.last()?.level;
        let same = self.0.iter().rev().take_while(|b| b.level == level);
        let from = all - same.count();
        (all - from >= FAN_OUT).then_some(from..all)
    }

    /// Puts the blocks that were made of those in `range` in their place.
    pub(super) fn replace(&mut self, range: Range<usize>, blocks: Vec<Small>) {
        if blocks.first().is_some_and(|block| block.level < LEVELS) {
            self.0.splice(range, blocks);
        } else {
            // Those before them had this level already, and are gone.
            self.0.drain(..range.end);
        }
    }

    /// Leaves the blocks that there are alone.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

fn small(block: &Encoded, level: u8) -> Small {
    Small {
        first_seq: block.header.first_seq,
        header: block.header,
        level,
    }
}

/// What merging comes to.
pub(super) struct Merged {
    /// Removes the old blocks and writes the new ones; none if all stay.
    pub(super) batch: Option<Batch>,
    /// All blocks that then are where the old ones were.
    pub(super) blocks: Vec<Small>,
}

/// Merges neighbours, but for those that are large enough.
pub(super) fn merge(
    sight: &Sight<'_>,
    encoder: &mut Encoder,
    session: Ulid,
    old: &[Small],
    space: &mut Space,
) -> Result<Merged, StoreError> {
    let mut batch = None;
    let mut blocks = Vec::new();
    let level = old.iter().map(|b| b.level).max().unwrap_or(0) + 1;
    for run in old.chunk_by(|a, b| a.is_small() && b.is_small()) {
        if let [alone] = run {
            blocks.push(Small { level, ..*alone });
            continue;
        }
        let batch: &mut Batch = batch.get_or_insert_default();
        for block in run {
            if let Err(error) = copy(sight, encoder, session, block) {
                drop(encoder.finish());
                return Err(error);
            }
            let prefix = keys::block(session, block.first_seq);
            space.remove_block(&block.header);
            for part in 0..parts::count(block.header.size()) {
                batch.remove(keys::with_part(&prefix, part));
            }
        }
        for block in encoder.finish() {
            let prefix = keys::block(session, block.header.first_seq);
            for (key, piece) in parts::split(&prefix, &block.bytes) {
                batch.insert(key, piece);
            }
            space.add_block(&block.header);
            blocks.push(small(&block, level));
        }
    }
    Ok(Merged { batch, blocks })
}

/// Adds the events of one block to the encoder.
fn copy(
    sight: &Sight<'_>,
    encoder: &mut Encoder,
    session: Ulid,
    block: &Small,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::Block {
        session,
        seq: block.first_seq,
        source,
    };
    let bytes = sight.block_at(session, block.first_seq)?;
    let block = Block::decode(&bytes).map_err(failed)?;
    let events: Result<Vec<_>, BlockError> = block.events().collect();
    for event in events.map_err(failed)? {
        encoder.push(event);
    }
    Ok(())
}
