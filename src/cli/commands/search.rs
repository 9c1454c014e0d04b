//! `cldpd search`.

use crate::cli::Context;
use crate::cli::args::{FilterArgs, Format, FormatArgs};
use crate::cli::error::{Done, Failure};
use crate::cli::signals::interrupted;
use crate::cli::text::{cut, sanitize, width};
use crate::cli::ui::{Style, Ui};
use crate::model::api::{Finds, SearchHit, SearchItem, SearchPlace, SearchQuery};
use crate::model::{Error, ErrorCode, Pattern, Stream, Timestamp, exit};
use futures::StreamExt as _;

/// Flags of `search`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
Searches all that is recorded, of sessions that are live, ended or removed with
rm: what agents wrote, line by line and as they wrote it, and what they were
told. The session that was dispatched last comes first, and in each session the
line that was written last. PATTERN is a regular expression as Rust's regex
crate has them. --since and --until go by when a line was written.

Exits with 0 when something was found, with 1 when nothing was.

Examples:
  cldpd search 'panicked at'
  cldpd search -i --pod myrepo --since 7d 'error|warning'
  cldpd search -F --stream stderr 'Permission denied (publickey)'
  cldpd search -l --state failed 'out of memory'
  cldpd search --format jsonl TODO | jq -r .line",
    mut_arg("labels", |arg| arg.short(None))
)]
pub struct Args {
    /// What to look for
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// Capital and small letters are alike
    #[arg(short, long)]
    ignore_case: bool,
    /// PATTERN is plain text
    #[arg(short = 'F', long)]
    fixed: bool,
    /// Only there
    #[arg(long, value_name = "STREAM")]
    stream: Option<Where>,
    /// Only how many lines of each session match
    #[arg(short, long, conflicts_with = "sessions")]
    count: bool,
    /// Only which sessions have a line that matches
    #[arg(short = 'l', long)]
    sessions: bool,
    /// Print nothing; the exit code says whether there is a match
    #[arg(short, long, conflicts_with_all = ["count", "sessions", "format", "json"])]
    quiet: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Where {
    /// The agent's standard output.
    Stdout,
    /// The agent's standard error.
    Stderr,
    /// What the agent was told.
    Prompt,
}

impl Args {
    fn query(self, now: Timestamp) -> Result<SearchQuery, Error> {
        // What is wrong with it is told without a daemon.
        Pattern::new(&self.pattern, self.fixed, self.ignore_case)?;
        let filter = self.filter.read(now)?;
        Ok(SearchQuery {
            pattern: self.pattern,
            fixed: self.fixed,
            ignore_case: self.ignore_case,
            place: self.stream.map(|place| match place {
                Where::Stdout => SearchPlace::Stdout,
                Where::Stderr => SearchPlace::Stderr,
                Where::Prompt => SearchPlace::Prompt,
            }),
            finds: match (self.count, self.sessions || self.quiet) {
                (true, _) => Finds::Counts,
                (false, true) => Finds::Sessions,
                (false, false) => Finds::Lines,
            },
            pod: filter.pod,
            state: filter.state,
            label: filter.labels,
            since: filter.since,
            until: filter.until,
            limit: if self.quiet { Some(1) } else { filter.limit },
        })
    }
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let (quiet, format) = (args.quiet, args.format.chosen());
    let query = args.query(Timestamp::now())?;
    tokio::select! {
        biased;
        left = interrupted() => left.map(|()| exit::INTERRUPTED).map_err(Failure::Error),
        done = show(context, &query, quiet, format) => done,
    }
}

async fn show(context: &mut Context, query: &SearchQuery, quiet: bool, format: Format) -> Done {
    let client = context.client().await?;
    let mut items = client.search(query).await?;
    let (mut found, mut damaged, mut unflushed) = (false, false, false);
    loop {
        let item = tokio::select! {
            biased;
            item = items.next() => item,
            // Everything that has come is printed: it is to be seen now.
            () = std::future::ready(()), if unflushed => {
                context.ui.flush()?;
                unflushed = false;
                continue;
            }
        };
        let Some(item) = item.transpose()? else { break };
        if let SearchItem::Damaged { session, message } = &item {
            damaged = true;
            let message = format!("{session} could not be searched whole: {message}");
            context
                .ui
                .error(&Error::new(ErrorCode::JournalFailed, message));
        } else {
            found = true;
        }
        if !quiet {
            print(&mut context.ui, &item, format)?;
            unflushed = true;
        }
    }
    Ok(match (damaged, found) {
        (true, _) => exit::CLDPD_FAILED,
        (false, true) => exit::OK,
        (false, false) => exit::FAILED,
    })
}

fn print(ui: &mut Ui, item: &SearchItem, format: Format) -> Result<(), Failure> {
    match (format, item) {
        (Format::Json | Format::Jsonl, item) => ui.json_line(item),
        (Format::Table, SearchItem::Line(hit)) => line(ui, hit),
        (Format::Table, SearchItem::Session { session, lines, .. }) => match lines {
            Some(lines) => ui.line(&format!("{session}  {lines}")),
            None => ui.line(session.as_str()),
        },
        // It was told on standard error.
        (Format::Table, SearchItem::Damaged { .. }) => Ok(()),
    }
}

/// Session, time, where it stands, and the line with its matches set off. On a
/// terminal a long line is cut to what is around the first match.
fn line(ui: &mut Ui, hit: &SearchHit) -> Result<(), Failure> {
    let head = format!("{}  {}  {}  ", hit.session, hit.time, hit.place.name());
    let terminal = ui.is_terminal(Stream::Stdout);
    let mut pieces = pieces(hit, terminal);
    if let Some(columns) = ui.width() {
        let room = columns.saturating_sub(width(&head)).max(20);
        pieces = around_the_match(pieces, room);
    }
    let mut text = head;
    for (piece, is_match) in &pieces {
        match is_match {
            true => text.push_str(&ui.paint(Style::Bad, piece)),
            false => text.push_str(piece),
        }
    }
    ui.line(&text)
}

/// The line in pieces, and which of them match.
fn pieces(hit: &SearchHit, harmless: bool) -> Vec<(String, bool)> {
    let bytes = &hit.line.0;
    let mut pieces = Vec::new();
    let mut add = |from: usize, to: usize, is_match: bool| {
        let text = String::from_utf8_lossy(bytes.get(from..to).unwrap_or_default());
        if !text.is_empty() {
            let text = if harmless {
                sanitize(&text)
            } else {
                text.into_owned()
            };
            pieces.push((text, is_match));
        }
    };
    let mut at = 0;
    for (from, to) in &hit.matches {
        add(at, *from, false);
        add(*from, *to, true);
        at = at.max(*to);
    }
    add(at, bytes.len(), false);
    pieces
}

/// Cuts pieces to so many columns, with the first match among them.
fn around_the_match(mut pieces: Vec<(String, bool)>, room: usize) -> Vec<(String, bool)> {
    let all: usize = pieces.iter().map(|(piece, _)| width(piece)).sum();
    if all <= room {
        return pieces;
    }
    if let Some((before, false)) = pieces.first_mut()
        && width(before) > room / 3
    {
        let mut kept: Vec<char> = before.chars().rev().take(room / 3).collect();
        kept.push('…');
        *before = kept.into_iter().rev().collect();
    }
    let mut left = room;
    pieces.retain_mut(|(piece, _)| {
        let shown = cut(piece, left);
        left -= width(&shown).min(left);
        *piece = shown;
        !piece.is_empty()
    });
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_to(line: &[(&str, bool)], room: usize) -> String {
        let pieces = line.iter().map(|(text, is)| ((*text).to_owned(), *is));
        let cut = around_the_match(pieces.collect(), room);
        cut.into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn a_long_line_is_cut_around_its_match() {
        let line = [
            ("0123456789", false),
            ("match", true),
            ("0123456789", false),
        ];
        assert_eq!(cut_to(&line, 25), "0123456789match0123456789");
        assert_eq!(cut_to(&line, 18), "…456789match01234…");
        let line = [("match", true), ("0123456789", false)];
        assert_eq!(cut_to(&line, 9), "match012…");
    }
}
