//! The daemon: one for a home, over a Unix socket.
//!
//! [`run`] is its whole life, in order. It can be killed at any moment: what is
//! under way goes on without it, and the next one takes it over.

mod activity;
mod config;
mod endpoint;
mod log;
mod metrics;
mod offline;
mod openapi;
mod respond;
mod routes;
mod server;
mod service;
mod settings;
pub(crate) mod socket;

pub use config::Config;
pub use log::LogFormat;
pub use offline::Offline;
pub use settings::{Origin, Setting};

use crate::actors::System;
use crate::client::Home;
use crate::model::{Error, ErrorCode, Result};
use crate::runtime::docker::DockerConfig;
use activity::Activity;
use server::{Server, Why};
use service::Door;
use std::path::PathBuf;
use std::sync::Arc;

/// How to run the daemon.
#[derive(Clone, Debug)]
pub struct Options {
    /// The home.
    pub home: Home,
    /// The engine's address, over the configuration's.
    pub docker_host: Option<String>,
    /// Started by a client, not in a terminal: leave its session.
    pub detached: bool,
    /// Told one line of JSON: `{"ready":true}` once it serves, or `{"error":{…}}`.
    pub announce: fn(&str),
}

/// The address of the engine that a daemon would look for first if it were
/// started from here with this `--docker-host`; none when that cannot be said.
#[must_use]
pub fn engine_from_here(home: &Home, docker_host: Option<String>) -> Option<String> {
    let config = Config::read(home).ok()?.with_docker_host(docker_host);
    let user_home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let variable = |name: &str| std::env::var_os(name);
    DockerConfig::read(config.docker_host, user_home.map(PathBuf::from), variable).address()
}

/// Runs the daemon until it is told to end, or has nothing left to do.
///
/// # Errors
/// `refused` when another daemon has the home; `journal_failed`; what is wrong
/// with the configuration or the socket.
pub fn run(options: Options) -> Result<()> {
    let announce = options.announce;
    // Otherwise a person has started it, who is told by the command itself.
    let client_waits = options.detached;
    let result = live(options);
    if let Err(error) = &result
        && client_waits
    {
        announce(&serde_json::json!({ "error": error }).to_string());
    }
    result
}

fn live(options: Options) -> Result<()> {
    let Options {
        home,
        docker_host,
        detached,
        announce,
    } = options;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if detached {
        // Fails only for a process that leads a group, which then needs it not.
        let _ = rustix::process::setsid();
    }
    home.make()?;
    let door = Door::find(&home)?;
    let config = Config::read(&home)?.with_docker_host(docker_host);
    let log = begin_log(&home, &config, detached)?;
    let lock = socket::lock(&home)?;
    let user_home = std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    let settings = config.settings(&home, user_home);
    System::block_on(async {
        let system = System::open(settings).await?;
        let served = serve(&home, &door, &config, log, &system, announce).await;
        service::stopping();
        system.leave().await;
        served
    })??;
    // Held until nothing of ours writes any more.
    drop(lock);
    Ok(())
}

/// Where the log goes: to a file, or to the terminal (or service manager) that
/// this was started from.
fn begin_log(home: &Home, config: &Config, detached: bool) -> Result<Option<PathBuf>> {
    if !detached {
        log::begin(config.log_format, std::io::stderr());
        return Ok(None);
    }
    let path = home.log();
    let file = log::Rotating::open(&path).map_err(|error| {
        let message = format!("cannot write the daemon's log {}: {error}", path.display());
        Error::new(ErrorCode::DaemonUnavailable, message)
    })?;
    log::begin(config.log_format, file.with_stderr());
    Ok(Some(path))
}

async fn serve(
    home: &Home,
    door: &Door,
    config: &Config,
    log: Option<PathBuf>,
    system: &System,
    announce: fn(&str),
) -> Result<()> {
    let activity = Arc::new(Activity::new());
    let mut announced = false;
    loop {
        let listening = door.listen(home)?;
        let server = Server::new(
            home.clone(),
            config,
            log.clone(),
            system.handle(),
            activity.clone(),
        );
        if !announced {
            announce(r#"{"ready":true}"#);
            service::ready();
            tracing::info!(pid = std::process::id(), home = %home.root().display(), "ready");
            announced = true;
        }
        let why = server.run(listening.listener).await?;
        if let Some(made) = listening.made {
            made.remove();
        }
        tracing::info!(?why, "no longer listening");
        match why {
            Why::Asked => return Ok(()),
            // Something may have come in at the last moment.
            Why::Idle if !system.handle().is_busy() => return Ok(()),
            Why::Idle => {}
        }
    }
}

/// The daemon was stopped, for good as far as it knows.
fn stopped() -> Error {
    Error::new(ErrorCode::DaemonUnavailable, "the daemon was stopped")
        .hint("sessions work on without it: `cldpd sessions` starts it again and shows them")
}

/// The daemon is going away.
fn leaving() -> Error {
    Error::new(ErrorCode::Stopping, "the daemon is stopping").hint("try again in a moment")
}
