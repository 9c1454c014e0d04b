//! `cldpd sessions`.

use crate::cli::Context;
use crate::cli::args::{Format, ListArgs};
use crate::cli::error::{Done, one_of, usage};
use crate::cli::table::Table;
use crate::cli::time::{ago, ordinal, parse_when, short};
use crate::model::api::{ListQuery, SessionView};
use crate::model::{Outcome, PodName, Timestamp, WaitsFor, exit};

/// States that a session is seen in.
const STATES: [&str; 8] = [
    "queued",
    "preparing",
    "building",
    "starting",
    "running",
    "stopping",
    "ended",
    "removed",
];

/// Flags of `sessions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Newest first; without -a those that are live.

Examples:
  cldpd sessions
  cldpd sessions -a --pod myrepo --since 7d
  cldpd sessions -a --state failed --format json")]
pub struct Args {
    /// Ended ones too
    #[arg(short, long)]
    all: bool,
    /// Of this pod
    #[arg(long, value_name = "POD")]
    pod: Option<String>,
    /// In this state, or ended so: queued, running, ended, failed, stopped, ...
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// With this label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Option<String>,
    /// Dispatched since: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// More columns
    #[arg(short, long, value_name = "FORM")]
    output: Option<Wide>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wide {
    /// Name, runtime, agent and container too.
    Wide,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let now = Timestamp::now();
    let since = args.since.as_deref().map(|text| parse_when(text, now));
    if let Some(state) = &args.state {
        let known: Vec<&str> = STATES.into_iter().chain(Outcome::NAMES).collect();
        one_of("--state", state, &known)?;
    }
    if let Some(pod) = &args.pod {
        PodName::new(pod)?;
    }
    if args
        .label
        .as_deref()
        .is_some_and(|label| label.is_empty() || label.starts_with('='))
    {
        return Err(usage("--label names no label")
            .hint("write key or key=value")
            .into());
    }
    let query = ListQuery {
        all: args.all,
        pod: args.pod,
        state: args.state,
        label: args.label,
        since: since.transpose()?,
        limit: args.limit,
    };
    let sessions = context.client().await?.sessions(&query).await?;
    if args.list.quiet {
        for session in &sessions {
            context.ui.line(session.id.as_str())?;
        }
        return Ok(exit::OK);
    }
    match args.list.format.chosen() {
        Format::Table => context
            .ui
            .table(&table(&sessions, args.output.is_some(), now))?,
        format => context.ui.items(format, &sessions)?,
    }
    Ok(exit::OK)
}

fn table(sessions: &[SessionView], wide: bool, now: Timestamp) -> Table {
    let mut titles = vec!["SESSION", "POD…", "STATE", "RUNS", "COST", "STARTED"];
    if wide {
        titles.extend(["NAME…", "RUNTIME", "AGENT", "CONTAINER"]);
    }
    titles.push("PROMPT…");
    let mut table = Table::new(&titles);
    for session in sessions {
        let mut cells = vec![
            session.id.to_string(),
            session.pod.to_string(),
            state(session, now),
            session.runs.to_string(),
            session
                .cost_usd
                .map_or_else(|| "-".to_owned(), |cost| format!("${cost:.2}")),
            ago(now, session.created),
        ];
        if wide {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            cells.extend([
                or_none(&session.name),
                session.runtime.to_string(),
                session.agent.to_string(),
                or_none(&session.container),
            ]);
        }
        cells.push(session.prompt.clone());
        table.row(cells);
    }
    table
}

/// How a session stands, in a few words.
fn state(session: &SessionView, now: Timestamp) -> String {
    let state = session.state.as_str();
    match (state, session.position, session.started) {
        ("queued", position, _) => queued(position, session.waits_for.as_ref()),
        ("running" | "stopping", _, Some(started)) => {
            format!("{state} {}", short(now.since(started)))
        }
        ("ended", ..) => ended(session, now),
        _ => state.to_owned(),
    }
}

fn queued(position: Option<u32>, waits_for: Option<&WaitsFor>) -> String {
    let why = match waits_for {
        None | Some(WaitsFor::Room { .. }) => None,
        Some(WaitsFor::Pod { .. }) => Some("pod's limit".to_owned()),
        Some(WaitsFor::Memory { .. }) => Some("memory".to_owned()),
        Some(WaitsFor::After { sessions }) => match &sessions[..] {
            [] => None,
            [only] => Some(format!("after {only}")),
            [first, others @ ..] => Some(format!("after {first} and {} more", others.len())),
        },
    };
    let place = position.map(ordinal);
    let both: Vec<String> = place.into_iter().chain(why).collect();
    match both.is_empty() {
        true => "queued".to_owned(),
        false => format!("queued ({})", both.join(", ")),
    }
}

fn ended(session: &SessionView, now: Timestamp) -> String {
    let word = match (&session.outcome, session.code) {
        // A process that ended by itself, whether well or not.
        (Some(Outcome::Success), _) | (Some(Outcome::Failed), Some(1..)) => "exited".to_owned(),
        (Some(outcome), _) => outcome.name().replace('_', " "),
        (None, _) => "ended".to_owned(),
    };
    let code = session.code.map(|code| format!(" ({code})"));
    let when = session.ended.map(|at| format!(" {}", ago(now, at)));
    format!(
        "{word}{}{}",
        code.unwrap_or_default(),
        when.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(fields: serde_json::Value) -> Result<SessionView, serde_json::Error> {
        let mut view = serde_json::json!({
            "id": "p-00000001", "ulid": "00000000000000000000000001", "pod": "p",
            "runtime": "docker", "agent": "claude", "runs": 1, "run": 0,
            "created": "2026-01-01T00:00:00Z", "prompt": "do it",
        });
        if let (Some(view), Some(fields)) = (view.as_object_mut(), fields.as_object()) {
            view.extend(fields.clone());
        }
        serde_json::from_value(view)
    }

    #[test]
    fn states_are_short() -> Result<(), Box<dyn std::error::Error>> {
        let now = Timestamp::parse("2026-01-01T02:04:00Z")?;
        let cases = [
            (
                serde_json::json!({"state": "queued", "position": 3}),
                "queued (3rd)",
            ),
            (
                serde_json::json!({"state": "queued", "position": 3, "waits_for": {"reason": "room", "max": 8}}),
                "queued (3rd)",
            ),
            (
                serde_json::json!({"state": "queued", "position": 1, "waits_for": {"reason": "pod", "max": 1}}),
                "queued (1st, pod's limit)",
            ),
            (
                serde_json::json!({"state": "queued", "position": 2, "waits_for": {"reason": "memory", "claims": 8}}),
                "queued (2nd, memory)",
            ),
            (
                serde_json::json!({"state": "queued", "waits_for": {"reason": "after", "sessions": ["a-1"]}}),
                "queued (after a-1)",
            ),
            (
                serde_json::json!({"state": "queued", "waits_for": {"reason": "after", "sessions": ["a-1", "b-2", "c-3"]}}),
                "queued (after a-1 and 2 more)",
            ),
            (serde_json::json!({"state": "queued"}), "queued"),
            (serde_json::json!({"state": "building"}), "building"),
            (
                serde_json::json!({"state": "running", "started": "2026-01-01T02:00:00Z"}),
                "running 4m",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "success"}, "code": 0, "ended": "2026-01-01T00:00:00Z"}),
                "exited (0) 2h ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "failed"}, "code": 7, "ended": "2026-01-01T02:03:50Z"}),
                "exited (7) 10s ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "failed"}, "code": 0, "ended": "2026-01-01T02:03:50Z"}),
                "failed (0) 10s ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "build_failed"}, "ended": "2026-01-01T02:03:50Z"}),
                "build failed 10s ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "stopped"}, "code": 143, "ended": "2026-01-01T02:03:50Z"}),
                "stopped (143) 10s ago",
            ),
            (serde_json::json!({"state": "removed"}), "removed"),
        ];
        for (fields, expected) in cases {
            assert_eq!(state(&view(fields)?, now), expected);
        }
        Ok(())
    }
}
