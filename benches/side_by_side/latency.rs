//! From a line's being written to its being read, by one clock.

use crate::report::{Aim, Report, Row};
use crate::stage::{Failure, Stage};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Pairs.
const PAIRS: usize = 3;
/// Lines that are left out: whoever reads has to get into step first.
const FIRST: usize = 100;
/// Lines that count.
const COUNT: usize = 300;
/// The program writes them for six seconds.
const PROMPT: &str = "[[stamp 600 10]]";

/// Measures it, by turns.
pub fn measure(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        crate::say(&format!("latency, pair {} of {PAIRS}", pair + 1));
        let session = stage.start(PROMPT)?;
        let ours = median_of(&mut stage.following(&session))?;
        stage.wait(&session)?;
        let name = stage.container("latency", pair);
        stage.docker_start(&name, PROMPT)?;
        let mut attach = Command::new("docker");
        let theirs = median_of(attach.args(["attach", "--no-stdin", &name]))?;
        stage.clear()?;
        pairs.push((ours, theirs));
    }
    report.rows.push(Row {
        what: "a line written in the container, until it is read",
        aim: Aim::More(0.002),
        pairs,
    });
    Ok(())
}

/// How old the lines are that come out of `command`.
fn median_of(command: &mut Command) -> Result<Duration, Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut ages = Vec::new();
    for line in BufReader::new(child.stdout.take().ok_or("no pipe")?).lines() {
        let line = line?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let written = Duration::from_nanos(line.trim().parse()?);
        ages.push(now.saturating_sub(written));
        if ages.len() == FIRST + COUNT {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    let counted = ages.get_mut(FIRST..).ok_or("too few lines came")?;
    counted.sort();
    counted
        .get(counted.len() / 2)
        .copied()
        .ok_or_else(|| "no line came".into())
}
