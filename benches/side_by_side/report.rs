//! The figures, as a table and as a page.

use crate::stage::{Failure, Rss};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// What was hoped for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// At most so many times docker's time.
    Ratio(f64),
    /// At most so many seconds more than the other.
    More(f64),
    /// Only looked at.
    None,
}

/// One thing that both did, by turns.
pub struct Row {
    /// What.
    pub what: &'static str,
    /// What was hoped for.
    pub aim: Aim,
    /// Ours and docker's, pair by pair.
    pub pairs: Vec<(Duration, Duration)>,
}

/// What a process needs.
pub struct Memory {
    /// Which.
    pub what: &'static str,
    /// How much.
    pub rss: Rss,
}

/// What something takes on disk, in bytes.
pub struct Disk {
    /// What was said.
    pub what: &'static str,
    /// How long it is.
    pub raw: u64,
    /// The journal while its sessions live.
    pub live: u64,
    /// The journal once it was compacted.
    pub compacted: u64,
    /// Docker's log of it.
    pub docker: u64,
}

/// At most so much of what was said is to be on disk in the end.
const DISK_AIM: f64 = 0.2;

/// All that was measured.
pub struct Report {
    machine: Vec<(&'static str, String)>,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    /// The same.
    pub memory: Vec<Memory>,
    /// The same.
    pub disk: Vec<Disk>,
    /// When each event of a start was made, start by start.
    pub phases: Vec<Vec<(String, f64)>>,
}

impl Row {
    fn ratio(&self) -> f64 {
        let of = |(ours, theirs): &(Duration, Duration)| ours.as_secs_f64() / theirs.as_secs_f64();
        median(self.pairs.iter().map(of).collect())
    }

    fn ours(&self) -> f64 {
        median(
            self.pairs
                .iter()
                .map(|(ours, _)| ours.as_secs_f64())
                .collect(),
        )
    }

    fn theirs(&self) -> f64 {
        let theirs = self.pairs.iter().map(|(_, theirs)| theirs.as_secs_f64());
        median(theirs.collect())
    }

    fn verdict(&self) -> (String, &'static str) {
        match self.aim {
            Aim::Ratio(most) => (format!("≤ {most:.2}"), met(self.ratio() <= most)),
            Aim::More(most) => {
                let aim = format!("< {} more", shown(most));
                (aim, met(self.more() < most))
            }
            Aim::None => ("–".to_owned(), "–"),
        }
    }

    /// How many seconds more ours took.
    fn more(&self) -> f64 {
        self.ours() - self.theirs()
    }

    /// Ours beside the other's, as it is compared.
    fn compared(&self) -> String {
        match self.aim {
            Aim::More(_) if self.more() < 0.0 => format!("−{}", shown(-self.more())),
            Aim::More(_) => format!("+{}", shown(self.more())),
            Aim::Ratio(_) | Aim::None => format!("{:.2}", self.ratio()),
        }
    }
}

impl Report {
    /// Looks at the machine.
    pub fn begin() -> Result<Self, Failure> {
        let first = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map_or_else(String::new, |line| {
                line.trim_matches(|c: char| c == ':' || c.is_whitespace())
                    .to_owned()
            })
        };
        let said = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output();
            output.map_or_else(
                |error| format!("{program}: {error}"),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            )
        };
        let cores = std::thread::available_parallelism()?;
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split(' ').take(3).collect();
        let format = "{{.Server.Version}} (API {{.Server.APIVersion}})";
        let machine = vec![
            (
                "date",
                chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string(),
            ),
            (
                "processor",
                format!("{cores} × {}", first("/proc/cpuinfo", "model name")),
            ),
            ("memory", first("/proc/meminfo", "MemTotal")),
            ("system", said("uname", &["-srm"])),
            ("docker", said("docker", &["version", "-f", format])),
            (
                "its drivers",
                said(
                    "docker",
                    &["info", "-f", "{{.Driver}}, logs {{.LoggingDriver}}"],
                ),
            ),
            ("load before", load.join(" ")),
            ("cldpd", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        Ok(Self {
            machine,
            rows: Vec::new(),
            memory: Vec::new(),
            disk: Vec::new(),
            phases: Vec::new(),
        })
    }

    /// The figures.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| what | cldpd | other | cldpd / other | aim | |\n|---|---:|---:|---:|---:|---|\n",
        );
        for row in &self.rows {
            let (aim, verdict) = row.verdict();
            let (ours, theirs) = (shown(row.ours()), shown(row.theirs()));
            let compared = row.compared();
            line(
                &mut text,
                &format!(
                    "| {} | {ours} | {theirs} | {compared} | {aim} | {verdict} |",
                    row.what
                ),
            );
        }
        text.push_str(
            "\n| on disk | bytes said | live | compacted | aim | | docker's json-file |\n\
             |---|---:|---:|---:|---:|---|---:|\n",
        );
        for disk in &self.disk {
            let part = |bytes: u64| bytes as f64 / disk.raw as f64;
            let mib = disk.raw as f64 / f64::from(1 << 20);
            let compacted = part(disk.compacted);
            line(
                &mut text,
                &format!(
                    "| {} | {mib:.1} MiB | {:.2} | {compacted:.2} | ≤ {DISK_AIM:.2} | {} | {:.2} |",
                    disk.what,
                    part(disk.live),
                    met(compacted <= DISK_AIM),
                    part(disk.docker),
                ),
            );
        }
        text.push_str("\n| memory of | resident | of it anonymous |\n|---|---:|---:|\n");
        for memory in &self.memory {
            let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
            let (all, own) = (mib(memory.rss.all), mib(memory.rss.anonymous));
            line(&mut text, &format!("| {} | {all} | {own} |", memory.what));
        }
        text
    }

    /// Writes the page.
    pub fn write(&self, path: &str) -> Result<(), Failure> {
        let mut text = String::from(HEAD);
        text.push_str("\n| | |\n|---|---|\n");
        for (key, value) in &self.machine {
            line(&mut text, &format!("| {key} | {value} |"));
        }
        text.push('\n');
        text.push_str(&self.table());
        text.push_str(COVERS);
        text.push_str(&self.start_phases());
        text.push_str("\n## Every pair\n\n");
        for row in &self.rows {
            let pair = |(ours, theirs): &(Duration, Duration)| {
                format!(
                    "{}/{}",
                    shown(ours.as_secs_f64()),
                    shown(theirs.as_secs_f64())
                )
            };
            let pairs: Vec<String> = row.pairs.iter().map(pair).collect();
            line(&mut text, &format!("- {}: {}", row.what, pairs.join(", ")));
        }
        fs::write(path, text)?;
        Ok(())
    }

    /// Medians of when the events of a start were made.
    fn start_phases(&self) -> String {
        let mut text = String::from(
            "\n## Where a start's time goes\n\n| event | made after (median) |\n|---|---:|\n",
        );
        let Some(first) = self.phases.first() else {
            return String::new();
        };
        for (kind, _) in first {
            let times = self.phases.iter().filter_map(|phases| {
                let found = phases.iter().find(|(other, _)| other == kind);
                found.map(|(_, time)| *time)
            });
            let time = median(times.collect());
            line(&mut text, &format!("| `{kind}` | {time:.1} ms |"));
        }
        text
    }
}

const fn met(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.2} ms", s * 1000.0),
        s if s < 0.1 => format!("{:.1} ms", s * 1000.0),
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s => format!("{s:.2} s"),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

const HEAD: &str = "# Benchmarks

Written by `make bench`; what is here is its last run. Both sides do the same
thing with the same image (`FROM scratch` and a small static program), by turns,
and each ratio is that of one pair: medians are shown. The processes compared
are the two commands, from their start to their end, unless said otherwise. The
other is docker where a row names nothing else.
";

const COVERS: &str = "
## What the figures cover

- **A million lines.** Ours: from the start of `cldpd start -d` until `cldpd wait`
  has returned: the container made, the program run, every line in the journal
  and synced to disk, the end recorded. After each run the replay is checked:
  exactly 1,000,000 lines, each whole, in order. Docker's: `docker run -i` with
  the same prompt on standard input, its output to `/dev/null`; its own log
  (json-file, if the engine is not set up otherwise) is written, and not synced.
- **Start.** Ours: from the start of `cldpd start -d` until a second process,
  `cldpd logs -f`, has printed `container_started`. That is after the image was
  compared with the pod's directory, the container started, the prompt handed to
  the shim, the program executed, and all of that made durable. Docker's: `docker
  run -d` until it returns.
- **List.** `cldpd sessions` and `docker ps`, with as many of ours as of docker's running.
- **Replay.** `cldpd logs` and `docker logs` of a million lines, to `/dev/null`.
- **Latency.** A program writes the time each 10 ms. A reader of `cldpd logs -f` and
  one of `docker attach` (a pipe each) take the time when a line has come, by the
  same clock. A pair is the medians of some hundred lines. Ours was synced to disk
  before it was shown; docker's is written nowhere before.
- **Search.** 1 GiB of lines as programs log them, in 64 sessions: `cldpd search -c`, and
  `grep -c -E` over the same lines as one file, both with everything in the page cache.
  Their counts have to agree.
- **Lists of many sessions, and opening.** Not docker is the other, but cldpd itself with
  ten sessions, and with an empty journal. An opening is `cldpd daemon start` until it
  returns. Journals are made with the store's own interface.
- **Durable appends.** Ours: `Journal::commit`, in this process: 100 commits of 1,024
  lines of output each, by one session or by 100 in turn; each returns after its
  barrier. The other: the same lines written to a plain file, `fdatasync` after
  each 1,024. The aim is 0.6 of its events a second, so at most 1.7 of its time.
- **Recovery.** 200 local sessions and 50 containers live; the daemon is killed; half of
  each end. From the start of `cldpd daemon start` until `cldpd wait` has told all those
  ends and `cldpd sessions -a` has shown how everything stands, which is checked: 125
  running, 100 ended with their own code, 25 killed. The other is the same without a session.
- **On disk.** What the file system has allocated, as a part of the bytes that were said.
  Ours: the whole journal, made with the store's own interface, while the sessions live
  and after `cldpd journal compact`'s work; 64 messages, 256 lines or one message to a
  commit. While sessions live up to 16 MiB of it are set aside for when the disk is
  full, however little there is in the journal; after compaction that is done anew
  with the next commit, and not in the figure. What is said was put together from our own sources and guide, in the form in
  which Claude Code writes it, with ids and figures that no compressor can know.
  Docker's: the log file of one container that wrote all of it.
- **Memory.** From `/proc`, when nothing happens. The 50 live sessions are local
  processes that wait; the daemon does the same for a container, and each shim
  is one process beside its agent.
";
