//! `cldpd logs`.

use crate::block::EventRef;
use crate::cli::Context;
use crate::cli::error::{Done, Failure, usage};
use crate::cli::grep::{Grep, LastLines, pattern};
use crate::cli::output::{Beside, Manner, Printer, prefix_width, session_event};
use crate::cli::signals::interrupted;
use crate::cli::time::parse_when;
use crate::cli::ui::Ui;
use crate::cli::watch::first_bad;
use crate::client::{Chunk, Client};
use crate::model::api::{EventsQuery, Inspection};
use crate::model::ids::check_session_ref;
use crate::model::{Error, Result, RunState, SessionId, Stream, Timestamp, Ulid, exit};
use futures::StreamExt as _;
use futures::stream::SelectAll;
use regex::bytes::Regex;

/// To find the last lines that match, so many times as many are looked at first,
/// then so many times as many again.
const LOOK_AT: u64 = 16;
/// The least that is looked at.
const LOOK_AT_LEAST: u64 = 4096;

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

-n counts what is printed: lines, with --grep those that match, with --format
jsonl events. --grep takes a regular expression as in Rust's regex crate
((?i)error ignores case) and looks at whole lines as the agent wrote them, the
first 1 MiB of each.

Examples:
  cldpd logs -f myrepo-3f9a1c2e
  cldpd logs -n 100 --since 2h myrepo
  cldpd logs --grep '(?i)error|panic' -n 20 myrepo-3f9a1c2e
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
    /// Only lines that match this regular expression
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
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
        let (tail, last) = if self.events_wanted() && self.grep.is_none() {
            (None, tail)
        } else {
            (tail, None)
        };
        Ok(EventsQuery {
            after: None,
            tail,
            last,
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
    let grep = args.grep.as_deref().map(pattern).transpose()?;
    for session in &args.sessions {
        check_session_ref(session)?;
    }
    tokio::select! {
        biased;
        left = interrupted() => left.map(|()| exit::INTERRUPTED).map_err(Failure::Error),
        done = show(context, &args, &query, grep) => done,
    }
}

/// One of the sessions, and what is shown of it.
struct Shown {
    id: SessionId,
    ulid: Ulid,
    grep: Option<Grep>,
    query: EventsQuery,
    /// Where it ends: what came while the last lines were looked for is none of them.
    until: u64,
}

async fn show(
    context: &mut Context,
    args: &Args,
    query: &EventsQuery,
    grep: Option<Regex>,
) -> Done {
    let client = context.client().await?;
    let mut inspections = Vec::new();
    for session in &args.sessions {
        inspections.push(client.session(session).await?);
    }
    let ids: Vec<String> = inspections.iter().map(|i| i.view.id.to_string()).collect();
    let mut printer = Printer::new(args.manner(&ids));
    let mut all = Vec::new();
    for inspection in inspections {
        introduce(&mut printer, &inspection);
        let mut shown = Shown {
            id: inspection.view.id,
            ulid: inspection.view.ulid,
            grep: grep.clone().map(Grep::new),
            query: query.clone(),
            until: u64::MAX,
        };
        if let (Some(pattern), Some(lines)) = (&grep, query.tail) {
            shown.begin_at_last(&client, pattern, lines).await?;
        }
        all.push(shown);
    }
    let mut printing = Printing {
        events: args.events_wanted(),
        printer,
        ui: &mut context.ui,
    };
    if args.follow {
        printing.print(&client, &mut all).await?;
        return codes(&client, &all, args.run).await;
    }
    for shown in all {
        printing.print(&client, &mut [shown]).await?;
    }
    Ok(exit::OK)
}

impl Shown {
    /// Finds where the last `count` lines that match begin: among the last lines
    /// there are, then among more of them.
    async fn begin_at_last(&mut self, client: &Client, pattern: &Regex, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let mut lines = count.saturating_mul(LOOK_AT).max(LOOK_AT_LEAST);
        loop {
            let query = EventsQuery {
                tail: Some(lines),
                follow: false,
                ..self.query.clone()
            };
            let mut chunks = client.blocks(&self.ulid.to_string(), query).await?;
            let mut grep = Grep::new(pattern.clone());
            let mut found = LastLines::new(count);
            let mut note = |event: &EventRef<'_>| {
                found.take(event);
                Ok::<_, Error>(())
            };
            while let Some(chunk) = chunks.next().await.transpose()? {
                for event in chunk.events() {
                    let event = event?;
                    if !self.query.follow {
                        self.until = event.seq;
                    }
                    grep.take(&event, &mut note)?;
                }
            }
            grep.finish(&mut note)?;
            if found.is_full() || grep.lines() < lines {
                self.query.tail = None;
                self.query.after = found.start();
                return Ok(());
            }
            lines = lines.saturating_mul(LOOK_AT);
        }
    }
}

/// Tells the printer what it cannot know from the events that are shown.
pub(super) fn introduce(printer: &mut Printer, inspection: &Inspection) {
    let session = inspection.view.ulid;
    printer.knows(session, &inspection.spec);
    for run in &inspection.record.runs {
        let over = matches!(run.state, RunState::Ended { .. });
        if run.started.is_some() || (over && run.image.is_some()) {
            printer.began(session, run.number);
        }
    }
}

/// Prints sessions in the way that was asked for.
struct Printing<'a> {
    /// Events instead of lines.
    events: bool,
    printer: Printer,
    ui: &'a mut Ui,
}

impl Printing<'_> {
    /// Prints what `all` say, as it comes.
    async fn print(&mut self, client: &Client, all: &mut [Shown]) -> Result<(), Failure> {
        let mut streams = SelectAll::new();
        for (index, shown) in all.iter().enumerate() {
            let session = shown.ulid.to_string();
            let chunks = client.blocks(&session, shown.query.clone()).await?;
            streams.push(chunks.map(move |chunk| (index, chunk)));
        }
        let mut unflushed = false;
        loop {
            let next = tokio::select! {
                biased;
                next = streams.next() => next,
                // Everything that has come is printed: it is to be seen now.
                () = std::future::ready(()), if unflushed => {
                    self.ui.flush()?;
                    unflushed = false;
                    continue;
                }
            };
            let Some((index, chunk)) = next else {
                break;
            };
            self.chunk(&chunk?, &mut all[index])?;
            unflushed = true;
        }
        for shown in all {
            if let Some(mut grep) = shown.grep.take() {
                grep.finish(|event| self.event(shown, event))?;
            }
        }
        self.printer.finish(self.ui)
    }

    fn chunk(&mut self, chunk: &Chunk, shown: &mut Shown) -> Result<(), Failure> {
        let mut grep = shown.grep.take();
        for event in chunk.events() {
            let event = event?;
            if event.seq > shown.until {
                break;
            }
            match &mut grep {
                Some(grep) => grep.take(&event, |event| self.event(shown, event))?,
                None => self.event(shown, &event)?,
            }
        }
        shown.grep = grep;
        Ok(())
    }

    fn event(&mut self, shown: &Shown, event: &EventRef<'_>) -> Result<(), Failure> {
        let session = (&shown.id, shown.ulid);
        if self.events {
            return self.ui.json_line(&session_event(session, event)?);
        }
        self.printer.print_ref(self.ui, session, event)
    }
}

/// How the sessions ended, as one exit code.
async fn codes(client: &Client, sessions: &[Shown], run: Option<u32>) -> Done {
    let mut codes = Vec::new();
    for session in sessions {
        let session = session.ulid.to_string();
        codes.push(client.wait(&session, run).await?.end.exit_code);
    }
    Ok(first_bad(codes.into_iter()))
}
