//! `cldpd journal import`.

use super::Door;
use super::door_or_make;
use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::model::api::Imported;
use crate::model::{Error, ErrorCode, exit};
use futures::{StreamExt as _, TryStreamExt as _};
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

/// Flags of `journal import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Takes in what `cldpd journal export` wrote. All of the file is checked before
anything is recorded, and a session is there whole or not at all. One that is
here already, and is the same, is passed over; where one is here and differs,
nothing is imported. Sessions that were not whole when they were exported are
named and left out.

An imported session is history: it can be read, searched and removed, but nothing
of it runs here. One that was live when it was exported stays as it was then; it
is never started, stopped or resumed, and removing it removes no container.

Exits with 65 when the file is no whole export, or a session in it is not whole.

Examples:
  cldpd journal import sessions.ndjson
  ssh build cldpd journal export | cldpd journal import -")]
pub struct Args {
    /// A file that `journal export` wrote, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let unreadable = |error: std::io::Error| {
        let message = format!("cannot read {}: {error}", args.file.display());
        Error::new(ErrorCode::Usage, message)
    };
    let imported = match door_or_make(context).await? {
        Door::Daemon(client) => {
            let chunks = match is_stdin(&args.file) {
                true => ReaderStream::new(tokio::io::stdin()).boxed(),
                false => {
                    let file = tokio::fs::File::open(&args.file).await;
                    ReaderStream::with_capacity(file.map_err(unreadable)?, 64 * 1024).boxed()
                }
            };
            client
                .import_journal(chunks.map_ok(Into::into).boxed())
                .await?
        }
        Door::Here(journal) => match is_stdin(&args.file) {
            true => journal.import(&mut std::io::stdin().lock())?,
            false => {
                let file = std::fs::File::open(&args.file);
                journal.import(&mut file.map_err(unreadable)?)?
            }
        },
        Door::Nothing => Imported::default(),
    };
    match args.format.chosen() {
        Format::Table => show(context, &imported)?,
        format => context.ui.value(format, &imported)?,
    }
    Ok(match imported.incomplete.is_empty() {
        true => exit::OK,
        false => exit::DAMAGED,
    })
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn show(context: &mut Context, imported: &Imported) -> Result<(), crate::cli::error::Failure> {
    for id in &imported.imported {
        context.ui.line(id)?;
    }
    for id in &imported.present {
        context.ui.note(&format!("{id} is here already"));
    }
    for id in &imported.incomplete {
        context.ui.note(&format!(
            "{id} was not whole when it was exported, and is left out"
        ));
    }
    Ok(())
}
