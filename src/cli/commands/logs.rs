//! `cldpd logs`.

use crate::cli::Context;
use crate::cli::error::{Done, Failure, usage};
use crate::cli::output::{Beside, Manner, Printer, prefix_width};
use crate::cli::signals::interrupted;
use crate::cli::time::parse_when;
use crate::cli::watch::first_bad;
use crate::client::{Client, EventStream};
use crate::model::api::{EventsQuery, Inspection};
use crate::model::ids::check_session_ref;
use crate::model::{Result, RunState, SessionEvent, Stream, Timestamp, exit};
use futures::StreamExt as _;
use futures::stream::{SelectAll, select_all};

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Works the same for sessions that are live, ended, or whose container is gone.
The agent's standard output goes to standard output, its standard error to
standard error. Events of agents that write JSON are shown as readable lines,
also when not on a terminal; --no-pretty shows the lines as they are, without
what would control the terminal, and --raw the exact bytes and nothing else.
With -f it exits with the session's exit code. Ctrl+C leaves; the session is
untouched.

Examples:
  cldpd logs -f myrepo-3f9a1c2e
  cldpd logs -n 100 --since 2h myrepo
  cldpd logs --raw --stream stdout myrepo-3f9a1c2e > out.txt
  cldpd logs --format jsonl myrepo-3f9a1c2e | jq -r .kind")]
pub struct Args {
    /// Sessions
    #[arg(value_name = "SESSION", required = true)]
    sessions: Vec<String>,
    /// Go on with what comes, until the sessions are over
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines; or all
    #[arg(short = 'n', long, value_name = "N|all")]
    tail: Option<String>,
    /// Since: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    since: Option<String>,
    /// Until: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    until: Option<String>,
    /// Only this run; the first is 0
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// Only this stream
    #[arg(long, value_name = "STREAM")]
    stream: Option<Which>,
    /// Time before each line
    #[arg(short, long, conflicts_with = "raw")]
    timestamps: bool,
    /// The exact bytes
    #[arg(long, conflicts_with_all = ["pretty", "no_pretty", "format", "json"])]
    raw: bool,
    /// Readable lines for agents that write JSON (the default)
    #[arg(long, overrides_with = "no_pretty")]
    pretty: bool,
    /// Lines as the agent wrote them
    #[arg(long)]
    no_pretty: bool,
    /// Events instead of lines, one JSON value a line
    #[arg(long, value_name = "FORMAT")]
    format: Option<Form>,
    /// Short for --format jsonl
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Which {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Lines.
    Text,
    /// Events.
    Jsonl,
    #[value(hide = true)]
    Json,
}

impl Args {
    fn query(&self) -> Result<EventsQuery> {
        let now = Timestamp::now();
        let when = |text: &Option<String>| {
            let time = text.as_deref().map(|text| parse_when(text, now));
            time.transpose()
        };
        let tail = match self.tail.as_deref() {
            None | Some("all") => None,
            Some(number) => Some(number.parse().map_err(|_| {
                usage(format!("--tail '{}' is no number", number.escape_debug()))
                    .hint("write a number of lines, or all")
            })?),
        };
        Ok(EventsQuery {
            after: None,
            tail,
            since: when(&self.since)?,
            until: when(&self.until)?,
            run: self.run,
            stream: self.stream.map(|stream| match stream {
                Which::Stdout => Stream::Stdout,
                Which::Stderr => Stream::Stderr,
            }),
            follow: self.follow,
        })
    }

    fn events_wanted(&self) -> bool {
        self.json || matches!(self.format, Some(Form::Jsonl | Form::Json))
    }

    fn manner(&self, ids: &[String]) -> Manner {
        Manner {
            raw: self.raw,
            pretty: match (self.pretty, self.no_pretty) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
            timestamps: self.timestamps,
            prefix: prefix_width(ids.iter().map(String::as_str)),
            beside: Beside::Trouble,
        }
    }
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let query = args.query()?;
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    tokio::select! {
        biased;
        left = interrupted() => left.map(|()| exit::INTERRUPTED).map_err(Failure::Error),
        done = show(context, &args, &query) => done,
    }
}

async fn show(context: &mut Context, args: &Args, query: &EventsQuery) -> Done {
    let client = context.client().await?;
    let mut inspections = Vec::new();
    for session in &args.sessions {
        inspections.push(client.session(session).await?);
    }
    let ids: Vec<String> = inspections.iter().map(|i| i.view.id.to_string()).collect();
    let mut printer = Printer::new(args.manner(&ids));
    let mut sessions = Vec::new();
    for inspection in &inspections {
        introduce(&mut printer, inspection);
        sessions.push(inspection.view.ulid.to_string());
    }
    if args.follow {
        let mut streams = Vec::new();
        for session in &sessions {
            streams.push(client.events_following(session, query.clone()).await?);
        }
        print_all(context, args, &mut printer, select_all(streams)).await?;
        return codes(&client, &sessions, args.run).await;
    }
    for session in &sessions {
        let events = client.events_following(session, query.clone()).await?;
        print_all(context, args, &mut printer, select_all([events])).await?;
    }
    Ok(exit::OK)
}

/// Tells the printer what it cannot know from the events that are shown.
pub(super) fn introduce(printer: &mut Printer, inspection: &Inspection) {
    let session = inspection.view.ulid;
    printer.knows(session, inspection.view.agent);
    for run in &inspection.record.runs {
        let over = matches!(run.state, RunState::Ended { .. });
        if run.started.is_some() || (over && run.image.is_some()) {
            printer.began(session, run.number);
        }
    }
}

async fn print_all(
    context: &mut Context,
    args: &Args,
    printer: &mut Printer,
    mut events: SelectAll<EventStream<SessionEvent>>,
) -> Result<(), Failure> {
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
            break;
        };
        if args.events_wanted() {
            context.ui.json_line(&event)?;
        } else {
            printer.print(&mut context.ui, &event)?;
        }
        unflushed = true;
    }
    printer.finish(&mut context.ui)
}

/// How the sessions ended, as one exit code.
async fn codes(client: &Client, sessions: &[String], run: Option<u32>) -> Done {
    let mut codes = Vec::new();
    for session in sessions {
        codes.push(client.wait(session, run).await?.end.exit_code);
    }
    Ok(first_bad(codes.into_iter()))
}
