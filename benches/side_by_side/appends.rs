//! Durable appends against a plain file: the same bytes, synced at the same points.

use crate::report::{Aim, Report, Row};
use crate::stage::Failure;
use crate::timed;
use cldpd::model::{Event, EventKind, Output, Stream, Timestamp, Ulid};
use cldpd::store::{Append, Journal, Options};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Commits of a run.
const COMMITS: usize = 100;
/// Events of a commit.
const EVENTS: usize = 1024;
/// Pairs of runs.
const PAIRS: usize = 5;

pub fn measure(report: &mut Report) -> Result<(), Failure> {
    let rows = [
        (1, "102,400 durable appends, one writer; a plain file"),
        (100, "the same, 100 writers; a plain file"),
    ];
    for (writers, what) in rows {
        let mut pairs = Vec::new();
        for pair in 0..PAIRS {
            crate::say(&format!("{what}, pair {} of {PAIRS}", pair + 1));
            let dir =
                std::env::temp_dir().join(format!("cldpd-bench-{}-appends", std::process::id()));
            std::fs::create_dir(&dir)?;
            let done = run(&dir, writers);
            std::fs::remove_dir_all(&dir)?;
            pairs.push(done?);
        }
        report.rows.push(Row {
            what,
            // 0.6 of its events a second.
            aim: Aim::Ratio(1.0 / 0.6),
            pairs,
        });
    }
    Ok(())
}

/// Lines as programs print them, so many for each commit.
fn lines(commit: usize) -> Vec<Vec<u8>> {
    (commit * EVENTS..(commit + 1) * EVENTS)
        .map(|line| {
            let mixed = line.wrapping_mul(2_654_435_761) % 1_000_003;
            let text = format!(
                "2026-11-21T15:{:02}:{:02} INFO worker-{} step {line} took {mixed} us\n",
                line / 60 % 60,
                line % 60,
                mixed % 16,
            );
            text.into_bytes()
        })
        .collect()
}

fn run(dir: &Path, writers: usize) -> Result<(std::time::Duration, std::time::Duration), Failure> {
    let commits: Vec<Vec<Vec<u8>>> = (0..COMMITS).map(lines).collect();
    let (theirs, ()) = timed(|| {
        let mut file = File::create(dir.join("file"))?;
        for lines in &commits {
            file.write_all(&lines.concat())?;
            file.sync_data()?;
        }
        Ok(())
    })?;

    let options = Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cache_bytes: 32 << 20,
        now: Timestamp::now(),
    };
    let mut journal = Journal::open(&dir.join("journal"), options)?.journal;
    let mut sessions = Vec::new();
    for writer in 0..writers {
        let ulid = Ulid::from_parts(Timestamp::now().millis(), writer as u128);
        sessions.push((ulid, journal.claim(ulid)?.generation, 1));
    }
    let mut appends = Vec::with_capacity(commits.len());
    for lines in commits {
        appends.push(commit(lines, &mut sessions));
    }
    let (ours, ()) = timed(|| {
        for appends in appends {
            for taken in journal.commit(appends)? {
                taken?;
            }
        }
        Ok(())
    })?;
    Ok((ours, theirs))
}

/// One commit's events, dealt out to the writers in turn.
fn commit(lines: Vec<Vec<u8>>, sessions: &mut [(Ulid, u64, u64)]) -> Vec<Append> {
    let mut appends: Vec<Append> = sessions
        .iter()
        .map(|(session, generation, _)| Append {
            session: *session,
            generation: *generation,
            events: Vec::new(),
            cursors: Vec::new(),
            record: None,
            requests: Vec::new(),
        })
        .collect();
    for (place, data) in lines.into_iter().enumerate() {
        let writer = place % sessions.len();
        let next = &mut sessions[writer].2;
        appends[writer].events.push(Event {
            seq: *next,
            run: 0,
            time: Timestamp::now(),
            kind: EventKind::Output(Output {
                stream: Stream::Stdout,
                data,
                continued: false,
            }),
        });
        *next += 1;
    }
    appends
}
