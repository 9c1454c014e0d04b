//! `cldpd journal compact`.

use super::{Door, door, nothing};
use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::text::size;
use crate::model::exit;

/// Flags of `journal compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is removed from the journal stays on disk as garbage until it is compacted:
what counts is copied to a new database, checked, and put in its place. Work goes
on meanwhile, and nobody who follows a session notices. The daemon does it by
itself when more than half of at least 64 MiB is garbage.

Exits with 5 when one is under way, and with 75 when the disk has no room for the
copy; nothing is changed then.

Examples:
  cldpd journal compact
  cldpd rm --history myrepo-3f9a1c2e && cldpd journal compact")]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let done = match door(context).await? {
        Door::Nothing => {
            nothing(context)?;
            return Ok(exit::OK);
        }
        Door::Daemon(client) => client.compact_journal().await?,
        Door::Here(journal) => journal.compact()?,
    };
    match args.format.chosen() {
        Format::Table => context.ui.line(&format!(
            "{} became {}: {} sessions",
            size(done.before),
            size(done.after),
            done.sessions
        ))?,
        format => context.ui.value(format, &done)?,
    }
    if done.damaged > 0 {
        let sessions = done.damaged;
        context.ui.note(&format!(
            "{sessions} of them are damaged, and as they were; `cldpd journal verify` says which"
        ));
    }
    Ok(exit::OK)
}
