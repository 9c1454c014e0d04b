//! `cldpd pod rm`.

use crate::cli::Context;
use crate::cli::error::{Done, Failure};
use crate::cli::pods_local::{self, Place};
use crate::model::api::ListQuery;
use crate::model::{Error, ErrorCode, exit};
use std::path::Path;

/// Flags of `pod rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of a pod that was added by a link, only the link goes. What the pod's sessions
said stays, and so does its image until the last of them is removed.

Examples:
  cldpd pod rm linked
  cldpd pod rm myrepo --yes")]
pub struct Args {
    /// The pod
    #[arg(value_name = "POD")]
    name: String,
    /// Delete a directory and all in it without asking
    #[arg(short, long)]
    yes: bool,
    /// Also while sessions of it are live
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let home = context.home()?;
    let place = pods_local::place(&home, &args.name)?;
    if !args.force {
        refuse_live(context, &args.name).await?;
    }
    match &place {
        Place::Directory(dir) if !args.yes => {
            if !confirmed(context, dir)? {
                context.ui.progress("nothing was removed");
                return Ok(exit::REFUSED);
            }
        }
        Place::Directory(_) | Place::Link(_) => {}
    }
    match pods_local::remove(&home, &args.name)? {
        Place::Link(target) => {
            let target = target.display();
            let text = format!("the link is gone; {target} is as it was");
            context.ui.progress(&text);
        }
        Place::Directory(dir) => {
            context
                .ui
                .progress(&format!("{} is deleted", dir.display()));
        }
    }
    context
        .ui
        .progress("its image stays until the last of its sessions is removed; their history stays");
    context.ui.line(&args.name)?;
    Ok(exit::OK)
}

/// What is live goes on with what it was dispatched with, but could not be
/// looked up or dispatched again.
async fn refuse_live(context: &mut Context, name: &str) -> Result<(), Failure> {
    let query = ListQuery {
        pod: Some(name.to_owned()),
        ..ListQuery::default()
    };
    let live = context.client().await?.sessions(&query).await?;
    let Some(first) = live.first() else {
        return Ok(());
    };
    let message = match live.len() {
        1 => format!("session {} of pod {name} is live", first.id),
        count => format!(
            "{count} sessions of pod {name} are live, such as {}",
            first.id
        ),
    };
    let hint = "stop them first, or say --force: they go on without the pod";
    Err(Error::new(ErrorCode::Refused, message).hint(hint).into())
}

/// Whether the user, asked, wants a directory deleted.
fn confirmed(context: &mut Context, dir: &Path) -> Result<bool, Failure> {
    let dir = dir.display();
    match context.ui.confirm(&format!("delete {dir} and all in it?")) {
        Some(answer) => Ok(answer),
        None => {
            let message = format!("{dir} is a directory with files that may be nowhere else");
            Err(Error::new(ErrorCode::Refused, message)
                .hint("say --yes to delete it")
                .into())
        }
    }
}
