//! Power loss, as near as can be had: a child does everything that a journal
//! does, each write and sync of it is recorded, and the disk as it may be after
//! a loss at any moment is opened again.

mod disk;

use super::*;
use disk::{Dice, Image, Loss, Recording};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

/// Where the child works, and from which step on.
const CHILD: &str = "CLDPD_TEST_POWER";
/// How many disks are tried of the some ten thousand; all of them with 0.
const TRIALS: &str = "CLDPD_TEST_POWER_TRIALS";
const TRIALS_DEFAULT: usize = 45;
/// Events of a large commit, of 4,000 bytes each that cannot be compressed.
///
/// With more than some hundred sled writes more than one of its segments
/// (512 KiB) between two barriers. A loss that reorders these writes can then
/// leave a log that sled does not open: it takes what it wrote for stable.
const LARGE: &str = "CLDPD_TEST_POWER_LARGE";
const LARGE_DEFAULT: u64 = 40;

/// Sessions of many small commits.
const A: Ulid = Ulid(1);
const B: Ulid = Ulid(2);
/// Sessions of few large ones, that end and are removed.
const fn large(round: u64) -> Ulid {
    Ulid(10 + round as u128)
}

#[derive(Clone, Debug)]
enum Step {
    /// One commit: to each session so many events; whether they are its last.
    Commit(Vec<(Ulid, u64, bool)>),
    Delete(Ulid),
    /// As after an error.
    Reopen,
    /// As by another daemon.
    Restart,
    /// Another database is made to take the place of the one there is.
    Begin,
    Copy,
    /// It does.
    Finish,
}

/// What the child does.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    let many = number(LARGE).unwrap_or(LARGE_DEFAULT);
    for round in 0..3 {
        let small = || Step::Commit(vec![(A, 1, false), (B, 3, false)]);
        steps.extend((0..35).map(|_| small()));
        steps.push(Step::Begin);
        steps.extend((0..5).map(|_| small()));
        steps.extend((0..3).map(|_| Step::Commit(vec![(large(round), many, false)])));
        steps.push(Step::Commit(vec![(large(round), 30, false), (A, 1, false)]));
        steps.push(Step::Commit(vec![(B, 1, false), (large(round), 30, false)]));
        steps.push(Step::Commit(vec![(large(round), 1, true), (B, 1, false)]));
        steps.push(if round == 2 { Step::Reopen } else { Step::Copy });
        steps.extend((0..12).map(|_| small()));
        steps.push(Step::Delete(large(round)));
        steps.push(Step::Finish);
        steps.extend((0..6).map(|_| small()));
        steps.push(Step::Restart);
    }
    steps
}

/// An event, by its place alone, so that nobody has to keep it. Large ones
/// cannot be compressed.
fn event_at(session: Ulid, seq: u64) -> Event {
    const NOISE: usize = 1 << 20;
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut dice = Dice(1);
        let rolls = (0..NOISE / 8).flat_map(|_| dice.roll().to_le_bytes());
        rolls.collect()
    });
    let len = if session.0 < 10 {
        seq as usize % 90
    } else {
        4_000
    };
    let from = (seq as usize * 4_096 + session.0 as usize) % (NOISE - 4_096);
    event(seq, output(&BYTES[from..from + len]))
}

fn record_at(session: Ulid, last: u64, ended: bool) -> SessionRecord {
    record(session, !ended, (last * 37 % 9_000) as usize)
}

/// What there is to read.
#[derive(Debug, Default, PartialEq)]
struct State {
    sessions: BTreeMap<Ulid, (u64, Option<SessionRecord>, u64)>,
    order: Vec<(Ulid, u64)>,
}

impl State {
    /// After so many steps of the script.
    fn after(steps: usize) -> Self {
        let mut state = Self::default();
        for step in &script()[..steps] {
            match step {
                Step::Commit(appends) => {
                    for (session, count, ended) in appends {
                        let entry = state.sessions.entry(*session).or_default();
                        let first = entry.0 + 1;
                        entry.0 += count;
                        entry.1 = Some(record_at(*session, entry.0, *ended));
                        entry.2 = entry.0;
                        state
                            .order
                            .extend((first..=entry.0).map(|seq| (*session, seq)));
                    }
                }
                Step::Delete(session) => {
                    state.sessions.remove(session);
                    state.order.retain(|(of, _)| of != session);
                }
                Step::Reopen | Step::Restart | Step::Begin | Step::Copy | Step::Finish => {}
            }
        }
        state
    }

    /// As a reader finds it. Every event is read and compared.
    fn read(reader: &Reader) -> Result<Self, String> {
        let told = |error: StoreError| error.to_string();
        let mut state = Self::default();
        let sessions = [A, B].into_iter().chain((0..3).map(large));
        for session in sessions {
            let events = read_by(reader, session, 200_000).map_err(told)?;
            let record = reader.session(session).map_err(told)?;
            let cursors = reader.cursors(session).map_err(told)?;
            for (event, seq) in events.iter().zip(1..) {
                if *event != event_at(session, seq) {
                    return Err(format!("event {seq} of {session} is another: {event:?}"));
                }
            }
            let cursor = cursors.get(&cursor_key(0, 1)).map_or(0, |c| c.position);
            let last = events.len() as u64;
            if last > 0 || record.is_some() || !cursors.is_empty() {
                state.sessions.insert(session, (last, record, cursor));
            }
        }
        let order = firehose(reader, 500).map_err(told)?;
        state.order = order.iter().map(|(of, event)| (*of, event.seq)).collect();
        Ok(state)
    }
}

/// Does the script from a step on, and says what is done. Only with [`CHILD`] set.
#[test]
fn child_that_does_everything() {
    let Some(given) = std::env::var_os(CHILD) else {
        return;
    };
    let given = given.into_string().unwrap();
    let (from, dir) = given.split_once(':').unwrap();
    let dir = Path::new(dir);
    let open = || Journal::open(dir, options()).unwrap().journal;
    let mut journal = Some(open());
    let mut claims: BTreeMap<Ulid, (u64, u64)> = BTreeMap::new();
    let mut compaction = None;
    for (step, number) in script().into_iter().zip(1..).skip(from.parse().unwrap()) {
        let writer = journal.as_mut().unwrap();
        match step {
            Step::Commit(appends) => {
                let appends = appends.into_iter().map(|(session, count, ended)| {
                    let (generation, next) = claims.entry(session).or_insert_with(|| {
                        let claim = writer.claim(session).unwrap();
                        (claim.generation, claim.next_seq)
                    });
                    let events = (*next..*next + count).map(|seq| event_at(session, seq));
                    let events = events.collect();
                    *next += count;
                    let last = *next - 1;
                    Append {
                        cursors: vec![(cursor_key(0, 1), cursor(last))],
                        record: Some(record_at(session, last, ended)),
                        ..append(session, *generation, events)
                    }
                });
                let appends = appends.collect();
                for result in writer.commit(appends).unwrap() {
                    result.unwrap();
                }
            }
            Step::Delete(session) => {
                writer.delete_session(session).unwrap();
                claims.remove(&session);
            }
            Step::Reopen => {
                writer.reopen().unwrap();
                claims.clear();
            }
            Step::Begin => compaction = Some(writer.begin_compaction().unwrap()),
            // One that another process began is not gone on with.
            Step::Copy => compaction.iter_mut().for_each(|of| copy(of).unwrap()),
            Step::Finish => match compaction.take().map(|copied| finish(writer, copied)) {
                None | Some(Ok(()) | Err(StoreError::Overtaken)) => {}
                Some(Err(error)) => panic!("{error}"),
            },
            Step::Restart => {
                drop(journal.take());
                journal = Some(open());
                claims.clear();
            }
        }
        println!("\nacknowledged {number}");
    }
}

/// An empty directory, in memory where there is such: nothing here has to be
/// on a disk, and thousands of syncs take their time.
pub(super) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn record_child(image: &Image, from: usize) -> Recording {
    let root = scratch();
    disk::restore(image, root.path());
    let dir = root.path().join("journal");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "store::tests::power::child_that_does_everything"])
        .arg("--nocapture")
        .env(CHILD, format!("{from}:{}", dir.display()));
    Recording::make(&command, root.path())
}

/// Opens what a disk holds. What was acknowledged has to be there, and nothing
/// beyond but the whole of the step that was under way.
fn try_image(image: &Image, acknowledged: usize) -> Result<State, String> {
    let root = scratch();
    disk::restore(image, root.path());
    let opened = Journal::open(&root.path().join("journal"), options());
    let opened = opened.map_err(|error| format!("it cannot be opened: {error}"))?;
    if let Some(damage) = opened.warnings.iter().find(|w| w.contains("damaged")) {
        return Err(damage.clone());
    }
    let state = State::read(&opened.journal.reader())?;
    let steps = script().len();
    let allowed = [acknowledged, (acknowledged + 1).min(steps)].map(State::after);
    if allowed.contains(&state) {
        return Ok(state);
    }
    let lasts = |state: &State| {
        let lasts: Vec<_> = state
            .sessions
            .iter()
            .map(|(of, s)| (of.0, s.0, s.2))
            .collect();
        format!("{lasts:?}, {} in order", state.order.len())
    };
    let [least, most] = &allowed;
    Err(format!(
        "found {}; acknowledged {}; under way {}",
        lasts(&state),
        lasts(least),
        lasts(most)
    ))
}

/// Tries disks of a recording, spread over all its moments.
fn try_all(recording: &Recording, done: usize, trials: usize) {
    let kinds = recording.cuts().map(|cuts| {
        let losses = [Loss::Nothing, Loss::Everything].into_iter();
        let losses = losses.chain((0..4).map(Loss::Some));
        let disks = cuts
            .into_iter()
            .flat_map(|cut| losses.clone().map(move |of| (cut, of)));
        disks.collect::<Vec<_>>()
    });
    let all = kinds.iter().map(Vec::len).sum::<usize>();
    // As many of each kind, spread over the run.
    let each = trials / kinds.len();
    let mut dice = Dice(0);
    let mut pick = |of: &Vec<_>, nth| {
        let (len, die) = (of.len() as u64, dice.roll());
        of[((nth * len + die % len) / each as u64) as usize]
    };
    let disks: Vec<_> = match trials {
        0 => kinds.concat(),
        _ => (0..each as u64)
            .flat_map(|nth| kinds.each_ref().map(|of| pick(of, nth)))
            .collect(),
    };
    let count = disks.len();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let trial = next.fetch_add(1, Ordering::Relaxed);
                    if trial >= count {
                        return;
                    }
                    let (cut, loss) = disks[trial];
                    let acknowledged = done.max(recording.said(cut) as usize);
                    if let Err(why) = try_image(&recording.image(cut, loss), acknowledged) {
                        let open = recording.open_at(cut);
                        let told = format!("at {cut}, {loss:?}: {why}; on its way:\n{open}");
                        failures.lock().unwrap().push(told);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let shown = failures
        .iter()
        .take(40)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        failures.is_empty(),
        "{} of {count} disks of {}:\n{shown}",
        failures.len(),
        all
    );
}

fn number(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    Some(given.parse().unwrap())
}

/// Also when it goes again, while what was left is opened and gone on with.
#[test]
fn what_was_acknowledged_survives_power_loss() {
    let trials = number(TRIALS).map_or(TRIALS_DEFAULT, |given| given as usize);
    let recording = record_child(&Image::new(), 0);
    assert_eq!(recording.said(usize::MAX), script().len() as u64);
    try_all(&recording, 0, trials);
    let [_, syncs, _] = recording.cuts();
    for place in [1, 2] {
        let cut = syncs[syncs.len() * place / 3] - 1;
        let image = recording.image(cut, Loss::Some(7));
        // The step that was under way may have been done as a whole.
        let acknowledged = recording.said(cut) as usize;
        let state = try_image(&image, acknowledged).unwrap();
        let done = acknowledged + usize::from(state != State::after(acknowledged));
        let again = record_child(&image, done);
        try_all(&again, done, trials / 4);
    }
}
