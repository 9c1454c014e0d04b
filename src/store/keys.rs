//! Keys: where in the database what stands.
//!
//! The first byte is the kind, the rest sorts as it reads: numbers are
//! big-endian, so the order of keys is the order of what they name. Values
//! that may be long are cut into parts, and their keys end in a part number
//! of two bytes; the functions here give such keys without it ([`with_part`]).

use crate::model::Ulid;
use crate::model::capture::CursorKey;

const META: u8 = 0x01;
const BLOCK: u8 = 0x02;
const CURSOR: u8 = 0x03;
const COMMIT: u8 = 0x04;
const SESSION: u8 = 0x05;
const REQUEST: u8 = 0x06;
/// Kept free for rows that are derived from others, as pod name ++ ULID.
#[cfg(test)]
const INDEX: u8 = 0x07;
const DELETING: u8 = 0x08;
const ORIGIN: u8 = 0x09;

/// The key of a part of the value at `prefix`.
pub(super) fn with_part(prefix: &[u8], part: u16) -> Vec<u8> {
    [prefix, &part.to_be_bytes()].concat()
}

/// The key without its part number, and that number.
pub(super) fn split_part(key: &[u8]) -> Option<(&[u8], u16)> {
    let (prefix, part) = key.split_last_chunk()?;
    Some((prefix, u16::from_be_bytes(*part)))
}

/// A row about the journal itself.
pub(super) fn meta(name: &str) -> Vec<u8> {
    [&[META], name.as_bytes()].concat()
}

/// The block of `session` that begins with event `first_seq`. Has parts.
pub(super) fn block(session: Ulid, first_seq: u64) -> Vec<u8> {
    [&blocks(session)[..], &first_seq.to_be_bytes()].concat()
}

/// What all blocks of `session` begin with.
pub(super) fn blocks(session: Ulid) -> Vec<u8> {
    of_session(BLOCK, session)
}

/// What the keys of all that belongs to sessions begin with.
pub(super) const fn all_of_sessions() -> [[u8; 1]; 3] {
    [[BLOCK], [CURSOR], [SESSION]]
}

/// Whether a key is of a part of a block.
pub(super) fn is_block(key: &[u8]) -> bool {
    key.first() == Some(&BLOCK)
}

/// Whether a key is of the first part of a projection.
pub(super) fn is_first_of_session(key: &[u8]) -> bool {
    split_part(key).is_some_and(|(prefix, part)| part == 0 && session_ulid(prefix).is_some())
}

/// Whether rows of a kind belong to one session or commit.
pub(super) const fn is_copied_apart(kind: u8) -> bool {
    matches!(kind, BLOCK | CURSOR | COMMIT | SESSION)
}

/// The session in the key of a block, a cursor or a projection, with whatever
/// follows it.
pub(super) fn ulid_in(key: &[u8]) -> Option<Ulid> {
    let (kind, rest) = key.split_first()?;
    let ulid: &[u8; 16] = rest.first_chunk()?;
    matches!(*kind, BLOCK | CURSOR | SESSION).then(|| Ulid::from_bytes(*ulid))
}

/// The first event's number and the part in a block's whole key.
pub(super) fn block_part(key: &[u8]) -> Option<(u64, u16)> {
    let (prefix, part) = split_part(key)?;
    Some((block_seq(prefix)?, part))
}

/// The first event's number in a block's key, given without its part.
pub(super) fn block_seq(prefix: &[u8]) -> Option<u64> {
    let (head, seq) = prefix.split_last_chunk()?;
    (head.len() == 17 && head[0] == BLOCK).then(|| u64::from_be_bytes(*seq))
}

/// A stream's cursor.
pub(super) fn cursor(session: Ulid, key: &CursorKey) -> Vec<u8> {
    let mut out = cursors(session);
    out.extend_from_slice(&key.run.to_be_bytes());
    out.extend_from_slice(&key.attempt.to_be_bytes());
    out.push(key.stream);
    out
}

/// What all cursors of `session` begin with.
pub(super) fn cursors(session: Ulid) -> Vec<u8> {
    of_session(CURSOR, session)
}

/// Which stream a cursor's key is of.
pub(super) fn cursor_key(key: &[u8]) -> Option<CursorKey> {
    let rest: &[u8; 9] = key.get(17..)?.try_into().ok()?;
    let (run, rest) = rest.split_first_chunk()?;
    let (attempt, rest) = rest.split_first_chunk()?;
    (key[0] == CURSOR).then(|| CursorKey {
        run: u32::from_be_bytes(*run),
        attempt: u32::from_be_bytes(*attempt),
        stream: rest[0],
    })
}

/// The row of commit `number`. Has parts.
pub(super) fn commit(number: u64) -> Vec<u8> {
    [&[COMMIT][..], &number.to_be_bytes()].concat()
}

/// What the keys of all commits begin with.
pub(super) const fn commits() -> [u8; 1] {
    [COMMIT]
}

/// The number in a commit's key, given without its part.
pub(super) fn commit_number(prefix: &[u8]) -> Option<u64> {
    let number: &[u8; 8] = prefix.get(1..)?.try_into().ok()?;
    (prefix[0] == COMMIT).then(|| u64::from_be_bytes(*number))
}

/// The projection of `session`. Has parts.
pub(super) fn session(session: Ulid) -> Vec<u8> {
    of_session(SESSION, session)
}

/// What the keys of all projections begin with.
pub(super) const fn sessions() -> [u8; 1] {
    [SESSION]
}

/// Lies after the keys of all projections.
pub(super) const fn after_sessions() -> [u8; 1] {
    [SESSION + 1]
}

/// The session in a projection's key, given without its part.
pub(super) fn session_ulid(prefix: &[u8]) -> Option<Ulid> {
    ulid_after(SESSION, prefix)
}

/// The row of request `id`. Has parts.
pub(super) fn request(id: Ulid) -> Vec<u8> {
    of_session(REQUEST, id)
}

/// What the keys of all requests begin with.
pub(super) const fn requests() -> [u8; 1] {
    [REQUEST]
}

/// What stands where a session is being removed that is in truth being imported:
/// nobody sees it yet either, and what is there of it goes at the next opening.
pub(super) const IMPORTING: &[u8] = b"importing";

/// Says that `session` is being removed.
pub(super) fn deleting(session: Ulid) -> Vec<u8> {
    of_session(DELETING, session)
}

/// What the keys of all sessions that are being removed begin with.
pub(super) const fn deletings() -> [u8; 1] {
    [DELETING]
}

/// The session in a key made by [`deleting`].
pub(super) fn deleting_ulid(key: &[u8]) -> Option<Ulid> {
    ulid_after(DELETING, key)
}

/// Says which home recorded `session`, which was imported.
pub(super) fn origin(session: Ulid) -> Vec<u8> {
    of_session(ORIGIN, session)
}

/// Whether a key is one that a journal may have, by its kind and length.
pub(super) fn is_whole(key: &[u8]) -> bool {
    let len = match key.first() {
        Some(&META) => return key.len() > 1,
        Some(&BLOCK) => 27,
        Some(&CURSOR) => 26,
        Some(&COMMIT) => 11,
        Some(&(SESSION | REQUEST)) => 19,
        Some(&(DELETING | ORIGIN)) => 17,
        Some(_) => return true,
        None => return false,
    };
    key.len() == len
}

/// Whether a key is of a kind that a journal has.
pub(super) fn is_ours(key: &[u8]) -> bool {
    matches!(key.first(), Some(META..=ORIGIN))
}

/// A key as an error names it.
pub(super) fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_session(kind: u8, session: Ulid) -> Vec<u8> {
    [&[kind][..], &session.0.to_be_bytes()].concat()
}

fn ulid_after(kind: u8, key: &[u8]) -> Option<Ulid> {
    let ulid: &[u8; 16] = key.get(1..)?.try_into().ok()?;
    (key[0] == kind).then(|| Ulid(u128::from_be_bytes(*ulid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> impl Strategy<Value = CursorKey> {
        (any::<u32>(), any::<u32>(), any::<u8>()).prop_map(|(run, attempt, stream)| CursorKey {
            run,
            attempt,
            stream,
        })
    }

    /// Near ones are where an order would be wrong.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0u64..3, 250u64..260, 65_530u64..65_540]
    }

    fn ulid() -> impl Strategy<Value = Ulid> {
        prop_oneof![any::<u128>(), 0u128..3, 250u128..260].prop_map(Ulid)
    }

    proptest! {
        #[test]
        fn blocks_sort_by_session_number_and_part(a in (ulid(), number(), any::<u16>()), b in (ulid(), number(), any::<u16>())) {
            let key = |(session, seq, part)| with_part(&block(session, seq), part);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            let key = key(a);
            let (prefix, part) = split_part(&key).unwrap();
            prop_assert_eq!((block_seq(prefix), part), (Some(a.1), a.2));
            prop_assert!(prefix.starts_with(&blocks(a.0)));
            prop_assert_eq!(key.len(), 1 + 16 + 8 + 2);
        }

        #[test]
        fn cursors_sort_by_session_and_stream(a in (ulid(), stream()), b in (ulid(), stream())) {
            let key = |(session, stream): (Ulid, CursorKey)| cursor(session, &stream);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(cursor_key(&key(a)), Some(a.1));
            prop_assert!(key(a).starts_with(&cursors(a.0)));
        }

        #[test]
        fn commits_sort_by_number(a in (number(), any::<u16>()), b in (number(), any::<u16>())) {
            let key = |(number, part)| with_part(&commit(number), part);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(commit_number(split_part(&key(a)).unwrap().0), Some(a.0));
        }

        #[test]
        fn sessions_sort_by_ulid(a in (ulid(), any::<u16>()), b in (ulid(), any::<u16>())) {
            let key = |(ulid, part)| with_part(&session(ulid), part);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(session_ulid(split_part(&key(a)).unwrap().0), Some(a.0));
            prop_assert!(key(a).starts_with(&sessions()));
        }

        #[test]
        fn requests_sort_by_id(a in (ulid(), any::<u16>()), b in (ulid(), any::<u16>())) {
            let key = |(id, part)| with_part(&request(id), part);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert!(key(a).starts_with(&requests()));
        }

        #[test]
        fn deletions_sort_by_ulid(a in ulid(), b in ulid()) {
            prop_assert_eq!(deleting(a).cmp(&deleting(b)), a.cmp(&b));
            prop_assert_eq!(deleting_ulid(&deleting(a)), Some(a));
            prop_assert!(deleting(a).starts_with(&deletings()));
        }

        #[test]
        fn meta_sorts_by_name_before_all_else(a: String, b: String, other in ulid()) {
            prop_assert_eq!(meta(&a).cmp(&meta(&b)), a.cmp(&b));
            prop_assert!(meta(&a) < blocks(other));
        }

        #[test]
        fn kinds_are_never_mixed_up(key: Vec<u8>) {
            let kinds = [
                cursor_key(&key).is_some(),
                block_seq(&key).is_some(),
                commit_number(&key).is_some(),
                session_ulid(&key).is_some(),
                deleting_ulid(&key).is_some(),
            ];
            prop_assert!(kinds.iter().filter(|is| **is).count() <= 1);
        }
    }

    #[test]
    fn kinds_differ() {
        let kinds = [
            META, BLOCK, CURSOR, COMMIT, SESSION, REQUEST, INDEX, DELETING, ORIGIN,
        ];
        assert!(kinds.is_sorted_by(|a, b| a < b));
    }
}
