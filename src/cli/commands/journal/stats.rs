//! `cldpd journal stats`.

use super::{Door, door, nothing};
use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::text::size;
use crate::cli::time::{ago, parse_duration, short};
use crate::model::api::{CompactionState, JournalQuery, JournalStats, RetentionState};
use crate::model::{Timestamp, exit};
use std::time::Duration;

/// Flags of `journal stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
How much is recorded, what it takes on disk, how much of that a compaction would
give back, and which sessions retention would remove. Scans nothing.

With --if-age or --if-count it shows what retention would remove if it went by
these, and removes nothing.

Examples:
  cldpd journal stats
  cldpd journal stats --if-age 90d --if-count 1000
  cldpd journal stats --json | jq .disk_bytes")]
pub struct Args {
    /// What would go if retention.age were this, as in 90d
    #[arg(long, value_name = "AGE")]
    if_age: Option<String>,
    /// What would go if retention.count were this
    #[arg(long, value_name = "N")]
    if_count: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let age = args.if_age.as_deref().map(parse_duration).transpose()?;
    let query = JournalQuery {
        age: age.map(|age| age.as_secs()),
        count: args.if_count,
        size: None,
    };
    let stats = match door(context).await? {
        Door::Nothing => {
            nothing(context)?;
            return Ok(exit::OK);
        }
        Door::Daemon(client) => client.journal_stats(&query).await?,
        Door::Here(journal) => journal.stats(query)?,
    };
    match args.format.chosen() {
        Format::Table => show(context, &stats)?,
        format => context.ui.value(format, &stats)?,
    }
    Ok(exit::OK)
}

fn show(context: &mut Context, stats: &JournalStats) -> Result<(), crate::cli::error::Failure> {
    let now = Timestamp::now();
    let when = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| ago(now, time));
    let part = |bytes: u64, of: u64| match of {
        0 => String::new(),
        of => format!(" ({:.0}%)", bytes as f64 / of as f64 * 100.0),
    };
    let disk = stats.disk_bytes;
    for (key, value) in [
        ("sessions", stats.sessions.to_string()),
        ("events", stats.events.to_string()),
        ("blocks", stats.blocks.to_string()),
        ("raw", size(stats.raw_bytes)),
        ("on disk", size(disk) + &part(disk, stats.raw_bytes)),
        (
            "garbage",
            size(stats.garbage_bytes) + &part(stats.garbage_bytes, disk),
        ),
        (
            "free",
            format!(
                "{}; dispatches need {}",
                size(stats.free_bytes),
                size(stats.min_free)
            ),
        ),
        ("commits", stats.last_commit.to_string()),
        ("oldest", when(stats.oldest)),
        ("newest", when(stats.newest)),
        (
            "schema",
            format!(
                "{}, made by {}, opened by {}",
                stats.schema, stats.created_by, stats.opened_by
            ),
        ),
        ("compaction", compaction(&stats.compaction, now)),
        ("retention", retention(&stats.retention)),
    ] {
        context.ui.line(&format!("{key:<10} {value}"))?;
    }
    for session in &stats.retention.due {
        context.ui.line(&format!("{:<10} {session}", "would go"))?;
    }
    Ok(())
}

fn compaction(state: &CompactionState, now: Timestamp) -> String {
    if let Some(since) = state.running {
        return format!("under way, begun {}", ago(now, since));
    }
    let Some(last) = &state.last else {
        return "-".to_owned();
    };
    let at = ago(now, last.at);
    match (&last.compacted, &last.error) {
        (Some(done), _) => {
            let damaged = match done.damaged {
                0 => String::new(),
                sessions => format!("; {sessions} sessions are damaged"),
            };
            let (before, after) = (size(done.before), size(done.after));
            format!("{at}: {before} became {after}{damaged}")
        }
        (None, Some(error)) => format!("{at}: failed: {error}"),
        (None, None) => at,
    }
}

fn retention(state: &RetentionState) -> String {
    let limits = [
        state
            .age
            .map(|age| format!("after {}", short(Duration::from_secs(age)))),
        state.count.map(|count| format!("beyond {count} sessions")),
        state.size.map(|bytes| format!("beyond {}", size(bytes))),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    match &limits[..] {
        [] => "off".to_owned(),
        limits => format!("{}; {} removed so far", limits.join(", "), state.removed),
    }
}
