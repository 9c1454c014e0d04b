//! `cldpd pod new`.

use super::edit;
use crate::cli::Context;
use crate::cli::error::Done;
use crate::cli::pods_local::{self, Template};
use crate::model::exit;
use std::path::PathBuf;

/// Flags of `pod new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The pod can be started as it is. Its Dockerfile is the place for what your
project needs to be built and tested.

Examples:
  cldpd pod new myrepo
  cldpd pod new --from-repo ~/src/myrepo
  cldpd pod new reviewer --template codex --edit
  cldpd pod new tool --template command")]
pub struct Args {
    /// Its name; the repository's when left out
    #[arg(value_name = "NAME", required_unless_present = "from_repo")]
    name: Option<String>,
    /// What it runs
    #[arg(long, value_name = "TEMPLATE", default_value = "claude")]
    template: TemplateName,
    /// A repository whose origin is cloned into the image
    #[arg(long, value_name = "PATH")]
    from_repo: Option<PathBuf>,
    /// Edit its Dockerfile at once
    #[arg(long)]
    edit: bool,
}

/// What a new pod runs.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum TemplateName {
    /// Claude Code.
    Claude,
    /// OpenAI's Codex.
    Codex,
    /// Google's Gemini CLI.
    Gemini,
    /// opencode.
    Opencode,
    /// Any program.
    Command,
}

pub(super) fn run(context: &mut Context, args: &Args) -> Done {
    let template = match args.template {
        TemplateName::Claude => Template::Claude,
        TemplateName::Codex => Template::Codex,
        TemplateName::Gemini => Template::Gemini,
        TemplateName::Opencode => Template::Opencode,
        TemplateName::Command => Template::Command,
    };
    let home = context.home()?;
    let (name, dir) = pods_local::create(
        &home,
        args.name.as_deref(),
        template,
        args.from_repo.as_deref(),
    )?;
    context.ui.line(&dir.display().to_string())?;
    if args.edit {
        return edit::edit(context, &name, edit::PodFile::Dockerfile);
    }
    context.ui.progress(&format!(
        "edit its Dockerfile, then: cldpd start {name} --prompt \"...\""
    ));
    Ok(exit::OK)
}
