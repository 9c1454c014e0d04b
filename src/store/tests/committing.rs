use super::*;

const S: Ulid = Ulid(7);
const T: Ulid = Ulid(8);

fn request(id: u128, hash: u8, at: Timestamp) -> RequestRow {
    RequestRow {
        id: Ulid(id),
        hash: [hash; 32],
        answer: serde_json::json!({ "session": "pod-00000007", "text": "x".repeat(20) }),
        at,
    }
}

#[test]
fn a_refused_append_does_not_hinder_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let old = journal.claim(S).unwrap();
    let new = journal.claim(S).unwrap();
    let other = journal.claim(T).unwrap();
    assert!(new.generation > old.generation);
    let unclaimed = Ulid(9);
    let results = journal
        .commit(vec![
            append(S, old.generation, lines(1, 1)),
            append(S, new.generation, lines(1, 2)),
            append(S, new.generation, lines(1, 1)),
            append(S, new.generation, lines(4, 1)),
            append(S, new.generation, lines(3, 1)),
            append(T, other.generation, lines(1, 5)),
            append(unclaimed, new.generation, lines(1, 1)),
        ])
        .unwrap();
    let committed = |last_seq| {
        Ok(Committed {
            number: 1,
            last_seq,
        })
    };
    let wrong = |expected, found| {
        Err(AppendError::WrongSeq {
            session: S,
            expected,
            found,
        })
    };
    let stale = |session, given, current| {
        Err(AppendError::Stale {
            session,
            given,
            current,
        })
    };
    assert_eq!(
        results,
        vec![
            stale(S, old.generation, Some(new.generation)),
            committed(2),
            wrong(3, 1),
            wrong(3, 4),
            committed(3),
            committed(5),
            stale(unclaimed, new.generation, None),
        ]
    );
    let reader = journal.reader();
    assert_eq!(read_all(&reader, S).unwrap(), lines(1, 3));
    assert_eq!(read_all(&reader, T).unwrap(), lines(1, 5));
    assert_eq!(read_all(&reader, unclaimed).unwrap(), vec![]);
}

#[test]
fn events_that_are_not_dense_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let mut events = lines(1, 3);
    events[2].seq = 4;
    let results = journal.commit(vec![append(S, claim.generation, events)]);
    assert!(matches!(
        results.unwrap()[0],
        Err(AppendError::WrongSeq {
            expected: 3,
            found: 4,
            ..
        })
    ));
    assert_eq!(journal.reader().last_seq(S).unwrap(), 0);
    assert_eq!(journal.reader().watermark(), 0);
    assert_eq!(
        commit_one(&mut journal, append(S, claim.generation, lines(1, 1))).number,
        1
    );
}

#[test]
fn generations_increase_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let first = journal.claim(S).unwrap().generation;
    let second = journal.claim(S).unwrap().generation;
    journal.reopen().unwrap();
    let third = journal.claim(S).unwrap().generation;
    drop(journal);
    let fourth = open(dir.path()).claim(S).unwrap().generation;
    assert!(first < second && second < third && third < fourth);
}

#[test]
fn nothing_of_a_commit_is_seen_before_its_barrier() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let reader = journal.reader();
    let claim = journal.claim(S).unwrap();
    let first = Append {
        cursors: vec![(cursor_key(0, 1), cursor(10))],
        record: Some(record(S, true, 20_000)),
        ..append(S, claim.generation, lines(1, 3))
    };
    commit_one(&mut journal, first.clone());
    let fresh = journal.claim(T).unwrap();
    let second = Append {
        events: lines(4, 2),
        cursors: vec![
            (cursor_key(0, 1), cursor(11)),
            (cursor_key(0, 2), cursor(1)),
        ],
        record: Some(record(S, false, 1)),
        requests: vec![request(1, 1, NOW)],
        ..first
    };
    let of_other = Append {
        record: Some(record(T, true, 7)),
        ..append(T, fresh.generation, lines(1, 1))
    };
    let seen = std::sync::Arc::new(std::sync::Mutex::new(0));
    let counted = seen.clone();
    let hidden = journal.reader();
    journal.at_barrier.0 = Some(Box::new(move || {
        assert_eq!(hidden.watermark(), 1);
        assert_eq!(hidden.last_seq(S)?, 3);
        assert_eq!(read_all(&hidden, S)?, lines(1, 3));
        assert_eq!(read_all(&hidden, T)?, vec![]);
        assert_eq!(hidden.session(S)?, Some(record(S, true, 20_000)));
        assert_eq!(hidden.session(T)?, None);
        let sessions: Result<Vec<_>, _> = hidden.sessions().collect();
        assert_eq!(sessions?, vec![record(S, true, 20_000)]);
        assert_eq!(hidden.cursors(S)?, [(cursor_key(0, 1), cursor(10))].into());
        assert_eq!(hidden.request(Ulid(1))?, None);
        assert_eq!(firehose(&hidden, 10)?.len(), 3);
        assert_eq!(hidden.tail_start(S, 1, &|_| true)?, 2);
        assert_eq!(hidden.since(S, at(4))?, 3);
        *counted.lock().unwrap() += 1;
        Ok(())
    }));
    journal.commit(vec![second, of_other]).unwrap();
    assert_eq!(*seen.lock().unwrap(), 1);
    assert_eq!(reader.watermark(), 2);
    assert_eq!(reader.last_seq(S).unwrap(), 5);
    assert_eq!(reader.session(S).unwrap(), Some(record(S, false, 1)));
    let sessions: Vec<_> = reader.sessions().map(|r| r.unwrap().ulid).collect();
    assert_eq!(sessions, vec![T, S]);
    assert_eq!(
        reader.cursors(S).unwrap(),
        [
            (cursor_key(0, 1), cursor(11)),
            (cursor_key(0, 2), cursor(1))
        ]
        .into()
    );
    assert_eq!(reader.request(Ulid(1)).unwrap(), Some(request(1, 1, NOW)));
    assert_eq!(firehose(&reader, 2).unwrap().len(), 6);
}

#[test]
fn after_a_failure_nothing_goes_on_before_it_is_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let reader = journal.reader();
    let claim = journal.claim(S).unwrap();
    commit_one(&mut journal, append(S, claim.generation, lines(1, 1)));
    journal.at_barrier.0 = Some(Box::new(|| {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        Err(StoreError::io("sync", Path::new("db"), source))
    }));
    let error = journal
        .commit(vec![append(S, claim.generation, lines(2, 1))])
        .unwrap_err();
    assert!(error.is_full());
    journal.at_barrier.0 = None;
    assert_eq!(
        reader.last_seq(S).unwrap(),
        1,
        "what is not on disk is not seen"
    );
    let again = journal.commit(vec![append(S, claim.generation, lines(2, 1))]);
    assert!(matches!(again, Err(StoreError::Closed { .. })));
    assert!(matches!(journal.claim(S), Err(StoreError::Closed { .. })));

    assert_eq!(journal.reopen().unwrap(), Vec::<String>::new());
    let stale = journal.commit(vec![append(S, claim.generation, lines(2, 1))]);
    assert!(matches!(
        stale.unwrap()[0],
        Err(AppendError::Stale { current: None, .. })
    ));
    // Whether the failed commit counts is only known now: it did reach the disk.
    let claim = journal.claim(S).unwrap();
    assert_eq!(claim.next_seq, 3);
    assert_eq!(reader.last_seq(S).unwrap(), 2);
    commit_one(&mut journal, append(S, claim.generation, lines(3, 1)));
    assert_eq!(read_all(&reader, S).unwrap(), lines(1, 3));
}

#[test]
fn a_request_is_carried_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let with = |row: RequestRow, events| Append {
        requests: vec![row],
        ..append(S, claim.generation, events)
    };
    let results = journal
        .commit(vec![
            with(request(1, 1, NOW), lines(1, 1)),
            with(request(1, 1, NOW), lines(2, 1)),
            with(request(1, 2, NOW), lines(2, 1)),
        ])
        .unwrap();
    let done = || Err(AppendError::RequestDone(Box::new(request(1, 1, NOW))));
    let mismatch = || Err(AppendError::RequestMismatch { id: Ulid(1) });
    assert_eq!(results[0].as_ref().map(|c| c.last_seq), Ok(1));
    assert_eq!(results[1..], [done(), mismatch()]);
    let later = journal
        .commit(vec![
            with(request(1, 1, at(5)), lines(2, 1)),
            with(request(1, 3, at(5)), lines(2, 1)),
            with(request(2, 1, at(5)), lines(2, 1)),
        ])
        .unwrap();
    assert_eq!(later[..2], [done(), mismatch()]);
    assert!(later[2].is_ok());
    assert_eq!(read_all(&journal.reader(), S).unwrap(), lines(1, 2));
}

#[test]
fn requests_are_forgotten_after_a_day() {
    let day = 24 * 60 * 60;
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let with = |row: RequestRow| Append {
        requests: vec![row],
        ..append(S, claim.generation, Vec::new())
    };
    commit_one(&mut journal, with(request(1, 1, NOW)));
    commit_one(&mut journal, with(request(2, 1, at(day - 5))));
    let reader = journal.reader();
    assert!(reader.request(Ulid(1)).unwrap().is_some());
    // While it runs: another request, later, makes it look.
    commit_one(&mut journal, with(request(3, 1, at(day + 4_000))));
    assert_eq!(reader.request(Ulid(1)).unwrap(), None);
    assert!(reader.request(Ulid(2)).unwrap().is_some());
    drop((journal, reader));
    // And when it is opened.
    let later = Options {
        now: at(2 * day),
        ..options()
    };
    let reader = Journal::open(dir.path(), later).unwrap().journal;
    let reader = reader.reader();
    assert_eq!(reader.request(Ulid(2)).unwrap(), None);
    assert!(reader.request(Ulid(3)).unwrap().is_some());
}

#[test]
fn long_values_never_make_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    // Noise does not compress, so each of these has many full parts.
    let mut state = 1u64;
    let mut noise = |len: usize| -> Vec<u8> {
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u8
        })
        .take(len)
        .collect()
    };
    let mut all = Vec::new();
    for commit in 0..30u64 {
        let sizes = [65_536, 6_000 + commit as usize, 0, 300_000, 1];
        let events: Vec<Event> = sizes
            .into_iter()
            .zip(commit * 5 + 1..)
            .map(|(len, seq)| event(seq, output(noise(len))))
            .collect();
        all.extend(events.clone());
        let row = Append {
            record: Some(record(S, commit < 29, 10 + 3_000 * commit as usize)),
            ..append(S, claim.generation, events)
        };
        commit_one(&mut journal, row);
    }
    let reader = journal.reader();
    assert_eq!(read_all(&reader, S).unwrap(), all);
    assert_eq!(
        reader.session(S).unwrap(),
        Some(record(S, false, 10 + 3_000 * 29))
    );
    assert!(block_rows(&journal, S) > 1_000);
    drop(journal);
    assert_eq!(blobs(dir.path()), 0);
    let journal = open(dir.path());
    assert_eq!(read_all(&journal.reader(), S).unwrap(), all);
}

#[test]
fn too_large_an_event_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let claim = journal.claim(S).unwrap();
    let huge = vec![event(1, output(vec![b'x'; block::BODY_MAX + 1]))];
    let results = journal
        .commit(vec![
            append(S, claim.generation, huge),
            append(S, claim.generation, lines(1, 1)),
        ])
        .unwrap();
    assert!(matches!(results[0], Err(AppendError::TooLarge { .. })));
    assert!(results[1].is_ok());
}

#[test]
fn a_removed_session_is_gone_and_may_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let reader = journal.reader();
    for session in [S, T] {
        let claim = journal.claim(session).unwrap();
        for first in [1, 101] {
            let row = Append {
                cursors: vec![(cursor_key(0, 1), cursor(3))],
                record: Some(record(session, true, 9_000)),
                ..append(session, claim.generation, lines(first, 100))
            };
            commit_one(&mut journal, row);
        }
    }
    journal.delete_session(S).unwrap();
    let check = |reader: &Reader| {
        assert_eq!(reader.session(S).unwrap(), None);
        assert_eq!(reader.last_seq(S).unwrap(), 0);
        assert_eq!(reader.events(S, 0, 1).unwrap(), vec![]);
        assert_eq!(reader.cursors(S).unwrap(), BTreeMap::new());
        assert!(firehose(reader, 7).unwrap().iter().all(|(of, _)| *of == T));
        assert_eq!(firehose(reader, 1000).unwrap().len(), 200);
        assert_eq!(read_all(reader, T).unwrap(), lines(1, 200));
    };
    check(&reader);
    assert_eq!(block_rows(&journal, S), 0);
    drop(journal);
    let mut journal = open(dir.path());
    check(&journal.reader());
    assert_eq!(journal.claim(S).unwrap().next_seq, 1);
}
