//! What it costs to understand what an agent says.

use crate::report::{Aim, Report, Row};
use crate::speech::{Library, agent_stream};
use crate::stage::{Failure, Stage};
use crate::timed;
use cldpd::agent::{Before, agent};
use cldpd::model::AgentKind;
use std::fs::{self, File};
use std::process::{Command, Stdio};

/// What is said, roughly.
const BYTES: usize = 64 << 20;
/// Pairs of runs.
const PAIRS: usize = 5;

/// All figures of this file.
pub fn measure(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let text = agent_stream(&Library::new()?, 1, BYTES).join("\n") + "\n";
    let path = stage.path("stream.jsonl");
    fs::write(&path, &text)?;
    stage.reading_pods(&path)?;
    stage.start_daemon()?;
    let mut captured = Vec::new();
    let mut read = Vec::new();
    for pair in 0..PAIRS {
        crate::say(&format!("an agent's stream, pair {} of {PAIRS}", pair + 1));
        let (typed, ()) = timed(|| stage.run_pod("typed"))?;
        let (raw, ()) = timed(|| stage.run_pod("raw"))?;
        captured.push((typed, raw));
        let (ours, events) = timed(|| Ok(read_all(text.as_bytes())))?;
        if events == 0 {
            return Err("no event was read".into());
        }
        let (theirs, ()) = timed(|| jq(&path))?;
        read.push((ours, theirs));
    }
    report.rows.push(Row {
        what: "64 MiB of Claude Code's stream as events; as lines alone",
        aim: Aim::Ratio(1.3),
        pairs: captured,
    });
    report.rows.push(Row {
        what: "events read out of it; `jq -c .` over it",
        aim: Aim::Ratio(0.2),
        pairs: read,
    });
    stage.clear()
}

fn read_all(text: &[u8]) -> usize {
    let Some(mut reader) = agent(AgentKind::Claude).reader(Before::default()) else {
        return 0;
    };
    let mut events = Vec::new();
    let mut count = 0;
    for line in text.split(|byte| *byte == b'\n') {
        reader.read(line, &mut events);
        count += events.len();
        events.clear();
    }
    count
}

fn jq(path: &std::path::Path) -> Result<(), Failure> {
    let mut jq = Command::new("jq");
    jq.args(["-c", "."])
        .stdin(File::open(path)?)
        .stdout(Stdio::null());
    match jq.status()?.success() {
        true => Ok(()),
        false => Err("jq failed".into()),
    }
}
