//! Searching everything that is recorded, the newest first.
//!
//! A search is cut into stretches of a few blocks (see `store::search`), which
//! a few threads of low priority take one after the other, those of all
//! searches by turns. What they find comes out in the order of the stretches.
//!
//! Memory of a search: two stretches a thread, about a mebibyte each with what
//! was found in them, more where single lines are longer. Nothing is read ahead
//! of a slow client beyond that, and nothing more at all once it has gone.

use super::context::Shared;
use super::directory::Choice;
use super::handle::{Handle, blocking};
use crate::model::api::{Finds, SearchHit, SearchItem, SearchQuery};
use crate::model::{Blob, Error, ErrorCode, Pattern, Result, SessionId, Timestamp, Ulid};
use crate::store::{Findings, Found, StoreError, Stretch, Wanted};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Threads that search, at most.
const THREADS_MAX: usize = 4;
/// Searches at once, at most.
const SEARCHES_MAX: usize = 16;
/// How much the threads stand back behind all that serves sessions.
const NICE: i32 = 5;

type Job = Box<dyn FnOnce() + Send>;

/// The threads that search. They are made when something is first searched for.
pub(super) struct Searchers {
    threads: usize,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    slots: Arc<Semaphore>,
}

impl Searchers {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: cores.min(THREADS_MAX),
            jobs: Mutex::default(),
            slots: Arc::new(Semaphore::new(SEARCHES_MAX)),
        }
    }

    /// Has a thread do something, after all that was asked for before.
    fn submit(&self, job: Job) -> Result<()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match &mut *jobs {
            Some(sender) => sender,
            none => none.insert(self.start()?),
        };
        sender.send(job).map_err(|_| broken())
    }

    fn start(&self) -> Result<mpsc::Sender<Job>> {
        let (sender, receiver) = mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..self.threads {
            let receiver = receiver.clone();
            std::thread::Builder::new()
                .name("search".to_owned())
                .spawn(move || work(&receiver))
                .map_err(|e| {
                    Error::new(ErrorCode::Internal, format!("cannot make a thread: {e}"))
                })?;
        }
        Ok(sender)
    }
}

/// Lets this thread give way to those that record what agents say.
pub(super) fn give_way() {
    // On Linux this is the priority of the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread keeps the usual priority");
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    give_way();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for it learns that it broke off.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

fn broken() -> Error {
    Error::new(ErrorCode::Internal, "a search of the journal broke off")
}

impl Handle {
    /// Searches what is recorded now; the session that was dispatched last
    /// comes first, and in each session the line that was written last.
    ///
    /// # Errors
    /// `usage` for a pattern that is none, `try_later` when many searches run.
    pub async fn search(&self, query: SearchQuery) -> Result<Search> {
        let pattern = Pattern::new(&query.pattern, query.fixed, query.ignore_case)?;
        let shared = self.shared.clone();
        let slot = shared.searchers.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| {
            let message = format!("{SEARCHES_MAX} searches are under way already");
            Error::new(ErrorCode::TryLater, message).hint("try again when one has ended")
        })?;
        blocking(move || Ok(Search::new(shared, slot, pattern, &query))).await
    }
}

/// What threads and the stream of a search share.
struct Plan {
    shared: Arc<Shared>,
    wanted: Wanted,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    stop: AtomicBool,
    cursor: Mutex<Cursor>,
}

/// Where a search stands.
struct Cursor {
    /// Those that are left.
    sessions: std::vec::IntoIter<Ulid>,
    current: Option<Current>,
    /// The number of the next stretch.
    number: u64,
}

/// The session that is being searched.
struct Current {
    ulid: Ulid,
    id: SessionId,
    least: u64,
    end: u64,
}

/// A stretch that somebody searched.
struct Part {
    ulid: Ulid,
    id: SessionId,
    findings: Findings,
}

impl Plan {
    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next stretch and searches it. Returns its number and what it
    /// has; none when there are no more.
    fn advance(&self) -> Result<Option<(u64, Part)>> {
        let mut cursor = self.cursor();
        while !self.stop.load(Ordering::Relaxed) {
            let Some(Current { ulid, id, .. }) = &cursor.current else {
                let Some(ulid) = cursor.sessions.next() else {
                    break;
                };
                match self.enter(ulid) {
                    Ok(current) => cursor.current = current,
                    Err(error) => {
                        let id = self.shared.directory.id(ulid);
                        if let Some(part) = told(ulid, id, error)? {
                            return Ok(Some((cursor.take_number(), part)));
                        }
                    }
                }
                continue;
            };
            let (ulid, id) = (*ulid, id.clone());
            let next = cursor.next_stretch(&self.shared);
            let stretch = match next {
                Ok(Some(stretch)) => stretch,
                Ok(None) => {
                    cursor.current = None;
                    continue;
                }
                Err(error) => {
                    cursor.current = None;
                    match told(ulid, Some(id), error)? {
                        Some(part) => return Ok(Some((cursor.take_number(), part))),
                        None => continue,
                    }
                }
            };
            let number = cursor.take_number();
            drop(cursor);
            let found = self
                .shared
                .reader
                .search(ulid, &stretch, &self.wanted, &self.stop);
            let part = match found {
                Ok(findings) => Part { ulid, id, findings },
                Err(error) => match told(ulid, Some(id.clone()), error)? {
                    Some(part) => part,
                    None => Part {
                        ulid,
                        id,
                        findings: Findings::default(),
                    },
                },
            };
            return Ok(Some((number, part)));
        }
        Ok(None)
    }

    /// Begins with a session; none when it has nothing that is asked for.
    fn enter(&self, ulid: Ulid) -> std::result::Result<Option<Current>, StoreError> {
        let reader = &self.shared.reader;
        let Some(id) = self.shared.directory.id(ulid) else {
            return Ok(None);
        };
        let mut end = reader.last_seq(ulid)? + 1;
        let mut least = 1;
        if let Some(until) = self.until {
            let after = Timestamp(until.0.saturating_add(1));
            end = end.min(reader.since(ulid, after)? + 1);
        }
        if let Some(since) = self.since {
            least = reader.since(ulid, since)? + 1;
        }
        Ok(Some(Current {
            ulid,
            id,
            least,
            end,
        }))
    }

    /// Leaves a session, if it is still being searched.
    fn leave(&self, ulid: Ulid) {
        let mut cursor = self.cursor();
        if cursor.current.as_ref().is_some_and(|now| now.ulid == ulid) {
            cursor.current = None;
        }
    }
}

impl Cursor {
    const fn take_number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn next_stretch(
        &mut self,
        shared: &Shared,
    ) -> std::result::Result<Option<Stretch>, StoreError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let stretch = shared
            .reader
            .stretch(current.ulid, current.least, current.end)?;
        if let Some(stretch) = &stretch {
            current.end = stretch.first();
        }
        Ok(stretch)
    }
}

/// Damage is told and passed over, and so is, without a word, a session that is
/// being removed; whatever else there is ends the search.
fn told(ulid: Ulid, id: Option<SessionId>, error: StoreError) -> Result<Option<Part>> {
    if matches!(error, StoreError::Gone { .. }) {
        return Ok(None);
    }
    match id {
        Some(id) if error.is_damage() => {
            let damage = vec![error];
            let findings = Findings {
                damage,
                ..Findings::default()
            };
            Ok(Some(Part { ulid, id, findings }))
        }
        _ => Err(error.into()),
    }
}

type Answer = oneshot::Receiver<Result<Option<(u64, Part)>>>;

/// A search under way. Dropping it ends it.
pub struct Search {
    plan: Arc<Plan>,
    finds: Finds,
    /// How many more are wanted.
    left: usize,
    /// Stretches that are searched now.
    under_way: FuturesUnordered<Answer>,
    /// Stretches that were searched before one that comes first.
    early: BTreeMap<u64, Part>,
    /// The stretch whose findings are next.
    number: u64,
    /// There are no more stretches.
    taken: bool,
    /// Lines counted in the session that is being searched.
    counted: Option<(Ulid, SessionId, u64)>,
    _slot: OwnedSemaphorePermit,
}

impl Search {
    fn new(
        shared: Arc<Shared>,
        slot: OwnedSemaphorePermit,
        pattern: Pattern,
        query: &SearchQuery,
    ) -> Self {
        let sessions = shared.directory.select(&Choice {
            live_only: false,
            pod: query.pod.as_deref(),
            state: query.state.as_deref(),
            labels: &query.label,
        });
        let plan = Plan {
            shared,
            wanted: Wanted {
                pattern,
                place: query.place,
                count: query.finds != Finds::Lines,
            },
            since: query.since,
            until: query.until,
            stop: AtomicBool::new(false),
            cursor: Mutex::new(Cursor {
                sessions: sessions.into_iter(),
                current: None,
                number: 0,
            }),
        };
        Self {
            plan: Arc::new(plan),
            finds: query.finds,
            left: query.limit.unwrap_or(usize::MAX),
            under_way: FuturesUnordered::new(),
            early: BTreeMap::new(),
            number: 0,
            taken: false,
            counted: None,
            _slot: slot,
        }
    }

    /// What is found next; none at the end.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<SearchItem>>> {
        while self.left > 0 {
            if let Some(part) = self.early.remove(&self.number) {
                self.number += 1;
                let mut items = self.items(part);
                self.limit(&mut items);
                if !items.is_empty() {
                    return Ok(Some(items));
                }
                continue;
            }
            self.ask_for_more()?;
            match self.under_way.next().await {
                Some(Ok(answer)) => match answer? {
                    Some((number, part)) => {
                        self.early.insert(number, part);
                    }
                    None => self.taken = true,
                },
                Some(Err(_)) => return Err(broken()),
                None => {
                    let mut items: Vec<_> = self.counted().into_iter().collect();
                    self.limit(&mut items);
                    self.left = 0;
                    return Ok(Some(items).filter(|items| !items.is_empty()));
                }
            }
        }
        Ok(None)
    }

    fn ask_for_more(&mut self) -> Result<()> {
        let searchers = &self.plan.shared.searchers;
        let most = 2 * searchers.threads;
        while !self.taken && self.under_way.len() + self.early.len() < most {
            let (sender, receiver) = oneshot::channel();
            let plan = self.plan.clone();
            searchers.submit(Box::new(move || {
                // Who asked may have gone.
                let _ = sender.send(plan.advance());
            }))?;
            self.under_way.push(receiver);
        }
        Ok(())
    }

    fn items(&mut self, part: Part) -> Vec<SearchItem> {
        let Part { ulid, id, findings } = part;
        let mut items = Vec::with_capacity(findings.lines.len());
        let is_new = self.counted.as_ref().is_none_or(|(at, ..)| *at != ulid);
        match self.finds {
            Finds::Lines => items.extend(
                findings
                    .lines
                    .into_iter()
                    .map(|found| line(ulid, &id, found)),
            ),
            Finds::Counts => {
                if is_new {
                    items.extend(self.counted());
                }
                let counted = self.counted.get_or_insert((ulid, id.clone(), 0));
                counted.2 += findings.count;
            }
            Finds::Sessions if is_new && findings.count > 0 => {
                self.plan.leave(ulid);
                self.counted = Some((ulid, id.clone(), 0));
                items.push(SearchItem::Session {
                    session: id.clone(),
                    ulid,
                    lines: None,
                });
            }
            Finds::Sessions => {}
        }
        items.extend(findings.damage.iter().map(|error| SearchItem::Damaged {
            session: id.clone(),
            message: error.to_string(),
        }));
        items
    }

    /// The session whose lines were counted, if it has some.
    fn counted(&mut self) -> Option<SearchItem> {
        let (ulid, session, lines) = self.counted.take()?;
        (lines > 0).then_some(SearchItem::Session {
            session,
            ulid,
            lines: Some(lines),
        })
    }

    /// Leaves out what is more than is wanted.
    fn limit(&mut self, items: &mut Vec<SearchItem>) {
        items.retain(|item| {
            if matches!(item, SearchItem::Damaged { .. }) {
                return true;
            }
            let wanted = self.left > 0;
            self.left = self.left.saturating_sub(1);
            wanted
        });
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.plan.stop.store(true, Ordering::Relaxed);
    }
}

fn line(ulid: Ulid, id: &SessionId, found: Found) -> SearchItem {
    SearchItem::Line(SearchHit {
        session: id.clone(),
        ulid,
        seq: found.seq,
        run: found.run,
        time: found.time,
        place: found.place,
        line: Blob(found.line),
        matches: found
            .places
            .into_iter()
            .map(|place| (place.start, place.end))
            .collect(),
        cut: found.cut,
    })
}
