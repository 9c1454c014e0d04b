//! `cldpd stop`.

use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::watch::first_bad;
use crate::client::Client;
use crate::model::api::{ListQuery, StopRequest};
use crate::model::ids::check_session_ref;
use crate::model::{PodName, Result, Ulid};
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;

/// Longest grace, in seconds.
const GRACE_MAX: i64 = 3600;

/// Flags of `stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Returns when they have ended. A session that has ended is left as it is. A second
stop shortens the grace.

Examples:
  cldpd stop myrepo-3f9a1c2e
  cldpd stop -t 60 --pod myrepo
  cldpd stop --all")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required_unless_present_any = ["all", "pod"])]
    sessions: Vec<String>,
    /// Seconds between SIGTERM and SIGKILL
    #[arg(short = 't', long = "time", value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=GRACE_MAX))]
    grace: u32,
    /// All live sessions
    #[arg(short, long, conflicts_with_all = ["sessions", "pod"])]
    all: bool,
    /// All live sessions of this pod
    #[arg(long, value_name = "POD", conflicts_with = "sessions")]
    pod: Option<String>,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    if let Some(pod) = &args.pod {
        PodName::new(pod)?;
    }
    let client = context.client().await?;
    let sessions = if args.all || args.pod.is_some() {
        live(&client, args.pod).await?
    } else {
        args.sessions
    };
    let mut stops: FuturesOrdered<_> = sessions
        .iter()
        .map(|session| stop(&client, session, args.grace))
        .collect();
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
    Ok(first_bad(codes.into_iter()))
}

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

async fn live(client: &Client, pod: Option<String>) -> Result<Vec<String>> {
    let query = ListQuery {
        pod,
        ..ListQuery::default()
    };
    let sessions = client.sessions(&query).await?;
    Ok(sessions.into_iter().map(|s| s.ulid.to_string()).collect())
}
