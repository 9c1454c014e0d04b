//! `cldpd pod`: one pod, one file for each verb.

mod add;
mod build;
mod check;
mod edit;
mod new;
mod rm;
mod show;

use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::pods_local;
use crate::model::exit;
use clap::Subcommand;

/// What to do with a pod.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a pod to begin with
    New(new::Args),
    /// Show a pod
    Show(show::Args),
    /// Edit a pod's files, then check them
    Edit(edit::Args),
    /// Say everything that is wrong with pods
    Check(check::Args),
    /// Build pods' images
    Build(build::Args),
    /// Make a directory that lies elsewhere a pod, by a link to it
    Add(add::Args),
    /// Remove a pod
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// The JSON schema of pod.json, for editors
    #[command(after_help = "\
`pod new` writes it beside the pods, where their pod.json names it.

Examples:
  cldpd pod schema > pod.schema.json")]
    Schema,
}

pub(super) async fn run(context: &mut Context, command: Command) -> Done {
    match command {
        Command::New(args) => new::run(context, &args),
        Command::Show(args) => show::run(context, args).await,
        Command::Edit(args) => edit::run(context, &args),
        Command::Check(args) => check::run(context, args),
        Command::Build(args) => build::run(context, args).await,
        Command::Add(args) => add::run(context, &args),
        Command::Rm(args) => rm::run(context, args).await,
        Command::Schema => {
            context.ui.out(&pods_local::schema())?;
            Ok(exit::OK)
        }
    }
}
