//! `cldpd completion`.

use crate::cli::Context;
use crate::cli::error::Done;
use crate::model::exit;

/// Flags of `completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints a script that completes commands, flags and their values; sessions and
labels as the running daemon knows them, and pods. It never starts a daemon.

Examples:
  cldpd completion bash > ~/.local/share/bash-completion/completions/cldpd
  cldpd completion zsh > ~/.zfunc/_cldpd     # a directory of $fpath
  cldpd completion fish > ~/.config/fish/completions/cldpd.fish
  source <(cldpd completion bash)            # for this shell only")]
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
    context.ui.out(match args.shell {
        Known::Bash => include_str!("../complete/cldpd.bash"),
        Known::Zsh => include_str!("../complete/cldpd.zsh"),
        Known::Fish => include_str!("../complete/cldpd.fish"),
    })?;
    Ok(exit::OK)
}
