//! What a pod takes from this machine: mounts and copies, and the paths of both.
//!
//! Invariant: what comes out is absolute and was there when it was looked at.

use super::error::Position;
use super::keys::{COPY, MOUNT};
use super::reader::{Object, Reader, Text, shown};
use crate::model::spec::{CopyFile, Mount};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What paths in the file are relative to.
pub(super) struct Places<'a> {
    /// The pod's directory.
    pub(super) pod: &'a Path,
    /// The user's home, for `~`.
    pub(super) home: Option<&'a Path>,
}

/// `mounts`, and the sources of optional ones that are not there.
pub(super) fn mounts(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    places: &Places<'_>,
) -> (Vec<Mount>, Vec<PathBuf>) {
    let (mut mounts, mut missing) = (Vec::new(), Vec::new());
    let mut targets = BTreeSet::new();
    for (path, item) in reader.items(object, "mounts", "a list of objects") {
        let Some(mount) = reader.object(&path, item, &MOUNT) else {
            continue;
        };
        let read_only = reader.flag(&mount, "readOnly");
        let optional = reader.flag(&mount, "optional");
        let source = source(reader, &mount, "source", places);
        let target = target(reader, &mount, &mut targets, Below::Root);
        let (Some((at, source)), Some(target)) = (source, target) else {
            continue;
        };
        match std::fs::metadata(&source) {
            Ok(_) => mounts.push(Mount {
                source,
                target,
                read_only,
            }),
            Err(_) if optional => missing.push(source),
            Err(error) => reader.missing("mount source", at, source, &error),
        }
    }
    (mounts, missing)
}

/// `copy`, without the optional ones whose source is not there.
pub(super) fn copies(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    places: &Places<'_>,
) -> Vec<CopyFile> {
    let mut copies = Vec::new();
    let mut targets = BTreeSet::new();
    for (path, item) in reader.items(object, "copy", "a list of objects") {
        let Some(copy) = reader.object(&path, item, &COPY) else {
            continue;
        };
        let optional = reader.flag(&copy, "optional");
        let source = source(reader, &copy, "source", places);
        let target = target(reader, &copy, &mut targets, Below::RootOrHome);
        let (Some((at, source)), Some(target)) = (source, target) else {
            continue;
        };
        match std::fs::metadata(&source) {
            Ok(_) => copies.push(CopyFile { source, target }),
            Err(_) if optional => {}
            Err(error) => reader.missing("copy source", at, source, &error),
        }
    }
    copies
}

/// The absolute path that a key names, whether it is there or not.
pub(super) fn source(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    key: &str,
    places: &Places<'_>,
) -> Option<(Position, PathBuf)> {
    let Text { at, key, text } = reader.word(object, key)?;
    let Some(rest) = text.strip_prefix('~') else {
        return Some((at, tidy(&places.pod.join(text))));
    };
    if !rest.is_empty() && !rest.starts_with('/') {
        let user = shown(text.split('/').next().unwrap_or(&text));
        let problem = format!("is \"{}\": the form {user}/ is not supported", shown(&text));
        let hint = "write ~/ for your own home, or the whole path; ./~ for a name that begins so";
        reader.wrong_value(&key, at, problem, Some(hint));
        return None;
    }
    let Some(home) = places.home else {
        let problem = "has a ~, but where your home is is not known";
        reader.wrong_value(&key, at, problem, Some("set HOME, or write the whole path"));
        return None;
    };
    Some((at, tidy(&home.join(rest.trim_start_matches('/')))))
}

/// A path without `.` and doubled or trailing slashes. `..` stays: what it
/// means depends on links.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Where a target may be.
#[derive(Clone, Copy)]
enum Below {
    /// Anywhere, as an absolute path.
    Root,
    /// There, or below the home of the container's user.
    RootOrHome,
}

/// A path in the container: without `..`, not where the shim lives, not taken twice.
fn target(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    taken: &mut BTreeSet<String>,
    below: Below,
) -> Option<String> {
    let Text { at, key, text } = reader.word(object, "target")?;
    let mut refuse = |problem: &str| {
        let problem = format!("{problem}: \"{}\"", shown(&text));
        reader.wrong_value(&key, at, problem, None);
        None
    };
    let in_home = match below {
        Below::Root => None,
        Below::RootOrHome if text == "~" => Some(""),
        Below::RootOrHome => text.strip_prefix("~/"),
    };
    let (base, path) = match (in_home, below) {
        (Some(path), _) => ("~/", path),
        (None, _) if text.starts_with('/') => ("/", text.as_str()),
        (None, Below::Root) => {
            return refuse("has to be an absolute path in the container");
        }
        (None, Below::RootOrHome) => {
            return refuse("has to be an absolute path in the container, or begin with ~/");
        }
    };
    let parts: Vec<&str> = path
        .split('/')
        .filter(|p| !matches!(*p, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return refuse("must not have .. in it");
    }
    match parts.first() {
        None if base == "/" => return refuse("must not be the whole file system"),
        None => return refuse("must not be the whole home, but something in it"),
        Some(&".cldpd") if base == "/" => {
            return refuse("must not be at or below /.cldpd, which is cldpd's own");
        }
        Some(_) => {}
    }
    let target = format!("{base}{}", parts.join("/"));
    if !taken.insert(target.clone()) {
        return refuse("is taken by an earlier one");
    }
    Some(target)
}
