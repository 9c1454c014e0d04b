//! `cldpd pod check`.

use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::pods_local;
use crate::client::Home;
use crate::model::{Error, exit};

/// Flags of `pod check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd pod check
  cldpd pod check myrepo")]
pub struct Args {
    /// Pods; all when none is named
    #[arg(value_name = "POD")]
    names: Vec<String>,
}

pub(super) fn run(context: &mut Context, args: Args) -> Done {
    let home = context.home()?;
    let mut code = exit::OK;
    for (name, problems) in pods_local::check(&home, args.names)? {
        if !report(context, &home, &name, &problems)? {
            code = exit::FAILED;
        }
    }
    Ok(code)
}

/// Says what is wrong with a pod and what is worth a thought; true when all is well.
pub(super) fn report(
    context: &mut Context,
    home: &Home,
    name: &str,
    problems: &[Error],
) -> Result<bool, crate::cli::error::Failure> {
    if !problems.is_empty() {
        let text = format!("{name}: {} wrong", problems.len());
        context.ui.line(&text)?;
        for problem in problems {
            context.ui.error(problem);
        }
        return Ok(false);
    }
    context.ui.line(&format!("{name}: ok"))?;
    for note in pods_local::notes(home, name) {
        context.ui.note(&note);
    }
    Ok(true)
}
