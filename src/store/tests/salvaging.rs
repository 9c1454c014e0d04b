use super::verifying::{S, record_events, record_session, session_of, verify};
use super::*;
use crate::model::HomeId;
use proptest::prelude::*;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// A journal with several sessions, merged blocks, removed ones and reopenings.
fn lived_in(dir: &Path) {
    for round in 0..3u128 {
        let mut journal = open(dir);
        for n in 0..4 {
            record_session(
                &mut journal,
                Ulid(100 * round + n + 1),
                150 * (n as u64 + 1),
            );
        }
        journal.delete_session(Ulid(100 * round + 2)).unwrap();
    }
}

fn database(dir: &Path) -> PathBuf {
    dir.join("0001")
}

fn export(reader: &Reader, home: HomeId) -> Vec<u8> {
    let mut out = Vec::new();
    reader
        .export(&Head::new(home, NOW), None, &mut |line| {
            out.extend_from_slice(line);
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn import(
    journal: &mut Journal,
    bytes: &[u8],
) -> crate::model::Result<crate::model::api::Imported> {
    let mut import = Import::check(file_of(bytes), &journal.reader(), journal.home())?;
    while let Some(batch) = import.batch()? {
        journal.import(batch)?;
    }
    Ok(import.report)
}

/// The lines but for the first, which says who wrote them.
fn body(export: &[u8]) -> &[u8] {
    let end = export.iter().position(|byte| *byte == b'\n').unwrap();
    &export[end..]
}

#[test]
fn a_closed_journal_reads_as_an_open_one() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path());
    let before = fs::read(database(dir.path()).join("db")).unwrap();
    let salvage = salvage::Salvage::read(&database(dir.path())).unwrap();
    let read = salvage.scan(b"").unwrap();
    assert_eq!(salvage.holes().count(), 0);
    assert_eq!(fs::read(database(dir.path()).join("db")).unwrap(), before);
    let journal = open(dir.path());
    let db = journal.reader().shared.read().db.clone().unwrap();
    let rows: Vec<_> = db
        .iter()
        .map(Result::unwrap)
        .filter(|(key, _)| key.as_ref() != keys::meta("boots"))
        .collect();
    let read: Vec<_> = read
        .into_iter()
        .filter(|(key, _)| key.as_ref() != keys::meta("boots"))
        .collect();
    assert_eq!(rows.len(), read.len());
    assert!(rows == read);
}

#[test]
fn a_closed_journal_is_verified_and_exported_as_an_open_one() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path());
    let closed = Closed::read(dir.path()).unwrap();
    let home = closed.home();
    let mut told = Vec::new();
    closed
        .verify(&mut |event| {
            told.push(event);
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut lines = Vec::new();
    closed
        .export(None, NOW, &mut |line| {
            lines.extend_from_slice(line);
            ControlFlow::Continue(())
        })
        .unwrap();
    drop(closed);
    let journal = open(dir.path());
    assert_eq!(journal.home(), home);
    let (damage, notes, end) = verify(&journal.reader());
    assert_eq!((damage, notes), (vec![], vec![]));
    assert_eq!(told, [crate::model::api::VerifyEvent::Verified(end)]);
    assert!(lines == export(&journal.reader(), home));
}

/// Whatever byte is damaged: it opens with everything that was acknowledged, or
/// says that it is damaged and changes nothing; and what can be read is exported.
#[test]
fn a_damaged_byte_costs_what_it_held_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path());
    let db = database(dir.path()).join("db");
    let sound = fs::read(&db).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    // Read without opening it: what was written last has no snapshot then.
    let closed = Closed::read(dir.path()).unwrap();
    let home = closed.home();
    let mut whole = Vec::new();
    closed
        .export(None, NOW, &mut |line| {
            whole.extend_from_slice(line);
            ControlFlow::Continue(())
        })
        .unwrap();
    drop(closed);
    let all = whole.iter().filter(|byte| **byte == b'\n').count();
    files::wait_released(&database(dir.path())).unwrap();
    let kept = tempfile::tempdir().unwrap();
    files::back_up(dir.path(), &kept.path().join("j")).unwrap();
    let (mut refused, mut dice) = (0, 7u64);
    for _ in 0..24 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (dice >> 20) as usize % used;
        let dir = kept.path().join(format!("try{at}"));
        files::back_up(&kept.path().join("j"), &dir).unwrap();
        let db = database(&dir).join("db");
        let mut bytes = fs::read(&db).unwrap();
        bytes[at] ^= 0x40;
        fs::write(&db, &bytes).unwrap();
        let closed = Closed::read(&dir).unwrap();
        let mut lines = 0;
        let exported = closed
            .export(None, NOW, &mut |_| {
                lines += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        drop(closed);
        assert!(lines * 2 > all, "byte {at}: {lines} of {all} lines");
        assert!(fs::read(&db).unwrap() == bytes, "reading changed something");
        match Journal::open(&dir, options()) {
            Ok(opened) => {
                let reader = opened.journal.reader();
                // What was lost without a trace in what is left, the mark tells.
                let told = verify_or_damage(&reader) || !opened.warnings.is_empty();
                assert!(
                    told || body(&export(&reader, home)) == body(&whole),
                    "byte {at}: something is gone, and nobody says so ({exported:?})"
                );
            }
            Err(error) => {
                assert!(error.is_damage(), "byte {at}: {error}");
                refused += 1;
            }
        }
        fs::remove_dir_all(&dir).unwrap();
    }
    assert!(refused > 0);
}

/// Whether damage is told, or met.
fn verify_or_damage(reader: &Reader) -> bool {
    let mut damage = false;
    let done = reader.verify(&|| false, &mut |event| {
        damage |= matches!(event, crate::model::api::VerifyEvent::Damage(_));
        ControlFlow::Continue(())
    });
    damage || done.is_err()
}

#[test]
fn a_torn_end_is_cut_off_and_a_torn_middle_is_not() {
    for torn in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        for n in 1..40u128 {
            record_session(&mut journal, Ulid(n), 20);
        }
        drop(journal);
        let path = database(dir.path());
        files::wait_released(&path).unwrap();
        let db = path.join("db");
        let mut bytes = fs::read(&db).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        match torn {
            // Not only what was merged last.
            true => bytes.truncate(used - used / 10),
            false => bytes[used / 2] ^= 1,
        }
        fs::write(&db, &bytes).unwrap();
        match Journal::open(dir.path(), options()) {
            Ok(opened) if torn => {
                assert_eq!(opened.warnings.len(), 1, "{:?}", opened.warnings);
                assert!(opened.journal.reader().last_seq(Ulid(20)).unwrap() > 0);
            }
            Err(error) if !torn => {
                assert!(error.to_string().contains("lie behind"), "{error}");
                assert!(fs::read(&db).unwrap() == bytes);
            }
            other => panic!("{torn}: {other:?}"),
        }
    }
}

fn said() -> impl Strategy<Value = Vec<(Vec<u8>, bool, bool)>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    proptest::collection::vec((bytes, any::<bool>(), any::<bool>()), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn what_is_exported_is_imported_the_same(sessions in proptest::collection::vec(said(), 1..4)) {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut journal = open(here.path());
        for (n, said) in sessions.iter().enumerate() {
            record_events(&mut journal, Ulid(n as u128 + 1), &session_of(said));
        }
        let first = export(&journal.reader(), journal.home());
        let mut other = open(there.path());
        let report = import(&mut other, &first).unwrap();
        prop_assert_eq!(report.imported.len(), sessions.len());
        let second = export(&other.reader(), other.home());
        prop_assert!(body(&first) == body(&second));
        let (damage, _, _) = verify(&other.reader());
        prop_assert_eq!(damage, vec![]);
        // Once more: all of it is here.
        let again = import(&mut other, &first).unwrap();
        prop_assert_eq!((again.present.len(), again.imported.len()), (sessions.len(), 0));
        let own = import(&mut journal, &second).unwrap();
        prop_assert_eq!(own.present.len(), sessions.len());
        let reader = other.reader();
        for n in 1..=sessions.len() {
            let record = reader.session(Ulid(n as u128)).unwrap().unwrap();
            prop_assert_eq!(record.imported, Some(journal.home()));
        }
    }
}

#[test]
fn a_changed_export_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    record_session(&mut journal, S, 30);
    record_session(&mut journal, Ulid(8), 30);
    let good = export(&journal.reader(), journal.home());
    let empty = tempfile::tempdir().unwrap();
    let mut other = open(empty.path());
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 2;
        if import(&mut other, &bad).is_ok() {
            // Only what the checksums leave out: who wrote it, and when.
            assert!(at < good.len() - body(&good).len(), "byte {at}");
            continue;
        }
        assert_eq!(other.reader().sessions().count(), 0, "byte {at}");
    }
    for len in (0..good.len()).step_by(good.len() / 40) {
        assert!(import(&mut other, &good[..len]).is_err(), "cut at {len}");
    }
    assert_eq!(import(&mut journal, &good).unwrap().present.len(), 2);
}

#[test]
fn a_session_that_differs_is_refused_by_name() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, mut other) = (open(here.path()), open(there.path()));
    record_session(&mut journal, S, 30);
    record_session(&mut journal, Ulid(8), 5);
    record_session(&mut other, S, 31);
    let lines = export(&journal.reader(), journal.home());
    let error = import(&mut other, &lines).unwrap_err();
    assert_eq!(error.code, crate::model::ErrorCode::Refused);
    assert!(error.message.contains("pod-"), "{}", error.message);
    assert_eq!(other.reader().session(Ulid(8)).unwrap(), None);
}

#[test]
fn a_session_with_a_hole_is_exported_as_far_as_it_can_be_read_and_left_out_of_an_import() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, mut other) = (open(here.path()), open(there.path()));
    record_session(&mut journal, S, 40);
    record_session(&mut journal, Ulid(8), 5);
    let db = journal.reader().shared.read().db.clone().unwrap();
    let row = db
        .scan_prefix(keys::blocks(S))
        .keys()
        .next()
        .unwrap()
        .unwrap();
    let mut value = db.get(&row).unwrap().unwrap().to_vec();
    value[60] ^= 1;
    db.insert(row, value).unwrap();
    let lines = export(&journal.reader(), journal.home());
    let text = String::from_utf8_lossy(&lines);
    assert!(
        text.contains("{\"missing\":{\"from\":1,\"to\":50,"),
        "{text}"
    );
    assert!(
        text.ends_with("{\"done\":true,\"sessions\":2,\"damaged\":1}\n"),
        "{text}"
    );
    let report = import(&mut other, &lines).unwrap();
    assert_eq!((report.imported.len(), report.incomplete.len()), (1, 1));
    assert_eq!(other.reader().session(S).unwrap(), None);
}

#[test]
fn an_import_that_broke_off_leaves_nothing() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut journal = open(here.path());
    let said: Vec<_> = (0..40u8).map(|n| (vec![n; 60_000], true, false)).collect();
    record_events(&mut journal, S, &session_of(&said));
    let lines = export(&journal.reader(), journal.home());
    let mut other = open(there.path());
    let mut import = Import::check(file_of(&lines), &other.reader(), other.home()).unwrap();
    let first = import.batch().unwrap().unwrap();
    assert!(first.record().is_none());
    other.import(first).unwrap();
    assert_eq!(other.reader().sessions().count(), 0);
    drop((import, other));
    let mut other = open(there.path());
    assert_eq!(block_rows(&other, S), 0);
    assert_eq!(
        super::salvaging::import(&mut other, &lines)
            .unwrap()
            .imported
            .len(),
        1
    );
    assert!(body(&lines) == body(&export(&other.reader(), other.home())));
}

#[test]
fn projections_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    record_session(&mut journal, S, 40);
    record_session(&mut journal, Ulid(8), 5);
    let before = journal.reader().session(S).unwrap();
    let db = journal.reader().shared.read().db.clone().unwrap();
    db.insert(keys::with_part(&keys::session(S), 0), b"nonsense")
        .unwrap();
    let error = journal.reader().sessions().find_map(Result::err).unwrap();
    assert_eq!(error.damaged_session(), Some(S));
    let rebuilt = journal.rebuild_all().unwrap();
    assert_eq!(
        (rebuilt.sessions, rebuilt.mended.len(), rebuilt.failed.len()),
        (2, 1, 0)
    );
    assert_eq!(journal.reader().session(S).unwrap(), before);
    assert_eq!(verify(&journal.reader()).0, vec![]);
    assert!(journal.rebuild_all().unwrap().mended.is_empty());
}
