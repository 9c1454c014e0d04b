//! `cldpd attach`.

use super::logs::introduce;
use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::output::{Beside, Manner, Printer};
use crate::cli::signals::Signals;
use crate::cli::watch::{OnInterrupt, Target, watch};
use crate::client::Client;
use crate::model::api::{EventsQuery, Inspection};
use crate::model::ids::check_session_ref;
use crate::model::{Result, exit};

/// Flags of `attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ctrl+C leaves; the session works on. Otherwise it exits with the session's exit
code.

Examples:
  cldpd attach myrepo
  cldpd attach --replay myrepo-3f9a1c2e")]
pub struct Args {
    /// The session
    #[arg(value_name = "SESSION")]
    session: String,
    /// From the beginning, not from now
    #[arg(long)]
    replay: bool,
    /// Show the exact bytes that the agent writes
    #[arg(long)]
    raw: bool,
    /// Time before each line
    #[arg(short, long)]
    timestamps: bool,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let session = check_session_ref(&args.session)?;
    let mut signals = Signals::take()?;
    let found = signals.unless_sent(find(context, session)).await;
    let Some(found) = found else {
        return Ok(exit::INTERRUPTED);
    };
    let (client, inspection) = found?;
    let mut printer = Printer::new(Manner {
        raw: args.raw,
        pretty: None,
        timestamps: args.timestamps,
        prefix: 0,
        beside: Beside::Everything,
    });
    introduce(&mut printer, &inspection);
    let id = inspection.view.id.to_string();
    if inspection.record.live_run().is_none() && !args.replay {
        context.ui.note(&format!(
            "{id} has ended; `cldpd logs {id}` shows what it said"
        ));
    }
    let target = Target {
        session: inspection.view.ulid,
        id,
        run: None,
        query: EventsQuery {
            after: (!args.replay).then_some(inspection.last_seq),
            follow: true,
            ..EventsQuery::default()
        },
    };
    watch(
        context,
        &client,
        &[target],
        &mut printer,
        &mut signals,
        OnInterrupt::Leave,
        false,
    )
    .await
}

async fn find(context: &Context, session: &str) -> Result<(Client, Inspection)> {
    let client = context.client().await?;
    let inspection = client.session(session).await?;
    Ok((client, inspection))
}
