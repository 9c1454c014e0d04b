//! `cldpd journal verify`.

use super::{Door, door, nothing};
use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::{Done, Failure};
use crate::cli::text::size;
use crate::model::api::{Finding, Verified, VerifyEvent};
use crate::model::{Error, ErrorCode, exit};
use futures::StreamExt as _;
use serde::Serialize;
use std::ops::ControlFlow;

/// Flags of `journal verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads everything and checks it: that each block of events is what was written,
that no event of a session is missing or there twice, that sessions stand as
their events say, that no byte of output is counted that is not there, and that
commits and sessions agree. Changes nothing. Work may go on meanwhile; without a
daemon it works on a journal that a daemon refuses to open, too.

Exits with 0 when all is well, and with 65 when something is damaged.

Examples:
  cldpd journal verify
  cldpd journal verify --format jsonl | jq 'select(.kind == \"damage\")'")]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

/// All that was found, as `--json` shows it.
#[derive(Default, Serialize)]
struct Report {
    damage: Vec<Finding>,
    notes: Vec<Finding>,
    verified: Verified,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let format = args.format.chosen();
    let mut told = Told {
        format,
        report: Report::default(),
        ended: false,
    };
    match door(context).await? {
        Door::Nothing => {
            nothing(context)?;
            told.take(context, VerifyEvent::Verified(Verified::default()))?;
        }
        Door::Daemon(client) => {
            let mut events = client.verify_journal().await?;
            while let Some(event) = events.next().await {
                told.take(context, event?)?;
            }
        }
        Door::Here(journal) => {
            let mut failed = Ok(());
            journal.verify(&mut |event| match told.take(context, event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Err(error);
                    ControlFlow::Break(())
                }
            })?;
            failed?;
        }
    }
    told.finish(context)
}

struct Told {
    format: Format,
    report: Report,
    ended: bool,
}

impl Told {
    fn take(&mut self, context: &mut Context, event: VerifyEvent) -> Result<(), Failure> {
        match self.format {
            Format::Jsonl => context.ui.json_line(&event)?,
            Format::Table => match &event {
                VerifyEvent::Damage(finding) => {
                    context.ui.line(&format!("damaged: {}", shown(finding)))?;
                }
                VerifyEvent::Note(finding) => context.ui.note(&shown(finding)),
                VerifyEvent::Verified(verified) => context.ui.line(&summary(verified))?,
            },
            Format::Json => {}
        }
        match event {
            VerifyEvent::Verified(verified) => {
                self.report.verified = verified;
                self.ended = true;
            }
            // Only where all is shown at once: there may be any number.
            VerifyEvent::Damage(finding) if self.format == Format::Json => {
                self.report.damage.push(finding);
            }
            VerifyEvent::Note(finding) if self.format == Format::Json => {
                self.report.notes.push(finding);
            }
            VerifyEvent::Damage(_) | VerifyEvent::Note(_) => {}
        }
        Ok(())
    }

    fn finish(self, context: &mut Context) -> Done {
        if !self.ended {
            let message = "the journal was not looked through to its end";
            return Err(Error::new(ErrorCode::JournalFailed, message).into());
        }
        if self.format == Format::Json {
            context.ui.json(&self.report)?;
        }
        Ok(match self.report.verified.damage {
            0 => exit::OK,
            _ => exit::DAMAGED,
        })
    }
}

fn shown(finding: &Finding) -> String {
    match finding.session {
        Some(session) => format!("session {session}: {}", finding.what),
        None => finding.what.clone(),
    }
}

fn summary(verified: &Verified) -> String {
    let Verified {
        sessions,
        events,
        blocks,
        stored_bytes,
        raw_bytes,
        commits,
        damage,
        ..
    } = verified;
    let stand = match damage {
        0 => "all is well".to_owned(),
        1 => "1 thing is damaged".to_owned(),
        many => format!("{many} things are damaged"),
    };
    format!(
        "{stand}: {sessions} sessions, {events} events in {blocks} blocks, {commits} commits; {} of {} stored",
        size(*stored_bytes),
        size(*raw_bytes)
    )
}
