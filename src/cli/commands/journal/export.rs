//! `cldpd journal export`.

use super::{Door, door, nothing};
use crate::cli::Context;
use crate::cli::error::{Done, Failure};
use crate::client::Client;
use crate::daemon::Offline;
use crate::model::api::Exported;
use crate::model::{Error, ErrorCode, Stream, exit};
use futures::StreamExt as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Flags of `journal export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes sessions down as lines of JSON, with every event exactly as it was
recorded: to keep them, to take them to another home, or to read them with other
programs. Prompts and output are in it: the file is for its owner only.

Work may go on meanwhile. Without a daemon it works on a journal that a daemon
refuses to open, too: what can be read is written, and what is missing has a line
of its own that says so. A session that is removed while it is written ends with
a line that says that, and counts for nothing.

Exits with 65 when something is missing.

Examples:
  cldpd journal export -o sessions.ndjson
  cldpd journal export myrepo-3f9a1c2e | zstd > session.ndjson.zst
  cldpd journal export | jq -r 'select(.kind == \"output\") | .data'")]
pub struct Args {
    /// Only these sessions
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,
    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let door = door(context).await?;
    if matches!(door, Door::Nothing) {
        nothing(context)?;
        return Ok(exit::OK);
    }
    let mut sink = Sink {
        file: args.output.as_deref().map(create).transpose()?,
        path: args.output,
        last: Vec::new(),
    };
    match door {
        Door::Nothing => {}
        Door::Daemon(client) => through(context, &client, &args.sessions, &mut sink).await?,
        Door::Here(journal) => here(context, &journal, &args.sessions, &mut sink)?,
    }
    let exported = sink.end()?;
    if let Some(path) = &sink.path {
        let sessions = exported.sessions;
        let plural = if sessions == 1 { "" } else { "s" };
        let note = format!("{sessions} session{plural} written to {}", path.display());
        context.ui.progress(&note);
    }
    if exported.damaged > 0 {
        let note = format!(
            "{} of {} sessions are not whole: lines with \"missing\" say what cannot be read",
            exported.damaged, exported.sessions
        );
        context.ui.note(&note);
        return Ok(exit::DAMAGED);
    }
    Ok(exit::OK)
}

async fn through(
    context: &mut Context,
    client: &Client,
    sessions: &[String],
    sink: &mut Sink,
) -> Result<(), Failure> {
    let mut chunks = client.export_journal(sessions).await?;
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Error::new(ErrorCode::JournalFailed, error.to_string()))?;
        sink.write(context, &chunk)?;
    }
    Ok(())
}

fn here(
    context: &mut Context,
    journal: &Offline,
    sessions: &[String],
    sink: &mut Sink,
) -> Result<(), Failure> {
    let mut failed = Ok(());
    journal.export(sessions, &mut |line| match sink.write(context, line) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    })?;
    failed
}

fn create(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    file.open(path).map_err(|error| {
        let message = format!("cannot write {}: {error}", path.display());
        Error::new(ErrorCode::Usage, message)
    })
}

/// Where the lines go.
struct Sink {
    file: Option<File>,
    path: Option<PathBuf>,
    /// The last bytes: in them is the last line.
    last: Vec<u8>,
}

impl Sink {
    fn write(&mut self, context: &mut Context, bytes: &[u8]) -> Result<(), Failure> {
        /// More than the last line and the newline before it.
        const LAST: usize = 512;
        self.last
            .extend_from_slice(&bytes[bytes.len().saturating_sub(LAST)..]);
        let surplus = self.last.len().saturating_sub(LAST);
        self.last.drain(..surplus);
        match (&mut self.file, &self.path) {
            (Some(file), Some(path)) => file.write_all(bytes).map_err(|error| {
                let message = format!("cannot write {}: {error}", path.display());
                Error::new(ErrorCode::CopyFailed, message).into()
            }),
            _ => context.ui.bytes(Stream::Stdout, bytes),
        }
    }

    /// What the last line says; an error where there is none.
    fn end(&mut self) -> Result<Exported, Error> {
        if let Some(file) = &self.file {
            file.sync_all()
                .map_err(|error| Error::new(ErrorCode::CopyFailed, error.to_string()))?;
        }
        let line = self
            .last
            .trim_ascii_end()
            .rsplit(|byte| *byte == b'\n')
            .next();
        line.and_then(|line| serde_json::from_slice(line).ok())
            .ok_or_else(|| Error::new(ErrorCode::JournalFailed, "the export broke off"))
    }
}
