//! `cldpd journal`: one file for each verb.
//!
//! Where a daemon answers it is asked: it has the journal, and work goes on.
//! Where none does the journal is opened here, under the locks that a daemon
//! takes; none is started.

mod compact;
mod export;
mod import;
mod rebuild;
mod stats;
mod verify;

use crate::cli::Context;
use crate::cli::error::Done;
use crate::client::Client;
use crate::daemon::Offline;
use crate::model::Result;
use clap::Subcommand;

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look through everything that is recorded, and say what is damaged
    Verify(verify::Args),
    /// Write sessions down, with every event, as lines of JSON
    Export(export::Args),
    /// Take in what was exported, here or elsewhere
    Import(import::Args),
    /// Make again what is derived from events
    Rebuild(rebuild::Args),
    /// How much is recorded, and what it takes on disk
    Stats(stats::Args),
    /// Give the room of what was removed back to the disk
    Compact(compact::Args),
}

pub(super) async fn run(context: &mut Context, command: Command) -> Done {
    match command {
        Command::Verify(args) => verify::run(context, args).await,
        Command::Export(args) => export::run(context, args).await,
        Command::Import(args) => import::run(context, args).await,
        Command::Rebuild(args) => rebuild::run(context, args).await,
        Command::Stats(args) => stats::run(context, args).await,
        Command::Compact(args) => compact::run(context, args).await,
    }
}

/// The way to a home's journal.
enum Door {
    /// A daemon answers.
    Daemon(Client),
    /// None does.
    Here(Offline),
    /// There is no journal yet.
    Nothing,
}

/// Finds the way to the journal. Starts no daemon.
async fn door(context: &Context) -> Result<Door> {
    let home = context.home()?;
    if let Some(client) = Client::find(&home).await? {
        return Ok(Door::Daemon(client));
    }
    Ok(Offline::find(&home)?.map_or(Door::Nothing, Door::Here))
}

/// The way to the journal, which is made where there is none.
async fn door_or_make(context: &Context) -> Result<Door> {
    Ok(match door(context).await? {
        Door::Nothing => Door::Here(Offline::take(&context.home()?)?),
        door => door,
    })
}

/// There is no journal, and so nothing to be done.
fn nothing(context: &mut Context) -> Result<()> {
    let home = context.home()?;
    let note = format!(
        "there is no journal in {} yet: nothing was ever dispatched",
        home.root().display()
    );
    context.ui.note(&note);
    Ok(())
}
