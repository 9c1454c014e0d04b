//! How the shim is called.
//!
//! ```text
//! shim serve [--local] --dir DIR --session ULID --run N --attempt N
//!            [--spool-max BYTES] [--grace MILLISECONDS]
//! shim purge DIR
//! ```

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const SPOOL_MAX: u64 = 256 * 1024 * 1024;
const GRACE: Duration = Duration::from_secs(5);

/// What to do.
pub enum Mode {
    /// Be the shim of an attempt.
    Serve(Options),
    /// Delete what is in a directory.
    Purge(PathBuf),
}

/// Of which attempt, and where.
pub struct Options {
    /// A plain process of this machine, not the first of a container.
    pub local: bool,
    /// The attempt's directory.
    pub dir: PathBuf,
    /// The session's ULID.
    pub session: u128,
    /// The session's run.
    pub run: u32,
    /// The attempt.
    pub attempt: u32,
    /// So much of the spool may be there at once.
    pub spool_max: u64,
    /// So long other runs have when the primary one has ended.
    pub grace: Duration,
}

/// Reads the arguments, without the program's name.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Mode, String> {
    let mut args = args;
    match args.next().as_deref().and_then(|mode| mode.to_str()) {
        Some("purge") => args
            .next()
            .map(|dir| Mode::Purge(PathBuf::from(dir)))
            .ok_or_else(|| "purge what?".to_owned()),
        Some("serve") => serve(args).map(Mode::Serve),
        _ => Err("usage: shim serve ... | shim purge DIR".to_owned()),
    }
}

fn serve(mut args: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let (mut local, mut dir, mut session, mut run, mut attempt) = (false, None, None, None, None);
    let (mut spool_max, mut grace) = (SPOOL_MAX, GRACE);
    while let Some(option) = args.next() {
        let name = option.to_string_lossy().into_owned();
        if name == "--local" {
            local = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} what?"))?;
        let text = value.to_string_lossy();
        let wrong = || format!("{name} {text} makes no sense");
        match name.as_str() {
            "--dir" => dir = Some(PathBuf::from(&value)),
            "--session" => session = Some(ulid(&text).ok_or_else(wrong)?),
            "--run" => run = Some(text.parse().map_err(|_| wrong())?),
            "--attempt" => attempt = Some(text.parse().map_err(|_| wrong())?),
            "--spool-max" => spool_max = text.parse().map_err(|_| wrong())?,
            "--grace" => grace = Duration::from_millis(text.parse().map_err(|_| wrong())?),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    let missing = |name: &str| format!("--{name} is missing");
    Ok(Options {
        local,
        dir: dir.ok_or_else(|| missing("dir"))?,
        session: session.ok_or_else(|| missing("session"))?,
        run: run.ok_or_else(|| missing("run"))?,
        attempt: attempt.ok_or_else(|| missing("attempt"))?,
        spool_max,
        grace,
    })
}

/// 26 digits of Crockford's base 32.
fn ulid(text: &str) -> Option<u128> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if text.len() != 26 || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0u128, |number, byte| {
        let byte = byte.to_ascii_uppercase();
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        Some(number << 5 | digit as u128)
    })
}
