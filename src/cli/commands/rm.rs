//! `cldpd rm`.

use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::time::parse_duration;
use crate::cli::watch::first_bad;
use crate::client::Client;
use crate::model::api::{ListQuery, RemoveRequest};
use crate::model::ids::check_session_ref;
use crate::model::{Result, Timestamp, Ulid, exit};
use std::time::Duration;

/// Flags of `rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Removes containers, snapshots and files. What the sessions said stays, unless
--history takes that too.

Examples:
  cldpd rm myrepo-3f9a1c2e
  cldpd rm --older-than 7d
  cldpd rm --all --history")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required_unless_present_any = ["all", "older_than"])]
    sessions: Vec<String>,
    /// Stop those that are live
    #[arg(short, long)]
    force: bool,
    /// What they said too
    #[arg(long)]
    history: bool,
    /// All that have ended; with --force the live ones too
    #[arg(short, long, conflicts_with = "sessions")]
    all: bool,
    /// All that ended longer ago than this
    #[arg(long, value_name = "DURATION", conflicts_with = "sessions")]
    older_than: Option<String>,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    let age = args.older_than.as_deref().map(parse_duration).transpose()?;
    let client = context.client().await?;
    let sessions = if args.all || age.is_some() {
        all(&client, age, &args).await?
    } else {
        args.sessions.clone()
    };
    let mut codes = Vec::new();
    for session in &sessions {
        let request = RemoveRequest {
            request: Ulid::generate(),
            force: args.force,
            history: args.history,
        };
        match client.remove(session, &request).await {
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
    Ok(first_bad(codes.into_iter()))
}

/// Sessions that have something to remove and ended at least `age` ago; where
/// no age is given and force is used, live ones too.
async fn all(client: &Client, age: Option<Duration>, args: &Args) -> Result<Vec<String>> {
    let query = ListQuery {
        all: true,
        ..ListQuery::default()
    };
    let now = Timestamp::now();
    let wanted = |state: &str| match state {
        "ended" => true,
        "removed" => args.history,
        _ => args.force && age.is_none(),
    };
    let sessions = client.sessions(&query).await?.into_iter();
    Ok(sessions
        .filter(|s| wanted(&s.state))
        .filter(|s| age.is_none_or(|age| now.since(s.ended.unwrap_or(s.created)) >= age))
        .map(|s| s.ulid.to_string())
        .collect())
}
