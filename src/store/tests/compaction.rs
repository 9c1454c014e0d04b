use super::super::space::allocated;
use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

const GONE: Ulid = Ulid(3);
const ENDED: Ulid = Ulid(4);
const LIVE: Ulid = Ulid(5);
const LATER: Ulid = Ulid(6);

/// All that a reader can see.
#[derive(Debug, PartialEq)]
struct Seen {
    watermark: u64,
    sessions: Vec<(SessionRecord, Vec<Event>, BTreeMap<CursorKey, Cursor>)>,
    firehose: Vec<(Ulid, Event)>,
    request: Option<RequestRow>,
}

fn seen(reader: &Reader) -> Seen {
    let sessions = reader.sessions().map(|record| {
        let record = record.unwrap();
        let events = read_all(reader, record.ulid).unwrap();
        let cursors = reader.cursors(record.ulid).unwrap();
        (record, events, cursors)
    });
    Seen {
        watermark: reader.watermark(),
        sessions: sessions.collect(),
        firehose: firehose(reader, 64).unwrap(),
        request: reader.request(Ulid(99)).unwrap(),
    }
}

fn write(journal: &mut Journal, session: Ulid, generation: u64, first: u64, count: u64) {
    let row = Append {
        cursors: vec![(cursor_key(0, 1), cursor(first * 10))],
        record: Some(record(session, true, 10)),
        ..append(session, generation, lines(first, count))
    };
    commit_one(journal, row);
}

fn end(journal: &mut Journal, session: Ulid, generation: u64, seq: u64) {
    let row = Append {
        record: Some(record(session, false, 7_000)),
        ..append(session, generation, lines(seq, 1))
    };
    commit_one(journal, row);
}

/// One session that is removed, one that ended, one that is live; the claim of the last.
fn make(dir: &Path) -> (Journal, Claim) {
    let mut journal = open(dir);
    let claims = [GONE, ENDED, LIVE].map(|session| (session, journal.claim(session).unwrap()));
    for n in 1..=100 {
        for (session, claim) in &claims {
            write(&mut journal, *session, claim.generation, n, 1);
        }
    }
    end(&mut journal, GONE, claims[0].1.generation, 101);
    end(&mut journal, ENDED, claims[1].1.generation, 101);
    let row = RequestRow {
        id: Ulid(99),
        hash: [7; 32],
        answer: serde_json::json!({"answer": 1}),
        at: NOW,
    };
    let asked = Append {
        requests: vec![row],
        ..append(LIVE, claims[2].1.generation, lines(101, 1))
    };
    commit_one(&mut journal, asked);
    journal.delete_session(GONE).unwrap();
    let [_, _, (_, claim)] = claims;
    (journal, claim)
}

/// Compacts while events are recorded, sessions made and removed.
fn compact(journal: &mut Journal, claim: &Claim, hook: AtStep) -> Result<Compacted, StoreError> {
    let mut compaction = journal.begin_compaction()?;
    compaction.at_step = hook;
    let next = journal.reader().last_seq(LIVE).unwrap() + 1;
    write(journal, LIVE, claim.generation, next, 3);
    compaction.copy(&|| false)?;
    write(journal, LIVE, claim.generation, next + 3, 3);
    if journal.reader().last_seq(LATER)? == 0 {
        let later = journal.claim(LATER)?;
        write(journal, LATER, later.generation, 1, 5);
    }
    let compacted = journal.finish_compaction(&mut compaction)?;
    Ok(compacted.unwrap())
}

#[test]
fn a_compacted_journal_is_the_same_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, claim) = make(dir.path());
    let reader = journal.reader();
    let before = seen(&reader);
    let home = journal.home();
    let compacted = compact(&mut journal, &claim, AtStep::default()).unwrap();
    compacted.old.discard().unwrap();
    assert_eq!(compacted.sessions, 3);
    // The reader of before sees what was there, and what came meanwhile.
    let after = seen(&reader);
    assert_eq!(after.watermark, before.watermark + 3);
    assert_eq!(after.request, before.request);
    assert_eq!(after.firehose[..before.firehose.len()], before.firehose[..]);
    assert_eq!(after.firehose.len(), before.firehose.len() + 11);
    let of = |seen: &Seen| seen.sessions.iter().map(|s| s.1.len()).collect::<Vec<_>>();
    assert_eq!(
        (of(&before), of(&after)),
        (vec![101, 101], vec![5, 107, 101])
    );
    // The claim is still good, and numbers go on.
    write(&mut journal, LIVE, claim.generation, 108, 2);
    assert_eq!(reader.watermark(), before.watermark + 4);
    assert_eq!(kept(&journal), counted(&journal));
    let stats = reader.stats().unwrap();
    assert_eq!(stats.events, 5 + 109 + 101);
    assert_eq!((stats.sessions, stats.database.as_str()), (3, "0002"));
    // One block each, but for what came since.
    assert!(stats.blocks <= 3 + 4, "{stats:?}");
    let all = seen(&reader);
    drop(journal);
    let journal = open(dir.path());
    assert_eq!(seen(&journal.reader()), all);
    assert_eq!(journal.home(), home);
    assert_eq!(kept(&journal), counted(&journal));
    let names: BTreeSet<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names.contains("0002") && !names.contains("0001"),
        "{names:?}"
    );
}

#[test]
fn a_journal_is_compacted_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = make(dir.path());
    for _ in 0..3 {
        let claim = journal.claim(LIVE).unwrap();
        let compacted = compact(&mut journal, &claim, AtStep::default()).unwrap();
        compacted.old.discard().unwrap();
        assert_eq!(kept(&journal), counted(&journal));
        let before = seen(&journal.reader());
        drop(journal);
        journal = open(dir.path());
        assert_eq!(seen(&journal.reader()), before);
    }
    assert_eq!(journal.reader().stats().unwrap().database, "0004");
}

/// The names of all steps, in order.
fn steps() -> Vec<&'static str> {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, claim) = make(dir.path());
    let names = Arc::new(Mutex::new(Vec::new()));
    let all = names.clone();
    let hook = AtStep(Some(Box::new(move |name| {
        all.lock().unwrap().push(name);
        Ok(())
    })));
    compact(&mut journal, &claim, hook).unwrap();
    names.lock().unwrap().clone()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a process that is killed leaves is what its files hold at that moment.
#[test]
fn a_kill_after_any_step_leaves_a_whole_journal() {
    let steps = steps();
    assert!(steps.len() >= 10, "{steps:?}");
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, claim) = make(dir.path());
    let copies = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().to_owned(), copies.path().to_owned());
    let mut nth = 0;
    let hook = AtStep(Some(Box::new(move |_| {
        copy_dir(&from, &to.join(nth.to_string()));
        nth += 1;
        Ok(())
    })));
    compact(&mut journal, &claim, hook).unwrap();
    let last = seen(&journal.reader());
    for (nth, name) in steps.iter().enumerate() {
        let dir = copies.path().join(nth.to_string());
        let journal = Journal::open(&dir, options()).unwrap().journal;
        let found = seen(&journal.reader());
        // Until the last round events came in between.
        let (there, all) = (found.firehose.len(), &last.firehose);
        assert_eq!(found.firehose, all[..there], "{name}");
        let at_least = if nth < 5 { all.len() - 8 } else { all.len() };
        assert!(there >= at_least, "{name}: {there} of {}", all.len());
        if nth >= 5 {
            assert_eq!(found, last, "{name}");
        }
        assert_eq!(kept(&journal), counted(&journal), "{name}");
        let databases = super::super::files::databases(&dir).unwrap();
        assert_eq!(databases.len(), 1, "{name}: {databases:?}");
    }
}

#[test]
fn a_failure_after_any_step_changes_nothing() {
    for step in steps() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, claim) = make(dir.path());
        let hook = AtStep(Some(Box::new(move |name| {
            let failed = StoreError::Compacting;
            if name == step { Err(failed) } else { Ok(()) }
        })));
        compact(&mut journal, &claim, hook).unwrap_err();
        // After the switch nobody knows: it is opened anew.
        if step == "current" {
            assert!(journal.claim(LIVE).is_err());
            journal.reopen().unwrap();
        }
        journal.abandon_compaction();
        let claim = journal.claim(LIVE).unwrap();
        write(&mut journal, LIVE, claim.generation, claim.next_seq, 1);
        let before = seen(&journal.reader());
        // And it can be tried again.
        let compacted = compact(&mut journal, &claim, AtStep::default()).unwrap();
        compacted.old.discard().unwrap();
        let after = seen(&journal.reader());
        assert_eq!(
            after.firehose[..before.firehose.len()],
            before.firehose[..],
            "{step}"
        );
        drop(journal);
        let journal = Journal::open(dir.path(), options()).unwrap().journal;
        assert_eq!(seen(&journal.reader()), after, "{step}");
    }
}

#[test]
fn a_journal_that_was_reopened_meanwhile_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = make(dir.path());
    let mut compaction = journal.begin_compaction().unwrap();
    assert!(matches!(
        journal.begin_compaction(),
        Err(StoreError::Compacting)
    ));
    compaction.copy(&|| false).unwrap();
    journal.reopen().unwrap();
    let before = seen(&journal.reader());
    assert!(matches!(
        journal.finish_compaction(&mut compaction),
        Err(StoreError::Overtaken)
    ));
    drop(compaction);
    assert_eq!(seen(&journal.reader()), before);
    assert!(!dir.path().join("0002").exists());
}

#[test]
fn cursors_of_a_session_without_events_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = make(dir.path());
    let claim = journal.claim(LATER).unwrap();
    let row = Append {
        cursors: vec![(cursor_key(0, 1), cursor(7))],
        ..append(LATER, claim.generation, Vec::new())
    };
    commit_one(&mut journal, row);
    let compaction = journal.begin_compaction().unwrap();
    finish(&mut journal, compaction).unwrap();
    let cursors = journal.reader().cursors(LATER).unwrap();
    assert_eq!(cursors, [(cursor_key(0, 1), cursor(7))].into());
}

/// Whoever calls it in the wrong order, or after a failure, loses nothing.
#[test]
fn what_was_not_copied_takes_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, claim) = make(dir.path());
    let before = seen(&journal.reader());
    let mut compaction = journal.begin_compaction().unwrap();
    let finished = journal.finish_compaction(&mut compaction).unwrap();
    assert!(finished.is_none());
    finish(&mut journal, compaction).unwrap();
    assert_eq!(seen(&journal.reader()), before);
    let mut compaction = journal.begin_compaction().unwrap();
    compaction.at_step = AtStep(Some(Box::new(|name| match name {
        "sessions" => Err(StoreError::Compacting),
        _ => Ok(()),
    })));
    copy(&mut compaction).unwrap_err();
    let finished = journal.finish_compaction(&mut compaction);
    assert!(matches!(finished, Err(StoreError::Overtaken)));
    drop(compaction);
    write(&mut journal, LIVE, claim.generation, 102, 1);
    assert_eq!(
        seen(&journal.reader()).firehose.len(),
        before.firehose.len() + 1
    );
}

#[test]
fn a_session_that_is_removed_meanwhile_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = make(dir.path());
    let mut compaction = journal.begin_compaction().unwrap();
    compaction.copy(&|| false).unwrap();
    journal.delete_session(ENDED).unwrap();
    let compacted = journal.finish_compaction(&mut compaction).unwrap().unwrap();
    compacted.old.discard().unwrap();
    let reader = journal.reader();
    assert_eq!(reader.session(ENDED).unwrap(), None);
    assert_eq!(reader.last_seq(ENDED).unwrap(), 0);
    assert!(
        firehose(&reader, 100)
            .unwrap()
            .iter()
            .all(|(of, _)| *of == LIVE)
    );
    assert_eq!(kept(&journal), counted(&journal));
}

#[test]
fn cursors_into_what_was_removed_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut places = Vec::new();
    for session in [GONE, LIVE] {
        let claim = journal.claim(session).unwrap();
        write(&mut journal, session, claim.generation, 1, 2);
        places.push(journal.reader().watermark());
        write(&mut journal, session, claim.generation, 3, 1);
    }
    let reader = journal.reader();
    let cursors: Vec<_> = places
        .into_iter()
        .map(|commit| FirehoseCursor { commit, offset: 1 })
        .collect();
    for cursor in &cursors {
        reader.check_cursor(*cursor).unwrap();
    }
    journal.delete_session(GONE).unwrap();
    let check = |reader: &Reader| {
        let gone = reader.check_cursor(cursors[0]);
        assert!(matches!(gone, Err(StoreError::Passed { .. })), "{gone:?}");
        reader.check_cursor(cursors[1]).unwrap();
        reader.check_cursor(FirehoseCursor::default()).unwrap();
        assert_eq!(reader.firehose(cursors[1], 10).unwrap().len(), 2);
    };
    check(&reader);
    let mut compaction = journal.begin_compaction().unwrap();
    compaction.copy(&|| false).unwrap();
    journal.finish_compaction(&mut compaction).unwrap().unwrap();
    check(&reader);
}

#[test]
fn what_was_removed_is_given_back_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut state = 1u64;
    let mut noise = |len: usize| -> Vec<u8> {
        (0..len)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u8
            })
            .collect()
    };
    for session in [GONE, LIVE] {
        let claim = journal.claim(session).unwrap();
        let many = if session == GONE { 40 } else { 4 };
        for n in 1..=many {
            let row = Append {
                record: Some(record(session, true, 10)),
                ..append(
                    session,
                    claim.generation,
                    vec![event(n, output(noise(200_000)))],
                )
            };
            commit_one(&mut journal, row);
        }
    }
    journal.delete_session(GONE).unwrap();
    let stats = journal.reader().stats().unwrap();
    assert!(stats.garbage_bytes > stats.disk_bytes / 2, "{stats:?}");
    let mut compaction = journal.begin_compaction().unwrap();
    compaction.copy(&|| false).unwrap();
    let compacted = journal.finish_compaction(&mut compaction).unwrap().unwrap();
    compacted.old.discard().unwrap();
    let stats = journal.reader().stats().unwrap();
    let (before, after) = (compacted.before, compacted.after);
    assert!(after < before / 2, "{before} {after}");
    assert!(stats.garbage_bytes < stats.disk_bytes / 2, "{stats:?}");
    assert_eq!(
        allocated(&dir.path().join("0002")).unwrap(),
        stats.disk_bytes
    );
    assert_eq!(
        fs::read_dir(dir.path().join("0002/blobs")).map_or(0, Iterator::count),
        0
    );
}
