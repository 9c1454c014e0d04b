//! `cldpd stats`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::{Done, pod_asked_for};
use crate::cli::table::Table;
use crate::cli::text::count;
use crate::cli::time::{parse_when, short};
use crate::model::api::{StatsBy, StatsQuery, StatsRow};
use crate::model::{Timestamp, exit};
use std::time::Duration;

/// Flags of `stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Counts runs that have begun, live ones too, by what their agents said of
themselves: an agent that names no tokens and no price has none here. Days are
those on which runs began, in UTC. INPUT is what no cache was asked for.

Examples:
  cldpd stats --since 7d
  cldpd stats --by day --since 30d
  cldpd stats --by model --pod myrepo
  cldpd stats --by pod -l team=web --json")]
pub struct Args {
    /// A line for each of these
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    /// Of this pod
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// Of sessions with this label; of several, with all
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
    /// Begun since: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// Begun until: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    until: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
    /// The table without the line of titles
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Day,
    Pod,
    Agent,
    Model,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let now = Timestamp::now();
    if let Some(pod) = &args.pod {
        pod_asked_for(pod)?;
    }
    let when = |text: Option<String>| text.map(|text| parse_when(&text, now)).transpose();
    let query = StatsQuery {
        by: match args.by {
            None => StatsBy::Total,
            Some(By::Day) => StatsBy::Day,
            Some(By::Pod) => StatsBy::Pod,
            Some(By::Agent) => StatsBy::Agent,
            Some(By::Model) => StatsBy::Model,
        },
        pod: args.pod,
        label: args.labels,
        since: when(args.since)?,
        until: when(args.until)?,
    };
    let client = context.client().await?;
    let rows = client.stats(&query).await?;
    match args.format.chosen() {
        Format::Table => {
            let title = match args.by {
                None => "",
                Some(By::Day) => "DAY",
                Some(By::Pod) => "POD",
                Some(By::Agent) => "AGENT",
                Some(By::Model) => "MODEL",
            };
            let table = table(title, &rows);
            context.ui.table(&table.without_titles(args.no_headers))?;
        }
        format => context.ui.items(format, &rows)?,
    }
    Ok(exit::OK)
}

fn table(title: &'static str, rows: &[StatsRow]) -> Table {
    let mut table = Table::new(&[
        title, "SESSIONS", "RUNS", "OK", "TURNS", "INPUT", "OUTPUT", "CACHE R", "CACHE W", "COST",
        "TIME",
    ])
    .leaving_out(&["CACHE W", "CACHE R", "TURNS", "SESSIONS", "TIME"]);
    for row in rows {
        let key = if row.key.is_empty() { "-" } else { &row.key };
        let usage = &row.usage;
        let cost = usage.cost_usd;
        let cells = [
            key.to_owned(),
            row.sessions.to_string(),
            row.runs.to_string(),
            row.succeeded.to_string(),
            row.turns.to_string(),
            count(usage.input),
            count(usage.output),
            count(usage.cache_read),
            count(usage.cache_write),
            cost.map_or_else(|| "-".to_owned(), |cost| format!("${cost:.2}")),
            short(Duration::from_secs_f64(row.seconds.max(0.0))),
        ];
        table.row(cells);
    }
    table
}
