//! `cldpd config`.

use crate::cli::Context;
use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::table::Table;
use crate::client::{Client, HOME_VARIABLE};
use crate::daemon::{Origin, Setting};
use crate::model::{Result, exit};
use clap::Subcommand;

/// Flags of `config`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
What a flag says goes over the CLDPD_ variable, that over pod.json, that over
config.toml in the home, that over the default. cldpd never writes config.toml.

Examples:
  cldpd config
  cldpd config show --json | jq -r '.[] | select(.origin != \"default\") | .key'
  CLDPD_MAX_PARALLEL=4 cldpd daemon restart"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every setting, and where its value came from (the default)
    #[command(after_help = "\
Examples:
  cldpd config show
  cldpd config show --format jsonl")]
    Show {
        #[command(flatten)]
        format: FormatArgs,
    },
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let format = match args.command {
        None => args.format,
        Some(Command::Show { format }) => format,
    };
    let home = context.home()?;
    let config = context.config()?;
    let mut settings = vec![Setting {
        key: "home",
        value: home.root().display().to_string().into(),
        origin: match (&context.global.home, std::env::var_os(HOME_VARIABLE)) {
            (Some(_), _) => Origin::Flag("--home"),
            (None, Some(named)) if !named.is_empty() => Origin::Variable(HOME_VARIABLE),
            (None, _) => Origin::Default,
        },
        variable: HOME_VARIABLE,
        about: "the directory with pods, journal and socket",
    }];
    settings.extend(config.effective());
    match format.chosen() {
        Format::Table => context.ui.table(&table(&settings))?,
        format => context.ui.items(format, &settings)?,
    }
    if runs_with_other(&home, config.max_parallel).await? {
        context.ui.note(
            "the daemon that runs was started with other settings: `cldpd daemon restart` takes these",
        );
    }
    Ok(exit::OK)
}

fn table(settings: &[Setting]) -> Table {
    let mut table = Table::new(&["KEY", "VALUE…", "FROM…", "VARIABLE"]);
    for setting in settings {
        let value = match &setting.value {
            serde_json::Value::Null => "-".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.row([
            setting.key.to_owned(),
            value,
            setting.origin.to_string(),
            setting.variable.to_owned(),
        ]);
    }
    table
}

async fn runs_with_other(home: &crate::client::Home, max_parallel: u32) -> Result<bool> {
    let Some(client) = Client::find(home).await? else {
        return Ok(false);
    };
    Ok(client.status().await?.max_parallel != max_parallel)
}
