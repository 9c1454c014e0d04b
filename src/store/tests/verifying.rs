use super::*;
use crate::model::api::{Finding, Verified, VerifyEvent};
use crate::model::spec::PodSpec;
use crate::model::{Blob, Bounds, Spec};
use std::ops::ControlFlow;

pub(super) const S: Ulid = Ulid(7);

/// What a look through the journal tells: damage, notes, the end.
pub(super) fn verify(reader: &Reader) -> (Vec<Finding>, Vec<Finding>, Verified) {
    let (mut damage, mut notes, mut end) = (Vec::new(), Vec::new(), None);
    reader
        .verify(&|| false, &mut |event| {
            match event {
                VerifyEvent::Damage(finding) => damage.push(finding),
                VerifyEvent::Note(finding) => notes.push(finding),
                VerifyEvent::Verified(verified) => end = Some(verified),
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    (damage, notes, end.unwrap())
}

/// A session's events from its dispatch to its end, with so many lines of output.
pub(super) fn session_events(lines: u64) -> Vec<Event> {
    let line = |n: u64| format!("line {n} {}", "\u{fffd}x".repeat(n as usize % 90));
    let said: Vec<_> = (0..lines)
        .map(|n| (line(n).into_bytes(), true, false))
        .collect();
    session_of(&said)
}

/// The same with this output: bytes, on stdout or stderr, continued or not.
pub(super) fn session_of(said: &[(Vec<u8>, bool, bool)]) -> Vec<Event> {
    let pod = PodSpec::bare(PodName::new("pod").unwrap(), "/pods/pod".into());
    let spec = Spec::bare(pod, RuntimeName::Fake, AgentKind::Command);
    let container = "c".to_owned();
    let mut kinds = vec![
        EventKind::Created {
            spec: Box::new(spec),
        },
        EventKind::Queued {
            how: How::New,
            prompt: Blob::from("do it"),
            task: None,
            env: vec![],
            fresh: None,
            branch: None,
            bounds: Bounds::default(),
            task_at: 0,
            retry: None,
            position: None,
            reason: None,
        },
        EventKind::Preparing {
            step: "files".to_owned(),
        },
        EventKind::BuildStarted {
            attempt: 1,
            tag: "cldpd-pod".to_owned(),
        },
        EventKind::BuildComplete {
            image: "i".to_owned(),
            seconds: 0.5,
            cached: true,
            created: None,
            config: None,
        },
        EventKind::Creating {
            attempt: 1,
            container: container.clone(),
        },
        EventKind::RunStarted {
            how: How::New,
            prompt: "do it".to_owned(),
        },
        EventKind::ContainerStarted {
            container: container.clone(),
            id: container,
        },
    ];
    kinds.extend(said.iter().map(|(data, out, continued)| {
        EventKind::Output(Output {
            stream: if *out { Stream::Stdout } else { Stream::Stderr },
            data: data.clone(),
            continued: *continued,
        })
    }));
    kinds.push(EventKind::ContainerExited {
        finished: at(3),
        code: 0,
        oom_killed: false,
        signal: None,
    });
    kinds.push(EventKind::RunEnded {
        outcome: Outcome::Success,
        why: None,
        usage: None,
        turns: None,
    });
    (1..)
        .zip(kinds)
        .map(|(seq, kind)| event(seq, kind))
        .collect()
}

/// Records a whole session as the daemon does, some events at a time.
pub(super) fn record_session(journal: &mut Journal, session: Ulid, lines: u64) {
    record_events(journal, session, &session_events(lines));
}

/// The same with these events.
pub(super) fn record_events(journal: &mut Journal, session: Ulid, events: &[Event]) {
    let claim = journal.claim(session).unwrap();
    let mut record: Option<SessionRecord> = None;
    let mut bytes = [0, 0];
    for chunk in events.chunks(7) {
        for event in chunk {
            if let EventKind::Output(output) = &event.kind {
                let stream = usize::from(output.stream == Stream::Stderr);
                bytes[stream] += output.data.len() as u64 + u64::from(!output.continued);
            }
            match &mut record {
                None => record = Some(SessionRecord::begin(session, event).unwrap()),
                Some(record) => drop(record.apply(event).unwrap()),
            }
        }
        let mut next = append(session, claim.generation, chunk.to_vec());
        next.cursors = vec![
            (cursor_key(0, 1), cursor(bytes[0])),
            (cursor_key(0, 2), cursor(bytes[1])),
        ];
        next.record = record.clone();
        commit_one(journal, next);
    }
}

fn db(journal: &Journal) -> sled::Db {
    journal.reader().shared.read().db.clone().unwrap()
}

/// What is said of the journal once `harm` was done to its database.
fn after(lines: u64, harm: impl FnOnce(&sled::Db)) -> (Vec<String>, Verified) {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    record_session(&mut journal, S, lines);
    record_session(&mut journal, Ulid(9), 3);
    harm(&db(&journal));
    let (damage, _, end) = verify(&journal.reader());
    assert_eq!(end.damage, damage.len() as u64);
    for finding in &damage {
        assert!(finding.session != Some(Ulid(9)), "{finding:?}");
    }
    (damage.into_iter().map(|found| found.what).collect(), end)
}

#[test]
fn a_sound_journal_is_counted() {
    let (damage, end) = after(4200, |_| ());
    assert_eq!(damage, Vec::<String>::new());
    assert_eq!((end.sessions, end.events), (2, 4210 + 13));
    assert_eq!(end.commits, 4210u64.div_ceil(7) + 2);
    assert_eq!(end.cursors, 4);
    assert!(end.blocks > 1 && end.stored_bytes < end.raw_bytes);
}

/// What is said of the damage, and how it is done.
type Harm<'a> = (&'a str, &'a dyn Fn(&sled::Db));

#[test]
fn each_kind_of_damage_is_told_with_its_place() {
    let flip = |db: &sled::Db, prefix: Vec<u8>, at: usize| {
        let key = keys::with_part(&prefix, 0);
        let mut value = db.get(&key).unwrap().unwrap().to_vec();
        let at = at % value.len();
        value[at] ^= 1;
        db.insert(key, value).unwrap();
    };
    let first =
        |db: &sled::Db, prefix: Vec<u8>| db.scan_prefix(prefix).keys().next().unwrap().unwrap();
    let cases: [Harm<'_>; 12] = [
        ("events 1 to 610 cannot", &|db| {
            flip(db, keys::block(S, 1), 60)
        }),
        ("the events from 1 on", &|db| flip(db, keys::block(S, 1), 0)),
        ("event", &|db| {
            drop(db.remove(first(db, keys::blocks(S))).unwrap());
        }),
        ("belongs to no block", &|db| {
            let key = keys::with_part(&keys::block(S, 1), 900);
            db.insert(key, b"x").unwrap();
        }),
        ("lies within another", &|db| {
            let key = keys::with_part(&keys::block(S, 2), 0);
            db.insert(key, b"x").unwrap();
        }),
        ("its projection: ", &|db| flip(db, keys::session(S), 30)),
        ("it has no projection", &|db| {
            drop(db.remove(first(db, keys::session(S))).unwrap());
        }),
        ("is not what its events say", &|db| {
            let other = serde_json::to_vec(&record(S, false, 0)).unwrap();
            db.insert(first(db, keys::session(S)), rows::seal(&other))
                .unwrap();
        }),
        ("its cursor stands at 5", &|db| {
            db.insert(first(db, keys::cursors(S)), rows::put_cursor(cursor(5)))
                .unwrap();
        }),
        ("commits 3 to 3 are missing", &|db| {
            db.remove(keys::with_part(&keys::commit(3), 0)).unwrap();
        }),
        ("the commit row 4", &|db| flip(db, keys::commit(4), 12)),
        ("of no known kind", &|db| {
            drop(db.insert(b"\xeehello", b"x").unwrap())
        }),
    ];
    for (expected, harm) in cases {
        let (damage, _) = after(600, harm);
        let told = damage.iter().any(|what| what.contains(expected));
        assert!(told, "{expected}: {damage:?}");
        assert!(damage.len() <= 2, "{expected}: {damage:?}");
    }
}

#[test]
fn cursors_and_commits_without_a_session_are_told() {
    let (damage, _) = after(30, |db| {
        let keys: Vec<_> = db.scan_prefix(keys::blocks(S)).keys().collect();
        for key in keys {
            db.remove(key.unwrap()).unwrap();
        }
        for row in db.scan_prefix(keys::session(S)).keys() {
            db.remove(row.unwrap()).unwrap();
        }
    });
    assert_eq!(damage, ["2 cursors belong to no session"]);
}

#[test]
fn an_event_after_a_hole_is_still_read() {
    let (damage, end) = after(4500, |db| {
        let rows: Vec<_> = db.scan_prefix(keys::blocks(S)).keys().collect();
        let middle = rows[rows.len() / 2].as_ref().unwrap();
        db.remove(middle).unwrap();
    });
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert!(end.events > 100, "{}", end.events);
}

#[test]
fn work_that_goes_on_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    record_session(&mut journal, S, 2000);
    let reader = journal.reader();
    let looking = std::thread::spawn(move || {
        let mut looks = 0;
        while reader.session(Ulid(99)).unwrap().is_none() {
            let (damage, _, _) = verify(&reader);
            assert_eq!(damage, vec![]);
            looks += 1;
        }
        looks
    });
    for n in 10..30 {
        record_session(&mut journal, Ulid(n), 300);
        if n % 3 == 0 {
            journal.delete_session(Ulid(n)).unwrap();
        }
    }
    record_session(&mut journal, Ulid(99), 1);
    assert!(looking.join().unwrap() > 0);
}
