//! `cldpd events`.

use crate::cli::Context;
use crate::cli::args::{FilterArgs, Format, FormatArgs};
use crate::cli::describe::describe;
use crate::cli::error::{Done, Failure, one_of, usage};
use crate::cli::signals::interrupted;
use crate::cli::text::sanitize;
use crate::model::api::{FirehoseEvent, FirehoseQuery};
use crate::model::{EventKind, Stream, Timestamp, exit};
use futures::StreamExt as _;

/// Flags of `events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events of all sessions in the order in which they were recorded: all there are,
or with -f those that come from now on. With --format json or jsonl one JSON
value a line; its cursor, given to --from, goes on after it.

Examples:
  cldpd events -f
  cldpd events -f --kind run_ended --format jsonl
  cldpd events --since 1h --pod myrepo")]
pub struct Args {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// After the event with this cursor
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,
    /// Only of this kind, such as run_ended
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    if let Some(kind) = &args.kind {
        one_of("--kind", kind, &EventKind::NAMES)?;
    }
    let filter = args.filter.read(Timestamp::now())?;
    if args.from.is_some() && filter.since.is_some() {
        return Err(usage("--since cannot be used with --from").into());
    }
    let query = FirehoseQuery {
        from: args.from,
        since: filter.since,
        until: filter.until,
        pod: filter.pod,
        state: filter.state,
        label: filter.labels,
        limit: filter.limit,
        kind: args.kind,
        follow: args.follow,
    };
    let until = query.until.filter(|_| args.follow);
    tokio::select! {
        biased;
        left = interrupted() => left.map(|()| exit::INTERRUPTED).map_err(Failure::Error),
        () = past(until) => Ok(exit::OK),
        done = show(context, query, args.format.chosen()) => done,
    }
}

/// Resolves when the time has come; never where there is none.
async fn past(until: Option<Timestamp>) {
    match until {
        Some(until) => tokio::time::sleep(until.since(Timestamp::now())).await,
        None => std::future::pending().await,
    }
}

async fn show(context: &mut Context, query: FirehoseQuery, format: Format) -> Done {
    let client = context.client().await?;
    let mut events = client.firehose(query).await?;
    let mut unflushed = false;
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            // Everything that has come is printed: it is to be seen now.
            () = std::future::ready(()), if unflushed => {
                context.ui.flush()?;
                unflushed = false;
                continue;
            }
        };
        let Some(event) = event.transpose()? else {
            return Ok(exit::OK);
        };
        match format {
            Format::Table => {
                let mut text = line(&event);
                if context.ui.is_terminal(Stream::Stdout) {
                    text = sanitize(&text);
                }
                context.ui.line(&text)?;
            }
            Format::Json | Format::Jsonl => context.ui.json_line(&event)?,
        }
        unflushed = true;
    }
}

fn line(event: &FirehoseEvent) -> String {
    let FirehoseEvent { event, .. } = event;
    let words = describe(&event.event).unwrap_or_default();
    let line = format!(
        "{}  {}  {}  {words}",
        event.event.time,
        event.session,
        event.event.kind.name()
    );
    line.trim_end().to_owned()
}
