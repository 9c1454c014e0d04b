//! Who may run: the queue, and what is let go of it.
//!
//! Runs leave in the order of their priority, and among equals of when they were
//! asked for. A run has to wait while as many run as may, while as many of its
//! pod do, while the memory that it claims does not fit beside what others
//! claim, or while a session that it comes after has not succeeded. Who waits
//! does not hold back the others, with two exceptions: nobody goes while as many
//! run as may, and a run whose memory does not fit holds back those behind it
//! that claim memory too, or small ones could keep it waiting for ever. One that
//! claims more than there is goes when nothing else claims any.
//!
//! The queue is not stored: the journal has the queued runs, and at start they
//! are put in again. Runs of one pod with the same needs stand in a *lane*; only
//! the heads of lanes that their pods' limits let go are looked at, so what
//! happens to one run costs the logarithm of how many wait.

mod demand;
#[cfg(test)]
mod tests;

pub(super) use demand::{Demand, Fate, Verdict, Waits};

use crate::model::{Error, ErrorCode, PodName, Timestamp, Ulid};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use tokio::sync::oneshot;

/// Place in the order.
type Key = (Reverse<i32>, Timestamp, Ulid);

/// What settles who may run at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Runs at once.
    pub(super) runs: u32,
    /// Bytes that they may claim together; 0 is unlimited.
    pub(super) memory: u64,
    /// Runs that may wait.
    pub(super) queued: u32,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Runs that are let go.
    pub running: usize,
    /// Runs that wait.
    pub waiting: usize,
    /// Bytes of memory that running ones may claim together; 0 is unlimited.
    pub memory: u64,
    /// Bytes of memory that running ones claim.
    pub claimed: u64,
}

impl Load {
    /// Nothing runs or waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.running == 0 && self.waiting == 0
    }
}

struct Waiting {
    key: Key,
    demand: Demand,
    /// Of the sessions that it comes after, those that have not succeeded.
    pending: BTreeSet<Ulid>,
    /// Why it will never run.
    refused: Option<String>,
    waiter: Option<oneshot::Sender<Verdict>>,
}

impl Waiting {
    fn is_ready(&self) -> bool {
        self.pending.is_empty() && self.refused.is_none()
    }
}

/// Runs of one pod that are alike in what holds them back: the pod's limit as
/// they know it, and whether they claim memory.
type Lane = (Option<u32>, bool);

#[derive(Default)]
struct Line {
    keys: BTreeSet<Key>,
    /// The first, while the pod's limit lets it go: it is among the heads then.
    head: Option<Key>,
}

#[derive(Default)]
struct Pod {
    running: u32,
    lanes: BTreeMap<Lane, Line>,
}

/// The queue and what runs.
pub(super) struct Admission {
    bounds: Bounds,
    /// Nothing is let go before all that waited at start are in the queue.
    open: bool,
    waiting: HashMap<Ulid, Waiting>,
    /// Those of them that wait for room only, by priority.
    order: BTreeMap<Reverse<i32>, BTreeSet<Key>>,
    running: HashMap<Ulid, (PodName, u64)>,
    /// Bytes that running ones claim.
    claimed: u64,
    pods: HashMap<PodName, Pod>,
    /// Heads of lanes whose runs claim no memory.
    plain: BTreeSet<Key>,
    /// Heads of lanes whose runs claim some.
    claiming: BTreeSet<Key>,
    /// Who waits and comes after a session, whether or not that has succeeded.
    dependents: HashMap<Ulid, BTreeSet<Ulid>>,
    /// Lanes that were looked at, for the tests to count.
    #[cfg(test)]
    looks: u64,
}

impl Admission {
    /// Closed, with nothing in it.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds: Bounds {
                runs: bounds.runs.max(1),
                ..bounds
            },
            open: false,
            waiting: HashMap::new(),
            order: BTreeMap::new(),
            running: HashMap::new(),
            claimed: 0,
            pods: HashMap::new(),
            plain: BTreeSet::new(),
            claiming: BTreeSet::new(),
            dependents: HashMap::new(),
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Lets go from now on.
    pub(super) fn open(&mut self) {
        self.open = true;
        self.admit();
    }

    /// Counts a run that is under way already.
    pub(super) fn occupy(&mut self, demand: Demand) {
        if self.running.contains_key(&demand.session) {
            return;
        }
        self.withdraw(demand.session);
        self.run(demand);
    }

    /// Puts runs in the queue: all of them, or none when it is full.
    ///
    /// # Errors
    /// `try_later`, naming the limit.
    pub(super) fn reserve(&mut self, demands: Vec<Demand>) -> Result<(), Error> {
        let sessions: Vec<Ulid> = demands.iter().map(|demand| demand.session).collect();
        for demand in demands {
            self.enqueue(demand);
        }
        let waits = |session: &Ulid| self.waiting.contains_key(session);
        if self.waiting.len() <= self.bounds.queued as usize || !sessions.iter().any(waits) {
            return Ok(());
        }
        for session in sessions {
            self.release(session, None);
        }
        Err(self.full())
    }

    /// Whether a run may be asked for that waits behind `others` of its own session.
    ///
    /// # Errors
    /// `try_later`, naming the limit.
    pub(super) fn room(&self, others: usize) -> Result<(), Error> {
        if self.waiting.len() + others < self.bounds.queued as usize {
            return Ok(());
        }
        Err(self.full())
    }

    fn full(&self) -> Error {
        let (waiting, most) = (self.waiting.len(), self.bounds.queued);
        let message = format!(
            "the queue is full: {waiting} runs wait, and no more than {most} may (max_queued)"
        );
        Error::new(ErrorCode::TryLater, message)
            .hint("try again when some have ended, or raise max_queued in [limits] of config.toml")
    }

    /// Puts a run in the queue. Repeating it changes nothing. The sessions that it
    /// comes after count as not over until [`Admission::settle`] says otherwise.
    pub(super) fn enqueue(&mut self, demand: Demand) {
        let session = demand.session;
        if self.running.contains_key(&session) || self.waiting.contains_key(&session) {
            return;
        }
        // A session that goes on has not succeeded yet.
        for dependent in self.dependents.get(&session).cloned().unwrap_or_default() {
            self.unready(dependent);
            if let Some(waiting) = self.waiting.get_mut(&dependent) {
                waiting.pending.insert(session);
            }
        }
        for awaited in &demand.after {
            self.dependents.entry(*awaited).or_default().insert(session);
        }
        let waiting = Waiting {
            key: (Reverse(demand.priority), demand.asked, session),
            pending: demand.after.iter().copied().collect(),
            demand,
            refused: None,
            waiter: None,
        };
        self.waiting.insert(session, waiting);
        self.ready(session);
        self.admit();
    }

    /// A session is over, or was when somebody looked: those that come after it
    /// are let into the order, or will never run.
    pub(super) fn settle(&mut self, awaited: Ulid, fate: &Fate) {
        for dependent in self.dependents.get(&awaited).cloned().unwrap_or_default() {
            match fate {
                Fate::Succeeded => {
                    if let Some(waiting) = self.waiting.get_mut(&dependent) {
                        waiting.pending.remove(&awaited);
                    }
                    self.ready(dependent);
                }
                Fate::Otherwise(how) => self.refuse(dependent, how),
            }
        }
        self.admit();
    }

    /// The receiver completes when the run may go, or never will.
    pub(super) fn acquire(&mut self, session: Ulid) -> oneshot::Receiver<Verdict> {
        let (sender, receiver) = oneshot::channel();
        if self.running.contains_key(&session) {
            let _ = sender.send(Verdict::Go);
            return receiver;
        }
        if let Some(waiting) = self.waiting.get_mut(&session) {
            match &waiting.refused {
                Some(why) => drop(sender.send(Verdict::Never(why.clone()))),
                None => waiting.waiter = Some(sender),
            }
        }
        receiver
    }

    /// A run is over, or was taken back; with it, perhaps, its session.
    pub(super) fn release(&mut self, session: Ulid, fate: Option<&Fate>) {
        if let Some((pod, memory)) = self.running.remove(&session) {
            self.claimed -= memory;
            if let Some(entry) = self.pods.get_mut(&pod) {
                entry.running -= 1;
            }
            self.look_at(&pod);
        }
        self.withdraw(session);
        match fate {
            Some(fate) => self.settle(session, fate),
            None => self.admit(),
        }
    }

    /// How many there are.
    pub(super) fn load(&self) -> Load {
        Load {
            running: self.running.len(),
            waiting: self.waiting.len(),
            memory: self.bounds.memory,
            claimed: self.claimed,
        }
    }

    /// Why runs wait, and which place they have: of all, or of those asked for.
    pub(super) fn waits(&self, of: Option<&[Ulid]>) -> HashMap<Ulid, Waits> {
        match of {
            Some(sessions) => {
                let look = |session: &Ulid| Some((*session, self.wait_of(*session)?));
                sessions.iter().filter_map(look).collect()
            }
            None => {
                let mut places = HashMap::new();
                for ((_, _, session), place) in self.order.values().flatten().zip(1..) {
                    places.insert(*session, place);
                }
                let waiting = self.waiting.iter();
                waiting
                    .map(|(session, waiting)| {
                        (
                            *session,
                            self.explain(waiting, places.get(session).copied()),
                        )
                    })
                    .collect()
            }
        }
    }

    fn wait_of(&self, session: Ulid) -> Option<Waits> {
        let waiting = self.waiting.get(&session)?;
        let place = waiting.is_ready().then(|| self.place(waiting.key));
        Some(self.explain(waiting, place))
    }

    /// Counted from the end: who was asked for last is asked about most.
    fn place(&self, key: Key) -> u32 {
        let before = self.order.range(..key.0).map(|(_, keys)| keys.len());
        let before: usize = before.sum();
        let own = self.order.get(&key.0).map_or(0, |keys| {
            let behind = keys.range((Bound::Excluded(key), Bound::Unbounded)).count();
            keys.len() - behind
        });
        u32::try_from(before + own).unwrap_or(u32::MAX)
    }

    fn explain(&self, waiting: &Waiting, place: Option<u32>) -> Waits {
        let demand = &waiting.demand;
        let of_pod = self.pods.get(&demand.pod).map_or(0, |pod| pod.running);
        match place {
            None => Waits::After(waiting.pending.iter().copied().collect()),
            Some(place) if !lets_go(demand.pod_max, of_pod) => Waits::Pod {
                place,
                max: demand.pod_max.unwrap_or_default(),
            },
            // The first that claims some is held back by memory, or nobody is.
            Some(place) if demand.memory > 0 && !self.first_claim_fits() => Waits::Memory {
                place,
                claims: demand.memory,
            },
            Some(place) => Waits::Room {
                place,
                max: self.bounds.runs,
            },
        }
    }

    fn first_claim_fits(&self) -> bool {
        let first = self.claiming.first();
        first.is_none_or(|key| self.fits(key.2))
    }

    fn fits(&self, session: Ulid) -> bool {
        let wanted = self.waiting.get(&session).map_or(0, |w| w.demand.memory);
        let whole = self.bounds.memory;
        whole == 0 || self.claimed == 0 || self.claimed.saturating_add(wanted) <= whole
    }

    fn admit(&mut self) {
        while self.open && self.running.len() < self.bounds.runs as usize {
            let plain = self.plain.first();
            let claiming = self.claiming.first().filter(|key| self.fits(key.2));
            let Some(first) = plain.into_iter().chain(claiming).min() else {
                return;
            };
            let Some(mut waiting) = self.withdraw(first.2) else {
                return;
            };
            let waiter = waiting.waiter.take();
            self.run(waiting.demand);
            if let Some(waiter) = waiter {
                let _ = waiter.send(Verdict::Go);
            }
        }
    }

    fn run(&mut self, demand: Demand) {
        self.claimed += demand.memory;
        self.pods.entry(demand.pod.clone()).or_default().running += 1;
        self.look_at(&demand.pod);
        self.running
            .insert(demand.session, (demand.pod, demand.memory));
    }

    fn refuse(&mut self, session: Ulid, how: &str) {
        self.unready(session);
        let Some(waiting) = self.waiting.get_mut(&session) else {
            return;
        };
        if waiting.refused.is_some() {
            return;
        }
        let why = format!("it was to run after {how}");
        if let Some(waiter) = waiting.waiter.take() {
            let _ = waiter.send(Verdict::Never(why.clone()));
        }
        waiting.refused = Some(why);
    }

    /// Takes a run out of the queue.
    fn withdraw(&mut self, session: Ulid) -> Option<Waiting> {
        self.unready(session);
        let waiting = self.waiting.remove(&session)?;
        for awaited in &waiting.demand.after {
            if let Some(dependents) = self.dependents.get_mut(awaited) {
                dependents.remove(&session);
                if dependents.is_empty() {
                    self.dependents.remove(awaited);
                }
            }
        }
        Some(waiting)
    }

    /// Puts a run into the order, if nothing but room is wanting.
    fn ready(&mut self, session: Ulid) {
        let Some(waiting) = self.waiting.get(&session).filter(|w| w.is_ready()) else {
            return;
        };
        let (key, lane, pod) = (waiting.key, waiting.demand.lane(), &waiting.demand.pod);
        let pod = pod.clone();
        self.order.entry(key.0).or_default().insert(key);
        let lanes = &mut self.pods.entry(pod.clone()).or_default().lanes;
        lanes.entry(lane).or_default().keys.insert(key);
        self.look_at(&pod);
    }

    /// Takes a run out of the order; it stays in the queue.
    fn unready(&mut self, session: Ulid) {
        let Some(waiting) = self.waiting.get(&session).filter(|w| w.is_ready()) else {
            return;
        };
        let (key, lane, pod) = (waiting.key, waiting.demand.lane(), &waiting.demand.pod);
        let pod = pod.clone();
        if let Some(keys) = self.order.get_mut(&key.0) {
            keys.remove(&key);
            if keys.is_empty() {
                self.order.remove(&key.0);
            }
        }
        let entry = self.pods.get_mut(&pod);
        if let Some(line) = entry.and_then(|pod| pod.lanes.get_mut(&lane)) {
            line.keys.remove(&key);
        }
        self.look_at(&pod);
    }

    /// Sees to it that the heads of a pod's lanes are those that may go now.
    fn look_at(&mut self, pod: &PodName) {
        let Some(entry) = self.pods.get_mut(pod) else {
            return;
        };
        for ((max, claims), line) in &mut entry.lanes {
            let heads = if *claims {
                &mut self.claiming
            } else {
                &mut self.plain
            };
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let first = line.keys.first().copied();
            let head = first.filter(|_| lets_go(*max, entry.running));
            if line.head == head {
                continue;
            }
            if let Some(old) = line.head {
                heads.remove(&old);
            }
            heads.extend(head);
            line.head = head;
        }
        entry.lanes.retain(|_, line| !line.keys.is_empty());
        if entry.lanes.is_empty() && entry.running == 0 {
            self.pods.remove(pod);
        }
    }
}

fn lets_go(pod_max: Option<u32>, running: u32) -> bool {
    pod_max.is_none_or(|max| running < max)
}
