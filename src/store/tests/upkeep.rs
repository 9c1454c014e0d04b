//! Looking after the journal in several ways at once.

use super::verifying::{record_events, record_session, session_of, verify};
use super::*;
use crate::model::HomeId;
use crate::model::api::VerifyEvent;
use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;

const S: Ulid = Ulid(7);
const OTHER: Ulid = Ulid(8);

/// A session of several blocks, more than one part of an import.
fn record_large(journal: &mut Journal, session: Ulid) {
    let said: Vec<_> = (0..60u8).map(|n| (noise(n), true, false)).collect();
    record_events(journal, session, &session_of(&said));
}

/// 60 kB that do not compress.
fn noise(seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    (0..60_000).map(next).collect()
}

fn export(reader: &Reader, home: HomeId, mut at: impl FnMut(&[u8])) -> Vec<u8> {
    let mut out = Vec::new();
    reader
        .export(&Head::new(home, NOW), None, &mut |line| {
            at(line);
            out.extend_from_slice(line);
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

fn check(bytes: &[u8], journal: &Journal) -> crate::model::Result<Import> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Import::check(file, &journal.reader(), journal.home())
}

fn compact(journal: &mut Journal) -> Compacted {
    let mut compaction = journal.begin_compaction().unwrap();
    loop {
        copy(&mut compaction).unwrap();
        if let Some(done) = journal.finish_compaction(&mut compaction).unwrap() {
            return done;
        }
    }
}

/// Everything but the first line, which says who wrote it.
fn body(export: &[u8]) -> &[u8] {
    let end = export.iter().position(|byte| *byte == b'\n').unwrap();
    &export[end..]
}

#[test]
fn a_damaged_session_is_compacted_as_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    record_large(&mut journal, S);
    record_session(&mut journal, OTHER, 40);
    let db = journal.reader().shared.read().db.clone().unwrap();
    let rows = || db.scan_prefix(keys::blocks(S)).map(Result::unwrap);
    let (row, value) = rows().nth(3).unwrap();
    let mut value = value.to_vec();
    value[2000] ^= 1;
    db.insert(row, value).unwrap();
    let before: Vec<_> = rows().collect();
    drop(db);
    let told = verify(&journal.reader()).0;
    assert!(!told.is_empty());
    let exported = export(&journal.reader(), journal.home(), |_| ());
    for _ in 0..2 {
        let done = compact(&mut journal);
        assert_eq!((done.sessions, done.damaged), (2, 1));
        done.old.discard().unwrap();
        let db = journal.reader().shared.read().db.clone().unwrap();
        let now: Vec<_> = db
            .scan_prefix(keys::blocks(S))
            .map(Result::unwrap)
            .collect();
        assert_eq!(now, before);
        assert_eq!(kept(&journal), counted(&journal));
        assert_eq!(verify(&journal.reader()).0, told);
        let now = export(&journal.reader(), journal.home(), |_| ());
        assert!(now == exported);
    }
}

#[test]
fn a_compaction_and_an_import_do_not_hinder_each_other() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut journal = open(here.path());
    record_large(&mut journal, S);
    let lines = export(&journal.reader(), journal.home(), |_| ());
    // All of the compaction between two parts, and each of its parts between others.
    for at_once in [true, false] {
        let dir = there.path().join(at_once.to_string());
        let mut other = open(&dir);
        record_session(&mut other, OTHER, 20);
        let mut import = check(&lines, &other).unwrap();
        let mut begun = None;
        let mut parts = 0;
        while let Some(batch) = import.batch().unwrap() {
            other.import(batch).unwrap();
            parts += 1;
            match (at_once, parts) {
                (true, 1) => compact(&mut other).old.discard().unwrap(),
                (false, 1) => {
                    let mut compaction = other.begin_compaction().unwrap();
                    copy(&mut compaction).unwrap();
                    begun = Some(compaction);
                }
                _ => {}
            }
        }
        assert!(parts > 2, "{parts}");
        if let Some(mut compaction) = begun {
            let mut done = other.finish_compaction(&mut compaction).unwrap();
            while done.is_none() {
                copy(&mut compaction).unwrap();
                done = other.finish_compaction(&mut compaction).unwrap();
            }
            done.unwrap().old.discard().unwrap();
        }
        assert_eq!(verify(&other.reader()).0, vec![]);
        assert_eq!(kept(&other), counted(&other));
        // Removed and taken in again before all of it has gone, it is whole again.
        for _ in 0..2 {
            let now = other.reader().session(S).unwrap().unwrap();
            assert_eq!(now.imported, Some(journal.home()));
            other.begin_removal(S).unwrap();
            let mut import = check(&lines, &other).unwrap();
            while let Some(batch) = import.batch().unwrap() {
                other.import(batch).unwrap();
            }
            while other.go_on_removing().unwrap() {}
            assert_eq!(verify(&other.reader()).0, vec![]);
        }
        other.delete_session(OTHER).unwrap();
        let back = export(&other.reader(), other.home(), |_| ());
        assert!(body(&back) == body(&lines));
        drop(other);
        let other = open(&dir);
        assert!(body(&export(&other.reader(), other.home(), |_| ())) == body(&lines));
    }
}

#[test]
fn a_session_that_goes_while_it_is_exported_is_not_damaged() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut journal = open(here.path());
    record_large(&mut journal, S);
    record_session(&mut journal, OTHER, 20);
    let (reader, home) = (journal.reader(), journal.home());
    let lines = export(&reader, home, |line| {
        if line.starts_with(b"{\"seq\":12,") && journal.reader().last_seq(S).unwrap() > 0 {
            journal.delete_session(S).unwrap();
        }
    });
    let text = String::from_utf8_lossy(&lines);
    assert!(text.contains("{\"gone\":\""), "it was exported whole");
    assert!(!text.contains("{\"missing\""));
    assert!(text.ends_with("{\"done\":true,\"sessions\":1,\"damaged\":0}\n"));
    let mut other = open(there.path());
    let mut import = check(&lines, &other).unwrap();
    while let Some(batch) = import.batch().unwrap() {
        other.import(batch).unwrap();
    }
    assert_eq!(import.report.imported.len(), 1);
    assert_eq!(other.reader().session(S).unwrap(), None);
    assert!(other.reader().session(OTHER).unwrap().is_some());
}

#[test]
fn nobody_looks_on_when_nobody_wants_to_know() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    record_large(&mut journal, S);
    let looks = std::cell::Cell::new(0);
    let given_up = || {
        looks.set(looks.get() + 1);
        looks.get() > 3
    };
    let mut told = Vec::<VerifyEvent>::new();
    let tell: &mut Tell<'_> = &mut |event| {
        told.push(event);
        ControlFlow::Continue(())
    };
    journal.reader().verify(&given_up, tell).unwrap();
    assert_eq!(told, []);
}
