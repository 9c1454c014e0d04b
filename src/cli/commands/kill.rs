//! `cldpd kill`.

use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::watch::first_bad;
use crate::model::Ulid;
use crate::model::api::KillRequest;
use crate::model::ids::check_session_ref;

/// Flags of `kill`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd kill -s INT myrepo-3f9a1c2e
  cldpd kill myrepo-3f9a1c2e")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required = true)]
    sessions: Vec<String>,
    /// A name with or without SIG, or a number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    let client = context.client().await?;
    let mut codes = Vec::new();
    for session in &args.sessions {
        let request = KillRequest {
            request: Ulid::generate(),
            signal: args.signal.clone(),
        };
        match client.kill(session, &request).await {
            Ok(response) => {
                if !response.was_live {
                    context
                        .ui
                        .note(&format!("{} has ended already", response.id));
                }
                context.ui.line(response.id.as_str())?;
            }
            Err(error) => {
                context.ui.error(&error);
                codes.push(error.code.exit_code());
            }
        }
    }
    Ok(first_bad(codes.into_iter()))
}
