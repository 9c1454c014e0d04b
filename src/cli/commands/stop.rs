//! `cldpd stop`.

use crate::cli::Context;
use crate::cli::bulk;
use crate::cli::error::{Done, pod_asked_for};
use crate::cli::watch::first_bad;
use crate::client::Client;
use crate::model::api::{ListQuery, SessionView, StopRequest};
use crate::model::ids::check_session_ref;
use crate::model::{Result, Ulid, exit};
use futures::StreamExt as _;

/// Longest grace, in seconds.
const GRACE_MAX: i64 = 3600;

/// Flags of `stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Returns when they have ended. A session that has ended is left as it is. A second
stop shortens the grace. --all and --pod show what they are about to stop and ask.

Examples:
  cldpd stop myrepo-3f9a1c2e
  cldpd stop -t 60 --pod myrepo
  cldpd stop --all --yes")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required_unless_present_any = ["all", "pod"])]
    sessions: Vec<String>,
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short = 't', long = "time", value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=GRACE_MAX))]
    grace: u32,
    /// All live sessions
    #[arg(
        short,
        long,
        conflicts_with_all = ["sessions", "pod"],
        help_heading = "Many at once"
    )]
    all: bool,
    /// All live sessions of this pod
    #[arg(
        long,
        value_name = "POD",
        conflicts_with = "sessions",
        help_heading = "Many at once"
    )]
    pod: Option<String>,
    /// Do not ask
    #[arg(short, long, help_heading = "Many at once")]
    yes: bool,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    if let Some(pod) = &args.pod {
        pod_asked_for(pod)?;
    }
    let client = context.client().await?;
    let sessions = if args.all || args.pod.is_some() {
        let live = live(&client, args.pod).await?;
        if !bulk::agreed(context, "stop", &live, args.yes)? {
            return Ok(exit::OK);
        }
        live.into_iter().map(|s| s.ulid.to_string()).collect()
    } else {
        args.sessions
    };
    let stops = sessions
        .iter()
        .map(|session| stop(&client, session, args.grace));
    let mut stops = futures::stream::iter(stops).buffered(AT_ONCE);
    let mut codes = Vec::new();
    while let Some(stopped) = stops.next().await {
        match stopped {
            Ok((id, was_live)) => {
                if !was_live {
                    context.ui.note(&format!("{id} has ended already"));
                }
                context.ui.line(&id)?;
                context.ui.flush()?;
            }
            Err(error) => {
                context.ui.error(&error);
                codes.push(error.code.exit_code());
            }
        }
    }
    bulk::conclude(context, "stopped", codes.len(), sessions.len());
    Ok(first_bad(codes.into_iter()))
}

/// Sessions that are stopped at once: each takes a connection for as long as it lasts.
const AT_ONCE: usize = 64;

async fn stop(client: &Client, session: &str, grace: u32) -> Result<(String, bool)> {
    let request = StopRequest {
        request: Ulid::generate(),
        grace,
        run: None,
        wait: true,
    };
    let response = client.stop(session, &request).await?;
    Ok((response.id.to_string(), response.was_live))
}

async fn live(client: &Client, pod: Option<String>) -> Result<Vec<SessionView>> {
    let query = ListQuery {
        pod,
        ..ListQuery::default()
    };
    client.sessions(&query).await
}
