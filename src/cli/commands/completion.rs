//! `cldpd completion`.

use crate::cli::Context;
use crate::cli::args::Cli;
use crate::cli::error::Done;
use crate::model::exit;
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd completion bash > ~/.local/share/bash-completion/completions/cldpd
  cldpd completion zsh > ~/.zfunc/_cldpd
  cldpd completion fish > ~/.config/fish/completions/cldpd.fish")]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Known,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(context: &mut Context, args: &Args) -> Done {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cldpd", &mut script);
    context.ui.out(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}
