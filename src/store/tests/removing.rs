//! Sessions that are removed, little by little.

use super::*;
use std::fs;

const S: Ulid = Ulid(7);
const T: Ulid = Ulid(9);
/// A cursor is a row, and these are several steps' worth.
const MANY: u32 = 3000;

/// One session with many rows, one with few; the claim of the latter.
fn make(dir: &Path) -> (Journal, Claim) {
    let mut journal = open(dir);
    let claim = journal.claim(S).unwrap();
    let large = Append {
        cursors: (0..MANY)
            .map(|run| (cursor_key(run, 1), cursor(3)))
            .collect(),
        record: Some(record(S, true, 9_000)),
        ..append(S, claim.generation, lines(1, 100))
    };
    commit_one(&mut journal, large);
    let claim = journal.claim(T).unwrap();
    let small = Append {
        record: Some(record(T, true, 10)),
        ..append(T, claim.generation, lines(1, 10))
    };
    commit_one(&mut journal, small);
    (journal, claim)
}

#[track_caller]
fn is_gone(reader: &Reader) {
    assert_eq!(reader.session(S).unwrap(), None);
    assert_eq!(reader.last_seq(S).unwrap(), 0);
    assert_eq!(reader.events(S, 0, 1000).unwrap(), vec![]);
    assert_eq!(reader.stored_size(S).unwrap(), 0);
    let all = firehose(reader, 7).unwrap();
    assert!(all.iter().all(|(of, _)| *of == T));
}

/// Rows of S, of whatever kind.
fn rows_of(journal: &Journal) -> usize {
    let reader = journal.reader();
    let view = reader.shared.view().unwrap();
    let kinds = [
        keys::session(S),
        keys::cursors(S),
        keys::blocks(S),
        keys::deleting(S),
    ];
    kinds
        .iter()
        .map(|prefix| view.rows(prefix).unwrap().len())
        .sum()
}

#[test]
fn others_go_on_while_a_session_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, claim) = make(dir.path());
    let reader = journal.reader();
    journal.begin_removal(S).unwrap();
    is_gone(&reader);
    let (mut steps, mut before) = (0, rows_of(&journal));
    while journal.go_on_removing().unwrap() {
        let now = rows_of(&journal);
        assert!(now < before);
        before = now;
        is_gone(&reader);
        commit_one(
            &mut journal,
            append(T, claim.generation, lines(11 + steps, 1)),
        );
        steps += 1;
    }
    assert!(steps >= 2, "{steps}");
    assert_eq!(rows_of(&journal), 0);
    is_gone(&reader);
    assert_eq!(read_all(&reader, T).unwrap(), lines(1, 10 + steps));
    assert!(!journal.go_on_removing().unwrap());
    assert_eq!(journal.claim(S).unwrap().next_seq, 1);
}

#[test]
fn a_session_that_comes_again_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = make(dir.path());
    journal.begin_removal(S).unwrap();
    assert!(journal.go_on_removing().unwrap());
    let claim = journal.claim(S).unwrap();
    assert_eq!((claim.next_seq, claim.cursors.len()), (1, 0));
    commit_one(&mut journal, append(S, claim.generation, lines(1, 3)));
    assert!(!journal.go_on_removing().unwrap());
    assert_eq!(read_all(&journal.reader(), S).unwrap(), lines(1, 3));
}

#[test]
fn a_removal_is_finished_by_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = make(dir.path());
    journal.begin_removal(S).unwrap();
    assert!(journal.go_on_removing().unwrap());
    assert_eq!(journal.reopen().unwrap(), Vec::<String>::new());
    assert_eq!(rows_of(&journal), 0);
    assert!(!journal.go_on_removing().unwrap());
    is_gone(&journal.reader());
}

/// However far the removal is when the copy is begun, made and finished.
#[test]
fn a_copy_has_nothing_of_what_is_being_removed() {
    for steps in [
        [0, 0, 0],
        [0, 1, 1],
        [1, 1, 9],
        [0, 9, 0],
        [2, 9, 0],
        [0, 0, 9],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = make(dir.path());
        journal.begin_removal(S).unwrap();
        let go_on = |journal: &mut Journal, steps| {
            for _ in 0..steps {
                journal.go_on_removing().unwrap();
            }
        };
        go_on(&mut journal, steps[0]);
        let mut compaction = journal.begin_compaction().unwrap();
        go_on(&mut journal, steps[1]);
        compaction.copy(&|| false).unwrap();
        go_on(&mut journal, steps[2]);
        let done = journal.finish_compaction(&mut compaction).unwrap().unwrap();
        done.old.discard().unwrap();
        is_gone(&journal.reader());
        go_on(&mut journal, 9);
        assert_eq!(rows_of(&journal), 0, "{steps:?}");
        is_gone(&journal.reader());
        assert_eq!(read_all(&journal.reader(), T).unwrap(), lines(1, 10));
    }
}

#[test]
fn who_has_read_all_of_a_removed_session_reads_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    for session in [S, T] {
        let claim = journal.claim(session).unwrap();
        let row = Append {
            record: Some(record(session, true, 10)),
            ..append(session, claim.generation, lines(1, 3))
        };
        commit_one(&mut journal, row);
    }
    let reader = journal.reader();
    let read = reader.firehose(FirehoseCursor::default(), 100).unwrap();
    let cursors: Vec<_> = read.iter().map(|(cursor, ..)| *cursor).collect();
    journal.delete_session(S).unwrap();
    let check = |reader: &Reader| {
        for cursor in &cursors[..2] {
            let gone = reader.check_cursor(*cursor);
            assert!(matches!(gone, Err(StoreError::Passed { .. })), "{gone:?}");
        }
        for (n, cursor) in (2..).zip(&cursors[2..]) {
            reader.check_cursor(*cursor).unwrap();
            assert_eq!(reader.firehose(*cursor, 100).unwrap().len(), 5 - n);
        }
    };
    check(&reader);
    let mut compaction = journal.begin_compaction().unwrap();
    compaction.copy(&|| false).unwrap();
    journal.finish_compaction(&mut compaction).unwrap().unwrap();
    check(&reader);
}

#[test]
fn what_is_left_over_never_keeps_a_journal_shut() {
    let dir = tempfile::tempdir().unwrap();
    drop(make(dir.path()));
    fs::write(dir.path().join("0002"), b"no database").unwrap();
    let mut opened = Journal::open(dir.path(), options()).unwrap();
    let warnings = opened.warnings.join("\n");
    assert_eq!(opened.warnings.len(), 1, "{warnings}");
    assert!(
        warnings.contains("0002 is left of a compaction"),
        "{warnings}"
    );
    assert_eq!(opened.journal.reopen().unwrap().len(), 1);
    assert_eq!(read_all(&opened.journal.reader(), T).unwrap(), lines(1, 10));
    fs::remove_file(dir.path().join("0002")).unwrap();
    drop(opened.journal.begin_compaction().unwrap());
}

#[test]
fn what_a_failed_exchange_leaves_is_removed() {
    for failing in ["ready", "current"] {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = make(dir.path());
        let mut compaction = journal.begin_compaction().unwrap();
        let hook = move |step| match step == failing {
            true => Err(StoreError::Overtaken),
            false => Ok(()),
        };
        compaction.at_step = AtStep(Some(Box::new(hook)));
        compaction.copy(&|| false).unwrap();
        journal.finish_compaction(&mut compaction).unwrap_err();
        drop(compaction);
        journal.reopen().unwrap();
        let current = files::current(dir.path()).unwrap().unwrap();
        for name in files::databases(dir.path()).unwrap() {
            if name != current {
                files::wait_released(&dir.path().join(name)).unwrap();
            }
        }
        drop(journal.begin_compaction().unwrap());
        assert_eq!(files::databases(dir.path()).unwrap(), [current]);
        assert_eq!(read_all(&journal.reader(), T).unwrap(), lines(1, 10));
    }
}
