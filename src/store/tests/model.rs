//! Random histories against a model that is plain memory.

use super::power::scratch;
use super::*;
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

const SESSIONS: u128 = 3;

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<Try>),
    Claim(u128),
    Reopen,
    Restart,
    /// The barrier of a commit fails.
    Fail(Vec<Try>),
    /// The process is killed before the barrier of a commit.
    Kill(Vec<Try>),
    Delete(u128),
    /// A compaction goes one step further, and perhaps something happens to it
    /// after so many of its own steps.
    Compact(Option<(usize, Fault)>),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It fails.
    Fail,
    /// The process is killed.
    Kill,
}

#[derive(Clone, Debug)]
struct Try {
    session: u128,
    sizes: Vec<usize>,
    stale: bool,
    shift: u64,
    ended: Option<bool>,
    cursor: Option<u64>,
    request: Option<(u128, u8)>,
}

fn a_try() -> impl Strategy<Value = Try> {
    let size = prop_oneof![5 => 0usize..50, 1 => 5_000usize..70_000];
    (
        1..=SESSIONS,
        proptest::collection::vec(size, 0..6),
        proptest::bool::weighted(0.1),
        prop_oneof![8 => Just(0u64), 1 => 1u64..3],
        proptest::option::weighted(0.3, proptest::bool::weighted(0.3)),
        proptest::option::of(0u64..1000),
        proptest::option::weighted(0.2, (0u128..6, 0u8..2)),
    )
        .prop_map(
            |(session, sizes, stale, shift, ended, cursor, request)| Try {
                session,
                sizes,
                stale,
                shift,
                ended,
                cursor,
                request,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let fault = prop_oneof![Just(Fault::Fail), Just(Fault::Kill)];
    prop_oneof![
        // Many commits of little, so that blocks are merged.
        16 => proptest::collection::vec(a_try(), 1..5).prop_map(Op::Commit),
        2 => (1..=SESSIONS).prop_map(Op::Claim),
        1 => Just(Op::Reopen),
        1 => Just(Op::Restart),
        1 => proptest::collection::vec(a_try(), 1..5).prop_map(Op::Fail),
        1 => proptest::collection::vec(a_try(), 1..5).prop_map(Op::Kill),
        1 => (1..=SESSIONS).prop_map(Op::Delete),
        5 => proptest::option::weighted(0.2, (0usize..5, fault)).prop_map(Op::Compact),
    ]
}

#[derive(Clone, Default)]
struct Session {
    generation: Option<u64>,
    events: Vec<Event>,
    cursors: BTreeMap<CursorKey, Cursor>,
    record: Option<SessionRecord>,
}

#[derive(Clone, Default)]
struct Model {
    sessions: BTreeMap<Ulid, Session>,
    order: Vec<(Ulid, Event)>,
    requests: BTreeMap<Ulid, RequestRow>,
    /// How often each session was removed: a ULID is never used again.
    removed: [u128; SESSIONS as usize],
    commits: u64,
    claims: u64,
    time: i64,
}

impl Model {
    fn ulid(&self, session: u128) -> Ulid {
        Ulid(session + 10 * self.removed[session as usize - 1])
    }

    fn append(&mut self, a_try: &Try) -> Append {
        let ulid = self.ulid(a_try.session);
        let session = self.sessions.entry(ulid).or_default();
        let first = session.events.len() as u64 + 1 + a_try.shift;
        let mut events = Vec::new();
        for (size, seq) in a_try.sizes.iter().zip(first..) {
            self.time += *size as i64 % 3;
            let mut event = event(seq, output(vec![seq as u8; *size]));
            event.time = at(self.time);
            event.run = (*size % 4) as u32;
            events.push(event);
        }
        let key = cursor_key(a_try.session as u32, 1);
        Append {
            session: ulid,
            generation: session.generation.unwrap_or(1) - u64::from(a_try.stale),
            events,
            cursors: a_try
                .cursor
                .map(|at| (key, cursor(at)))
                .into_iter()
                .collect(),
            record: a_try
                .ended
                .map(|ended| record(ulid, !ended, a_try.sizes.iter().sum())),
            requests: a_try
                .request
                .map(|(id, hash)| RequestRow {
                    id: Ulid(id),
                    hash: [hash; 32],
                    answer: serde_json::Value::from(a_try.session as u64),
                    at: NOW,
                })
                .into_iter()
                .collect(),
        }
    }

    /// What must come of it: the last seq, or nothing.
    fn take(&mut self, append: &Append) -> Option<u64> {
        let seen = |row: &RequestRow| self.requests.contains_key(&row.id);
        let session = self.sessions.get_mut(&append.session)?;
        let next = session.events.len() as u64 + 1;
        let dense = append.events.first().is_none_or(|event| event.seq == next);
        if session.generation != Some(append.generation)
            || !dense
            || append.requests.iter().any(seen)
        {
            return None;
        }
        session.events.extend(append.events.clone());
        session.cursors.extend(append.cursors.clone());
        if append.record.is_some() {
            session.record.clone_from(&append.record);
        }
        for event in &append.events {
            self.order.push((append.session, event.clone()));
        }
        for row in &append.requests {
            self.requests.insert(row.id, row.clone());
        }
        Some(session.events.len() as u64)
    }

    fn claim(&mut self, journal: &mut Journal, ulid: Ulid) {
        let claim = journal.claim(ulid).unwrap();
        let session = self.sessions.entry(ulid).or_default();
        assert!(claim.generation > self.claims);
        self.claims = claim.generation;
        session.generation = Some(claim.generation);
        assert_eq!(claim.next_seq, session.events.len() as u64 + 1);
        assert_eq!(claim.cursors, session.cursors);
    }

    fn unclaim(&mut self) {
        for session in self.sessions.values_mut() {
            session.generation = None;
        }
    }

    /// Claims sessions that nobody has claimed, mostly.
    fn claim_for(&mut self, journal: &mut Journal, tries: &[Try]) {
        for a_try in tries.iter().filter(|a_try| !a_try.stale) {
            let ulid = self.ulid(a_try.session);
            let known = self.sessions.get(&ulid);
            if known.is_none_or(|session| session.generation.is_none()) {
                self.claim(journal, ulid);
            }
        }
    }

    /// Takes what can be taken: the appends, what must come of each, and
    /// whether there is anything to write.
    fn plan(&mut self, tries: &[Try]) -> (Vec<Append>, Vec<Option<u64>>, bool) {
        // Appends are made one after the other, as if all before had been taken.
        let mut appends = Vec::new();
        let mut expected = Vec::new();
        let mut writes = false;
        for a_try in tries {
            let append = self.append(a_try);
            let taken = self.take(&append);
            writes |= taken.is_some()
                && !(append.events.is_empty()
                    && append.cursors.is_empty()
                    && append.record.is_none()
                    && append.requests.is_empty());
            expected.push(taken);
            appends.push(append);
        }
        self.commits += u64::from(writes);
        (appends, expected, writes)
    }

    fn commit(&mut self, journal: &mut Journal, tries: &[Try]) {
        let (appends, expected, _) = self.plan(tries);
        let results = journal.commit(appends).unwrap();
        let number = self.commits;
        for (result, expected) in results.into_iter().zip(expected) {
            let expected = expected.map(|last_seq| Committed { number, last_seq });
            assert_eq!(result.ok(), expected);
        }
    }

    /// A commit that ends at its barrier, after `at_barrier` was done there.
    /// Returns how things stand if nothing of it is there afterwards.
    fn break_off(
        &mut self,
        journal: &mut Journal,
        tries: &[Try],
        mut at_barrier: impl FnMut() + Send + 'static,
    ) -> Self {
        self.claim_for(journal, tries);
        let before = self.clone();
        let (appends, _, writes) = self.plan(tries);
        journal.at_barrier.0 = Some(Box::new(move || {
            at_barrier();
            let failure = std::io::Error::other("the disk is gone");
            Err(StoreError::io("sync", Path::new("db"), failure))
        }));
        assert_eq!(journal.commit(appends).is_err(), writes);
        journal.at_barrier.0 = None;
        before
    }

    /// A commit that was broken off is there as a whole, or not at all.
    fn settle(&mut self, before: Self, journal: &Journal) {
        if journal.reader().watermark() == before.commits {
            *self = before;
        }
        self.unclaim();
        self.check(journal);
    }

    fn check(&self, journal: &Journal) {
        assert_eq!(kept(journal), counted(journal));
        let reader = &journal.reader();
        assert_eq!(reader.watermark(), self.commits);
        for (ulid, session) in &self.sessions {
            assert_eq!(read_all(reader, *ulid).unwrap(), session.events);
            assert_eq!(reader.last_seq(*ulid).unwrap(), session.events.len() as u64);
            assert_eq!(reader.cursors(*ulid).unwrap(), session.cursors);
            assert_eq!(reader.session(*ulid).unwrap(), session.record);
            let middle = session.events.len() / 2;
            let start = reader.tail_start(*ulid, middle as u64, &|_| true).unwrap();
            assert_eq!(start, (session.events.len() - middle) as u64);
            if let Some(event) = session.events.get(middle) {
                let before = session.events.iter().filter(|e| e.time < event.time);
                let since = reader.since(*ulid, event.time).unwrap();
                assert_eq!(since, before.count() as u64);
            }
        }
        assert_eq!(firehose(reader, 17).unwrap(), self.order);
        let records = self
            .sessions
            .values()
            .rev()
            .filter_map(|s| s.record.clone());
        let listed: Vec<_> = reader.sessions().map(Result::unwrap).collect();
        assert_eq!(listed, records.collect::<Vec<_>>());
        for row in self.requests.values() {
            assert_eq!(reader.request(row.id).unwrap().as_ref(), Some(row));
        }
    }
}

/// A journal that may contain what a compaction left before.
fn open_again(dir: &Path) -> Journal {
    let opened = Journal::open(dir, options()).unwrap();
    for warning in opened.warnings {
        assert!(warning.contains("which a compaction left"), "{warning}");
    }
    opened.journal
}

/// A compaction under way.
struct Copying {
    compaction: Compaction,
    copied: bool,
    /// The journal was reopened since it began.
    overtaken: bool,
}

/// A journal, whoever has it open, and what must be in it.
struct World {
    model: Model,
    copying: Option<Copying>,
    journal: Option<Journal>,
    dir: PathBuf,
    lives: u32,
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = scratch();
        let dir = root.path().join("0");
        Self {
            model: Model::default(),
            copying: None,
            journal: Some(open(&dir)),
            dir,
            lives: 0,
            root,
        }
    }

    fn writer(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    /// Where a process that is killed leaves what its files hold.
    fn next_life(&mut self) -> PathBuf {
        self.lives += 1;
        self.root.path().join(self.lives.to_string())
    }

    /// The process is gone; what it left is in `dir`.
    fn restart(&mut self, dir: PathBuf) {
        self.copying = None;
        self.journal = None;
        self.journal = Some(open_again(&dir));
        self.dir = dir;
    }

    fn reopen(&mut self) {
        for warning in self.writer().reopen().unwrap() {
            assert!(warning.contains("which a compaction left"), "{warning}");
        }
        if let Some(copying) = &mut self.copying {
            copying.overtaken = true;
        }
        self.model.unclaim();
    }

    fn carry_out(&mut self, op: Op) {
        let writer = self.journal.as_mut().unwrap();
        let model = &mut self.model;
        match op {
            Op::Commit(tries) => {
                model.claim_for(writer, &tries);
                return model.commit(writer, &tries);
            }
            Op::Claim(session) => {
                let ulid = model.ulid(session);
                return model.claim(writer, ulid);
            }
            Op::Delete(session) => {
                let ulid = model.ulid(session);
                writer.delete_session(ulid).unwrap();
                model.removed[session as usize - 1] += 1;
                model.sessions.remove(&ulid);
                model.commits += 1;
                return model.order.retain(|(of, _)| *of != ulid);
            }
            Op::Reopen => {
                model.check(writer);
                self.reopen();
            }
            Op::Restart => {
                self.restart(self.dir.clone());
                self.model.unclaim();
            }
            Op::Fail(tries) => {
                let before = model.break_off(writer, &tries, || {});
                self.reopen();
                let journal = self.journal.as_ref().unwrap();
                return self.model.settle(before, journal);
            }
            Op::Kill(tries) => {
                let left = self.next_life();
                let (from, to) = (self.dir.clone(), left.clone());
                let writer = self.journal.as_mut().unwrap();
                let before = self.model.break_off(writer, &tries, move || {
                    files::back_up(&from, &to).unwrap();
                });
                let dir = if left.exists() {
                    left
                } else {
                    self.dir.clone()
                };
                self.restart(dir);
                let journal = self.journal.as_ref().unwrap();
                return self.model.settle(before, journal);
            }
            Op::Compact(fault) => self.compact(fault),
        }
        self.model.check(self.journal.as_ref().unwrap());
    }

    /// Begins a compaction, copies, or puts the copy in place.
    fn compact(&mut self, fault: Option<(usize, Fault)>) {
        let Some(mut copying) = self.copying.take() else {
            let compaction = self.writer().begin_compaction().unwrap();
            self.copying = Some(Copying {
                compaction,
                copied: false,
                overtaken: false,
            });
            return;
        };
        let left = self.next_life();
        let stopped = Arc::new(OnceLock::new());
        copying.compaction.at_step = AtStep(fault.map(|(mut after, fault)| {
            let (from, to, stopped) = (self.dir.clone(), left.clone(), stopped.clone());
            let hook = move |step| {
                if after > 0 {
                    after -= 1;
                    return Ok(());
                }
                if let Fault::Kill = fault {
                    files::back_up(&from, &to).unwrap();
                }
                stopped.set(step).unwrap();
                Err(StoreError::io(
                    "sync",
                    &to,
                    std::io::Error::other("no disk"),
                ))
            };
            Box::new(hook) as _
        }));
        let done = if copying.copied {
            let done = self.writer().finish_compaction(&mut copying.compaction);
            done.map(|done| match done {
                Some(done) => {
                    done.old.discard().unwrap();
                    None
                }
                None => Some(false),
            })
        } else {
            copy(&mut copying.compaction).map(|()| Some(true))
        };
        match (done, stopped.get()) {
            (Ok(copied), None) => {
                assert!(copied.is_some() || !copying.overtaken);
                if let Some(copied) = copied {
                    copying.copied = copied;
                    copying.compaction.at_step = AtStep::default();
                    self.copying = Some(copying);
                }
            }
            (Err(StoreError::Overtaken), None) => assert!(copying.overtaken),
            (Err(StoreError::Io { .. }), Some(step)) => {
                drop(copying);
                self.writer().abandon_compaction();
                if left.exists() {
                    self.restart(left);
                    self.model.unclaim();
                } else if *step == "current" {
                    // Which one counts nobody knows before it is opened anew.
                    self.reopen();
                }
            }
            (done, step) => panic!("{done:?} after {step:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_what_the_model_is(ops in proptest::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.carry_out(op);
        }
        world.model.check(world.journal.as_ref().unwrap());
        let blobs = blobs(&world.dir);
        drop(world);
        prop_assert_eq!(blobs, 0);
    }
}
