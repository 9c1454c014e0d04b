//! What the command line looks like: global flags, and flags that several
//! commands share. A command's own flags are in its file.

use super::commands::Command;
use super::error::{one_of, pod_asked_for, usage};
use super::time::parse_when;
use crate::model::{Outcome, Result, Timestamp};
use clap::{Args, Parser, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  cldpd pod new myrepo                  make a pod, then edit its Dockerfile
  cldpd start myrepo --issue https://github.com/org/repo/issues/42
  cldpd start -d myrepo otherrepo --prompt \"fix the flaky test\"
  cldpd sessions                        what is live; -a for all
  cldpd logs -f myrepo-3f9a1c2e         what it says, and what it said
  cldpd resume myrepo --prompt \"focus on the error handling\"

`cldpd help exit-codes` lists what commands exit with.";

/// Dispatches headless coding agents into containers, many at once, and
/// remembers everything they did.
#[derive(Debug, Parser)]
#[command(
    name = "cldpd",
    bin_name = "cldpd",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    propagate_version = false,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The directory with pods, journal and socket [default: $CLDPD_HOME, else ~/.cldpd]
    // The variable is looked up elsewhere: to clap it would be an argument, and
    // `cldpd` alone would no longer be a question for help.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        help_heading = "Global options"
    )]
    pub home: Option<PathBuf>,
    /// The engine that a daemon started by this command uses
    #[arg(
        long,
        value_name = "URL",
        global = true,
        help_heading = "Global options"
    )]
    pub docker_host: Option<String>,
    /// When to use colours; NO_COLOR turns them off, CLICOLOR_FORCE on
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On terminals.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The form of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// One JSON value a line.
    Jsonl,
}

/// The form of results.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct FormatArgs {
    /// The form of the results
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl FormatArgs {
    /// The form that was chosen.
    #[must_use]
    pub fn chosen(self) -> Format {
        match (self.json, self.format) {
            (true, _) => Format::Json,
            (false, format) => format.unwrap_or_default(),
        }
    }
}

/// Which sessions, or whose events.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Of this pod
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// In this state, or ended so: queued, running, ended, failed, stopped, ...
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// With this label; of several, with all
    #[arg(short, long = "label", value_name = "KEY[=VALUE]")]
    pub labels: Vec<String>,
    /// Since: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// Until: a time, or how long ago
    #[arg(long, value_name = "TIME|DURATION")]
    pub until: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Filters that have been understood.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this pod.
    pub pod: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// With all of these labels.
    pub labels: Vec<String>,
    /// Since then.
    pub since: Option<Timestamp>,
    /// Until then.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// States that a session is seen in, and ways in which it ended.
pub fn states() -> impl Iterator<Item = &'static str> {
    let states = [
        "queued",
        "preparing",
        "building",
        "starting",
        "running",
        "stopping",
        "ended",
        "removing",
        "removed",
        "imported",
        "damaged",
    ];
    states.into_iter().chain(Outcome::NAMES)
}

impl FilterArgs {
    /// What is meant, where durations count back from `now`.
    ///
    /// # Errors
    /// `usage` for what can be none of a pod, a state, a label or a time.
    pub fn read(self, now: Timestamp) -> Result<Filter> {
        if let Some(state) = &self.state {
            one_of("--state", state, &states().collect::<Vec<_>>())?;
        }
        if let Some(pod) = &self.pod {
            pod_asked_for(pod)?;
        }
        let nameless = |label: &String| label.is_empty() || label.starts_with('=');
        if self.labels.iter().any(nameless) {
            return Err(usage("--label names no label").hint("write key or key=value"));
        }
        let when = |text: Option<String>| text.map(|text| parse_when(&text, now)).transpose();
        Ok(Filter {
            pod: self.pod,
            state: self.state,
            labels: self.labels,
            since: when(self.since)?,
            until: when(self.until)?,
            limit: self.limit,
        })
    }
}

/// The form of lists.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ListArgs {
    /// Form.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Only ids or names, one a line
    #[arg(short, long, conflicts_with_all = ["format", "json"])]
    pub quiet: bool,
    /// Tables without the line of titles
    #[arg(long)]
    pub no_headers: bool,
}
