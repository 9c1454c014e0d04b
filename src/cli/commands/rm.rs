//! `cldpd rm`.

use crate::cli::Context;
use crate::cli::args::states;
use crate::cli::bulk;
use crate::cli::error::{Done, one_of, pod_asked_for};
use crate::cli::time::parse_duration;
use crate::cli::watch::first_bad;
use crate::client::Client;
use crate::model::api::{ListQuery, RemoveRequest, RemoveResponse, SessionView};
use crate::model::ids::check_session_ref;
use crate::model::{Result, Timestamp, Ulid, exit};
use futures::StreamExt as _;
use std::time::Duration;

/// Sessions that are removed at once.
const AT_ONCE: usize = 8;

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Removes containers, snapshots and files. What the sessions said stays, unless
--history takes that too. A live session is refused without --force; --all and
its like leave live ones alone, show what they are about to remove, and ask.

Examples:
  cldpd rm myrepo-3f9a1c2e
  cldpd rm --older-than 7d
  cldpd rm --pod myrepo --state failed --yes
  cldpd rm --all --history")]
pub struct Args {
    /// Sessions
    #[arg(
        value_name = "SESSION",
        required_unless_present_any = ["all", "pod", "older_than", "state"]
    )]
    sessions: Vec<String>,
    /// Stop those that are live
    #[arg(short, long)]
    force: bool,
    /// What they said too
    #[arg(long)]
    history: bool,
    /// All that have ended; with --force the live ones too
    #[arg(
        short,
        long,
        conflicts_with = "sessions",
        help_heading = "Many at once"
    )]
    all: bool,
    /// All of this pod
    #[arg(
        long,
        value_name = "POD",
        conflicts_with = "sessions",
        help_heading = "Many at once"
    )]
    pod: Option<String>,
    /// All that ended longer ago than this
    #[arg(
        long,
        value_name = "DURATION",
        conflicts_with = "sessions",
        help_heading = "Many at once"
    )]
    older_than: Option<String>,
    /// All that ended so: success, failed, stopped, ...
    #[arg(
        long,
        value_name = "STATE",
        conflicts_with = "sessions",
        help_heading = "Many at once"
    )]
    state: Option<String>,
    /// Do not ask
    #[arg(short, long, help_heading = "Many at once")]
    yes: bool,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    let age = args.older_than.as_deref().map(parse_duration).transpose()?;
    if let Some(pod) = &args.pod {
        pod_asked_for(pod)?;
    }
    if let Some(state) = &args.state {
        one_of("--state", state, &states().collect::<Vec<_>>())?;
    }
    let client = context.client().await?;
    let sessions = if args.sessions.is_empty() {
        let (targets, live) = chosen(&client, age, &args).await?;
        if live > 0 {
            let are = if live == 1 {
                "1 is"
            } else {
                &format!("{live} are")
            };
            context.ui.note(&format!(
                "{are} live and left alone; --force stops and removes"
            ));
        }
        if !bulk::agreed(context, "remove", &targets, args.yes)? {
            return Ok(exit::OK);
        }
        targets.into_iter().map(|s| s.ulid.to_string()).collect()
    } else {
        args.sessions.clone()
    };
    let removals = sessions
        .iter()
        .map(|session| remove(&client, session, &args));
    let mut removals = futures::stream::iter(removals).buffered(AT_ONCE);
    let mut codes = Vec::new();
    while let Some(removed) = removals.next().await {
        match removed {
            Ok(removed) => {
                context.ui.line(removed.id.as_str())?;
                if !removed.complete {
                    let left = removed
                        .message
                        .unwrap_or_else(|| "something is left".to_owned());
                    context
                        .ui
                        .note(&format!("{}: {left}; it is tried again later", removed.id));
                    codes.push(exit::FAILED);
                }
            }
            Err(error) => {
                context.ui.error(&error);
                codes.push(error.code.exit_code());
            }
        }
    }
    bulk::conclude(context, "removed", codes.len(), sessions.len());
    Ok(first_bad(codes.into_iter()))
}

async fn remove(client: &Client, session: &str, args: &Args) -> Result<RemoveResponse> {
    let request = RemoveRequest {
        request: Ulid::generate(),
        force: args.force,
        history: args.history,
    };
    client.remove(session, &request).await
}

/// Sessions that fit all that is asked for, have something to remove, and are
/// not live unless force is used; and how many live ones were left out.
async fn chosen(
    client: &Client,
    age: Option<Duration>,
    args: &Args,
) -> Result<(Vec<SessionView>, usize)> {
    let query = ListQuery {
        all: true,
        pod: args.pod.clone(),
        state: args.state.clone(),
        ..ListQuery::default()
    };
    let now = Timestamp::now();
    let mut left_alone = 0;
    let mut targets = client.sessions(&query).await?;
    targets.retain(|session| match session.state.as_str() {
        "removed" => args.history && old_enough(session, age, now),
        // One whose removal was not finished is removed to the end.
        "ended" | "removing" => old_enough(session, age, now),
        // Only what has ended has an age.
        _ if age.is_some() => false,
        _ => {
            left_alone += usize::from(!args.force);
            args.force
        }
    });
    Ok((targets, left_alone))
}

fn old_enough(session: &SessionView, age: Option<Duration>, now: Timestamp) -> bool {
    age.is_none_or(|age| now.since(session.ended.unwrap_or(session.created)) >= age)
}
