//! `cldpd version`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::client::VERSION;
use crate::model::exit;

/// Flags of `version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cldpd version
  cldpd version --daemon --json")]
pub struct Args {
    /// The version of the daemon that runs too
    #[arg(long)]
    daemon: bool,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let daemon = if args.daemon {
        Some(context.running().await?.status().await?.version)
    } else {
        None
    };
    match args.format.chosen() {
        Format::Table => {
            context.ui.line(&format!("cldpd {VERSION}"))?;
            if let Some(version) = daemon {
                context.ui.line(&format!("daemon {version}"))?;
            }
        }
        format => {
            let mut value = serde_json::json!({ "version": VERSION });
            if let Some(version) = daemon {
                value["daemon"] = version.into();
            }
            context.ui.value(format, &value)?;
        }
    }
    Ok(exit::OK)
}
