//! Migrations that are interrupted, and the frozen journal of each schema.

use super::verifying::{record_session, session_of, verify};
use super::*;
use crate::model::{AgentEvent, Blob, Bounds, ErrorCode, HomeId};
use crate::store::migrations::Migration;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

thread_local! {
    /// After so many writes the synthetic migration is interrupted.
    static WRITES_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn write(db: &sled::Db, key: &[u8], value: &[u8]) -> Result<(), Box<dyn Error>> {
    let left = WRITES_LEFT.get();
    if left == 0 {
        return Err("interrupted".into());
    }
    WRITES_LEFT.set(left - 1);
    db.insert(key, value)?;
    Ok(())
}

fn initial(db: &sled::Db) -> Result<(), Box<dyn Error>> {
    db.insert(keys::meta("format"), b"cldpd journal")?;
    Ok(())
}

/// Notes each projection's length under a key of its own, and then how many there are.
fn synthetic(db: &sled::Db) -> Result<(), Box<dyn Error>> {
    let mut count = 0u32;
    for row in db.scan_prefix(keys::sessions()) {
        let (key, value) = row?;
        let len = (value.len() as u32).to_be_bytes();
        write(db, &[&keys::meta("len."), key.as_ref()].concat(), &len)?;
        count += 1;
    }
    write(db, &keys::meta("count"), &count.to_be_bytes())
}

const TWO: [Migration; 2] = [
    Migration {
        id: 1,
        name: "initial",
        up: initial,
    },
    Migration {
        id: 2,
        name: "synthetic",
        up: synthetic,
    },
];

/// Rows, by their keys.
type Dump = Vec<(Vec<u8>, Vec<u8>)>;

/// All rows but those that each opening changes.
fn rows_of(db: &sled::Db) -> Dump {
    let rows = db.iter().map(Result::unwrap);
    rows.map(|(key, value)| (key.to_vec(), value.to_vec()))
        .filter(|(key, _)| *key != keys::meta("boots"))
        .collect()
}

fn migrate(dir: &Path) -> Result<Dump, StoreError> {
    files::wait_released(&dir.join("0001"))?;
    let opened = open::open_with(dir, &options(), &TWO, &mut Vec::new())?;
    Ok(rows_of(&opened.db))
}

#[test]
fn a_migration_that_is_interrupted_after_any_write_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let mut journal = open(&base);
    for n in 1..=4u128 {
        record_session(&mut journal, Ulid(n), 20);
    }
    drop(journal);
    files::wait_released(&base.join("0001")).unwrap();
    let copy = |name: &str, of: &Path| -> PathBuf {
        let to = dir.path().join(name);
        files::back_up(of, &to).unwrap();
        to
    };
    let expected = migrate(&copy("whole", &base)).unwrap();
    for writes in 0..5 {
        let tried = copy(&format!("tried{writes}"), &base);
        WRITES_LEFT.set(writes);
        let error = migrate(&tried).unwrap_err();
        WRITES_LEFT.set(u32::MAX);
        assert!(
            matches!(error, StoreError::Migration { id: 2, .. }),
            "{error}"
        );
        // What a process that was killed there leaves, and one that ended.
        let killed = copy(&format!("killed{writes}"), &tried);
        assert!(
            migrate(&killed).unwrap() == expected,
            "killed after {writes}"
        );
        assert!(migrate(&tried).unwrap() == expected, "after {writes}");
        // And the copy that was made before is what there was.
        fs::rename(tried.join("0001"), tried.join("away")).unwrap();
        fs::rename(tried.join("0001.schema1"), tried.join("0001")).unwrap();
        let (damage, _, end) = verify(&open(&tried).reader());
        assert_eq!((damage, end.sessions), (vec![], 4));
    }
}

fn fixture(schema: u32) -> PathBuf {
    let dir = format!("tests/fixtures/schema-{schema}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)
}

fn lines_of(reader: &Reader, home: HomeId) -> Vec<u8> {
    let mut out = Vec::new();
    reader
        .export(&Head::new(home, NOW), None, &mut |line| {
            out.extend_from_slice(line);
            ControlFlow::Continue(())
        })
        .unwrap();
    // The first line says which version wrote it.
    let head = out.iter().position(|byte| *byte == b'\n').unwrap();
    out.split_off(head + 1)
}

/// What every journal of schema 1 may hold: each kind of event, small and merged
/// blocks, commits alone and in groups, cursors, requests, sessions that were removed
/// before and after a compaction, bytes that are no text.
fn fill(journal: &mut Journal) {
    let said: Vec<_> = (0..700u32)
        .map(|n| {
            (
                vec![(n % 256) as u8; n as usize % 40],
                n % 3 > 0,
                n % 7 == 0,
            )
        })
        .collect();
    verifying::record_events(
        journal,
        Ulid::from_parts(NOW.millis(), 1),
        &session_of(&said),
    );
    verifying::record_events(journal, Ulid::from_parts(NOW.millis(), 2), &every_kind());
    record_session(journal, Ulid::from_parts(NOW.millis(), 3), 10);
    journal
        .delete_session(Ulid::from_parts(NOW.millis(), 3))
        .unwrap();
    let compaction = journal.begin_compaction().unwrap();
    finish(journal, compaction).unwrap();
    record_session(journal, Ulid::from_parts(NOW.millis(), 5), 10);
    journal
        .delete_session(Ulid::from_parts(NOW.millis(), 5))
        .unwrap();
    // Not over, and so not merged.
    let live = Ulid::from_parts(NOW.millis(), 4);
    let events: Vec<Event> = session_of(&said[..90]).drain(..98).collect();
    verifying::record_events(journal, live, &events);
    let claim = journal.claim(live).unwrap();
    let mut last = append(live, claim.generation, Vec::new());
    last.requests = vec![RequestRow {
        id: Ulid(77),
        hash: [7; 32],
        answer: serde_json::json!({"run": 0, "notes": ["\u{fffd}"]}),
        at: NOW,
    }];
    commit_one(journal, last);
}

/// A session with two runs and every kind of event there is.
fn every_kind() -> Vec<Event> {
    let mut kinds: Vec<EventKind> = session_of(&[(b"\xff\xfe".to_vec(), true, false)])
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let at_build = kinds
        .iter()
        .position(|k| k.name() == "build_complete")
        .unwrap();
    let line = Blob(b"step \xc3\x28".to_vec());
    kinds.insert(at_build, EventKind::BuildOutput { line });
    let at_exit = kinds
        .iter()
        .position(|k| k.name() == "container_exited")
        .unwrap();
    let meanwhile = [
        EventKind::Agent {
            event: AgentEvent::Init {
                agent_session: Some("a1".to_owned()),
                model: Some("m".to_owned()),
                version: None,
                permissions: None,
                cwd: None,
            },
        },
        EventKind::Signalled {
            signal: "SIGINT".to_owned(),
            id: Ulid(5),
        },
        EventKind::Note {
            code: "adopted".to_owned(),
            message: "by another daemon".to_owned(),
        },
        EventKind::Stopping {
            signal: "SIGTERM".to_owned(),
            deadline: at(500),
            by: "user".to_owned(),
            id: Ulid(6),
        },
    ];
    kinds.splice(at_exit..at_exit, meanwhile);
    let mut events: Vec<Event> = (1..)
        .zip(kinds)
        .map(|(seq, kind)| event(seq, kind))
        .collect();
    let second = [
        EventKind::Queued {
            how: How::Next,
            prompt: Blob::from("go on"),
            task: Some("task".to_owned()),
            env: vec!["TOKEN".to_owned()],
            fresh: None,
            branch: None,
            bounds: Bounds::default(),
            task_at: 0,
            retry: None,
            position: Some(2),
            reason: Some("room".to_owned()),
        },
        EventKind::Error {
            code: ErrorCode::Gone,
            message: "the container is gone".to_owned(),
        },
        EventKind::RunEnded {
            outcome: Outcome::Failed,
            why: None,
            usage: None,
            turns: None,
        },
        EventKind::Removed {
            complete: true,
            message: None,
        },
    ];
    for kind in second {
        let seq = events.len() as u64 + 1;
        events.push(Event {
            run: 1,
            ..event(seq, kind)
        });
    }
    events
}

#[test]
fn the_fixture_has_every_kind_of_event() {
    // Kinds that came after it was frozen.
    let later = ["deferred"];
    let kinds: BTreeSet<&str> = every_kind().iter().map(|e| e.kind.name()).collect();
    let all = EventKind::NAMES
        .into_iter()
        .filter(|name| !later.contains(name));
    assert_eq!(kinds, all.collect());
}

/// Writes the fixture of the schema that this version has. Once: what a version
/// wrote is what later ones have to read, so it is never written again.
#[test]
fn the_fixture_of_this_schema_is_there() {
    let dir = fixture(migrations::newest(migrations::ALL));
    if std::env::var_os("CLDPD_WRITE_FIXTURE").is_some() && !dir.exists() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = open(home.path());
        fill(&mut journal);
        fs::create_dir_all(&dir).unwrap();
        let lines = lines_of(&journal.reader(), journal.home());
        fs::write(dir.join("export.ndjson"), lines).unwrap();
        drop(journal);
        files::wait_released(&home.path().join("0002")).unwrap();
        let packed = fs::File::create(dir.join("journal.tar.zst")).unwrap();
        let mut tar = tar::Builder::new(zstd::Encoder::new(packed, 19).unwrap());
        tar.append_dir_all(".", home.path()).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
    }
    assert!(dir.join("journal.tar.zst").exists(), "{}", dir.display());
}

#[test]
fn the_frozen_journal_of_every_schema_reads_as_it_did() {
    for schema in 1..=migrations::newest(migrations::ALL) {
        let from = fixture(schema);
        let dir = tempfile::tempdir().unwrap();
        let packed = fs::File::open(from.join("journal.tar.zst")).unwrap();
        tar::Archive::new(zstd::Decoder::new(packed).unwrap())
            .unpack(dir.path())
            .unwrap();
        let opened = Journal::open(dir.path(), options()).unwrap();
        assert_eq!(opened.warnings, Vec::<String>::new());
        let journal = opened.journal;
        let reader = journal.reader();
        let (damage, notes, end) = verify(&reader);
        assert_eq!((damage, notes), (vec![], vec![]));
        assert_eq!((end.sessions, end.requests), (3, 1));
        let expected = fs::read(from.join("export.ndjson")).unwrap();
        assert!(
            lines_of(&reader, journal.home()) == expected,
            "schema {schema}"
        );
        let live = Ulid::from_parts(NOW.millis(), 4);
        assert!(reader.session(live).unwrap().unwrap().is_live());
        assert!(
            block_rows(&journal, live) > 10,
            "its blocks were not merged"
        );
        assert_eq!(reader.request(Ulid(77)).unwrap().unwrap().hash, [7; 32]);
        assert_eq!(kept(&journal), counted(&journal));
        assert!(!firehose(&reader, 100).unwrap().is_empty());
        assert_eq!(blobs(dir.path()), 0);
    }
}
