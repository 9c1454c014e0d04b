//! The commands: one file for each verb.

mod attach;
mod completion;
mod config;
mod cp;
mod daemon;
mod demo;
mod doctor;
mod events;
mod exec;
mod gc;
mod help;
mod inspect;
mod journal;
mod kill;
mod logs;
mod man;
mod pod;
mod pods;
mod resume;
mod rm;
mod search;
mod sessions;
mod start;
mod stats;
mod stop;
#[cfg(test)]
mod tests;
mod version;
mod wait;

use super::Context;
use super::error::Done;
use crate::model::{Error, ErrorCode};
use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dispatch sessions: one for each pod
    Start(start::Args),
    /// A further prompt to a session
    Resume(resume::Args),
    /// List sessions
    #[command(visible_aliases = ["ps", "ls"])]
    Sessions(sessions::Args),
    /// What sessions said
    Logs(logs::Args),
    /// Search what all sessions said, newest first
    Search(search::Args),
    /// What agents used: tokens, money, time
    Stats(stats::Args),
    /// Follow a session live
    Attach(attach::Args),
    /// Events of all sessions
    Events(events::Args),
    /// Run a command beside a session's agent
    Exec(exec::Args),
    /// Wait for sessions to end
    Wait(wait::Args),
    /// Stop sessions: SIGTERM, then SIGKILL
    Stop(stop::Args),
    /// Send sessions a signal
    Kill(kill::Args),
    /// Copy files and directories into and out of sessions
    Cp(cp::Args),
    /// Everything known of sessions, as JSON
    Inspect(inspect::Args),
    /// Remove what ended sessions left
    Rm(rm::Args),
    /// Show, and remove, what nobody needs any more
    Gc(gc::Args),
    /// List pods
    Pods(pods::Args),
    /// Make, show and check pods
    #[command(subcommand)]
    Pod(pod::Command),
    /// Start, stop and look at the daemon
    #[command(subcommand)]
    Daemon(daemon::Command),
    /// Look after the journal: what every session is kept in
    #[command(subcommand)]
    Journal(journal::Command),
    /// The settings that hold here, and where each came from
    Config(config::Args),
    /// Look whether everything is as it should be
    Doctor(doctor::Args),
    /// Show on this machine what cldpd does
    Demo(demo::Args),
    /// Completions for a shell
    Completion(completion::Args),
    /// The manual pages
    Man(man::Args),
    /// The version
    Version(version::Args),
    /// Help on a command, or on exit-codes
    Help(help::Args),
}

/// Runs a command.
pub(super) fn run(context: &mut Context, command: Command) -> Done {
    match command {
        // It makes a runtime of its own, which cannot be made inside ours.
        Command::Daemon(daemon::Command::Run(args)) => daemon::run(context, &args),
        Command::Completion(args) => completion::run(context, &args),
        Command::Man(args) => man::run(context, &args),
        Command::Help(args) => help::run(context, &args),
        other => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| {
                    Error::new(ErrorCode::Internal, format!("cannot make a runtime: {e}"))
                })?;
            let done = runtime.block_on(run_async(context, other));
            // Nothing that is still under way is waited for.
            runtime.shutdown_background();
            done
        }
    }
}

async fn run_async(context: &mut Context, command: Command) -> Done {
    match command {
        Command::Start(args) => start::run(context, args).await,
        Command::Resume(args) => resume::run(context, args).await,
        Command::Sessions(args) => sessions::run(context, args).await,
        Command::Logs(args) => logs::run(context, args).await,
        Command::Search(args) => search::run(context, args).await,
        Command::Stats(args) => stats::run(context, args).await,
        Command::Attach(args) => attach::run(context, args).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Exec(args) => exec::run(context, args).await,
        Command::Wait(args) => wait::run(context, args).await,
        Command::Stop(args) => stop::run(context, args).await,
        Command::Kill(args) => kill::run(context, args).await,
        Command::Cp(args) => cp::run(context, args).await,
        Command::Inspect(args) => inspect::run(context, args).await,
        Command::Rm(args) => rm::run(context, args).await,
        Command::Gc(args) => gc::run(context, args).await,
        Command::Pods(args) => pods::run(context, args).await,
        Command::Pod(command) => pod::run(context, command).await,
        Command::Daemon(command) => daemon::manage(context, command).await,
        Command::Journal(command) => journal::run(context, command).await,
        Command::Config(args) => config::run(context, args).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Demo(args) => demo::run(context, args).await,
        Command::Version(args) => version::run(context, args).await,
        Command::Completion(args) => completion::run(context, &args),
        Command::Man(args) => man::run(context, &args),
        Command::Help(args) => help::run(context, &args),
    }
}
