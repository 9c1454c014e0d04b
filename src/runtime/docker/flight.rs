//! One build for many waiters.
//!
//! Who asks for a build that is already under way joins it: all get its
//! result, and all of its lines from the first, each at its own pace. The build
//! is cancelled when the last of them has gone.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How much output is kept for whoever has not read it yet. Beyond it, what
/// everybody has read is dropped, and then the build waits for its slowest reader.
const KEPT: usize = 16 * 1024 * 1024;

/// All that is under way, by what is being made.
pub(super) struct Flights<T> {
    all: Arc<Mutex<HashMap<String, Arc<Flight<T>>>>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            all: Arc::default(),
        }
    }
}

struct Flight<T> {
    log: Arc<Log>,
    cancel: CancellationToken,
    result: watch::Receiver<Option<T>>,
    waiters: Mutex<usize>,
}

/// Counts a waiter as long as it lives.
struct Ticket<T> {
    all: Arc<Mutex<HashMap<String, Arc<Flight<T>>>>>,
    key: String,
    flight: Arc<Flight<T>>,
    reader: u64,
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.flight.log.leave(self.reader);
        // The map is locked, so that nobody joins between the last one's
        // leaving and the removal.
        let mut all = lock(&self.all);
        let mut waiters = lock(&self.flight.waiters);
        *waiters -= 1;
        if *waiters > 0 {
            return;
        }
        self.flight.cancel.cancel();
        if all
            .get(&self.key)
            .is_some_and(|f| Arc::ptr_eq(f, &self.flight))
        {
            all.remove(&self.key);
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Joins what is under way as `key`, or starts it with `start`, which gets
    /// the log to write to and the token that cancels it. `None` when it was
    /// given up without a result.
    pub(super) async fn join<F>(
        &self,
        key: &str,
        lines: &mpsc::Sender<Vec<u8>>,
        start: impl FnOnce(Arc<Log>, CancellationToken) -> F,
    ) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let ticket = self.ticket(key, start);
        ticket.flight.log.follow(ticket.reader, lines).await;
        let mut result = ticket.flight.result.clone();
        let result = result.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }

    fn ticket<F>(
        &self,
        key: &str,
        start: impl FnOnce(Arc<Log>, CancellationToken) -> F,
    ) -> Ticket<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut all = lock(&self.all);
        let flight = match all.get(key) {
            Some(flight) => Arc::clone(flight),
            None => {
                let flight = self.launch(key, start);
                all.insert(key.to_owned(), Arc::clone(&flight));
                flight
            }
        };
        *lock(&flight.waiters) += 1;
        Ticket {
            all: Arc::clone(&self.all),
            key: key.to_owned(),
            reader: flight.log.enter(),
            flight,
        }
    }

    fn launch<F>(
        &self,
        key: &str,
        start: impl FnOnce(Arc<Log>, CancellationToken) -> F,
    ) -> Arc<Flight<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let log = Arc::new(Log::default());
        let cancel = CancellationToken::new();
        let (done, result) = watch::channel(None);
        let work = start(Arc::clone(&log), cancel.clone());
        let flight = Arc::new(Flight {
            log: Arc::clone(&log),
            cancel,
            result,
            waiters: Mutex::new(0),
        });
        let landing = Landing {
            all: Arc::clone(&self.all),
            key: key.to_owned(),
            flight: Arc::downgrade(&flight),
            log,
        };
        tokio::spawn(async move {
            let outcome = work.await;
            done.send_replace(Some(outcome));
            drop(landing);
        });
        flight
    }
}

/// Ends a flight, also when its work panicked.
struct Landing<T> {
    all: Arc<Mutex<HashMap<String, Arc<Flight<T>>>>>,
    key: String,
    flight: Weak<Flight<T>>,
    log: Arc<Log>,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        if all
            .get(&self.key)
            .is_some_and(|f| std::ptr::eq(Arc::as_ptr(f), self.flight.as_ptr()))
        {
            all.remove(&self.key);
        }
        drop(all);
        self.log.close();
    }
}

/// Lines, written by one and read by many.
pub(super) struct Log {
    state: Mutex<LogState>,
    /// Counts what was written.
    written: watch::Sender<u64>,
    /// Counts what was read.
    read: watch::Sender<u64>,
}

#[derive(Default)]
struct LogState {
    /// The number of the first line that is still here.
    base: usize,
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Where each reader stands.
    readers: HashMap<u64, usize>,
    next_reader: u64,
    closed: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            written: watch::Sender::new(0),
            read: watch::Sender::new(0),
        }
    }
}

impl Log {
    /// Appends a line, once there is room for it.
    pub(super) async fn write(&self, line: Vec<u8>) {
        let mut read = self.read.subscribe();
        loop {
            read.mark_unchanged();
            if self.make_room() {
                break;
            }
            // Cannot fail: the sender is ours.
            let _ = read.changed().await;
        }
        let mut state = lock(&self.state);
        state.bytes += line.len();
        state.lines.push_back(line);
        drop(state);
        self.written.send_modify(|n| *n += 1);
    }

    /// The last `count` lines.
    pub(super) fn tail(&self, count: usize) -> Vec<Vec<u8>> {
        let state = lock(&self.state);
        let skip = state.lines.len().saturating_sub(count);
        state.lines.iter().skip(skip).cloned().collect()
    }

    fn make_room(&self) -> bool {
        let mut state = lock(&self.state);
        while state.bytes >= KEPT {
            let slowest = state.readers.values().copied().min().unwrap_or(usize::MAX);
            if slowest <= state.base {
                return false;
            }
            let Some(line) = state.lines.pop_front() else {
                return true;
            };
            state.bytes -= line.len();
            state.base += 1;
        }
        true
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.written.send_modify(|n| *n += 1);
    }

    fn enter(&self) -> u64 {
        let mut state = lock(&self.state);
        let reader = state.next_reader;
        state.next_reader += 1;
        let base = state.base;
        state.readers.insert(reader, base);
        reader
    }

    fn leave(&self, reader: u64) {
        lock(&self.state).readers.remove(&reader);
        self.read.send_modify(|n| *n += 1);
    }

    /// Passes all lines on until the log is closed.
    async fn follow(&self, reader: u64, lines: &mpsc::Sender<Vec<u8>>) {
        let mut written = self.written.subscribe();
        loop {
            written.mark_unchanged();
            let (batch, closed) = self.next(reader);
            if batch.is_empty() {
                if closed {
                    return;
                }
                let _ = written.changed().await;
                continue;
            }
            for line in batch {
                // Nobody need listen; the result is still wanted.
                let _ = lines.send(line).await;
            }
        }
    }

    /// Some lines that the reader has not had yet.
    fn next(&self, reader: u64) -> (Vec<Vec<u8>>, bool) {
        let mut state = lock(&self.state);
        let at = state.readers.get(&reader).copied().unwrap_or(0);
        let skip = at.saturating_sub(state.base);
        let batch: Vec<_> = state.lines.iter().skip(skip).take(64).cloned().collect();
        let next = state.base + skip + batch.len();
        state.readers.insert(reader, next);
        let closed = state.closed;
        drop(state);
        self.read.send_modify(|n| *n += 1);
        (batch, closed)
    }
}

/// Nothing is left half done under these locks, so a poisoned one is as good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    async fn drain(mut lines: mpsc::Receiver<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(line) = lines.recv().await {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn two_waiters_share_one_flight_and_see_all_lines() {
        let flights = Arc::new(Flights::<u32>::default());
        let (begun, first_line) = oneshot::channel();
        let (go, gone) = oneshot::channel::<()>();
        let (tx, rx) = mpsc::channel(1);
        let first = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move {
                let work = |log: Arc<Log>, _| async move {
                    log.write(b"one".to_vec()).await;
                    begun.send(()).unwrap();
                    gone.await.unwrap();
                    log.write(b"two".to_vec()).await;
                    7
                };
                flights.join("k", &tx, work).await
            }
        });
        first_line.await.unwrap();
        let (tx, late) = mpsc::channel(1);
        let mut second = Box::pin(async {
            let work = |_, _| async { panic!("a second build") };
            let result = flights.join("k", &tx, work).await;
            drop(tx);
            result
        });
        // It joins when it is first polled.
        assert!(futures::poll!(&mut second).is_pending());
        let late = tokio::spawn(drain(late));
        let early = tokio::spawn(drain(rx));
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(7));
        assert_eq!(second.await, Some(7));
        assert!(lock(&flights.all).is_empty());
        let expected = vec![b"one".to_vec(), b"two".to_vec()];
        assert_eq!(early.await.unwrap(), expected);
        assert_eq!(late.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn the_last_waiter_to_leave_cancels() {
        let flights = Flights::<u32>::default();
        let (tx, _rx) = mpsc::channel(1);
        let (seen, cancelled) = oneshot::channel();
        let mut join = Box::pin(flights.join("k", &tx, |_, cancel| async move {
            cancel.cancelled().await;
            let _ = seen.send(());
            0
        }));
        assert!(futures::poll!(&mut join).is_pending());
        drop(join);
        cancelled.await.unwrap();
        assert!(lock(&flights.all).is_empty());
    }

    #[tokio::test]
    async fn a_log_that_is_full_waits_for_its_slowest_reader() {
        let log = Arc::new(Log::default());
        let slow = log.enter();
        let writer = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                for _ in 0..20 {
                    log.write(vec![b'x'; 1024 * 1024]).await;
                }
                log.close();
            }
        });
        let mut count = 0;
        let (tx, mut rx) = mpsc::channel(1);
        let follow = async {
            log.follow(slow, &tx).await;
            drop(tx);
        };
        let read = async {
            while rx.recv().await.is_some() {
                count += 1;
            }
        };
        tokio::join!(follow, read);
        writer.await.unwrap();
        assert_eq!(count, 20);
        assert!(lock(&log.state).bytes <= KEPT + 1024 * 1024);
    }
}
