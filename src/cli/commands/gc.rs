//! `cldpd gc`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::table::Table;
use crate::model::exit;

/// Flags of `gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows what nobody needs any more, and with --force removes just that: what is left
of sessions whose `keep` is over or whose removal was not finished, and what no
session of this home's journal owns; images of pods that are gone. What a session
can be resumed with stays, and so does whatever this home did not make.

Examples:
  cldpd gc
  cldpd gc --force
  cldpd gc --json | jq '.items[].name'")]
pub struct Args {
    /// Remove it
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let client = context.client().await?;
    let report = match args.force {
        true => client.gc().await?,
        false => client.gc_plan().await?,
    };
    match args.format.chosen() {
        Format::Table if report.items.is_empty() => {}
        Format::Table => {
            let mut table = Table::new(&["KIND", "NAME", "WHY"]);
            for item in &report.items {
                table.row([
                    item.kind.as_str().to_owned(),
                    item.name.clone(),
                    item.why.clone(),
                ]);
            }
            context.ui.table(&table)?;
        }
        format => context.ui.value(format, &report)?,
    }
    for unseen in &report.unseen {
        context
            .ui
            .note(&format!("nothing is known of what is there: {unseen}"));
    }
    let left: Vec<_> = report
        .items
        .iter()
        .filter(|item| item.left.is_some())
        .collect();
    for item in &left {
        let why = item.left.as_deref().unwrap_or_default();
        context
            .ui
            .note(&format!("{} is still there: {why}", item.name));
    }
    let things = |count: usize| match count {
        1 => "1 thing".to_owned(),
        count => format!("{count} things"),
    };
    let all = report.items.len();
    let said = match (all, args.force) {
        (0, _) => "everything that is there is needed".to_owned(),
        (_, false) => format!("{}; `cldpd gc --force` removes them", things(all)),
        (_, true) => format!("{} removed", things(all - left.len())),
    };
    context.ui.progress(&said);
    Ok(if left.is_empty() {
        exit::OK
    } else {
        exit::FAILED
    })
}
