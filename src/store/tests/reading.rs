use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

const S: Ulid = Ulid(7);

fn assert_send_sync<T: Send + Sync>() {}
fn assert_send<T: Send>() {}

#[test]
fn readers_go_anywhere_and_the_writer_to_its_thread() {
    assert_send_sync::<Reader>();
    assert_send::<Journal>();
}

#[test]
fn many_small_commits_become_few_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let reader = journal.reader();
    for seq in 1..=2_500 {
        commit_one(&mut journal, append(S, claim.generation, lines(seq, 1)));
    }
    assert!(block_rows(&journal, S) < 120, "{}", block_rows(&journal, S));
    assert_eq!(read_all(&reader, S).unwrap(), lines(1, 2_500));
    let end = Append {
        record: Some(record(S, false, 1)),
        ..append(S, claim.generation, lines(2_501, 1))
    };
    commit_one(&mut journal, end);
    assert!(block_rows(&journal, S) < 12, "{}", block_rows(&journal, S));
    assert_eq!(read_all(&reader, S).unwrap(), lines(1, 2_501));
    assert_eq!(firehose(&reader, 333).unwrap().len(), 2_501);
    drop(journal);
    assert_eq!(blobs(dir.path()), 0);
    let mut journal = open(dir.path());
    assert_eq!(read_all(&journal.reader(), S).unwrap(), lines(1, 2_501));
    assert_eq!(journal.claim(S).unwrap().next_seq, 2_502);
}

#[test]
fn readers_miss_nothing_while_blocks_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = journal.reader();
                let done = &done;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) || rounds == 0 {
                        let events = read_all(&reader, S).unwrap();
                        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
                        let back = events.len() as u64 / 2;
                        let start = reader.tail_start(S, back, &|_| true).unwrap();
                        assert!(start >= events.len() as u64 - back);
                        let since = reader.since(S, at(back as i64)).unwrap();
                        assert_eq!(since, back.saturating_sub(1));
                        firehose(&reader, 500).unwrap();
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for seq in 1..=1_500 {
            commit_one(&mut journal, append(S, claim.generation, lines(seq, 1)));
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[test]
fn reading_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let wide: Vec<Event> = (1..=40)
        .map(|seq| event(seq, output(vec![seq as u8; 60_000])))
        .collect();
    commit_one(&mut journal, append(S, claim.generation, wide.clone()));
    let reader = journal.reader();
    let least = reader.events(S, 0, 0).unwrap();
    assert!((1..=5).contains(&least.len()), "{}", least.len());
    let some = reader.events(S, 7, 1_000_000).unwrap();
    assert_eq!(some[0].seq, 8);
    assert!((5..=20).contains(&some.len()), "{}", some.len());
    assert_eq!(read_all(&reader, S).unwrap(), wide);
    assert_eq!(reader.events(S, 40, 1).unwrap(), vec![]);
    assert_eq!(reader.events(S, u64::MAX, 1).unwrap(), vec![]);
}

#[test]
fn the_tail_counts_what_matches() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let note = EventKind::Note {
        code: "gap".into(),
        message: "m".into(),
    };
    for first in (1..100).step_by(3) {
        let mut events = lines(first, 2);
        events.push(event(first + 2, note.clone()));
        commit_one(&mut journal, append(S, claim.generation, events));
    }
    let reader = journal.reader();
    let last = reader.last_seq(S).unwrap();
    let is_output = |event: &Event| matches!(event.kind, EventKind::Output(_));
    for outputs in 0..70 {
        let start = reader.tail_start(S, outputs, &is_output).unwrap();
        let rest = reader.events(S, start, usize::MAX).unwrap();
        let found = rest.iter().filter(|event| is_output(event)).count() as u64;
        assert_eq!(found, outputs.min(66));
        assert!(start == 0 || outputs == 0 || is_output(&rest[0]));
    }
    assert_eq!(reader.tail_start(S, 0, &is_output).unwrap(), last);
    assert_eq!(reader.tail_start(Ulid(99), 5, &is_output).unwrap(), 0);
}

#[test]
fn since_finds_the_first_event_of_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let mut seq = 1;
    for commit in 0..60u64 {
        let mut events = lines(seq, commit % 4 + 1);
        for event in &mut events {
            event.time = at(event.seq as i64 / 3);
        }
        seq += events.len() as u64;
        commit_one(&mut journal, append(S, claim.generation, events));
    }
    let reader = journal.reader();
    let all = read_all(&reader, S).unwrap();
    for second in -1..60 {
        let want = all.iter().take_while(|e| e.time < at(second)).count() as u64;
        assert_eq!(reader.since(S, at(second)).unwrap(), want);
        let from = reader.firehose_since(at(second)).unwrap();
        let rest = reader.firehose(from, usize::MAX).unwrap();
        let later = all.iter().filter(|e| e.time >= at(second)).count();
        assert!(rest.len() >= later && rest.len() <= later + 4);
    }
    assert_eq!(reader.since(Ulid(99), NOW).unwrap(), 0);
}

#[test]
fn sessions_come_newest_first_and_only_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut appends = Vec::new();
    for number in 1..=100u128 {
        // Some have several parts.
        let session = Ulid(number << 80);
        let claim = journal.claim(session).unwrap();
        appends.push(Append {
            record: Some(record(session, true, (number as usize % 5) * 5_000)),
            ..append(session, claim.generation, lines(1, 1))
        });
    }
    let damaged = Ulid(97 << 80);
    journal.commit(appends).unwrap();
    let reader = journal.reader();
    let all: Vec<_> = reader.sessions().map(|r| r.unwrap().ulid).collect();
    assert_eq!(
        all,
        (1..=100u128)
            .rev()
            .map(|n| Ulid(n << 80))
            .collect::<Vec<_>>()
    );
    let db = reader.shared.read().db.clone().unwrap();
    db.insert(keys::with_part(&keys::session(damaged), 0), b"x")
        .unwrap();
    let first: Vec<_> = reader.sessions().take(5).map(|r| r.is_ok()).collect();
    assert_eq!(first, [true, true, true, false, true]);
    assert_eq!(reader.sessions().count(), 100);
}

#[test]
fn holes_and_damage_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    for first in [1, 11, 21] {
        commit_one(&mut journal, append(S, claim.generation, lines(first, 10)));
    }
    let reader = journal.reader();
    let db = reader.shared.read().db.clone().unwrap();
    let key = keys::with_part(&keys::block(S, 11), 0);
    let row = db.remove(&key).unwrap().unwrap();
    let gap = read_all(&reader, S).unwrap_err();
    assert!(matches!(gap, StoreError::Gap { seq: 11, .. }), "{gap}");
    assert_eq!(
        gap.to_string(),
        "the journal is damaged: event 11 of session 00000000000000000000000007 is missing"
    );
    assert!(reader.tail_start(S, 15, &|_| true).is_err());
    assert!(firehose(&reader, 100).is_err());
    let mut changed = row.to_vec();
    changed[60] ^= 1;
    db.insert(&key, changed).unwrap();
    let damage = read_all(&reader, S).unwrap_err();
    assert!(matches!(
        damage,
        StoreError::Block {
            seq: 11,
            source: BlockError::Checksum,
            ..
        }
    ));
    let error: crate::model::Error = damage.into();
    assert_eq!(error.code, crate::model::ErrorCode::JournalDamaged);
    db.insert(&key, row).unwrap();
    assert_eq!(read_all(&reader, S).unwrap(), lines(1, 30));
    db.remove(keys::with_part(&keys::commit(2), 0)).unwrap();
    for step in [1, 10, 100] {
        let missing = firehose(&reader, step).unwrap_err().to_string();
        assert_eq!(
            missing,
            "the journal is damaged: the commit row 2: it is missing"
        );
    }
}

#[test]
fn a_closed_journal_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let reader = journal.reader();
    drop(journal);
    assert!(matches!(reader.last_seq(S), Err(StoreError::Closed { .. })));
    let sessions: Vec<_> = reader.sessions().collect();
    assert!(matches!(sessions[..], [Err(StoreError::Closed { .. })]));
}

#[test]
fn firehose_cursors_are_text() {
    let cursor = FirehoseCursor {
        commit: 12,
        offset: 3,
    };
    assert_eq!(cursor.to_string(), "12.3");
    assert_eq!("12.3".parse(), Ok(cursor));
    for bad in [
        "",
        "12",
        "12.",
        ".3",
        "12.3.4",
        "-1.2",
        "+1.2",
        "1.99999999999999999999",
    ] {
        assert_eq!(bad.parse::<FirehoseCursor>(), Err(BadCursor), "{bad}");
    }
}

#[test]
fn blocks_come_as_they_lie_and_cover_what_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    for seq in 1..=70 {
        commit_one(&mut journal, append(S, claim.generation, lines(seq, 1)));
    }
    let wide: Vec<Event> = (71..=90)
        .map(|seq| event(seq, output(vec![seq as u8; 60_000])))
        .collect();
    commit_one(&mut journal, append(S, claim.generation, wide));
    let reader = journal.reader();
    let all = read_all(&reader, S).unwrap();
    for (after, max_bytes) in [(0, 1), (0, usize::MAX), (33, 1), (69, 5_000), (89, 1)] {
        let mut seqs = Vec::new();
        let mut at = after;
        while let Some(stored) = reader.blocks(S, at, max_bytes).unwrap() {
            let mut frames = block::Frames::default();
            frames.push(&stored.bytes);
            while let Some(block::Frame::Block(header, bytes)) = frames.next_frame().unwrap() {
                let block = block::Block::decode(&bytes).unwrap();
                assert_eq!(block.header(), &header);
                for event in block.events() {
                    let event = event.unwrap().to_event().unwrap();
                    if event.seq > at {
                        assert_eq!(event, all[event.seq as usize - 1]);
                        seqs.push(event.seq);
                    }
                }
                at = header.last_seq();
            }
            assert_eq!(
                (at, all[at as usize - 1].time),
                (stored.last_seq, stored.last_time)
            );
        }
        assert_eq!(seqs, (after + 1..=90).collect::<Vec<u64>>());
    }
    assert_eq!(reader.blocks(S, 90, 1).unwrap(), None);
    assert_eq!(reader.blocks(Ulid(8), 0, 1).unwrap(), None);
}

/// A piece of a line.
fn piece(seq: u64, stream: Stream, continued: bool) -> Event {
    let kind = EventKind::Output(Output {
        stream,
        data: b"x".to_vec(),
        continued,
    });
    event(seq, kind)
}

#[test]
fn the_last_lines_are_found_with_all_their_pieces() {
    use Stream::{Stderr, Stdout};
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let pieces = [
        (Stdout, false), // 1: a line
        (Stdout, true),  // 2: of three pieces, and within it
        (Stderr, false), // 3: one of the other stream
        (Stdout, true),
        (Stdout, false), // 5: its end
        (Stdout, true),  // 6: never ends
        (Stderr, true),  // 7: of two pieces
        (Stderr, false),
    ];
    for ((stream, continued), seq) in pieces.into_iter().zip(1..) {
        let event = piece(seq, stream, continued);
        commit_one(&mut journal, append(S, claim.generation, vec![event]));
    }
    let reader = journal.reader();
    let start = |between, count| reader.last_lines(S, between, count, &|_| true).unwrap();
    let starts: Vec<u64> = (0..7).map(|count| start((0, 8), count)).collect();
    assert_eq!(starts, [8, 6, 5, 1, 1, 0, 0]);
    assert_eq!(start((2, 8), 9), 2);
    assert_eq!(start((0, 3), 1), 2);
    let errors = |count| {
        let of_stderr = |event: &block::EventRef<'_>| event.stream() == Some(Stderr);
        reader.last_lines(S, (0, 8), count, &of_stderr).unwrap()
    };
    assert_eq!([errors(1), errors(2), errors(3)], [6, 2, 0]);
    let events = |between, count| reader.last_events(S, between, count, &|_| true).unwrap();
    assert_eq!(
        [events((0, 8), 0), events((0, 8), 3), events((4, 6), 9)],
        [8, 5, 4]
    );
}
