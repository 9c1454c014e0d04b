//! The time zone here, by its name in the zone database: agents get it as `TZ`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// So many links are followed from `/etc/localtime`.
const LINKS_MAX: usize = 8;
/// Longer names of zones do not exist.
const NAME_MAX: usize = 255;

/// The zone of this process and machine.
#[must_use]
pub fn own() -> String {
    find(std::env::var_os("TZ"), Path::new("/"))
}

/// The zone that `tz` names, else that of the machine whose files are beneath
/// `root`, else UTC.
fn find(tz: Option<OsString>, root: &Path) -> String {
    tz.and_then(|tz| tz.into_string().ok())
        .and_then(|tz| of_variable(&tz, root))
        .or_else(|| of_file(&root.join("etc/timezone")))
        .or_else(|| of_link(PathBuf::from("/etc/localtime"), root))
        .unwrap_or_else(|| "UTC".to_owned())
}

fn of_variable(tz: &str, root: &Path) -> Option<String> {
    let tz = tz.strip_prefix(':').unwrap_or(tz);
    if tz == "Local" {
        return None;
    }
    if tz.starts_with('/') {
        return of_link(PathBuf::from(tz), root);
    }
    named(tz)
}

fn of_file(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))?;
    named(line)
}

/// Follows links until one leads beneath a `zoneinfo`.
fn of_link(mut path: PathBuf, root: &Path) -> Option<String> {
    for _ in 0..LINKS_MAX {
        if let Some(name) = beneath_zoneinfo(&path) {
            return named(name);
        }
        let target = std::fs::read_link(root.join(path.strip_prefix("/").ok()?)).ok()?;
        // Joining an absolute target gives the target.
        path = normal(&path.parent()?.join(target));
    }
    None
}

fn beneath_zoneinfo(path: &Path) -> Option<&str> {
    let (_, name) = path.to_str()?.rsplit_once("/zoneinfo/")?;
    let plain = ["posix/", "right/"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix));
    Some(plain.unwrap_or(name))
}

/// The path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

fn named(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_graphic();
    let sensible = !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(fits);
    sensible.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// `TZ`, `/etc/timezone`, the target of `/etc/localtime`, and the zone.
    type Case = (
        Option<&'static str>,
        Option<&'static str>,
        Option<&'static str>,
        &'static str,
    );

    const CASES: [Case; 20] = [
        (None, None, None, "UTC"),
        (
            Some("Europe/Bucharest"),
            Some("Asia/Tokyo"),
            None,
            "Europe/Bucharest",
        ),
        (Some(":Europe/Bucharest"), None, None, "Europe/Bucharest"),
        (
            Some("CET-1CEST,M3.5.0,M10.5.0/3"),
            None,
            None,
            "CET-1CEST,M3.5.0,M10.5.0/3",
        ),
        (
            Some(":/usr/share/zoneinfo/Asia/Tokyo"),
            None,
            None,
            "Asia/Tokyo",
        ),
        (
            Some("/etc/localtime"),
            Some("Asia/Tokyo"),
            Some("/usr/share/zoneinfo/Africa/Cairo"),
            "Africa/Cairo",
        ),
        (Some("/nowhere"), Some("Asia/Tokyo"), None, "Asia/Tokyo"),
        (Some("Local"), Some("Asia/Tokyo"), None, "Asia/Tokyo"),
        (Some(":Local"), Some("Asia/Tokyo"), None, "Asia/Tokyo"),
        (Some(""), Some("Asia/Tokyo"), None, "Asia/Tokyo"),
        (Some(":"), Some("Asia/Tokyo"), None, "Asia/Tokyo"),
        (Some("two words"), None, None, "UTC"),
        (
            None,
            Some("  Asia/Tokyo  \n"),
            Some("/usr/share/zoneinfo/Africa/Cairo"),
            "Asia/Tokyo",
        ),
        (
            None,
            Some("# a comment\n\nAsia/Tokyo\n"),
            None,
            "Asia/Tokyo",
        ),
        (
            None,
            Some("\n"),
            Some("/usr/share/zoneinfo/Africa/Cairo"),
            "Africa/Cairo",
        ),
        (
            None,
            None,
            Some("../usr/share/zoneinfo/America/Argentina/Ushuaia"),
            "America/Argentina/Ushuaia",
        ),
        (
            None,
            None,
            Some("/usr/share/zoneinfo/posix/Africa/Cairo"),
            "Africa/Cairo",
        ),
        (
            None,
            None,
            Some("/var/db/timezone/zoneinfo/Africa/Cairo"),
            "Africa/Cairo",
        ),
        (None, None, Some("/etc/other"), "Asia/Seoul"),
        (None, None, Some("/etc/localtime"), "UTC"),
    ];

    #[test]
    fn the_zone_is_found_where_it_is_said() {
        for (tz, timezone, localtime, expected) in CASES {
            let root = tempfile::tempdir().expect("a directory");
            let etc = root.path().join("etc");
            std::fs::create_dir(&etc).expect("our own directory");
            if let Some(text) = timezone {
                std::fs::write(etc.join("timezone"), text).expect("our own directory");
            }
            symlink("/usr/share/zoneinfo/Asia/Seoul", etc.join("other")).expect("a link");
            if let Some(target) = localtime {
                symlink(target, etc.join("localtime")).expect("a link");
            }
            let found = find(tz.map(OsString::from), root.path());
            assert_eq!(found, expected, "{tz:?} {timezone:?} {localtime:?}");
        }
    }

    #[test]
    fn a_localtime_that_is_no_link_says_nothing() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("etc")).expect("our own directory");
        std::fs::write(root.path().join("etc/localtime"), "TZif2").expect("our own directory");
        assert_eq!(find(None, root.path()), "UTC");
    }
}
