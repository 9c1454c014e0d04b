//! The command line.
//!
//! Parses, runs one command, and returns its exit code. Everything that it
//! does, it does through the daemon's API, which everybody else may use too;
//! except what is done with pods' directories (`pods_local.rs`).
//!
//! | file | holds |
//! |---|---|
//! | `args.rs` | global flags; flags that several commands share |
//! | `commands/` | one file for each verb, with its flags |
//! | `ui.rs` | the only printer |
//! | `output.rs` | events of sessions, as they are shown |
//! | `grep.rs` | lines that match, put together from their pieces |
//! | `describe.rs` | an event in words |
//! | `watch.rs`, `signals.rs` | following runs; Ctrl+C |
//! | `credentials.rs` | what `doctor` says of agents' credentials |
//! | `complete.rs`, `complete/` | what may stand next; the shells' scripts |
//! | `bulk.rs` | asking before many sessions are acted on |
//! | `error.rs` | errors with hints; exit codes |
//! | `table.rs`, `text.rs`, `time.rs` | tables, terminal text, durations |
//! | `task.rs`, `zone.rs` | prompts and variables that the user gives; the time zone here |

pub mod args;
mod bounds;
mod bulk;
mod commands;
mod complete;
mod credentials;
mod describe;
mod error;
mod grep;
mod output;
mod pods_local;
mod signals;
mod table;
mod task;
mod text;
mod time;
mod ui;
mod watch;
mod zone;

use crate::client::{Client, HOME_VARIABLE, Home, Launcher};
use crate::daemon::Config;
use crate::model::{Error, ErrorCode, Result, Stream, exit};
use args::{Cli, ColorChoice, Global};
use clap::{Parser as _, ValueEnum as _};
use error::{Done, Failure, Parsed, from_clap};
use std::ffi::OsString;
use std::path::PathBuf;
use ui::Ui;

pub use commands::Command;

/// What every command works with.
pub(crate) struct Context {
    ui: Ui,
    global: Global,
}

impl Context {
    /// A context at `home`, and what is written to standard output and error.
    #[cfg(test)]
    fn captured(home: &Home) -> (Self, ui::capture::Captured, ui::capture::Captured) {
        let (ui, out, err) = ui::capture::ui(false);
        let global = Global {
            home: Some(home.root().to_owned()),
            docker_host: None,
            color: ColorChoice::Never,
        };
        (Self { ui, global }, out, err)
    }

    /// The home that is meant.
    fn home(&self) -> Result<Home> {
        let named = self.global.home.clone().or_else(|| {
            let variable = std::env::var_os(HOME_VARIABLE);
            variable.filter(|home| !home.is_empty()).map(PathBuf::from)
        });
        Home::find(named.as_deref(), std::env::var_os("HOME"))
    }

    /// What the user settled.
    fn config(&self) -> Result<Config> {
        let config = Config::of_command(&self.home()?)?;
        Ok(config.with_docker_host(self.global.docker_host.clone()))
    }

    /// A client of the daemon, which is started if it does not run.
    async fn client(&self) -> Result<Client> {
        Client::connect_or_start(&self.home()?, self.launcher()?).await
    }

    /// A client of the daemon that runs.
    async fn running(&self) -> Result<Client> {
        Client::connect(&self.home()?).await
    }

    /// Says so when the daemon uses another engine than it would if it were
    /// started by this command.
    fn note_engine(&mut self, client: &Client) {
        let Some(theirs) = client.engine() else {
            return;
        };
        let host = self.global.docker_host.clone();
        let ours = crate::daemon::engine_from_here(client.home(), host);
        if let Some(ours) = ours.filter(|ours| place(ours) != place(&theirs)) {
            self.ui.note(&format!(
                "the daemon uses the engine at {theirs}, not {ours}; `cldpd daemon restart` with the same settings changes that"
            ));
        }
    }

    fn launcher(&self) -> Result<Launcher> {
        let exe = own_executable().map_err(|e| {
            Error::new(
                ErrorCode::DaemonUnavailable,
                format!("cannot start the daemon: this program cannot be found: {e}"),
            )
        })?;
        Ok(Launcher::new(exe).docker_host(self.global.docker_host.clone()))
    }
}

/// An engine's address, a socket's without links on its way.
fn place(address: &str) -> String {
    let path = address.strip_prefix("unix://");
    let real = path.and_then(|path| std::fs::canonicalize(path).ok());
    real.map_or_else(|| address.to_owned(), |path| path.display().to_string())
}

/// This program, also when its file was replaced since we were started.
fn own_executable() -> std::io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    if exe.exists() {
        return Ok(exe);
    }
    Ok(PathBuf::from("/proc/self/exe"))
}

/// Runs the command line `args`, the program's name first, and returns the
/// exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    if args
        .get(1)
        .is_some_and(|command| command == complete::COMMAND)
    {
        let mut ui = Ui::new(ColorChoice::Never);
        let done = ui.out(&complete::answer(&args[2..])).map(|()| exit::OK);
        return conclude(&mut ui, done);
    }
    match Cli::try_parse_from(&args) {
        Ok(cli) => {
            let mut context = Context {
                ui: Ui::new(cli.global.color),
                global: cli.global,
            };
            let done = commands::run(&mut context, cli.command);
            conclude(&mut context.ui, done)
        }
        Err(error) => {
            let mut ui = Ui::new(color_of(&args));
            let done = refuse(&mut ui, &error, &args);
            conclude(&mut ui, done)
        }
    }
}

/// What `--color` says on a command line that could not be understood.
fn color_of(args: &[OsString]) -> ColorChoice {
    let after = args.iter().skip_while(|arg| *arg != "--color").nth(1);
    let mut joined = args
        .iter()
        .filter_map(|arg| arg.to_str()?.strip_prefix("--color="));
    let value = after.and_then(|value| value.to_str()).or(joined.next());
    value
        .and_then(|value| ColorChoice::from_str(value, false).ok())
        .unwrap_or_default()
}

fn refuse(ui: &mut Ui, error: &clap::Error, args: &[OsString]) -> Done {
    match from_clap(error, args) {
        Parsed::Wanted(text) => ui.help(Stream::Stdout, &text).map(|()| exit::OK),
        Parsed::Nothing(text) => ui.help(Stream::Stderr, &text).map(|()| exit::USAGE),
        Parsed::Wrong(error) => Err(error.into()),
    }
}

fn conclude(ui: &mut Ui, done: Done) -> u8 {
    ui.clear_passing();
    match done.and_then(|code| ui.flush().map(|()| code)) {
        Ok(code) => code,
        Err(Failure::Closed) => exit::OK,
        Err(Failure::Error(error)) => {
            ui.error(&error);
            error.code.exit_code()
        }
    }
}
