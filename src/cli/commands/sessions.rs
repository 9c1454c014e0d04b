//! `cldpd sessions`.

use crate::cli::Context;
use crate::cli::args::{FilterArgs, Format, ListArgs};
use crate::cli::describe::state;
use crate::cli::error::Done;
use crate::cli::table::{Cell, Table};
use crate::cli::text::count;
use crate::cli::time::ago;
use crate::cli::ui::Style;
use crate::model::api::{ListQuery, SessionView};
use crate::model::{Outcome, Timestamp, exit};

/// Flags of `sessions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Newest first; without -a those that are live.

Examples:
  cldpd sessions
  cldpd sessions -a --pod myrepo --since 7d
  cldpd sessions -a --state failed --format json
  cldpd sessions -l team=web -o wide")]
pub struct Args {
    /// Ended ones too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// More columns
    #[arg(short, long, value_name = "FORM")]
    output: Option<Wide>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wide {
    /// Name, runtime, agent, container, image, the agent's session and labels too.
    Wide,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let now = Timestamp::now();
    let filter = args.filter.read(now)?;
    let query = ListQuery {
        all: args.all,
        pod: filter.pod,
        state: filter.state,
        label: filter.labels,
        since: filter.since,
        until: filter.until,
        limit: filter.limit,
    };
    let live_only = query.live_only();
    let sessions = context.client().await?.sessions(&query).await?;
    if args.list.quiet {
        for session in &sessions {
            context.ui.line(session.id.as_str())?;
        }
        return Ok(exit::OK);
    }
    match args.list.format.chosen() {
        Format::Table => {
            let table = table(&sessions, args.output.is_some(), now);
            context
                .ui
                .table(&table.without_titles(args.list.no_headers))?;
            if let Some(why) = sessions.iter().find_map(|s| s.degraded.as_ref()) {
                context.ui.note(&format!("degraded: {why}"));
            }
            if sessions.is_empty() && live_only {
                context
                    .ui
                    .progress("nothing is live; -a lists what has ended");
            }
        }
        format => context.ui.items(format, &sessions)?,
    }
    Ok(exit::OK)
}

fn table(sessions: &[SessionView], wide: bool, now: Timestamp) -> Table {
    let mut titles = vec![
        "SESSION", "POD…", "STATE", "RUNS", "COST", "TOKENS", "STARTED",
    ];
    if wide {
        titles.extend([
            "NAME…",
            "RUNTIME",
            "AGENT",
            "CONTAINER…",
            "IMAGE…",
            "AGENT SESSION…",
            "LABELS…",
        ]);
    }
    titles.push("PROMPT…");
    // The id begins with the pod.
    let least = ["RUNS", "TOKENS", "COST", "POD", "STARTED", "PROMPT"];
    let mut table = Table::new(&titles).leaving_out(&least);
    for session in sessions {
        let mut cells: Vec<Cell> = vec![
            session.id.to_string().into(),
            session.pod.to_string().into(),
            Cell::styled(state(session, now), style(session)),
            session.runs.to_string().into(),
            session
                .cost_usd
                .map_or_else(|| "-".to_owned(), |cost| format!("${cost:.2}"))
                .into(),
            session
                .usage
                .map(|usage| usage.tokens())
                .filter(|tokens| *tokens > 0)
                .map_or_else(|| "-".to_owned(), count)
                .into(),
            ago(now, session.created).into(),
        ];
        if wide {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let cell = |text: String| Cell::from(text);
            cells.extend([
                cell(or_none(&session.name)),
                cell(session.runtime.to_string()),
                cell(session.agent.to_string()),
                cell(or_none(&session.container)),
                cell(session.image.as_deref().map_or("-".to_owned(), short_image)),
                cell(or_none(&session.agent_session)),
                cell(labels(session)),
            ]);
        }
        cells.push(session.prompt.clone().into());
        table.row(cells);
    }
    table
}

/// An image's id as docker shows it: twelve digits of the hash.
fn short_image(image: &str) -> String {
    match image.strip_prefix("sha256:") {
        Some(hash) => hash.chars().take(12).collect(),
        None => image.to_owned(),
    }
}

fn labels(session: &SessionView) -> String {
    if session.labels.is_empty() {
        return "-".to_owned();
    }
    let pairs = session
        .labels
        .iter()
        .map(|(key, value)| match value.as_str() {
            "" => key.clone(),
            value => format!("{key}={value}"),
        });
    pairs.collect::<Vec<_>>().join(",")
}

fn style(session: &SessionView) -> Option<Style> {
    match (session.state.as_str(), &session.outcome) {
        ("removing" | "removed", _) => Some(Style::Dim),
        ("ended", Some(Outcome::Success)) => Some(Style::Good),
        ("ended", Some(Outcome::Stopped | Outcome::Cancelled | Outcome::Interrupted)) => {
            Some(Style::Warning)
        }
        ("ended", _) => Some(Style::Bad),
        ("queued", _) => None,
        _ => Some(Style::Busy),
    }
}
