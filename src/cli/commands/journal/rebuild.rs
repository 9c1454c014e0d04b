//! `cldpd journal rebuild`.

use super::{Door, door, nothing};
use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::model::{Error, ErrorCode, exit};

/// Flags of `journal rebuild`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes again what is derived from events: how each session stands, as `sessions`
and `inspect` show it. Events are only read. No daemon may run meanwhile; agents
work on without one.

Exits with 65 when a session cannot be made: its events are damaged.

Examples:
  cldpd daemon stop && cldpd journal rebuild")]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let journal = match door(context).await? {
        Door::Nothing => {
            nothing(context)?;
            return Ok(exit::OK);
        }
        Door::Daemon(_) => {
            let message = "a daemon runs, and has the journal";
            return Err(Error::new(ErrorCode::Refused, message)
                .hint("`cldpd daemon stop` ends it; agents work on meanwhile")
                .into());
        }
        Door::Here(journal) => journal,
    };
    let rebuilt = journal.rebuild()?;
    match args.format.chosen() {
        Format::Table => {
            for id in &rebuilt.mended {
                context.ui.line(&format!("made again: {id}"))?;
            }
            for failed in &rebuilt.failed {
                context.ui.line(&format!("damaged: {failed}"))?;
            }
            let (sessions, mended) = (rebuilt.sessions, rebuilt.mended.len());
            let line = format!("{sessions} sessions, {mended} were not what their events say");
            context.ui.line(&line)?;
        }
        format => context.ui.value(format, &rebuilt)?,
    }
    Ok(match rebuilt.failed.is_empty() {
        true => exit::OK,
        false => exit::DAMAGED,
    })
}
