//! The queue held against a plain list that is scanned again and again.

use super::*;
use proptest::prelude::*;

fn pod(name: &str) -> PodName {
    PodName::new(name).unwrap()
}

fn bounds(runs: u32, memory: u64, queued: u32) -> Bounds {
    Bounds {
        runs,
        memory,
        queued,
    }
}

fn demand(n: u128, name: &str) -> Demand {
    Demand {
        session: Ulid(n),
        asked: Timestamp(n as i64),
        priority: 0,
        pod: pod(name),
        pod_max: None,
        memory: 0,
        after: Vec::new(),
    }
}

fn claims(n: u128, memory: u64) -> Demand {
    Demand {
        memory,
        ..demand(n, "m")
    }
}

fn opened(bounds: Bounds) -> Admission {
    let mut admission = Admission::new(bounds);
    admission.open();
    admission
}

fn runs(admission: &Admission) -> Vec<u128> {
    let mut runs: Vec<u128> = admission.running.keys().map(|session| session.0).collect();
    runs.sort_unstable();
    runs
}

#[test]
fn first_come_first_served_within_the_limits() {
    let mut admission = Admission::new(bounds(2, 0, 100));
    for n in 1..=4 {
        let pod_max = Some(1);
        admission.enqueue(Demand {
            pod_max,
            ..demand(n, "a")
        });
    }
    admission.enqueue(demand(9, "b"));
    assert!(runs(&admission).is_empty(), "it is closed");
    admission.open();
    // One of pod a, and b is not held back by a's limit.
    assert_eq!(runs(&admission), [1, 9]);
    assert_eq!(
        admission.acquire(Ulid(1)).try_recv().unwrap(),
        Verdict::Go,
        "it went before anybody asked"
    );
    let mut second = admission.acquire(Ulid(2));
    assert!(second.try_recv().is_err());
    let waits = admission.waits(None);
    assert_eq!(waits[&Ulid(3)], Waits::Pod { place: 2, max: 1 });
    admission.release(Ulid(1), None);
    assert_eq!(second.try_recv().unwrap(), Verdict::Go);
}

#[test]
fn the_higher_priority_leaves_first() {
    let mut admission = opened(bounds(1, 0, 100));
    for (n, priority) in [(1, 0), (2, 0), (3, 5), (4, -1), (5, 5)] {
        admission.enqueue(Demand {
            priority,
            ..demand(n, "a")
        });
    }
    let place = |n| admission.waits(Some(&[Ulid(n)]))[&Ulid(n)].place();
    assert_eq!(
        [3, 5, 2, 4].map(place),
        [Some(1), Some(2), Some(3), Some(4)]
    );
    let mut order = Vec::new();
    while let [only] = runs(&admission)[..] {
        order.push(only);
        admission.release(Ulid(only), None);
    }
    assert_eq!(order, [1, 3, 5, 2, 4]);
}

#[test]
fn a_large_one_is_not_kept_waiting_by_small_ones() {
    let mut admission = opened(bounds(10, 8, 100));
    admission.enqueue(claims(1, 4));
    admission.enqueue(claims(2, 4));
    admission.enqueue(claims(3, 7));
    admission.enqueue(claims(4, 1));
    admission.enqueue(claims(5, 0));
    // Who claims nothing goes; the small claim behind the large one does not.
    assert_eq!(runs(&admission), [1, 2, 5]);
    admission.release(Ulid(1), None);
    assert_eq!(runs(&admission), [2, 5], "4 would fit beside 2, and waits");
    let waits = admission.waits(None);
    let (large, small) = (&waits[&Ulid(3)], &waits[&Ulid(4)]);
    assert!(matches!(
        large,
        Waits::Memory {
            place: 1,
            claims: 7
        }
    ));
    assert!(matches!(
        small,
        Waits::Memory {
            place: 2,
            claims: 1
        }
    ));
    admission.release(Ulid(2), None);
    assert_eq!(runs(&admission), [3, 4, 5]);
    assert_eq!(admission.load().claimed, 8);
}

#[test]
fn what_is_larger_than_all_there_is_runs_alone() {
    let mut admission = opened(bounds(10, 8, 100));
    for (n, memory) in [(1, 3), (2, 100), (3, 1)] {
        admission.enqueue(claims(n, memory));
    }
    assert_eq!(runs(&admission), [1]);
    admission.release(Ulid(1), None);
    assert_eq!(runs(&admission), [2]);
    admission.release(Ulid(2), None);
    assert_eq!(runs(&admission), [3]);
}

fn after(n: u128, after: &[u128]) -> Demand {
    Demand {
        after: after.iter().map(|n| Ulid(*n)).collect(),
        ..demand(n, "a")
    }
}

#[test]
fn who_comes_after_waits_for_success_and_holds_nobody_back() {
    let mut admission = opened(bounds(10, 0, 100));
    admission.enqueue(demand(1, "a"));
    admission.enqueue(demand(2, "a"));
    admission.enqueue(after(3, &[1, 2]));
    admission.enqueue(demand(4, "a"));
    assert_eq!(runs(&admission), [1, 2, 4]);
    let mut third = admission.acquire(Ulid(3));
    admission.release(Ulid(1), Some(&Fate::Succeeded));
    let waits = admission.waits(Some(&[Ulid(3)]));
    assert_eq!(waits[&Ulid(3)], Waits::After(vec![Ulid(2)]));
    // It goes on before the other has ended: it has not succeeded yet.
    admission.enqueue(demand(1, "a"));
    admission.release(Ulid(2), Some(&Fate::Succeeded));
    assert!(third.try_recv().is_err());
    admission.release(Ulid(1), Some(&Fate::Succeeded));
    assert_eq!(third.try_recv().unwrap(), Verdict::Go);
}

#[test]
fn a_chain_falls_through() {
    let mut admission = opened(bounds(10, 0, 100));
    admission.enqueue(demand(1, "a"));
    admission.enqueue(after(2, &[1]));
    admission.enqueue(after(3, &[2]));
    let (mut second, mut third) = (admission.acquire(Ulid(2)), admission.acquire(Ulid(3)));
    let failed = Fate::Otherwise("a-1, which ended: failed".to_owned());
    admission.release(Ulid(1), Some(&failed));
    let never = "it was to run after a-1, which ended: failed";
    let never = Verdict::Never(never.to_owned());
    assert_eq!(second.try_recv().unwrap(), never);
    assert_eq!(admission.acquire(Ulid(2)).try_recv().unwrap(), never);
    assert!(third.try_recv().is_err(), "until that is recorded");
    let cancelled = Fate::Otherwise("a-2, which ended: cancelled".to_owned());
    admission.release(Ulid(2), Some(&cancelled));
    assert!(matches!(third.try_recv().unwrap(), Verdict::Never(_)));
    admission.release(Ulid(3), None);
    assert!(admission.load().is_empty() && admission.dependents.is_empty());
}

#[test]
fn all_of_a_request_or_none_when_the_queue_is_full() {
    let mut admission = opened(bounds(1, 0, 2));
    let requests = |numbers: &[u128]| numbers.iter().map(|n| demand(*n, "a")).collect();
    assert!(admission.reserve(requests(&[1, 2])).is_ok());
    let error = admission.reserve(requests(&[3, 4])).unwrap_err();
    assert_eq!(error.code, ErrorCode::TryLater);
    assert!(error.message.contains("no more than 2 may (max_queued)"));
    assert_eq!((runs(&admission), admission.load().waiting), (vec![1], 1));
    assert!(admission.reserve(requests(&[5])).is_ok());
    assert!(admission.room(0).is_err());
}

#[test]
fn ten_thousand_that_wait_are_not_looked_at_again_and_again() {
    const MANY: u128 = 10_000;
    let mut admission = opened(bounds(4, 64, 20_000));
    for n in 1..=MANY {
        let pod = format!("pod{}", n % 100);
        admission.enqueue(Demand {
            pod_max: Some(1),
            memory: (n % 3) as u64,
            priority: (n % 5) as i32,
            ..demand(n, &pod)
        });
    }
    admission.looks = 0;
    for done in 0..MANY {
        let next = *admission.running.keys().next().expect("somebody runs");
        admission.release(next, Some(&Fate::Succeeded));
        // A pod has two lanes here, and two pods are concerned at most: who ends, who goes.
        assert!(
            admission.looks <= 8 * (done as u64 + 1),
            "{}",
            admission.looks
        );
    }
    assert!(admission.load().is_empty() && admission.pods.is_empty());
    assert!(admission.plain.is_empty() && admission.claiming.is_empty());
    assert!(admission.order.is_empty());
}

/// The rules, as they are written: a list, scanned from its beginning.
struct Model {
    bounds: Bounds,
    waiting: Vec<(Demand, Vec<Ulid>, bool)>,
    running: Vec<Demand>,
}

impl Model {
    fn key(demand: &Demand) -> Key {
        (Reverse(demand.priority), demand.asked, demand.session)
    }

    fn admit(&mut self) {
        self.waiting.sort_by_key(|(demand, ..)| Self::key(demand));
        while self.running.len() < self.bounds.runs as usize {
            let claimed: u64 = self.running.iter().map(|demand| demand.memory).sum();
            let mut held = false;
            let first = self.waiting.iter().position(|(demand, pending, refused)| {
                let of_pod = self.running.iter().filter(|d| d.pod == demand.pod).count();
                let pod_full = demand.pod_max.is_some_and(|max| of_pod >= max as usize);
                if *refused || !pending.is_empty() || pod_full {
                    return false;
                }
                let fits = claimed == 0 || claimed + demand.memory <= self.bounds.memory;
                if demand.memory > 0 && (held || !fits) {
                    held = true;
                    return false;
                }
                true
            });
            let Some(first) = first else { return };
            self.running.push(self.waiting.remove(first).0);
        }
    }

    fn enqueue(&mut self, demand: Demand) {
        let session = demand.session;
        let there = |d: &Demand| d.session == session;
        if self.running.iter().any(there) || self.waiting.iter().any(|(d, ..)| there(d)) {
            return;
        }
        for (dependent, pending, _) in &mut self.waiting {
            if dependent.after.contains(&session) && !pending.contains(&session) {
                pending.push(session);
            }
        }
        let pending = demand.after.clone();
        self.waiting.push((demand, pending, false));
        self.admit();
    }

    fn release(&mut self, session: Ulid, success: Option<bool>) {
        self.running.retain(|demand| demand.session != session);
        self.waiting
            .retain(|(demand, ..)| demand.session != session);
        for (demand, pending, refused) in &mut self.waiting {
            match success {
                Some(true) => pending.retain(|awaited| *awaited != session),
                Some(false) => *refused |= demand.after.contains(&session),
                None => {}
            }
        }
        self.admit();
    }
}

#[derive(Clone, Debug)]
enum Action {
    Enqueue {
        n: u8,
        priority: i32,
        pod_max: Option<u32>,
        memory: u64,
        after: Vec<u8>,
    },
    Release(u8, Option<bool>),
    /// The first that runs ends, so that things go on.
    End(bool),
}

fn action() -> impl Strategy<Value = Action> {
    let enqueue = (
        0u8..24,
        -1i32..2,
        proptest::option::of(1u32..3),
        prop_oneof![Just(0u64), 1u64..12],
        proptest::collection::vec(0u8..24, 0..3),
    );
    let enqueue = enqueue.prop_map(|(n, priority, pod_max, memory, after)| Action::Enqueue {
        n,
        priority,
        pod_max,
        memory,
        // Only what was there before can be named.
        after: after.into_iter().filter(|awaited| *awaited < n).collect(),
    });
    prop_oneof![
        4 => enqueue,
        1 => (0u8..24, proptest::option::of(any::<bool>())).prop_map(|(n, how)| Action::Release(n, how)),
        3 => any::<bool>().prop_map(Action::End),
    ]
}

fn fate(success: bool) -> Fate {
    match success {
        true => Fate::Succeeded,
        false => Fate::Otherwise("x".to_owned()),
    }
}

proptest! {
    #[test]
    fn it_does_what_a_plain_list_would(
        max in 1u32..5,
        actions in proptest::collection::vec(action(), 0..80),
    ) {
        let bounds = bounds(max, 10, 1000);
        let mut admission = opened(bounds);
        let mut model = Model { bounds, waiting: Vec::new(), running: Vec::new() };
        let mut waiters: HashMap<Ulid, oneshot::Receiver<Verdict>> = HashMap::new();
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Action::Enqueue { n, priority, pod_max, memory, mut after } => {
                    after.sort_unstable();
                    after.dedup();
                    let demand = Demand {
                        session: Ulid(u128::from(n)),
                        asked: Timestamp(step as i64),
                        priority,
                        pod: pod(["a", "b", "c"][usize::from(n % 3)]),
                        pod_max,
                        memory,
                        after: after.into_iter().map(|n| Ulid(u128::from(n))).collect(),
                    };
                    admission.enqueue(demand.clone());
                    model.enqueue(demand);
                    let session = Ulid(u128::from(n));
                    waiters.insert(session, admission.acquire(session));
                }
                Action::Release(n, success) => {
                    let session = Ulid(u128::from(n));
                    admission.release(session, success.map(fate).as_ref());
                    model.release(session, success);
                    waiters.remove(&session);
                }
                Action::End(success) => {
                    if let Some(session) = model.running.first().map(|demand| demand.session) {
                        admission.release(session, Some(&fate(success)));
                        model.release(session, Some(success));
                        waiters.remove(&session);
                    }
                }
            }
            let mut expected: Vec<u128> = model.running.iter().map(|d| d.session.0).collect();
            expected.sort_unstable();
            prop_assert_eq!(runs(&admission), expected);
            prop_assert!(admission.running.len() <= max as usize);
            let claimed: u64 = model.running.iter().map(|demand| demand.memory).sum();
            let claiming = model.running.iter().filter(|demand| demand.memory > 0).count();
            prop_assert_eq!(admission.load().claimed, claimed);
            prop_assert!(claimed <= 10 || claiming == 1);
            let all = admission.waits(None);
            prop_assert_eq!(all.len(), model.waiting.len());
            let mut place = 0;
            for (demand, pending, refused) in &model.waiting {
                let ready = pending.is_empty() && !refused;
                place += u32::from(ready);
                let waits = &all[&demand.session];
                prop_assert_eq!(waits.place(), ready.then_some(place));
                let alone = admission.waits(Some(&[demand.session]));
                prop_assert_eq!(&alone[&demand.session], waits);
            }
            for (session, waiter) in &mut waiters {
                let told = waiter.try_recv();
                let refused = model.waiting.iter().any(|(d, _, refused)| *refused && d.session == *session);
                if admission.running.contains_key(session) {
                    prop_assert_ne!(told, Ok(Verdict::Never("it was to run after x".to_owned())));
                } else if !refused {
                    prop_assert!(told.is_err());
                }
            }
        }
    }
}
