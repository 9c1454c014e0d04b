//! `cldpd doctor`.

use crate::cli::args::{Format, FormatArgs};
use crate::cli::error::Done;
use crate::cli::ui::Style;
use crate::cli::{Context, credentials};
use crate::client::Home;
use crate::model::api::{Check, CheckState};
use crate::model::{Error, ErrorCode, Timestamp, exit};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Says of each thing how it stands and what to do about it: home, socket, journal,
disk, engine (with a container that is started and removed again), removals
that are not finished, and whether you have credentials for agents.

Exits with 1 when something does not work.")]
pub struct Args {
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(context: &mut Context, args: Args) -> Done {
    let home = context.home()?;
    let mut checks = vec![check_home(&home)];
    // The daemon that runs may have read another one.
    if let Err(error) = context.config() {
        checks.push(Check::failed("config", error));
    }
    let theirs = match context.client().await {
        Ok(client) => client.doctor().await,
        Err(error) => Err(error),
    };
    checks.extend(check_socket(&home));
    match theirs {
        Ok(theirs) => {
            checks.push(Check::ok("daemon", "answers"));
            checks.extend(theirs);
        }
        Err(error) => checks.push(Check::failed("daemon", error)),
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let user_home = std::env::var_os("HOME").map(PathBuf::from);
    checks.extend(credentials::checks(
        &is_set,
        user_home.as_deref(),
        Timestamp::now(),
    ));
    match args.format.chosen() {
        Format::Table => {
            for check in &checks {
                show(context, check)?;
            }
        }
        format => context.ui.items(format, &checks)?,
    }
    let bad = checks.iter().any(|check| check.state == CheckState::Failed);
    Ok(if bad { exit::FAILED } else { exit::OK })
}

fn show(context: &mut Context, check: &Check) -> Result<(), crate::cli::error::Failure> {
    let (style, word) = match check.state {
        CheckState::Ok => (Style::Good, "ok     "),
        CheckState::Warning => (Style::Warning, "warning"),
        CheckState::Failed => (Style::Bad, "failed "),
    };
    let word = context.ui.paint(style, word);
    context
        .ui
        .line(&format!("{word}  {}: {}", check.name, check.message))?;
    if let Some(hint) = &check.hint {
        context.ui.line(&format!("         hint: {hint}"))?;
    }
    Ok(())
}

/// Whether the home is there, ours, and nobody else's.
fn check_home(home: &Home) -> Check {
    let root = home.root().display();
    let (state, message, hint) = match std::fs::metadata(home.root()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => (
            CheckState::Ok,
            format!("{root} is not there yet and is made when it is needed"),
            None,
        ),
        Err(e) => (
            CheckState::Failed,
            format!("{root} cannot be looked at: {e}"),
            Some("choose another home with --home or CLDPD_HOME".to_owned()),
        ),
        Ok(found) if !found.is_dir() => (
            CheckState::Failed,
            format!("{root} is no directory"),
            Some("choose another home with --home or CLDPD_HOME".to_owned()),
        ),
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => (
            CheckState::Failed,
            format!("{root} belongs to another user (uid {})", found.uid()),
            Some("choose a home of your own with --home or CLDPD_HOME".to_owned()),
        ),
        Ok(found) if found.mode() & 0o077 != 0 => (
            CheckState::Warning,
            format!("{root} is open to others (mode {:o})", found.mode() & 0o777),
            Some(format!("chmod 700 {root}")),
        ),
        Ok(_) => (CheckState::Ok, format!("{root}"), None),
    };
    Check {
        name: "home".to_owned(),
        state,
        message,
        hint,
    }
}

/// Whether the daemon's socket is for its owner only; nothing where none is.
fn check_socket(home: &Home) -> Option<Check> {
    let path = home.socket();
    let shown = path.display();
    let found = std::fs::symlink_metadata(&path).ok()?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        let message = format!("{shown} belongs to another user (uid {})", found.uid());
        let error = Error::new(ErrorCode::DaemonUnavailable, message)
            .hint("choose a home of your own with --home or CLDPD_HOME");
        return Some(Check::failed("socket", error));
    }
    Some(match found.mode() & 0o077 {
        0 => Check::ok("socket", shown.to_string()),
        _ => Check::warning(
            "socket",
            format!(
                "{shown} is open to others (mode {:o})",
                found.mode() & 0o777
            ),
            format!("chmod 600 {shown}"),
        ),
    })
}
