//! `pod.json` as a whole: what its values mean, and whether they can be used.
//!
//! Invariant: what comes out is checked and complete; paths are absolute.

use super::error::{PodError, Position};
use super::json;
use super::keys::{KEYS, MOUNT_KEYS, Object, Reader, Text, shown};
use crate::model::spec::{Keep, Mount, Permissions};
use crate::model::{AgentKind, PodName, RuntimeName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The contents of a `pod.json`. Deliberately not `Debug`: `env` holds secrets.
#[derive(Default)]
pub(super) struct PodFile {
    pub(super) image: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) workdir: Option<String>,
    pub(super) inherit_env: Vec<String>,
    pub(super) mounts: Vec<Mount>,
    pub(super) missing_mounts: Vec<PathBuf>,
    pub(super) agent: Option<AgentKind>,
    pub(super) model: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) permissions: Permissions,
    pub(super) group_add: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) network: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) keep: Keep,
    pub(super) max_parallel: Option<u32>,
    pub(super) runtime: Option<RuntimeName>,
}

/// What paths in the file are relative to.
pub(super) struct Places<'a> {
    /// The pod's directory.
    pub(super) pod: &'a Path,
    /// The user's home, for `~`.
    pub(super) home: Option<&'a Path>,
}

/// Reads the text of the file `file`.
pub(super) fn read(file: &Path, text: &[u8], places: &Places<'_>) -> (PodFile, Vec<PodError>) {
    let node = match json::parse(text) {
        Ok(Some(node)) => node,
        Ok(None) => return (PodFile::default(), Vec::new()),
        Err(error) => {
            let problem = PodError::Syntax {
                file: file.to_owned(),
                at: error.at,
                cause: error.cause,
            };
            return (PodFile::default(), vec![problem]);
        }
    };
    let mut reader = Reader {
        file,
        problems: Vec::new(),
    };
    let Some(object) = reader.object("", &node, KEYS) else {
        return (PodFile::default(), reader.problems);
    };
    let mut pod = PodFile {
        image: image(&mut reader, &object),
        env: values(reader.table(&object, "env")),
        build_args: values(reader.table(&object, "buildArgs")),
        workdir: workdir(&mut reader, &object),
        inherit_env: inherit_env(&mut reader, &object),
        agent: reader.choice(
            &object,
            "agent",
            "\"claude\" or \"command\"",
            &[
                ("claude", AgentKind::Claude),
                ("command", AgentKind::Command),
            ],
        ),
        model: model(&mut reader, &object),
        args: texts(reader.texts(&object, "args", false)),
        entrypoint: entrypoint(&mut reader, &object),
        permissions: reader
            .choice(
                &object,
                "permissions",
                "\"bypass\" or \"default\"",
                &[
                    ("bypass", Permissions::Bypass),
                    ("default", Permissions::Default),
                ],
            )
            .unwrap_or_default(),
        group_add: group_add(&mut reader, &object),
        extra_hosts: extra_hosts(&mut reader, &object),
        network: reader.word(&object, "network").map(|network| network.text),
        labels: labels(&mut reader, &object),
        keep: keep(&mut reader, &object),
        max_parallel: max_parallel(&mut reader, &object),
        runtime: reader.choice(
            &object,
            "runtime",
            "\"docker\" or \"local\"",
            &[
                ("docker", RuntimeName::Docker),
                ("local", RuntimeName::Local),
                ("fake", RuntimeName::Fake),
            ],
        ),
        ..PodFile::default()
    };
    mounts(&mut reader, &object, places, &mut pod);
    let mut problems = reader.problems;
    problems.sort_by_key(position);
    (pod, problems)
}

/// Where a problem of the file stands: they are told from top to bottom.
fn position(problem: &PodError) -> Position {
    match problem {
        PodError::Syntax { at, .. }
        | PodError::UnknownKey { at, .. }
        | PodError::UnsupportedKey { at, .. }
        | PodError::DuplicateKey { at, .. }
        | PodError::MissingKey { at, .. }
        | PodError::WrongType { at, .. }
        | PodError::WrongValue { at, .. }
        | PodError::MissingMount { at, .. } => *at,
        PodError::Name(_)
        | PodError::NotFound { .. }
        | PodError::NotADirectory { .. }
        | PodError::BrokenLink { .. }
        | PodError::NoDockerfile { .. }
        | PodError::Unreadable { .. }
        | PodError::Unwritable { .. }
        | PodError::Exists { .. }
        | PodError::Repository { .. }
        | PodError::Several { .. } => Position { line: 0, column: 0 },
    }
}

fn values(table: BTreeMap<String, (Position, String)>) -> BTreeMap<String, String> {
    let value = |(name, (_, value))| (name, value);
    table.into_iter().map(value).collect()
}

fn texts(list: Vec<Text>) -> Vec<String> {
    list.into_iter().map(|text| text.text).collect()
}

/// An image reference: `[host[:port]/]path[:tag][@digest]`, the path in lower case.
fn image(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<String> {
    let image = reader.word(object, "image")?;
    let text = &image.text;
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    let ends_well = |c: char| c.is_ascii_alphanumeric();
    if !text.chars().all(legal) || !text.starts_with(ends_well) || !text.ends_with(ends_well) {
        let problem = format!("is no image name: \"{}\"", shown(text));
        reader.wrong_value(&image.key, image.at, problem, Some("as in \"name:tag\""));
        return None;
    }
    let name = text.split('@').next().unwrap_or(text);
    // The first part is a host only if it looks like one; hosts may have capitals.
    let path_start = match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) => host.len() + 1,
        _ => 0,
    };
    let (_, last) = name.rsplit_once('/').unwrap_or(("", name));
    let tag = last.find(':').map_or(0, |colon| last.len() - colon);
    let path = name.get(path_start..name.len() - tag).unwrap_or_default();
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        let problem = format!("is no image name: \"{}\" has capitals", shown(path));
        let hint = format!("write {}", path.to_lowercase());
        reader.wrong_value(&image.key, image.at, problem, Some(&hint));
        return None;
    }
    Some(image.text)
}

fn workdir(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<String> {
    let workdir = reader.word(object, "workdir")?;
    if !workdir.text.starts_with('/') {
        let problem = format!(
            "has to be an absolute path, but is \"{}\"",
            shown(&workdir.text)
        );
        reader.wrong_value(&workdir.key, workdir.at, problem, None);
        return None;
    }
    Some(workdir.text)
}

fn inherit_env(reader: &mut Reader<'_>, object: &Object<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for name in reader.texts(object, "inheritEnv", false) {
        if name.text.is_empty() || name.text.contains('=') {
            // A value may have been written behind the name: it is not repeated here.
            let hint = Some("write the name only; values belong into \"env\"");
            reader.wrong_value(&name.key, name.at, "is no variable's name", hint);
        } else if !names.contains(&name.text) {
            names.push(name.text);
        }
    }
    names
}

/// A model's name becomes an argument of its own, so it must not look like an option.
fn model(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<String> {
    let model = reader.word(object, "model")?;
    if model.text.starts_with('-') {
        let problem = format!("is no model's name: \"{}\"", shown(&model.text));
        reader.wrong_value(&model.key, model.at, problem, None);
        return None;
    }
    Some(model.text)
}

fn entrypoint(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<Vec<String>> {
    let at = object.get("entrypoint")?.at;
    let before = reader.problems.len();
    let words = texts(reader.texts(object, "entrypoint", false));
    if reader.problems.len() > before {
        return None;
    }
    if words.first().is_none_or(String::is_empty) {
        let problem = "has to begin with a program";
        reader.wrong_value("entrypoint", at, problem, Some("leave the key out"));
        return None;
    }
    Some(words)
}

fn group_add(reader: &mut Reader<'_>, object: &Object<'_>) -> Vec<String> {
    let mut groups = Vec::new();
    for group in reader.texts(object, "groupAdd", true) {
        if group.text.is_empty() || group.text.contains([':', ' ']) {
            let problem = format!("is no group's name or number: \"{}\"", shown(&group.text));
            reader.wrong_value(&group.key, group.at, problem, None);
            continue;
        }
        groups.push(group.text);
    }
    groups
}

fn extra_hosts(reader: &mut Reader<'_>, object: &Object<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for host in reader.texts(object, "extraHosts", false) {
        match host.text.split_once(':') {
            Some((name, address)) if !name.is_empty() && !address.is_empty() => {
                hosts.push(host.text);
            }
            _ => {
                let problem = format!("has to be \"name:address\": \"{}\"", shown(&host.text));
                reader.wrong_value(&host.key, host.at, problem, None);
            }
        }
    }
    hosts
}

fn labels(reader: &mut Reader<'_>, object: &Object<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, (at, value)) in reader.table(object, "labels") {
        if name == "cldpd" || name.starts_with("cldpd.") {
            let key = format!("labels.{}", shown(&name));
            let problem = "is cldpd's own: labels that begin with \"cldpd.\" are not free";
            reader.wrong_value(&key, at, problem, None);
            continue;
        }
        labels.insert(name, value);
    }
    labels
}

fn keep(reader: &mut Reader<'_>, object: &Object<'_>) -> Keep {
    const EXPECTED: &str = "\"never\", \"always\" or a number of days from 1";
    let Some(node) = object.get("keep") else {
        return Keep::default();
    };
    let keep = if let json::Value::Text(_) = node.value {
        let words = [("never", Keep::Never), ("always", Keep::Always)];
        reader.choice(object, "keep", EXPECTED, &words)
    } else {
        reader.count("keep", node, EXPECTED).map(Keep::Days)
    };
    keep.unwrap_or_default()
}

fn max_parallel(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<u32> {
    let node = object.get("maxParallel")?;
    reader.count("maxParallel", node, "a whole number from 1")
}

fn mounts(reader: &mut Reader<'_>, object: &Object<'_>, places: &Places<'_>, pod: &mut PodFile) {
    let mut targets = BTreeSet::new();
    for (path, item) in reader.items(object, "mounts", "a list of objects") {
        let Some(mount) = reader.object(&path, item, MOUNT_KEYS) else {
            continue;
        };
        for missing in ["source", "target"] {
            if mount.get(missing).is_none() {
                reader.problems.push(PodError::MissingKey {
                    file: reader.file.to_owned(),
                    at: mount.at,
                    key: path.clone(),
                    missing,
                });
            }
        }
        let read_only = reader.flag(&mount, "readOnly");
        let optional = reader.flag(&mount, "optional");
        let source = source(reader, &mount, places);
        let target = target(reader, &mount, &mut targets);
        let (Some((at, source)), Some(target)) = (source, target) else {
            continue;
        };
        match std::fs::metadata(&source) {
            Ok(_) => pod.mounts.push(Mount {
                source,
                target,
                read_only,
            }),
            Err(_) if optional => pod.missing_mounts.push(source),
            Err(error) => reader.problems.push(PodError::MissingMount {
                file: reader.file.to_owned(),
                at,
                source_path: source,
                cause: match error.kind() {
                    std::io::ErrorKind::NotFound => "does not exist".to_owned(),
                    _ => format!("cannot be used: {error}"),
                },
            }),
        }
    }
}

/// The absolute path of a mount's source, whether it is there or not.
fn source(
    reader: &mut Reader<'_>,
    mount: &Object<'_>,
    places: &Places<'_>,
) -> Option<(Position, PathBuf)> {
    let Text { at, key, text } = reader.word(mount, "source")?;
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
        reader.wrong_value(
            &key,
            at,
            "has a ~, but where your home is is not known",
            None,
        );
        return None;
    };
    Some((at, tidy(&home.join(rest.trim_start_matches('/')))))
}

/// A path without `.` and doubled or trailing slashes. `..` stays: what it
/// means depends on links.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// A mount's target: absolute, without `..`, not where the shim lives, not taken twice.
fn target(
    reader: &mut Reader<'_>,
    mount: &Object<'_>,
    taken: &mut BTreeSet<String>,
) -> Option<String> {
    let Text { at, key, text } = reader.word(mount, "target")?;
    let mut refuse = |problem: &str| {
        let problem = format!("{problem}: \"{}\"", shown(&text));
        reader.wrong_value(&key, at, problem, None);
    };
    if !text.starts_with('/') {
        refuse("has to be an absolute path in the container");
        return None;
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|p| !matches!(*p, "" | "."))
        .collect();
    if parts.contains(&"..") {
        refuse("must not have .. in it");
        return None;
    }
    match parts.first() {
        None => {
            refuse("must not be the whole file system");
            return None;
        }
        Some(&".cldpd") => {
            refuse("must not be at or below /.cldpd, which is cldpd's own");
            return None;
        }
        Some(_) => {}
    }
    let target = format!("/{}", parts.join("/"));
    if !taken.insert(target.clone()) {
        refuse("is taken by an earlier mount");
        return None;
    }
    Some(target)
}

/// The parts of `env`, by whether the names say that the values are secrets.
pub(super) fn split_secrets(
    env: BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    env.into_iter().partition(|(name, _)| is_secret_name(name))
}

/// Whether a variable's name says that its value is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "password"]
        .iter()
        .any(|word| name.contains(word))
}

/// The image's name unless the file says another.
pub(super) fn default_image(name: &PodName) -> String {
    format!("cldpd-{name}")
}
