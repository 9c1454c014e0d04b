//! Reading all sessions at once, in the order in which events were recorded.
//!
//! The order stands in the commits' rows, the events in the sessions' blocks,
//! which may have been merged since.

use super::block::Block;
use super::error::StoreError;
use super::group;
use super::keys;
use super::reader::{Reader, damaged};
use super::rows::{self, CommitRow, Span};
use super::types::FirehoseCursor;
use crate::model::{Event, Timestamp, Ulid};
use std::collections::{HashMap, VecDeque};
use std::iter::Peekable;
use std::vec;

/// One call ends when its events come from so many bytes.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Blocks are kept decoded during one call up to so many bytes.
const CACHE_MAX: usize = 32 * 1024 * 1024;

impl Reader {
    /// Events of all sessions in the order in which they were recorded, each
    /// with the place after it. Fewer than `max_events` are no sign of the end;
    /// none is. Sessions that were removed are passed over.
    ///
    /// # Errors
    /// As [`Reader::events`].
    pub fn firehose(
        &self,
        after: FirehoseCursor,
        max_events: usize,
    ) -> Result<Vec<(FirehoseCursor, Ulid, Event)>, StoreError> {
        let mut batch = FirehoseBatch {
            reader: self,
            max_events,
            bytes: 0,
            out: Vec::new(),
            open: HashMap::new(),
            cached: 0,
            ready: VecDeque::new(),
        };
        let mut at = after;
        while !batch.is_full() {
            match batch.commit(at) {
                Ok(Some(next)) => at = next,
                Ok(None) => break,
                // What comes before the damage is given out first.
                Err(_) if !batch.out.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(batch.out)
    }

    /// Where the commits of `time` and later begin.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn firehose_since(&self, time: Timestamp) -> Result<FirehoseCursor, StoreError> {
        let (mut low, mut high) = (1, self.watermark() + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.commit_from(middle)? {
                Some((number, row)) if row.time < time => low = number + 1,
                _ => high = middle,
            }
        }
        Ok(FirehoseCursor {
            commit: low,
            offset: 0,
        })
    }

    /// The first commit from `from_number` on that is on disk.
    fn commit_from(&self, from_number: u64) -> Result<Option<(u64, CommitRow)>, StoreError> {
        Ok(self.commits_from(from_number)?.into_iter().next())
    }

    /// The commits from `from_number` on that stand in one row, which is the
    /// next that is on disk; none at the end.
    pub(super) fn commits_from(
        &self,
        from_number: u64,
    ) -> Result<Vec<(u64, CommitRow)>, StoreError> {
        let view = self.shared.view()?;
        let from = keys::with_part(&keys::commit(from_number), 0);
        let key = view.key_from(&keys::commits(), &from)?;
        let prefix = key.as_deref().and_then(keys::split_part);
        let number = prefix.and_then(|(prefix, _)| keys::commit_number(prefix));
        let Some(number) = number.filter(|number| *number <= view.watermark()) else {
            return Ok(Vec::new());
        };
        let sealed = view.value(&keys::commit(number))?;
        drop(view);
        let sealed = sealed.ok_or_else(|| rows::damaged("commit", number, "it is missing"))?;
        let mut commits = group::commits(number, &sealed)?;
        commits.retain(|(number, _)| *number >= from_number);
        if let Some((first, row)) = commits.first() {
            let before = first.saturating_sub(row.step);
            if before >= from_number {
                return Err(rows::damaged("commit", before, "it is missing"));
            }
        }
        Ok(commits)
    }

    /// Whether what follows in the commit that a cursor stands in is still
    /// recorded. A cursor between two commits is good: whoever has it missed nothing.
    ///
    /// # Errors
    /// [`StoreError::Passed`]; when the journal cannot be read.
    pub fn check_cursor(&self, cursor: FirehoseCursor) -> Result<(), StoreError> {
        if cursor.offset == 0 || cursor.commit > self.watermark() {
            return Ok(());
        }
        let found = self.commit_from(cursor.commit)?;
        let Some((_, row)) = found.filter(|(number, _)| *number == cursor.commit) else {
            // Its row went with the last session that it had events of, and
            // some of them lay behind the cursor.
            return Err(StoreError::Passed { cursor });
        };
        let mut before = 0;
        for span in &row.spans {
            before += span.count;
            if before > cursor.offset && self.last_seq(span.session)? == 0 {
                return Err(StoreError::Passed { cursor });
            }
        }
        Ok(())
    }
}

/// One call's events.
struct FirehoseBatch<'a> {
    reader: &'a Reader,
    max_events: usize,
    bytes: usize,
    out: Vec<(FirehoseCursor, Ulid, Event)>,
    /// What is left of the block that was read last of each session: the next
    /// commit's events of that session mostly follow in it.
    open: HashMap<Ulid, Peekable<vec::IntoIter<(Event, usize)>>>,
    cached: usize,
    /// What is left of the commits that were read last.
    ready: VecDeque<(u64, CommitRow)>,
}

impl FirehoseBatch<'_> {
    fn is_full(&self) -> bool {
        self.out.len() >= self.max_events || self.bytes >= BYTES_MAX
    }

    /// Adds the events of the first commit after `at`. Returns the place after it.
    fn commit(&mut self, at: FirehoseCursor) -> Result<Option<FirehoseCursor>, StoreError> {
        // 0 is before the first commit, and none has that number.
        if self.ready.is_empty() {
            self.ready = self.reader.commits_from(at.commit.max(1))?.into();
        }
        let Some((number, row)) = self.ready.pop_front() else {
            return Ok(None);
        };
        let skip = if number == at.commit { at.offset } else { 0 };
        self.add(number, skip, &row)?;
        Ok(Some(FirehoseCursor {
            commit: number + 1,
            offset: 0,
        }))
    }

    /// Adds a commit's events but for the first `skip`.
    fn add(&mut self, number: u64, mut skip: u64, row: &CommitRow) -> Result<(), StoreError> {
        let mut before = 0;
        let count = row.spans.iter().map(|span| span.count).sum();
        for span in &row.spans {
            let skipped = skip.min(span.count);
            skip -= skipped;
            match self.add_span((number, count), before, skipped, span) {
                Err(StoreError::Gone { .. }) => {}
                done => done?,
            }
            before += span.count;
        }
        Ok(())
    }

    fn add_span(
        &mut self,
        (commit, count): (u64, u64),
        before: u64,
        skipped: u64,
        span: &Span,
    ) -> Result<(), StoreError> {
        for place in skipped..span.count {
            if self.is_full() {
                return Ok(());
            }
            let event = self.event(span.session, span.first_seq + place)?;
            let offset = before + place + 1;
            // Behind a commit's last event it stands in no commit, and stays
            // good whatever is removed.
            let cursor = if offset == count {
                FirehoseCursor {
                    commit: commit + 1,
                    offset: 0,
                }
            } else {
                FirehoseCursor { commit, offset }
            };
            self.out.push((cursor, span.session, event));
        }
        Ok(())
    }

    fn event(&mut self, session: Ulid, seq: u64) -> Result<Event, StoreError> {
        let is_due = |(event, _): &(Event, usize)| event.seq == seq;
        let open = self.open.get_mut(&session);
        let mut event = open.and_then(|open| open.next_if(is_due));
        if event.is_none() {
            let block = self.reader.block(session, seq)?;
            let raw_len = block.header().raw_len();
            if self.cached + raw_len > CACHE_MAX {
                self.open.clear();
                self.cached = 0;
            }
            self.cached += raw_len;
            let mut events = rest(session, &block, seq)?.into_iter().peekable();
            event = events.next_if(is_due);
            self.open.insert(session, events);
        }
        let (event, len) = event.ok_or(StoreError::Gap { session, seq })?;
        self.bytes += len;
        Ok(event)
    }
}

/// The events of a block from `seq` on, and how long each is.
fn rest(session: Ulid, block: &Block, seq: u64) -> Result<Vec<(Event, usize)>, StoreError> {
    block
        .events()
        .filter(|event| event.as_ref().map_or(true, |event| event.seq >= seq))
        .map(|event| event.and_then(|event| Ok((event.to_event()?, event.size()))))
        .collect::<Result<_, _>>()
        .map_err(|e| damaged(session, block.header().first_seq, e))
}
