//! Followers that read on while the writer merges, removes and compacts under them.

use super::power::scratch;
use super::*;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Sessions that are followed; one more comes and goes.
const FOLLOWED: [Ulid; 2] = [Ulid(1), Ulid(2)];
const fn passing(round: u64) -> Ulid {
    Ulid(3 + round as u128)
}
/// Commits of one event to each session.
const COMMITS: u64 = 1_400;

/// How far the writer is, and a bell.
#[derive(Default)]
struct Bell {
    done: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self, done: u64) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
        self.rung.notify_all();
    }

    /// Waits until more than `seen` is done.
    fn wait(&self, seen: u64) {
        let done = self.done.lock().unwrap();
        drop(self.rung.wait_while(done, |done| *done <= seen).unwrap());
    }
}

/// Rings for the last time whatever happens to the writer.
struct Last<'a>(&'a Bell);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        self.0.ring(u64::MAX);
    }
}

fn follow(reader: &Reader, session: Ulid, max_bytes: usize, bell: &Bell) {
    let mut last = 0;
    while last < COMMITS {
        let events = reader.events(session, last, max_bytes).unwrap();
        if events.is_empty() {
            bell.wait(last);
        }
        for event in events {
            assert_eq!(
                event,
                lines(last + 1, 1)[0],
                "event {} of {session}",
                last + 1
            );
            last += 1;
        }
    }
    assert_eq!(reader.events(session, last, max_bytes).unwrap(), []);
}

fn follow_all(reader: &Reader, step: usize, bell: &Bell) {
    let mut at = FirehoseCursor::default();
    let mut lasts = BTreeMap::new();
    while FOLLOWED.iter().any(|of| lasts.get(of) != Some(&COMMITS)) {
        let events = reader.firehose(at, step).unwrap();
        if events.is_empty() {
            // Whoever is this far has seen that many of each.
            bell.wait(lasts.values().copied().min().unwrap_or(0));
        }
        for (cursor, session, event) in events {
            let last = lasts.entry(session).or_insert(0);
            if FOLLOWED.contains(&session) {
                assert_eq!(event.seq, *last + 1, "of {session}");
            }
            *last = event.seq;
            at = cursor;
        }
    }
}

/// Asks what a command asks that begins to read somewhere.
fn ask(reader: &Reader, session: Ulid, bell: &Bell) {
    let mut last = 0;
    while last < COMMITS {
        bell.wait(last);
        last = reader.last_seq(session).unwrap();
        reader.stats().unwrap();
        for passing in 0..=last / 150 {
            reader.last_seq(self::passing(passing)).unwrap();
            match reader.stored_size(self::passing(passing)) {
                Ok(_) | Err(StoreError::Gone { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let start = reader.tail_start(session, 40, &|_| true).unwrap();
        let now = reader.last_seq(session).unwrap();
        assert!((last.saturating_sub(40)..=now.saturating_sub(40)).contains(&start));
        let since = reader.since(session, at(last as i64 / 2)).unwrap();
        assert_eq!(since, (last / 2).saturating_sub(1));
        assert_eq!(reader.events(session, since, 1).unwrap()[0].seq, since + 1);
    }
}

#[test]
fn a_follower_misses_nothing_whatever_is_done_under_it() {
    let dir = scratch();
    let mut journal = open(dir.path());
    let reader = journal.reader();
    let bell = Bell::default();
    std::thread::scope(|scope| {
        let last = Last(&bell);
        for session in FOLLOWED {
            for max_bytes in [1, 10_000] {
                let (reader, bell) = (&reader, &bell);
                scope.spawn(move || follow(reader, session, max_bytes, bell));
            }
        }
        scope.spawn(|| follow_all(&reader, 7, &bell));
        scope.spawn(|| follow_all(&reader, 500, &bell));
        scope.spawn(|| ask(&reader, FOLLOWED[0], &bell));
        assert!(write(&mut journal, &bell) > 1, "it was compacted meanwhile");
        drop(last);
    });
    for session in FOLLOWED {
        assert!(block_rows(&journal, session) < 100, "they were merged");
    }
    assert_eq!(blobs(dir.path()), 0);
}

/// What the writer does: commits, that merge; removals; compactions. Returns
/// how often it was compacted.
fn write(journal: &mut Journal, bell: &Bell) -> usize {
    let mut claims = BTreeMap::new();
    let mut compacted = 0;
    let mut copying: Option<JoinHandle<Compaction>> = None;
    for seq in 1..=COMMITS {
        let mut appends = Vec::new();
        let passing = passing(seq / 150);
        for session in [FOLLOWED[0], FOLLOWED[1], passing] {
            let (generation, next) = *claims.entry(session).or_insert_with(|| {
                let claim = journal.claim(session).unwrap();
                (claim.generation, claim.next_seq)
            });
            claims.insert(session, (generation, next + 1));
            appends.push(Append {
                record: Some(record(session, seq < COMMITS, seq as usize % 7_000)),
                cursors: vec![(cursor_key(0, 1), cursor(seq))],
                ..append(session, generation, lines(next, 1))
            });
        }
        for result in journal.commit(appends).unwrap() {
            result.unwrap();
        }
        bell.ring(seq);
        if seq % 150 == 149 {
            journal.delete_session(passing).unwrap();
            claims.remove(&passing);
        }
        // The copy is made while commits go on, and put in place between two.
        if copying.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(copy) = copying.take()
        {
            let mut copied = copy.join().unwrap();
            match journal.finish_compaction(&mut copied).unwrap() {
                Some(done) => {
                    done.old.discard().unwrap();
                    compacted += 1;
                }
                None => copying = Some(copy_on(copied)),
            }
        } else if copying.is_none() && seq % 50 == 0 {
            copying = Some(copy_on(journal.begin_compaction().unwrap()));
        }
    }
    drop(copying.map(JoinHandle::join));
    compacted
}

/// Goes on with a compaction beside the writer.
fn copy_on(mut compaction: Compaction) -> JoinHandle<Compaction> {
    std::thread::spawn(move || {
        copy(&mut compaction).unwrap();
        compaction
    })
}
