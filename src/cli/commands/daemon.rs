//! `cldpd daemon`.

mod install;
mod units;

use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::{Context, ui};
use crate::client::{Client, VERSION};
use crate::model::api::{DaemonStatus, DaemonStopRequest};
use crate::model::{Result, Timestamp, exit};
use clap::Subcommand;

/// What to do with the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be the daemon, until stopped
    #[command(after_help = "\
Examples:
  cldpd daemon run
  CLDPD_LOG=debug cldpd daemon run")]
    Run(RunArgs),
    /// Start it, if it does not run
    #[command(after_help = "\
Examples:
  cldpd daemon start
  cldpd --docker-host unix:///run/podman/podman.sock daemon start")]
    Start,
    /// End it; sessions go on without it
    #[command(after_help = "\
Examples:
  cldpd daemon stop
  cldpd daemon stop --stop-sessions")]
    Stop {
        /// Stop all sessions first
        #[arg(long)]
        stop_sessions: bool,
    },
    /// End it and start it again; sessions go on
    #[command(after_help = "\
Examples:
  cldpd daemon restart
  CLDPD_MAX_PARALLEL=4 cldpd daemon restart")]
    Restart,
    /// Make it a service of the user's: systemd starts and keeps it
    Install(install::InstallArgs),
    /// Take back what install did
    Uninstall(install::UninstallArgs),
    /// How it stands
    #[command(after_help = "\
Examples:
  cldpd daemon status
  cldpd daemon status --json | jq .live")]
    Status {
        #[command(flatten)]
        format: FormatArgs,
    },
}

/// Flags of `daemon run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Leave the terminal it was started from: how commands start it
    #[arg(long, hide = true)]
    detached: bool,
}

/// Is the daemon.
pub(super) fn run(context: &mut Context, args: &RunArgs) -> Done {
    crate::daemon::run(crate::daemon::Options {
        home: context.home()?,
        docker_host: context.global.docker_host.clone(),
        detached: args.detached,
        // A client that started us reads it; nobody in a terminal does.
        announce: if args.detached { ui::announce } else { |_| () },
    })?;
    Ok(exit::OK)
}

/// Starts, ends and looks at the daemon.
pub(super) async fn manage(context: &mut Context, command: Command) -> Done {
    match command {
        Command::Run(args) => run(context, &args),
        Command::Start => {
            if Client::find(&context.home()?).await?.is_some() {
                context.ui.note("the daemon runs already");
            }
            let status = context.client().await?.status().await?;
            context.ui.progress(&started(&status));
            Ok(exit::OK)
        }
        Command::Stop { stop_sessions } => {
            match end(context, stop_sessions, false).await? {
                Some(status) => context
                    .ui
                    .progress(&format!("ended, process {}", status.pid)),
                None => context.ui.note("no daemon runs"),
            }
            Ok(exit::OK)
        }
        Command::Restart => {
            end(context, false, true).await?;
            let status = context.client().await?.status().await?;
            context.ui.progress(&started(&status));
            if status.version != VERSION {
                context.ui.note(&format!(
                    "this is version {VERSION}, and a service starts another program; \
                     `cldpd daemon install` makes it this one"
                ));
            }
            Ok(exit::OK)
        }
        Command::Install(args) => install::install(context, &args).await,
        Command::Uninstall(args) => install::uninstall(context, &args).await,
        Command::Status { format } => {
            let status = context.running().await?.status().await?;
            match format.chosen() {
                Format::Table => show(context, &status)?,
                format => context.ui.value(format, &status)?,
            }
            Ok(exit::OK)
        }
    }
}

/// Ends the daemon, if one runs; `restart` when another one follows.
async fn end(
    context: &Context,
    stop_sessions: bool,
    restart: bool,
) -> Result<Option<DaemonStatus>> {
    let Some(client) = Client::find(&context.home()?).await? else {
        return Ok(None);
    };
    client
        .shutdown(&DaemonStopRequest {
            stop_sessions,
            restart,
        })
        .await
        .map(Some)
}

fn started(status: &DaemonStatus) -> String {
    format!("version {}, process {}", status.version, status.pid)
}

/// What runs claim of it by their pods' `memory`.
fn memory(status: &DaemonStatus) -> String {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    match status.memory {
        0 => format!("{} claimed", gib(status.memory_claimed)),
        whole => format!("{} of {} claimed", gib(status.memory_claimed), gib(whole)),
    }
}

fn show(context: &mut Context, status: &DaemonStatus) -> Result<(), crate::cli::error::Failure> {
    let since = crate::cli::time::ago(Timestamp::now(), status.since);
    for (key, value) in [
        ("version", status.version.clone()),
        ("process", status.pid.to_string()),
        ("started", since),
        ("home", status.home.clone()),
        ("socket", status.socket.clone()),
        (
            "sessions",
            format!(
                "{} live of at most {}, {} queued, {} adopted",
                status.live, status.max_parallel, status.queued, status.adopted
            ),
        ),
        ("memory", memory(status)),
        (
            "log",
            status
                .log
                .clone()
                .unwrap_or_else(|| "its standard error".to_owned()),
        ),
        ("commits", status.commits.to_string()),
    ] {
        context.ui.line(&format!("{key:<9} {value}"))?;
    }
    for problem in &status.problems {
        context.ui.note(problem);
    }
    Ok(())
}
