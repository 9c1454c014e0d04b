use super::*;
use crate::store::migrations::Migration;
use std::fs;

const S: Ulid = Ulid(7);

fn with_events(dir: &Path, count: u64) -> crate::model::HomeId {
    let mut journal = open(dir);
    let claim = journal.claim(S).unwrap();
    commit_one(&mut journal, append(S, claim.generation, lines(1, count)));
    journal.home()
}

fn refused(dir: &Path) -> StoreError {
    let error = Journal::open(dir, options()).unwrap_err();
    assert!(error.to_string().contains("journal") || error.to_string().contains("0001"));
    error
}

#[test]
fn a_home_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let home = with_events(dir.path(), 3);
    let journal = open(dir.path());
    assert_eq!(journal.home(), home);
    assert_eq!(home.0.timestamp_ms(), NOW.millis());
    assert_eq!(journal.reader().watermark(), 1);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(with_events(other.path(), 1), home);
}

#[test]
fn a_second_opener_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let error = refused(dir.path());
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains("is in use by another process"));
    drop(journal);
    drop(open(dir.path()));
}

#[test]
fn a_stray_snapshot_is_removed_and_said() {
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 3);
    let stray = dir
        .path()
        .join("0001")
        .join("snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&stray, b"half").unwrap();
    let opened = Journal::open(dir.path(), options()).unwrap();
    assert_eq!(opened.warnings.len(), 1);
    assert!(opened.warnings[0].contains("snap.FFFFFFFFFFFFFFFF.generating"));
    assert!(!stray.try_exists().unwrap());
    assert_eq!(read_all(&opened.journal.reader(), S).unwrap(), lines(1, 3));
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 3);
    let set = |schema: u32| {
        let db = sled::open(dir.path().join("0001")).unwrap();
        db.insert(keys::meta("schema"), &schema.to_be_bytes())
            .unwrap();
    };
    set(99);
    files::wait_released(&dir.path().join("0001")).unwrap();
    match refused(dir.path()) {
        StoreError::Newer {
            found: 99,
            supported: 1,
            by,
            ..
        } => assert_eq!(by, "1.2.3"),
        other => panic!("{other}"),
    }
    files::wait_released(&dir.path().join("0001")).unwrap();
    set(1);
    assert_eq!(
        read_all(&open(dir.path()).reader(), S).unwrap(),
        lines(1, 3)
    );
}

#[test]
fn somebody_elses_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0001");
    sled::open(&path)
        .unwrap()
        .insert(b"hello", b"world")
        .unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Foreign { .. }));
    files::wait_released(&path).unwrap();
    assert_eq!(
        sled::open(&path).unwrap().get(b"hello").unwrap().unwrap(),
        b"world"
    );
}

#[test]
fn a_journal_is_never_begun_anew() {
    let lose: [fn(&Path); 4] = [
        |dir| fs::remove_dir_all(dir.join("0001")).unwrap(),
        |dir| fs::remove_file(dir.join("0001").join("db")).unwrap(),
        |dir| fs::write(dir.join("CURRENT"), "0002\n").unwrap(),
        |dir| {
            fs::remove_dir_all(dir.join("0001")).unwrap();
            fs::remove_file(dir.join("CURRENT")).unwrap();
        },
    ];
    for lose in lose {
        let dir = tempfile::tempdir().unwrap();
        with_events(dir.path(), 3);
        lose(dir.path());
        let before = fs::read_dir(dir.path()).unwrap().count();
        assert!(refused(dir.path()).is_damage());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
    }
}

#[test]
fn an_emptied_database_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 3);
    for name in ["db", "conf"] {
        fs::write(dir.path().join("0001").join(name), b"").unwrap();
    }
    for entry in fs::read_dir(dir.path().join("0001")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("snap.")
        {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(refused(dir.path()).is_damage());
}

#[test]
fn the_only_database_is_found_without_current() {
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 3);
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    let opened = Journal::open(dir.path(), options()).unwrap();
    assert_eq!(opened.warnings.len(), 1);
    assert_eq!(read_all(&opened.journal.reader(), S).unwrap(), lines(1, 3));
    drop(opened);
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    fs::create_dir(dir.path().join("0002")).unwrap();
    assert!(refused(dir.path()).is_damage());
}

#[test]
fn an_interrupted_creation_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    drop(sled::open(dir.path().join("0001")).unwrap());
    let opened = Journal::open(dir.path(), options()).unwrap();
    let home = opened.journal.home();
    drop(opened);
    assert_eq!(open(dir.path()).home(), home);
}

#[test]
fn fewer_commits_than_the_mark_says_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 3);
    files::Mark::open(dir.path()).unwrap().write(8).unwrap();
    let mut opened = Journal::open(dir.path(), options()).unwrap();
    assert_eq!(opened.warnings.len(), 1);
    assert!(opened.warnings[0].contains("its last commit is 1, but 8 was on disk"));
    // No number is used twice, whatever was lost.
    let claim = opened.journal.claim(S).unwrap();
    let next = commit_one(
        &mut opened.journal,
        append(S, claim.generation, lines(4, 1)),
    );
    assert_eq!(next.number, 9);
    assert_eq!(firehose(&opened.journal.reader(), 3).unwrap().len(), 4);
    drop(opened);
    drop(open(dir.path()));
}

#[test]
fn a_removal_that_was_interrupted_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 30);
    {
        let db = sled::open(dir.path().join("0001")).unwrap();
        db.insert(keys::deleting(S), b"").unwrap();
    }
    files::wait_released(&dir.path().join("0001")).unwrap();
    let journal = open(dir.path());
    assert_eq!(journal.reader().last_seq(S).unwrap(), 0);
    assert_eq!(block_rows(&journal, S), 0);
    assert_eq!(firehose(&journal.reader(), 3).unwrap(), vec![]);
}

#[test]
fn an_older_schema_is_backed_up_and_migrated() {
    fn first(db: &sled::Db) -> Result<(), Box<dyn std::error::Error>> {
        db.insert(keys::meta("format"), b"cldpd journal")?;
        Ok(())
    }
    fn second(db: &sled::Db) -> Result<(), Box<dyn std::error::Error>> {
        db.insert(keys::meta("synthetic"), b"yes")?;
        Ok(())
    }
    let migrations = [
        Migration {
            id: 1,
            name: "initial",
            up: first,
        },
        Migration {
            id: 2,
            name: "synthetic",
            up: second,
        },
    ];
    let dir = tempfile::tempdir().unwrap();
    with_events(dir.path(), 3);
    let mut warnings = Vec::new();
    let opened = open::open_with(dir.path(), &options(), &migrations, &mut warnings).unwrap();
    assert_eq!(
        opened.db.get(keys::meta("synthetic")).unwrap().unwrap(),
        b"yes"
    );
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("from schema 1 to 2"));
    drop(opened);
    // This version does not read it any more, but the copy.
    let backup = dir.path().join("0001.schema1");
    files::wait_released(&dir.path().join("0001")).unwrap();
    assert!(matches!(
        refused(dir.path()),
        StoreError::Newer { found: 2, .. }
    ));
    fs::rename(dir.path().join("0001"), dir.path().join("away")).unwrap();
    fs::rename(backup, dir.path().join("0001")).unwrap();
    assert_eq!(
        read_all(&open(dir.path()).reader(), S).unwrap(),
        lines(1, 3)
    );
}

#[test]
fn the_journal_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep").join("journal");
    with_events(&dir, 1);
    for path in [dir.clone(), dir.join("0001")] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    for name in ["LOCK", "CURRENT", "mark"] {
        let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
