//! What recorded output takes on disk, beside the bytes themselves and docker's log.

use crate::report::{Disk, Report};
use crate::say;
use crate::speech::{Library, agent_stream, plain_lines};
use crate::stage::{Failure, Stage};
use cldpd::model::{Event, EventKind, Output, Stream, Timestamp, Ulid};
use cldpd::store::{Append, Journal, Options};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is said in all, roughly; a trickle is as long as it is.
const BYTES: usize = 64 << 20;
/// When the first line was written, and how long the others take after it.
const BEGAN: i64 = 1_767_225_600_000_000_000;
const EACH: i64 = 1_234_567;

/// All figures of this file.
pub fn measure(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let library = Library::new()?;
    let of = |sessions: usize, make: fn(&Library, u64, usize) -> Vec<String>| {
        let bytes = BYTES / sessions;
        (1..=sessions as u64)
            .map(|seed| make(&library, seed, bytes))
            .collect::<Vec<_>>()
    };
    let mut trickle = of(50, agent_stream);
    trickle.iter_mut().for_each(|lines| lines.truncate(200));
    let rows = [
        (
            "what Claude Code writes, 4 sessions",
            of(4, agent_stream),
            64,
        ),
        ("lines of a test run, 4 sessions", of(4, plain_lines), 256),
        (
            "10,000 messages of 50 sessions by turns, each a commit of its own",
            trickle,
            1,
        ),
    ];
    for (number, (what, sessions, a_commit)) in rows.into_iter().enumerate() {
        say(&format!("on disk: {what}"));
        let dir = std::env::temp_dir().join(format!("cldpd-bench-{}-disk", std::process::id()));
        fs::create_dir(&dir)?;
        let done = ours(&dir.join("journal"), &sessions, a_commit).and_then(|(live, compacted)| {
            let text = sessions.concat().join("\n") + "\n";
            fs::write(dir.join("said"), &text)?;
            let container = stage.container("said", number);
            let docker = stage.docker_log_of(&container, &dir.join("said"))?;
            let raw = text.len() as u64;
            Ok(Disk {
                what,
                raw,
                live,
                compacted,
                docker,
            })
        });
        fs::remove_dir_all(&dir)?;
        report.disk.push(done?);
    }
    stage.clear()
}

/// Records each session's lines, so many a commit, by turns. Returns what is on
/// disk while the sessions live, and once they have ended and the journal was compacted.
fn ours(dir: &Path, sessions: &[Vec<String>], a_commit: usize) -> Result<(u64, u64), Failure> {
    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cache_bytes: 32 << 20,
        now: Timestamp(BEGAN),
    };
    let mut journal = Journal::open(dir, options)?.journal;
    let mut writers = Vec::new();
    for number in 0..sessions.len() {
        let ulid = Ulid::from_parts(BEGAN as u64 / 1_000_000, number as u128);
        writers.push((ulid, journal.claim(ulid)?.generation));
    }
    let longest = sessions.iter().map(Vec::len).max().unwrap_or(0);
    let mut time = BEGAN;
    for from in (0..longest).step_by(a_commit) {
        for ((session, generation), lines) in writers.iter().zip(sessions) {
            let some = lines.iter().enumerate().skip(from).take(a_commit);
            let events: Vec<Event> = some
                .map(|(nth, line)| {
                    time += EACH;
                    said(nth as u64 + 1, time, line)
                })
                .collect();
            commit(&mut journal, *session, *generation, events)?;
        }
    }
    let live = allocated(dir)?;
    let mut compaction = journal.begin_compaction()?;
    compaction.copy(&|| false)?;
    let compacted = journal.finish_compaction(&mut compaction)?;
    compacted.ok_or("it was not compacted")?.old.discard()?;
    Ok((live, allocated(dir)?))
}

fn said(seq: u64, time: i64, line: &str) -> Event {
    Event {
        seq,
        run: 0,
        time: Timestamp(time),
        kind: EventKind::Output(Output {
            stream: Stream::Stdout,
            data: line.as_bytes().to_vec(),
            continued: false,
        }),
    }
}

fn commit(
    journal: &mut Journal,
    session: Ulid,
    generation: u64,
    events: Vec<Event>,
) -> Result<(), Failure> {
    let append = Append {
        session,
        generation,
        events,
        cursors: Vec::new(),
        record: None,
        requests: Vec::new(),
    };
    for taken in journal.commit(vec![append])? {
        taken?;
    }
    Ok(())
}

/// What all files under `dir` take on disk.
fn allocated(dir: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() {
            allocated(&entry.path())?
        } else {
            meta.blocks() * 512
        };
    }
    Ok(sum)
}
