//! Many commits in one row.
//!
//! A commit's own row costs some sixty bytes on disk, more than a short line
//! does. So compaction puts neighbours together, under the number of the last:
//! whoever looks for the first row from some number on finds the group that
//! has it. The content, compressed with zstd:
//!
//! | what | form |
//! |---|---|
//! | sessions | how many (varint), then each (16) |
//! | commits | how many (varint), then each as below |
//!
//! | of a commit | form |
//! |---|---|
//! | step | varint, as in a row of its own |
//! | time | varint, zigzag: nanoseconds since the commit before; since 1970 for the first |
//! | spans | how many (varint), then each: session by its place (varint), first seq (varint, zigzag: since the end of its span before, 0 at first), count (varint) |
//!
//! It stands in an envelope of format 2, after its length before compression
//! (4, big-endian).

use super::error::StoreError;
use super::rows::{self, CommitRow, Span};
use super::varint::{self, Bytes};
use crate::model::{Timestamp, Ulid};
use std::collections::HashMap;

/// So many commits are in one group at most.
const COMMITS_MAX: usize = 2048;
/// Spans of a group, roughly at most.
const SPANS_MAX: usize = 8192;
/// Longest content of a group before compression.
const RAW_MAX: usize = 1024 * 1024;
const LEVEL: i32 = 3;

/// A group in the making.
#[derive(Debug, Default)]
pub(super) struct Group {
    commits: Vec<(u64, CommitRow)>,
    spans: usize,
}

impl Group {
    /// Adds a commit; its number exceeds that of the one before by its step.
    pub(super) fn push(&mut self, number: u64, row: CommitRow) {
        self.spans += row.spans.len();
        self.commits.push((number, row));
    }

    /// Whether it is large enough.
    pub(super) fn is_full(&self) -> bool {
        self.commits.len() >= COMMITS_MAX || self.spans >= SPANS_MAX
    }

    /// The rows of what was added since the last call, with their numbers.
    pub(super) fn finish(&mut self) -> Vec<(u64, Vec<u8>)> {
        let commits = std::mem::take(&mut self.commits);
        self.spans = 0;
        if let [_, .., (last, _)] = commits.as_slice()
            && let Some(sealed) = pack(&commits)
        {
            return vec![(*last, sealed)];
        }
        // One alone, or what is too much for a group, stays as it was.
        let alone = commits.iter().map(|(number, row)| (*number, row.encode()));
        alone.collect()
    }
}

fn pack(commits: &[(u64, CommitRow)]) -> Option<Vec<u8>> {
    let mut places: HashMap<Ulid, (u64, u64)> = HashMap::new();
    let mut sessions = Vec::new();
    let mut body = Vec::new();
    let mut time = 0i64;
    varint::put(&mut body, commits.len() as u64);
    for (_, row) in commits {
        varint::put(&mut body, row.step);
        varint::put(&mut body, varint::zigzag(row.time.0.wrapping_sub(time)));
        time = row.time.0;
        varint::put(&mut body, row.spans.len() as u64);
        for span in &row.spans {
            let next = places.len() as u64;
            let (place, end) = places.entry(span.session).or_insert_with(|| {
                sessions.extend_from_slice(&span.session.0.to_be_bytes());
                (next, 0)
            });
            varint::put(&mut body, *place);
            let skipped = span.first_seq.wrapping_sub(*end).cast_signed();
            varint::put(&mut body, varint::zigzag(skipped));
            varint::put(&mut body, span.count);
            *end = span.first_seq.wrapping_add(span.count);
        }
    }
    let mut content = Vec::with_capacity(10 + sessions.len() + body.len());
    varint::put(&mut content, places.len() as u64);
    content.extend_from_slice(&sessions);
    content.extend_from_slice(&body);
    if content.len() > RAW_MAX {
        return None;
    }
    let mut out = (content.len() as u32).to_be_bytes().to_vec();
    out.extend(zstd::bulk::compress(&content, LEVEL).ok()?);
    Some(rows::seal_group(&out))
}

/// The commits of the row with this number, a group or one alone, in order.
pub(super) fn commits(number: u64, sealed: &[u8]) -> Result<Vec<(u64, CommitRow)>, StoreError> {
    if !rows::is_group(sealed) {
        return Ok(vec![(number, CommitRow::decode(number, sealed)?)]);
    }
    rows::open(sealed)
        .and_then(|content| unpack(number, content))
        .ok_or_else(|| rows::damaged("commit", number, "it is malformed"))
}

fn unpack(last: u64, content: &[u8]) -> Option<Vec<(u64, CommitRow)>> {
    let (len, packed) = content.split_first_chunk()?;
    let len = u32::from_be_bytes(*len) as usize;
    if len > RAW_MAX {
        return None;
    }
    let raw = zstd::bulk::decompress(packed, len).ok()?;
    let mut bytes = Bytes(&raw);
    let count = usize::try_from(bytes.varint()?).ok()?;
    let (table, rest) = bytes.0.split_at_checked(count.checked_mul(16)?)?;
    let (table, _) = table.as_chunks::<16>();
    bytes = Bytes(rest);
    let mut ends = vec![0u64; count];
    let mut commits = Vec::new();
    let mut time = 0i64;
    for _ in 0..bytes.varint()? {
        let step = bytes.varint()?;
        time = time.wrapping_add(varint::unzigzag(bytes.varint()?));
        let mut spans = Vec::new();
        for _ in 0..bytes.varint()? {
            let place = usize::try_from(bytes.varint()?).ok()?;
            let end = ends.get_mut(place)?;
            let skipped = varint::unzigzag(bytes.varint()?);
            let first_seq = end.wrapping_add(skipped.cast_unsigned());
            let count = bytes.varint()?;
            *end = first_seq.checked_add(count)?;
            spans.push(Span {
                session: Ulid(u128::from_be_bytes(*table.get(place)?)),
                first_seq,
                count,
            });
        }
        let time = Timestamp(time);
        commits.push((0, CommitRow { time, step, spans }));
    }
    if commits.is_empty() || !bytes.0.is_empty() {
        return None;
    }
    // Numbers follow from the last one, backwards.
    let mut number = last;
    for (of, row) in commits.iter_mut().rev() {
        *of = number;
        number = number.checked_sub(row.step)?;
    }
    Some(commits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span() -> impl Strategy<Value = Span> {
        let session = prop_oneof![0u128..4, any::<u128>()];
        (session, 1u64..1 << 60, 1u64..1 << 30).prop_map(|(session, first_seq, count)| Span {
            session: Ulid(session),
            first_seq,
            count,
        })
    }

    fn row() -> impl Strategy<Value = CommitRow> {
        let spans = proptest::collection::vec(span(), 0..6);
        (any::<i64>(), 1u64..1 << 40, spans).prop_map(|(time, step, spans)| CommitRow {
            time: Timestamp(time),
            step,
            spans,
        })
    }

    proptest! {
        #[test]
        fn groups_survive(rows in proptest::collection::vec(row(), 1..40)) {
            let mut number = 0;
            let mut group = Group::default();
            let mut expected = Vec::new();
            for row in rows {
                number += row.step;
                expected.push((number, row.clone()));
                group.push(number, row);
            }
            let [(last, sealed)] = &group.finish()[..] else { panic!("one row") };
            prop_assert_eq!(*last, number);
            prop_assert_eq!(commits(*last, sealed).unwrap(), expected);
            prop_assert!(group.finish().is_empty());
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes: Vec<u8>, number: u64) {
            let _ = unpack(number, &bytes);
            let mut content = (bytes.len() as u32).to_be_bytes().to_vec();
            content.extend(zstd::bulk::compress(&bytes, 1).unwrap());
            let _ = commits(number, &rows::seal_group(&content));
        }
    }

    #[test]
    fn a_trickle_takes_a_few_bytes_each() {
        let mut group = Group::default();
        for n in 0..1000u64 {
            let span = Span {
                session: Ulid(u128::from(n % 50) << 64),
                first_seq: n / 50 + 1,
                count: 1,
            };
            let time = Timestamp(1_700_000_000_000_000_000 + n as i64 * 1_234_567);
            group.push(
                n + 1,
                CommitRow {
                    time,
                    step: 1,
                    spans: vec![span],
                },
            );
        }
        let (_, sealed) = group.finish().remove(0);
        assert!(sealed.len() < 8 * 1000, "{}", sealed.len());
    }
}
