//! `cldpd pods`.

use crate::cli::Context;
use crate::cli::args::{Format, ListArgs};
use crate::cli::error::Done;
use crate::cli::table::Table;
use crate::cli::time::ago;
use crate::model::api::PodView;
use crate::model::{Timestamp, exit};

/// Flags of `pods`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd pods
  cldpd pods --format json | jq -r '.[] | select(.problems != []) | .name'")]
pub struct Args {
    #[command(flatten)]
    list: ListArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let pods = context.client().await?.pods().await?;
    if args.list.quiet {
        for pod in &pods {
            context.ui.line(&pod.name)?;
        }
        return Ok(exit::OK);
    }
    match args.list.format.chosen() {
        Format::Table => context
            .ui
            .table(&table(&pods, Timestamp::now()).without_titles(args.list.no_headers))?,
        format => context.ui.items(format, &pods)?,
    }
    Ok(exit::OK)
}

fn table(pods: &[PodView], now: Timestamp) -> Table {
    // Most have none: the column is there where it says something.
    let links = pods.iter().any(|pod| pod.link.is_some());
    let titles = [
        "POD",
        "LINK TO…",
        "IMAGE…",
        "BUILT",
        "LAST USED",
        "PROBLEMS…",
    ];
    let shown = |column: &usize| links || *column != 1;
    let only: Vec<&str> = (0..titles.len()).filter(shown).map(|n| titles[n]).collect();
    let mut table = Table::new(&only);
    let when = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| ago(now, at));
    for pod in pods {
        let problems = match pod.problems.as_slice() {
            [] => "-".to_owned(),
            [only] => first_line(&only.message),
            [first, rest @ ..] => {
                format!("{} (and {} more)", first_line(&first.message), rest.len())
            }
        };
        let cells = [
            pod.name.clone(),
            pod.link.clone().unwrap_or_else(|| "-".to_owned()),
            pod.image.clone().unwrap_or_else(|| "-".to_owned()),
            when(pod.built),
            when(pod.last_used),
            problems,
        ];
        let cells = (0..).zip(cells).filter(|(column, _)| shown(column));
        table.row(cells.map(|(_, cell)| cell));
    }
    table
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
