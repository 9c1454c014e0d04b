//! `cldpd daemon install` and `uninstall`: the daemon as a service of the user.

use super::units::{Place, Units};
use crate::cli::Context;
use crate::cli::error::{Done, plain, usage};
use crate::model::{Error, ErrorCode, Result, exit};
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Flags of `daemon install`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes a systemd user unit and its socket to ~/.config/systemd/user, and starts
them: the daemon is there after each login, and whenever a command connects.
Sessions outlive it as ever. What is set of DOCKER_HOST and its like goes into
the unit. To have it from boot on: loginctl enable-linger.

Examples:
  cldpd daemon install
  cldpd daemon install --print
  cldpd --home ~/second daemon install --name cldpd-work")]
pub struct InstallArgs {
    /// The service's name; one for each home
    #[arg(long, default_value = "cldpd", value_parser = name)]
    name: String,
    /// Show the units, and change nothing
    #[arg(long)]
    print: bool,
    /// Write the units, and start nothing
    #[arg(long, conflicts_with = "print")]
    no_start: bool,
}

/// Flags of `daemon uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The daemon ends with its service; sessions go on, and the next command starts a
daemon as if there had never been a service.

Examples:
  cldpd daemon uninstall
  cldpd daemon uninstall --name cldpd-work")]
pub struct UninstallArgs {
    /// The service's name
    #[arg(long, default_value = "cldpd", value_parser = name)]
    name: String,
}

fn name(text: &str) -> std::result::Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, `-`, `_` and `.`, 64 at most".to_owned()),
    }
}

pub(super) async fn install(context: &mut Context, args: &InstallArgs) -> Done {
    let exe = std::env::current_exe().map_err(|error| {
        let message = format!("this program's own path is not known: {}", plain(&error));
        Error::new(ErrorCode::Internal, message)
    })?;
    let home = context.home()?;
    let engine = context.global.docker_host.as_deref();
    let units = Units::new(&args.name, &exe, &home, engine, std::env::vars_os())?;
    let dir = directory()?;
    let files = [
        (dir.join(units.socket_name()), units.socket()),
        (dir.join(units.service_name()), units.service()),
    ];
    if args.print {
        for (path, text) in &files {
            context.ui.line(&format!("# {}", path.display()))?;
            context.ui.line(text)?;
        }
        return Ok(exit::OK);
    }
    for (path, _) in &files {
        is_ours(path, Some(&home.root().display().to_string()))?;
    }
    fs::create_dir_all(&dir).map_err(|error| failed("make", &dir, &error))?;
    for (path, text) in &files {
        write(path, text)?;
        context.ui.progress(&format!("wrote {}", path.display()));
    }
    if args.no_start {
        return Ok(exit::OK);
    }
    // One that a command started would keep the service from its home.
    super::end(context, false, true).await?;
    let (socket, service) = (units.socket_name(), units.service_name());
    systemctl(&["daemon-reload"]).await?;
    systemctl(&["enable", &socket, &service]).await?;
    // Those of a former installation had other settings perhaps.
    systemctl(&["restart", &socket, &service]).await?;
    context.ui.progress(&format!("{service} runs"));
    Ok(exit::OK)
}

pub(super) async fn uninstall(context: &mut Context, args: &UninstallArgs) -> Done {
    let dir = directory()?;
    let place = Place::new(&args.name);
    let mut found = false;
    for unit in [place.socket_name(), place.service_name()] {
        found |= is_ours(&dir.join(unit), None)?;
    }
    if !found {
        let message = format!("there is no service {} in {}", args.name, dir.display());
        return Err(usage(message).hint("name it with --name").into());
    }
    let (socket, service) = (place.socket_name(), place.service_name());
    systemctl(&["disable", "--now", &socket, &service]).await?;
    for unit in [&socket, &service] {
        let path = dir.join(unit);
        match fs::remove_file(&path) {
            Ok(()) => context.ui.progress(&format!("removed {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &path, &error).into()),
        }
    }
    systemctl(&["daemon-reload"]).await?;
    Ok(exit::OK)
}

/// Where systemd looks for the units that a user made.
fn directory() -> Result<PathBuf> {
    let variable = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let config = variable("XDG_CONFIG_HOME");
    let config = config.or_else(|| variable("HOME").map(|home| home.join(".config")));
    match config {
        Some(config) => Ok(config.join("systemd/user")),
        None => Err(usage("there is no place for a unit: HOME is not set").hint("set HOME")),
    }
}

/// Whether there is a unit that was made here, and for the home `wanted`.
///
/// # Errors
/// `refused` when there is one that is somebody else's.
fn is_ours(path: &Path, wanted: Option<&str>) -> Result<bool> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read", path, &error)),
    };
    let refused = |why: String| {
        let message = format!("{} {why}", path.display());
        Error::new(ErrorCode::Refused, message)
    };
    match (Units::home_of(&text), wanted) {
        (None, _) => Err(refused("was not made by `cldpd daemon install`".to_owned())
            .hint("move it away, or choose another name with --name")),
        (Some(home), Some(wanted)) if home != wanted => {
            Err(refused(format!("is for the home {home}")).hint("choose another name with --name"))
        }
        (Some(_), _) => Ok(true),
    }
}

/// Puts a whole file in the place of what is there.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    fs::File::create(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| failed("write", path, &error))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let message = format!("cannot {what} {}: {}", path.display(), plain(error));
    Error::new(ErrorCode::Internal, message)
}

/// Asks the user's service manager for something.
async fn systemctl(args: &[&str]) -> Result<()> {
    let asked = format!("systemctl --user {}", args.join(" "));
    let hint = "the units are in place: in a session of yours that systemd knows, `systemctl \
                --user` works; without systemd, commands start the daemon by themselves";
    let failed = |why: &str| {
        let message = format!("`{asked}` failed: {why}");
        Error::new(ErrorCode::DaemonUnavailable, message).hint(hint)
    };
    let output = Command::new("systemctl")
        .arg("--user")
        .args(args.iter().map(OsStr::new))
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(&plain(&error)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match said.trim() {
        "" => Err(failed(&output.status.to_string())),
        said => Err(failed(said)),
    }
}
