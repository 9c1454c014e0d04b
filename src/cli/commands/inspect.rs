//! `cldpd inspect`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::watch::first_bad;
use crate::model::ids::check_session_ref;

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A JSON list with one value for each session, or with --format jsonl one a line.

Examples:
  cldpd inspect myrepo-3f9a1c2e | jq '.[0].record.runs'
  cldpd inspect --format jsonl $(cldpd sessions -aq) | jq .spec.pod.image")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required = true)]
    sessions: Vec<String>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    let client = context.client().await?;
    let (mut found, mut codes) = (Vec::new(), Vec::new());
    for session in &args.sessions {
        match client.session(session).await {
            Ok(inspection) => found.push(inspection),
            Err(error) => {
                context.ui.error(&error);
                codes.push(error.code.exit_code());
            }
        }
    }
    let format = match args.format.chosen() {
        Format::Jsonl => Format::Jsonl,
        Format::Json | Format::Table => Format::Json,
    };
    context.ui.items(format, &found)?;
    Ok(first_bad(codes.into_iter()))
}
