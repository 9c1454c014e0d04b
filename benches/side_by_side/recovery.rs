//! A daemon that was killed while many sessions were live, half of which ended
//! before the next one came: how soon that one knows how all of them stand.

use crate::report::{Aim, Memory, Report, Row};
use crate::stage::{Failure, Rss, Stage};
use crate::{say, timed};

/// Live sessions on each runtime; half of each end while there is no daemon.
const LOCAL: usize = 200;
const DOCKER: usize = 50;
/// What those exit with: a local one by itself, a container because it is killed.
const CODES: [u64; 2] = [7, 137];
const ROUNDS: usize = 3;

pub fn measure(report: &mut Report) -> Result<(), Failure> {
    let mut pairs = Vec::new();
    for round in 0..ROUNDS {
        say(&format!("recovery, round {} of {ROUNDS}", round + 1));
        let stage = Stage::new()?;
        stage.warm_up()?;
        let (empty, ()) = timed(|| {
            stage.kill_daemon()?;
            stage.start_daemon()
        })?;
        let first = stage.start_local(1, "[[sleep 600000]]")?;
        stage.await_started(&first)?;
        let one = stage.daemon_memory()?;
        let stay = stage.start_local(LOCAL / 2 - 1, "[[sleep 600000]]")?;
        let end = stage.start_local(LOCAL / 2, &format!("[[fifo {}]][[exit 7]]", stage.fifo()))?;
        let containers = stage.start_many(DOCKER, "[[sleep 600000]]")?;
        for sessions in [&stay, &end, &containers] {
            stage.await_started(sessions)?;
        }
        let all = stage.daemon_memory()?;
        stage.kill_daemon()?;
        stage.open_fifo()?;
        let (killed, lives) = containers.split_at(DOCKER / 2);
        stage.kill_containers(killed)?;

        let (time, found) = timed(|| {
            stage.start_daemon()?;
            stage.wait_all(&[&end[..], killed].concat())?;
            stage.standing()
        })?;
        let running = found.iter().filter(|(state, _)| state == "running");
        let ended = |code: u64| {
            let of =
                |(state, found): &&(String, Option<u64>)| state == "ended" && *found == Some(code);
            found.iter().filter(of).count()
        };
        let expected = [LOCAL / 2 + lives.len(), end.len(), killed.len()];
        let seen = [running.count(), ended(CODES[0]), ended(CODES[1])];
        if seen != expected {
            return Err(format!("{seen:?} instead of {expected:?}: {found:?}").into());
        }
        pairs.push((time, empty));
        if round + 1 == ROUNDS {
            let more = |one: u64, all: u64| all.saturating_sub(one) / (LOCAL + DOCKER - 1) as u64;
            report.memory.push(Memory {
                what: "the daemon with 200 local sessions and 50 containers",
                rss: all,
            });
            report.memory.push(Memory {
                what: "each of them, beyond the first",
                rss: Rss {
                    all: more(one.all, all.all),
                    anonymous: more(one.anonymous, all.anonymous),
                },
            });
        }
    }
    report.rows.push(Row {
        what: "daemon start after SIGKILL with 250 live sessions, 125 of which ended since, until all is known; with none",
        aim: Aim::More(3.0),
        pairs,
    });
    Ok(())
}
