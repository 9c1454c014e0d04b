//! `cldpd wait`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::{Done, Failure};
use crate::cli::signals::interrupted;
use crate::cli::watch::first_bad;
use crate::model::exit;
use crate::model::ids::check_session_ref;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;

/// Flags of `wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints each session's exit code, in the order in which they are named, and exits
with the first that is not 0. Ctrl+C leaves; the sessions are untouched.

Examples:
  cldpd wait myrepo-3f9a1c2e && echo done
  cldpd wait $(cldpd sessions -q)")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required = true)]
    sessions: Vec<String>,
    /// Only for this run; the first is 0
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    tokio::select! {
        biased;
        left = interrupted() => left.map(|()| exit::INTERRUPTED).map_err(Failure::Error),
        done = wait(context, &args) => done,
    }
}

async fn wait(context: &mut Context, args: &Args) -> Done {
    let client = context.client().await?;
    let mut waits: FuturesOrdered<_> = args
        .sessions
        .iter()
        .map(|session| client.wait(session, args.run))
        .collect();
    let format = args.format.chosen();
    let (mut codes, mut ends) = (Vec::new(), Vec::new());
    while let Some(end) = waits.next().await {
        let end = match end {
            Ok(end) => end,
            // The others are waited for all the same.
            Err(error) => {
                context.ui.error(&error);
                codes.push(error.code.exit_code());
                continue;
            }
        };
        codes.push(end.end.exit_code);
        match format {
            Format::Table => context.ui.line(&end.end.exit_code.to_string())?,
            Format::Jsonl => context.ui.json_line(&end)?,
            Format::Json => ends.push(end),
        }
        context.ui.flush()?;
    }
    if format == Format::Json {
        context.ui.json(&ends)?;
    }
    Ok(first_bad(codes.into_iter()))
}
