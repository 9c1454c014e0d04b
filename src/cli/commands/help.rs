//! `cldpd help`.

use crate::cli::Context;
use crate::cli::args::Cli;
use crate::cli::error::{Done, exit_codes, usage};
use crate::model::{Error, Stream, exit};
use clap::CommandFactory as _;

/// Flags of `help`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd help start
  cldpd help exit-codes")]
pub struct Args {
    /// A command, or exit-codes
    #[arg(value_name = "COMMAND")]
    topic: Vec<String>,
}

pub(super) fn run(context: &mut Context, args: &Args) -> Done {
    if args.topic == ["exit-codes"] {
        context.ui.out(&exit_codes())?;
        return Ok(exit::OK);
    }
    let mut root = Cli::command();
    // Makes every command know its full name and the global flags.
    root.build();
    let mut command = &root;
    for name in &args.topic {
        command = command
            .find_subcommand(name)
            .ok_or_else(|| unknown(command, name))?;
    }
    let text = command.clone().render_long_help();
    context.ui.help(Stream::Stdout, &text)?;
    Ok(exit::OK)
}

fn unknown(command: &clap::Command, name: &str) -> Error {
    let near = nearest(command, name).map(|near| format!("did you mean '{near}'? "));
    usage(format!("there is no help on '{}'", name.escape_debug()))
        .hint(near.unwrap_or_default() + "see `cldpd --help`")
}

fn nearest(command: &clap::Command, name: &str) -> Option<String> {
    let names = command.get_subcommands().map(clap::Command::get_name);
    names
        .chain(["exit-codes"])
        .map(|known| (strsim::jaro(known, name), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known.to_owned())
}
