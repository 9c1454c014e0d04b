//! Random histories against a model that is plain memory.

use super::power::scratch;
use super::*;
use proptest::prelude::*;

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
    prop_oneof![
        // Many commits of little, so that blocks are merged.
        16 => proptest::collection::vec(a_try(), 1..5).prop_map(Op::Commit),
        2 => (1..=SESSIONS).prop_map(Op::Claim),
        1 => Just(Op::Reopen),
        1 => Just(Op::Restart),
        1 => proptest::collection::vec(a_try(), 1..5).prop_map(Op::Fail),
        1 => proptest::collection::vec(a_try(), 1..5).prop_map(Op::Kill),
        1 => (1..=SESSIONS).prop_map(Op::Delete),
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
    fn settle(&mut self, before: Self, reader: &Reader) {
        if reader.watermark() == before.commits {
            *self = before;
        }
        self.unclaim();
        self.check(reader);
    }

    fn check(&self, reader: &Reader) {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_is_what_the_model_is(ops in proptest::collection::vec(op(), 1..120)) {
        let root = scratch();
        let mut lives = 0;
        let mut dir = root.path().join("0");
        let mut journal = Some(open(&dir));
        let mut model = Model::default();
        for op in ops {
            let writer = journal.as_mut().unwrap();
            match op {
                Op::Commit(tries) => {
                    model.claim_for(writer, &tries);
                    model.commit(writer, &tries);
                }
                Op::Claim(session) => {
                    let ulid = model.ulid(session);
                    model.claim(writer, ulid);
                }
                Op::Delete(session) => {
                    let ulid = model.ulid(session);
                    writer.delete_session(ulid).unwrap();
                    model.removed[session as usize - 1] += 1;
                    model.sessions.remove(&ulid);
                    model.order.retain(|(of, _)| *of != ulid);
                }
                Op::Reopen => {
                    model.check(&writer.reader());
                    prop_assert_eq!(writer.reopen().unwrap(), Vec::<String>::new());
                    model.unclaim();
                    model.check(&writer.reader());
                }
                Op::Restart => {
                    drop(journal.take());
                    journal = Some(open(&dir));
                    model.unclaim();
                    model.check(&journal.as_ref().unwrap().reader());
                }
                Op::Fail(tries) => {
                    let before = model.break_off(writer, &tries, || {});
                    prop_assert_eq!(writer.reopen().unwrap(), Vec::<String>::new());
                    model.settle(before, &writer.reader());
                }
                Op::Kill(tries) => {
                    // A process that is killed leaves what its files hold.
                    lives += 1;
                    let left = root.path().join(lives.to_string());
                    let (from, to) = (dir.clone(), left.clone());
                    let before = model.break_off(writer, &tries, move || {
                        files::back_up(&from, &to).unwrap();
                    });
                    drop(journal.take());
                    if left.exists() {
                        dir = left;
                    }
                    journal = Some(open(&dir));
                    model.settle(before, &journal.as_ref().unwrap().reader());
                }
            }
        }
        model.check(&journal.as_ref().unwrap().reader());
        drop(journal.take());
        prop_assert_eq!(blobs(&dir), 0);
    }
}
