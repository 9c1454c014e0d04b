//! `make bench`: cldpd and the docker command side by side, on this machine, now.
//!
//! The same image, the same prompt, one after the other by turns (A B A B), so
//! that what else the machine does hits both. Each ratio is of one pair; what
//! is reported are medians. Writes `docs/benchmarks.md`; with names of groups as
//! arguments only those are measured, and the page is left alone. Whatever happens,
//! nothing is left: no container, image, daemon or home.

mod agents;
mod appends;
mod disk;
mod history;
mod latency;
mod recovery;
mod report;
mod speech;
mod stage;

use report::{Aim, Memory, Report, Row};
use stage::{Failure, Stage};
use std::time::{Duration, Instant};

/// Lines that the container prints, and the length of each without its end.
const LINES: usize = 1_000_000;
const LENGTH: usize = 60;
/// Pairs of runs that print a million lines.
const LONG_PAIRS: usize = 3;
/// Pairs of replays of each of them.
const REPLAY_PAIRS: usize = 3;
/// Pairs of starts.
const START_PAIRS: usize = 9;
/// Pairs of listings.
const LIST_PAIRS: usize = 25;
/// Live sessions whose cost is measured.
const LIVE: usize = 50;

/// What can be measured by itself.
const GROUPS: [&str; 8] = [
    "history", "jobs", "latency", "appends", "disk", "agents", "recovery", "memory",
];

fn main() -> Result<(), Failure> {
    // `cargo bench` has an argument of its own.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if let Some(unknown) = wanted.iter().find(|name| !GROUPS.contains(&name.as_str())) {
        return Err(format!("no group \"{unknown}\"; there are {}", GROUPS.join(", ")).into());
    }
    let is_wanted = |group: &str| wanted.is_empty() || wanted.iter().any(|name| name == group);
    let mut report = Report::begin()?;
    if is_wanted("history") {
        history::run(&mut report)?;
    }
    if is_wanted("jobs") {
        let stage = Stage::new()?;
        stage.warm_up()?;
        list_and_start(&stage, &mut report)?;
        million(&stage, &mut report, "lines", "written 64 KiB at a time")?;
        million(&stage, &mut report, "linesflush", "written line by line")?;
        report.memory.push(Memory {
            what: "the daemon after all of the above",
            rss: stage.daemon_memory()?,
        });
    }
    if is_wanted("latency") {
        let stage = Stage::new()?;
        stage.warm_up()?;
        latency::measure(&stage, &mut report)?;
    }
    if is_wanted("appends") {
        appends::measure(&mut report)?;
    }
    if is_wanted("disk") {
        let stage = Stage::new()?;
        stage.warm_up()?;
        disk::measure(&stage, &mut report)?;
    }
    if is_wanted("agents") {
        let stage = Stage::new()?;
        agents::measure(&stage, &mut report)?;
    }
    if is_wanted("recovery") {
        recovery::measure(&mut report)?;
    }
    if is_wanted("memory") {
        let stage = Stage::new()?;
        memory(&stage, &mut report)?;
    }
    print!("{}", report.table());
    if wanted.is_empty() {
        report.write("docs/benchmarks.md")?;
        println!("\nwritten to docs/benchmarks.md");
    }
    Ok(())
}

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(Duration, T), Failure> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed(), done))
}

fn list_and_start(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let mut starts = Vec::new();
    for pair in 0..START_PAIRS {
        say(&format!("start, pair {} of {START_PAIRS}", pair + 1));
        let (ours, session) = timed(|| {
            let session = stage.start("[[sleep 600000]]")?;
            stage.await_started(std::slice::from_ref(&session))?;
            Ok(session)
        })?;
        report.phases.push(stage.phases(&session)?);
        let name = stage.container("sleeper", pair);
        let (theirs, ()) = timed(|| stage.docker_start(&name, "[[sleep 600000]]"))?;
        starts.push((ours, theirs));
    }
    report.rows.push(Row {
        what: "start, until the program runs",
        aim: Aim::Ratio(1.2),
        pairs: starts,
    });

    say("listing");
    let mut lists = Vec::new();
    for _ in 0..LIST_PAIRS {
        let (ours, ()) = timed(|| stage.list())?;
        let (theirs, ()) = timed(|| stage.docker_list())?;
        lists.push((ours, theirs));
    }
    report.rows.push(Row {
        what: "list what runs",
        aim: Aim::Ratio(1.0),
        pairs: lists,
    });
    stage.clear()
}

fn million(
    stage: &Stage,
    report: &mut Report,
    directive: &str,
    how: &'static str,
) -> Result<(), Failure> {
    let prompt = format!("[[{directive} {LINES} {LENGTH}]]");
    let mut runs = Vec::new();
    let mut replays = Vec::new();
    let mut as_events = Vec::new();
    for pair in 0..LONG_PAIRS {
        say(&format!(
            "a million lines {how}, pair {} of {LONG_PAIRS}",
            pair + 1
        ));
        let (ours, session) = timed(|| {
            let session = stage.start(&prompt)?;
            stage.wait(&session)?;
            Ok(session)
        })?;
        let name = stage.container(directive, pair);
        let (theirs, ()) = timed(|| stage.docker_run(&name, &prompt))?;
        runs.push((ours, theirs));

        for _ in 0..REPLAY_PAIRS {
            let (our_replay, ()) = timed(|| stage.replay(&session))?;
            let (their_replay, ()) = timed(|| stage.docker_replay(&name))?;
            replays.push((our_replay, their_replay));
        }
        let (our_events, ()) = timed(|| stage.replay_events(&session))?;
        let (their_replay, ()) = timed(|| stage.docker_replay(&name))?;
        as_events.push((our_events, their_replay));
        stage.check_replay(&session, LINES, LENGTH)?;
        stage.clear()?;
    }
    let (run, replay) = match directive {
        "lines" => (
            "a million lines (61 MB), written 64 KiB at a time",
            "replay of those",
        ),
        _ => (
            "a million lines (61 MB), one write each",
            "replay of those, too",
        ),
    };
    report.rows.push(Row {
        what: run,
        aim: Aim::Ratio(0.7),
        pairs: runs,
    });
    report.rows.push(Row {
        what: replay,
        aim: Aim::Ratio(0.05),
        pairs: replays,
    });
    report.rows.push(Row {
        what: "the same as events (JSON), beside docker's lines",
        aim: Aim::None,
        pairs: as_events,
    });
    Ok(())
}

fn memory(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    say(&format!("memory, {LIVE} live sessions"));
    stage.start_daemon()?;
    report.memory.push(Memory {
        what: "the daemon, idle",
        rss: stage.daemon_memory()?,
    });
    let prompt = format!("[[fifo {}]]", stage.fifo());
    let sessions = stage.start_local(LIVE, &prompt)?;
    stage.await_started(&sessions)?;
    report.memory.push(Memory {
        what: "the daemon with 50 live sessions",
        rss: stage.daemon_memory()?,
    });
    report.memory.push(Memory {
        what: "one of their shims (median)",
        rss: stage.shim_memory()?,
    });
    Ok(())
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
