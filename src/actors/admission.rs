//! Who may run: at most so many at once, in all and of each pod, first come first served.
//!
//! A waiting run that its pod's limit holds back does not hold back runs of
//! other pods. The queue is not stored: the journal has the queued runs, and at
//! start they are put in again in the order in which they were asked for.

use crate::model::{PodName, Timestamp, Ulid};
use std::collections::{BTreeMap, HashMap};
use tokio::sync::oneshot;

/// Place in the order: when it was asked for, then the session.
type Key = (Timestamp, Ulid);

struct Waiting {
    pod: PodName,
    pod_max: Option<u32>,
    waiter: Option<oneshot::Sender<()>>,
}

/// The queue and what runs.
pub(super) struct Admission {
    max: u32,
    /// Nothing is let go before all that waited at start are in the queue.
    open: bool,
    waiting: BTreeMap<Key, Waiting>,
    running: HashMap<Ulid, PodName>,
}

impl Admission {
    /// Closed, with room for `max` runs.
    pub(super) fn new(max: u32) -> Self {
        Self {
            max: max.max(1),
            open: false,
            waiting: BTreeMap::new(),
            running: HashMap::new(),
        }
    }

    /// Lets go from now on.
    pub(super) fn open(&mut self) {
        self.open = true;
        self.admit();
    }

    /// Counts a run that is under way already.
    pub(super) fn occupy(&mut self, session: Ulid, pod: PodName) {
        self.running.insert(session, pod);
    }

    /// Puts a run in the queue. Repeating it changes nothing.
    pub(super) fn enqueue(
        &mut self,
        asked: Timestamp,
        session: Ulid,
        pod: PodName,
        pod_max: Option<u32>,
    ) {
        if self.running.contains_key(&session) {
            return;
        }
        let entry = Waiting {
            pod,
            pod_max,
            waiter: None,
        };
        self.waiting.entry((asked, session)).or_insert(entry);
        self.admit();
    }

    /// The receiver completes when the run may go.
    pub(super) fn acquire(&mut self, session: Ulid) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if self.running.contains_key(&session) {
            let _ = sender.send(());
            return receiver;
        }
        if let Some(entry) = self.waiting.iter_mut().find(|((_, s), _)| *s == session) {
            entry.1.waiter = Some(sender);
        }
        receiver
    }

    /// A run is over, or was taken back.
    pub(super) fn release(&mut self, session: Ulid) {
        self.running.remove(&session);
        self.waiting.retain(|(_, waiting), _| *waiting != session);
        self.admit();
    }

    /// Places in the queue, from 1.
    pub(super) fn positions(&self) -> HashMap<Ulid, u32> {
        self.waiting
            .keys()
            .zip(1..)
            .map(|((_, session), place)| (*session, place))
            .collect()
    }

    /// Runs that are let go.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Runs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The place that the `nth` further run of `pod` would get now, from 1;
    /// none if it could go at once.
    pub(super) fn outlook(&self, pod: &PodName, pod_max: Option<u32>, nth: u32) -> Option<u32> {
        let full = self.running.len() + self.waiting.len() + nth as usize >= self.max as usize;
        let of_pod = self
            .running
            .values()
            .filter(|running| *running == pod)
            .count()
            + nth as usize;
        let pod_full = pod_max.is_some_and(|max| of_pod >= max as usize);
        let place = u32::try_from(self.waiting.len())
            .unwrap_or(u32::MAX)
            .saturating_add(nth + 1);
        let free =
            u32::try_from((self.max as usize).saturating_sub(self.running.len())).unwrap_or(0);
        (full || pod_full).then(|| {
            if pod_full {
                place
            } else {
                place.saturating_sub(free).max(1)
            }
        })
    }

    fn admit(&mut self) {
        if !self.open {
            return;
        }
        let mut gone = Vec::new();
        for (key, entry) in &mut self.waiting {
            if self.running.len() >= self.max as usize {
                break;
            }
            let of_pod = self
                .running
                .values()
                .filter(|pod| **pod == entry.pod)
                .count();
            if entry.pod_max.is_some_and(|max| of_pod >= max as usize) {
                continue;
            }
            self.running.insert(key.1, entry.pod.clone());
            if let Some(waiter) = entry.waiter.take() {
                let _ = waiter.send(());
            }
            gone.push(*key);
        }
        for key in gone {
            self.waiting.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pod(name: &str) -> PodName {
        PodName::new(name).unwrap()
    }

    #[test]
    fn first_come_first_served_within_the_limits() {
        let mut admission = Admission::new(2);
        for n in 1..=4u128 {
            admission.enqueue(Timestamp(n as i64), Ulid(n), pod("a"), Some(1));
        }
        admission.enqueue(Timestamp(9), Ulid(9), pod("b"), None);
        assert_eq!(admission.running(), 0);
        admission.open();
        // One of pod a, and b is not held back by a's limit.
        assert!(admission.acquire(Ulid(1)).try_recv().is_ok());
        assert!(admission.acquire(Ulid(9)).try_recv().is_ok());
        assert!(admission.acquire(Ulid(2)).try_recv().is_err());
        let mut second = admission.acquire(Ulid(2));
        assert_eq!(admission.positions()[&Ulid(3)], 2);
        admission.release(Ulid(1));
        assert!(second.try_recv().is_ok());
    }

    proptest! {
        #[test]
        fn never_over_a_limit_and_nothing_is_forgotten(
            max in 1u32..5, pod_max in 1u32..4, order in proptest::collection::vec((0u8..3, 0u8..20), 0..60)
        ) {
            let mut admission = Admission::new(max);
            admission.open();
            let mut asked = std::collections::BTreeSet::new();
            for (step, (action, n)) in order.into_iter().enumerate() {
                let session = Ulid(u128::from(n));
                let name = pod(["a", "b"][usize::from(n % 2)]);
                if action < 2 {
                    admission.enqueue(Timestamp(step as i64), session, name, Some(pod_max));
                    asked.insert(n);
                } else {
                    admission.release(session);
                    asked.remove(&n);
                }
                prop_assert!(admission.running() <= max as usize);
                for name in ["a", "b"] {
                    let of_pod = admission.running.values().filter(|p| p.as_str() == name).count();
                    prop_assert!(of_pod <= pod_max as usize);
                }
                let known: std::collections::BTreeSet<u8> = admission.running.keys()
                    .chain(admission.waiting.keys().map(|(_, s)| s)).map(|u| u.0 as u8).collect();
                prop_assert_eq!(&known, &asked);
            }
        }
    }
}
