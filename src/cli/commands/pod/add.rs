//! `cldpd pod add`.

use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::pods_local;
use crate::model::exit;
use std::path::PathBuf;

/// Flags of `pod add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For a pod that lives in a repository: it stays there, and is linked. It has to
be a valid pod. The same directory again changes nothing.

Examples:
  cldpd pod add ~/src/myrepo/agent --name myrepo
  cldpd pod add .")]
pub struct Args {
    /// The directory
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The pod's name; the directory's when left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn run(context: &mut Context, args: &Args) -> Done {
    let home = context.home()?;
    let added = pods_local::add(&home, &args.path, args.name.as_deref())?;
    let name = added.name.as_str();
    context.ui.line(name)?;
    let dir = added.dir.display();
    context.ui.progress(&match added.new {
        true => format!("{name} is {dir}"),
        false => format!("{name} is {dir} already"),
    });
    for note in pods_local::notes(&home, name) {
        context.ui.note(&note);
    }
    Ok(exit::OK)
}
