//! What the journal promises, tried on real directories.

mod committing;
mod compaction;
mod crash;
mod following;
mod migrating;
mod model;
mod opening;
mod power;
mod ratio;
mod reading;
mod removing;
mod salvaging;
mod searching;
mod upkeep;
mod verifying;

use super::space::Space;
use super::*;
use crate::model::capture::{Cursor, CursorKey};
use crate::model::session::RunRecord;
use crate::model::spec::Keep;
use crate::model::{
    AgentKind, Event, EventKind, How, Outcome, Output, PodName, RunState, RuntimeName, SessionId,
    SessionRecord, Stream, Timestamp, Ulid,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What a test does between a commit's writing and its barrier.
#[derive(Default)]
pub(super) struct AtBarrier(
    #[allow(clippy::type_complexity)]
    pub(super)  Option<Box<dyn FnMut() -> Result<(), StoreError> + Send>>,
);

impl AtBarrier {
    /// Fails the first time.
    pub(super) fn once(dir: &Path) -> Self {
        let failure = std::io::Error::other("the disk is gone");
        let mut failure = Some(StoreError::io("sync", dir, failure));
        Self(Some(Box::new(move || failure.take().map_or(Ok(()), Err))))
    }

    pub(super) fn call(&mut self) -> Result<(), StoreError> {
        self.0.as_mut().map_or(Ok(()), |hook| hook())
    }
}

impl fmt::Debug for AtBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtBarrier")
    }
}

/// What a test does after each step of a compaction.
#[derive(Default)]
pub(super) struct AtStep(
    #[allow(clippy::type_complexity)]
    pub(super)  Option<Box<dyn FnMut(&'static str) -> Result<(), StoreError> + Send>>,
);

impl AtStep {
    pub(super) fn call(&mut self, name: &'static str) -> Result<(), StoreError> {
        self.0.as_mut().map_or(Ok(()), |hook| hook(name))
    }
}

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000_000_000)
}

fn options() -> Options {
    Options {
        version: "1.2.3".to_owned(),
        cache_bytes: 16 * 1024 * 1024,
        now: NOW,
    }
}

fn open(dir: &Path) -> Journal {
    let opened = Journal::open(dir, options()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    opened.journal
}

fn output(data: impl Into<Vec<u8>>) -> EventKind {
    EventKind::Output(Output {
        stream: Stream::Stdout,
        data: data.into(),
        continued: false,
    })
}

fn event(seq: u64, kind: EventKind) -> Event {
    Event {
        seq,
        run: 0,
        time: at(seq as i64),
        kind,
    }
}

/// `count` lines from number `first` on.
fn lines(first: u64, count: u64) -> Vec<Event> {
    (first..first + count)
        .map(|seq| event(seq, output(format!("line {seq}"))))
        .collect()
}

fn append(session: Ulid, generation: u64, events: Vec<Event>) -> Append {
    Append {
        session,
        generation,
        events,
        cursors: Vec::new(),
        record: None,
        requests: Vec::new(),
    }
}

fn record(ulid: Ulid, live: bool, padding: usize) -> SessionRecord {
    let pod = PodName::new("pod").unwrap();
    let state = if live {
        RunState::queued()
    } else {
        RunState::Ended {
            outcome: Outcome::Success,
            why: None,
            code: Some(0),
            at: NOW,
            place: None,
            error: None,
        }
    };
    SessionRecord {
        ulid,
        id: SessionId::new(&pod, ulid),
        name: None,
        pod,
        runtime: RuntimeName::Fake,
        agent: AgentKind::Command,
        labels: BTreeMap::new(),
        created: NOW,
        keep: Keep::Always,
        remove: false,
        steer: false,
        bounds: crate::model::Bounds::default(),
        agent_sessions: Vec::new(),
        agent_version: None,
        agent_model: None,
        image_config: None,
        runs: vec![RunRecord {
            number: 0,
            how: How::New,
            prompt: "p".repeat(padding),
            queued_seq: 2,
            env: Vec::new(),
            fresh: None,
            branch: None,
            forked: None,
            bounds: crate::model::Bounds::default(),
            steerable: false,
            task_at: 0,
            retry: None,
            queued: NOW,
            started: None,
            image: None,
            result: None,
            limit: None,
            account: crate::model::Account::default(),
            interrupted: false,
            signals: Vec::new(),
            state,
        }],
        imported: None,
        removed: None,
    }
}

fn cursor_key(run: u32, stream: u8) -> CursorKey {
    CursorKey {
        run,
        attempt: 1,
        stream,
    }
}

fn cursor(position: u64) -> Cursor {
    Cursor {
        position,
        open: position % 2 == 1,
    }
}

/// Commits one append that must be taken.
fn commit_one(journal: &mut Journal, append: Append) -> Committed {
    let mut results = journal.commit(vec![append]).unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0).unwrap()
}

/// All events of a session, read in small steps.
fn read_all(reader: &Reader, session: Ulid) -> Result<Vec<Event>, StoreError> {
    read_by(reader, session, 1000)
}

/// All events of a session, read in steps of so many bytes.
fn read_by(reader: &Reader, session: Ulid, bytes: usize) -> Result<Vec<Event>, StoreError> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let more = reader.events(session, after, bytes)?;
        if more.is_empty() {
            return Ok(events);
        }
        events.extend(more);
    }
}

/// The whole firehose, read in small steps.
fn firehose(reader: &Reader, step: usize) -> Result<Vec<(Ulid, Event)>, StoreError> {
    let mut at = FirehoseCursor::default();
    let mut events = Vec::new();
    loop {
        let more = reader.firehose(at, step)?;
        let Some((last, _, _)) = more.last() else {
            return Ok(events);
        };
        assert!(more.len() <= step);
        at = last.to_string().parse().unwrap();
        events.extend(more.into_iter().map(|(_, session, event)| (session, event)));
    }
}

/// How many rows of blocks a session has, and that none is larger than it may be.
fn block_rows(journal: &Journal, session: Ulid) -> usize {
    let db = journal.reader().shared.read().db.clone().unwrap();
    for row in db.iter() {
        assert!(row.unwrap().1.len() <= parts::PART_MAX);
    }
    db.scan_prefix(keys::blocks(session)).count()
}

/// Files that sled put beside its log: there must be none.
fn blobs(dir: &Path) -> usize {
    let databases = files::databases(dir).unwrap().into_iter();
    let counts = databases.map(|name| {
        let blobs = std::fs::read_dir(dir.join(name).join("blobs"));
        blobs.map_or(0, Iterator::count)
    });
    counts.sum()
}

/// Copies what a compaction has to copy before it can be finished.
fn copy(compaction: &mut Compaction) -> Result<(), StoreError> {
    compaction.copy(&|| false)
}

/// Puts a compaction's copy in place, and removes what was there before.
fn finish(journal: &mut Journal, mut compaction: Compaction) -> Result<(), StoreError> {
    loop {
        copy(&mut compaction)?;
        if let Some(done) = journal.finish_compaction(&mut compaction)? {
            return done.old.discard();
        }
    }
}

/// What the rows come to when they are counted.
fn counted(journal: &Journal) -> Space {
    let db = journal.reader().shared.read().db.clone().unwrap();
    let mut space = Space::default();
    for row in db.iter() {
        let (key, value) = row.unwrap();
        if key[0] != 1 && key[0] != 8 {
            space.row(&key, &value, true);
        }
    }
    // Rows about the journal itself are counted once, when it is made or copied.
    space.other = 0;
    space
}

fn kept(journal: &Journal) -> Space {
    Space {
        other: 0,
        ..journal.space()
    }
}
