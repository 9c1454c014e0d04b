//! What has lain in the journal for long: searched, listed, opened.
//!
//! The journals are made with the store's own interface, as the daemon would
//! have made them, but without agents that say it all. No engine is needed.

use crate::report::{Aim, Memory, Report, Row};
use crate::stage::{Failure, Rss, kill, rss};
use crate::{say, timed};
use cldpd::model::session::RunRecord;
use cldpd::model::spec::Keep;
use cldpd::model::{
    AgentKind, Bounds, Event, EventKind, How, Outcome, Output, PodName, RunState, RuntimeName,
    SessionId, SessionRecord, Stream, Timestamp, Ulid,
};
use cldpd::store::{Append, Journal, Options};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const CLDPD: &str = env!("CARGO_BIN_EXE_cldpd");
/// Pairs of each figure.
const PAIRS: usize = 5;
/// Events of one commit.
const COMMIT: usize = 1024;
/// When the first session was dispatched.
const BEGAN: i64 = 1_767_225_600_000_000_000;

/// All figures of this file.
pub fn run(report: &mut Report) -> Result<(), Failure> {
    search(report)?;
    listing(report)?;
    opening(report)
}

/// How a daemon ended before the next is started.
#[derive(Clone, Copy)]
enum Before {
    Stop,
    Kill,
    /// It stopped, and what the database keeps to begin quickly is lost.
    NoSnapshot,
}

impl Before {
    const ALL: [Self; 3] = [Self::Stop, Self::Kill, Self::NoSnapshot];
}

/// A directory with a journal, and perhaps a daemon; both go with it.
struct Home {
    root: PathBuf,
}

impl Home {
    fn new(name: &str) -> Result<Self, Failure> {
        let root = std::env::temp_dir().join(format!("cldpd-bench-{name}-{}", std::process::id()));
        fs::create_dir(&root)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        Ok(Self { root })
    }

    fn cldpd(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CLDPD);
        command.args(args).env("CLDPD_HOME", &self.root);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the command; gives what it printed.
    fn run(&self, args: &[&str]) -> Result<String, Failure> {
        printed(&mut self.cldpd(args))
    }

    fn pid(&self) -> Result<u64, Failure> {
        let status = self.run(&["daemon", "status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        Ok(status["pid"].as_u64().ok_or("the daemon says no pid")?)
    }

    fn memory(&self) -> Result<Rss, Failure> {
        rss(self.pid()?)
    }

    /// Sees that no daemon runs, and how the last one ended.
    fn end(&self, before: Before) -> Result<(), Failure> {
        match before {
            Before::Stop => self.run(&["daemon", "stop"]).map(drop),
            Before::Kill => self.kill(),
            Before::NoSnapshot => {
                self.run(&["daemon", "stop"])?;
                for entry in fs::read_dir(self.root.join("journal/0001"))? {
                    let path = entry?.path();
                    let name = path.file_name().and_then(|name| name.to_str());
                    if name.is_some_and(|name| name.starts_with("snap.")) {
                        fs::remove_file(path)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Kills the daemon, and waits until it is gone.
    fn kill(&self) -> Result<(), Failure> {
        kill(self.pid()?)
    }

    /// Makes sessions that are over, with as many lines each, given by `line`.
    fn fill(
        &self,
        sessions: usize,
        lines: usize,
        mut line: impl FnMut(&mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let options = Options {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cache_bytes: 32 << 20,
            now: Timestamp(BEGAN),
        };
        let mut journal = Journal::open(&self.root.join("journal"), options)?.journal;
        for number in 0..sessions {
            let began = BEGAN + number as i64 * 1_000_000_000;
            let ulid = Ulid::from_parts(began as u64 / 1_000_000, number as u128);
            let generation = journal.claim(ulid)?.generation;
            let mut done = 0;
            while done <= lines {
                let count = COMMIT.min(lines - done);
                let mut events = Vec::with_capacity(count);
                for index in done..done + count {
                    let mut data = Vec::new();
                    line(&mut data)?;
                    events.push(Event {
                        seq: index as u64 + 1,
                        run: 0,
                        time: Timestamp(began + index as i64 * 1_000),
                        kind: EventKind::Output(Output {
                            stream: Stream::Stdout,
                            data,
                            continued: false,
                        }),
                    });
                }
                done += count;
                let over = done == lines;
                let append = Append {
                    session: ulid,
                    generation,
                    events,
                    cursors: Vec::new(),
                    record: over.then(|| record(ulid, began)).transpose()?,
                    requests: Vec::new(),
                };
                for result in journal.commit(vec![append])? {
                    result?;
                }
                if over {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.run(&["daemon", "stop"]);
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn printed(command: &mut Command) -> Result<String, Failure> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}\n{said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn record(ulid: Ulid, began: i64) -> Result<SessionRecord, Failure> {
    let pod = PodName::new("bench")?;
    let (began, ended) = (Timestamp(began), Timestamp(began + 900_000_000));
    let run = RunRecord {
        number: 0,
        how: How::New,
        prompt: "look into the flaky test of the parser and mend it".to_owned(),
        queued_seq: 2,
        env: Vec::new(),
        fresh: None,
        branch: None,
        forked: None,
        bounds: Bounds::default(),
        steerable: false,
        task_at: 0,
        retry: None,
        queued: began,
        started: Some(began),
        image: Some(format!("sha256:{:064x}", ulid.0)),
        result: None,
        limit: None,
        account: cldpd::model::Account::default(),
        interrupted: false,
        signals: Vec::new(),
        state: RunState::Ended {
            outcome: Outcome::Success,
            why: None,
            code: Some(0),
            at: ended,
            place: None,
            error: None,
        },
    };
    Ok(SessionRecord {
        ulid,
        id: SessionId::new(&pod, ulid),
        name: None,
        pod,
        runtime: RuntimeName::Docker,
        agent: AgentKind::Command,
        labels: BTreeMap::from([("sprint".to_owned(), "12".to_owned())]),
        created: began,
        keep: Keep::Always,
        remove: false,
        steer: false,
        bounds: Bounds::default(),
        agent_sessions: Vec::new(),
        agent_version: None,
        agent_model: None,
        image_config: None,
        runs: vec![run],
        removed: None,
        imported: None,
    })
}

/// Lines as programs log them: the same in each run, no two alike.
struct Log {
    state: u64,
    count: u64,
}

impl Log {
    const fn new() -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            count: 0,
        }
    }

    const fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn line(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        const LEVELS: [&str; 4] = ["INFO", "DEBUG", "INFO", "WARN"];
        const WHERE: [&str; 8] = [
            "parser::tokens",
            "http::client",
            "store::index",
            "scheduler",
            "cache::lru",
            "auth::session",
            "queue::worker",
            "config",
        ];
        const WORDS: [&str; 32] = [
            "request",
            "response",
            "finished",
            "retry",
            "with",
            "status",
            "for",
            "user",
            "open",
            "closed",
            "connection",
            "while",
            "reading",
            "block",
            "of",
            "entries",
            "from",
            "shard",
            "cached",
            "evicted",
            "timeout",
            "after",
            "waiting",
            "on",
            "lock",
            "built",
            "test",
            "passed",
            "file",
            "changed",
            "in",
            "naïve",
        ];
        self.count += 1;
        let random = self.next();
        let (second, milli) = (self.count / 997 % 60, self.count % 1000);
        write!(
            out,
            "2026-01-01T12:{:02}:{second:02}.{milli:03}Z {:5} {}:",
            self.count / 60_000 % 60,
            LEVELS[(random % 4) as usize],
            WHERE[(random >> 2) as usize % 8],
        )?;
        for word in 0..4 + (random >> 8) % 6 {
            let word = self.next() >> (word * 3);
            write!(out, " {}", WORDS[word as usize % 32])?;
        }
        let random = self.next();
        write!(
            out,
            " id={:08x} took {} ms",
            random as u32,
            (random >> 32) % 2000
        )?;
        if self.count % 500_000 == 7 {
            out.extend_from_slice(b" panicked at src/lib.rs:42");
        }
        Ok(())
    }
}

/// What is looked for: what it is called, and the expression.
const SOUGHT: [(&str, &str, &str); 3] = [
    (
        "search of 1 GiB for a text, grep -c in UTF-8",
        "the same, grep -c with LC_ALL=C",
        "panicked at src",
    ),
    (
        "search of 1 GiB for one of three texts, grep -c in UTF-8",
        "the same, grep -c with LC_ALL=C, too",
        "panicked at|segmentation fault|out of memory",
    ),
    (
        "search of 1 GiB for an expression, grep -c in UTF-8",
        "the same, grep -c with LC_ALL=C, once more",
        "lock [a-z]+ id=[0-9a-f]*0000 took 1[0-9]+ ms$",
    ),
];

fn search(report: &mut Report) -> Result<(), Failure> {
    say("making 1 GiB to be searched");
    let home = Home::new("search")?;
    let path = home.root.join("exported.txt");
    let mut text = BufWriter::new(File::create(&path)?);
    let (mut log, mut raw) = (Log::new(), 0);
    // As many lines of that kind as 1 GiB has.
    let (sessions, lines) = (64, 178_000);
    home.fill(sessions, lines, |line| {
        log.line(line)?;
        raw += line.len() + 1;
        text.write_all(line)?;
        Ok(text.write_all(b"\n")?)
    })?;
    text.flush()?;
    say(&format!("{:.2} GiB", raw as f64 / f64::from(1 << 30)));
    let path = path.display().to_string();
    home.run(&["daemon", "start"])?;
    let ours = |pattern: &str| -> Result<u64, Failure> {
        let counts = home.run(&["search", "-c", pattern])?;
        let counts = counts.lines().filter_map(|line| line.split_once("  "));
        counts.map(|(_, count)| Ok(count.parse::<u64>()?)).sum()
    };
    for (utf8, c, pattern) in SOUGHT {
        for (what, locale) in [(utf8, "C.UTF-8"), (c, "C")] {
            say(what);
            let mut pairs = Vec::new();
            for pair in 0..=PAIRS {
                let (our_time, found) = timed(|| ours(pattern))?;
                let (their_time, theirs) = timed(|| {
                    let mut grep = Command::new("grep");
                    printed(
                        grep.env("LC_ALL", locale)
                            .args(["-c", "-E", pattern, &path]),
                    )
                })?;
                if theirs.trim().parse() != Ok(found) {
                    return Err(format!("{pattern}: {found} lines, grep {theirs}").into());
                }
                // The first has everything read from the disk.
                if pair > 0 {
                    pairs.push((our_time, their_time));
                }
            }
            report.rows.push(Row {
                what,
                aim: Aim::Ratio(1.0),
                pairs,
            });
        }
    }
    report.memory.push(Memory {
        what: "the daemon after searches of 1 GiB",
        rss: home.memory()?,
    });
    Ok(())
}

fn listing(report: &mut Report) -> Result<(), Failure> {
    say("listing 50 of 10,000 sessions, and of 10");
    let (many, few) = (Home::new("many")?, Home::new("few")?);
    for (home, sessions) in [(&many, 10_000), (&few, 10)] {
        home.fill(sessions, 2, |line| Ok(Log::new().line(line)?))?;
        home.run(&["daemon", "start"])?;
        home.run(&["sessions", "-a", "--limit", "50"])?;
    }
    let list = |home: &Home, args: &[&str]| timed(|| home.run(args)).map(|(time, _)| time);
    let all = ["sessions", "-a", "--limit", "50"];
    let pod = ["sessions", "--state", "failed", "--pod", "bench"];
    let mut rows = [Vec::new(), Vec::new()];
    for _ in 0..5 * PAIRS {
        for (pairs, args) in rows.iter_mut().zip([&all[..], &pod[..]]) {
            pairs.push((list(&many, args)?, list(&few, args)?));
        }
    }
    let [all, failed] = rows;
    report.rows.push(Row {
        what: "`sessions -a --limit 50` with 10,000 sessions, with 10",
        aim: Aim::Ratio(1.5),
        pairs: all,
    });
    report.rows.push(Row {
        what: "`sessions --state failed --pod POD` with 10,000 sessions, with 10",
        aim: Aim::Ratio(1.5),
        pairs: failed,
    });
    Ok(())
}

fn opening(report: &mut Report) -> Result<(), Failure> {
    say("making 10 million events in 1,000 sessions");
    let (full, empty) = (Home::new("full")?, Home::new("empty")?);
    let mut log = Log::new();
    full.fill(1_000, 10_000, |line| Ok(log.line(line)?))?;
    let start = |home: &Home| timed(|| home.run(&["daemon", "start"])).map(|(time, _)| time);
    let mut rows: [Vec<(Duration, Duration)>; 3] = Default::default();
    for pair in 0..PAIRS {
        say(&format!("opening, pair {} of {PAIRS}", pair + 1));
        for (row, before) in Before::ALL.into_iter().enumerate() {
            for home in [&full, &empty] {
                home.end(before)?;
            }
            rows[row].push((start(&full)?, start(&empty)?));
            if pair + 1 == PAIRS {
                let what = [
                    "the daemon that opened 10 million events in 1,000 sessions",
                    "the same after SIGKILL",
                    "the same when the database's snapshot is gone",
                ][row];
                let rss = full.memory()?;
                report.memory.push(Memory { what, rss });
            }
        }
    }
    let what = [
        "daemon start with 10 million events, without",
        "the same after SIGKILL",
        "the same when the database's snapshot is gone",
    ];
    for (what, pairs) in what.into_iter().zip(rows) {
        report.rows.push(Row {
            what,
            aim: Aim::More(1.0),
            pairs,
        });
    }
    Ok(())
}
