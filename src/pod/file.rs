//! `pod.json` as a whole: what its values mean, and whether they can be used.
//!
//! Invariant: what comes out is checked and complete; paths are absolute.

use super::error::{PodError, Position};
use super::json;
use super::keys::FILE;
use super::reader::{Object, Reader, Text, shown};
use super::sources::{self, Places};
use super::{command, limits, secrets};
use crate::model::spec::{CommandTemplate, CopyFile, Keep, Mount, Permissions, SecretSpec};
use crate::model::units::parse_duration;
use crate::model::{AgentKind, Bounds, PodName, RuntimeName};
use std::collections::BTreeMap;
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
    pub(super) command: Option<CommandTemplate>,
    pub(super) permissions: Permissions,
    pub(super) steer: bool,
    pub(super) group_add: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) network: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) keep: Keep,
    pub(super) max_parallel: Option<u32>,
    pub(super) runtime: Option<RuntimeName>,
    pub(super) user: Option<String>,
    pub(super) memory: Option<u64>,
    pub(super) nano_cpus: Option<u64>,
    pub(super) pids: Option<u32>,
    pub(super) shm: Option<u64>,
    pub(super) timeout: Option<u32>,
    pub(super) bounds: Bounds,
    pub(super) copy: Vec<CopyFile>,
    pub(super) secrets: Vec<SecretSpec>,
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
    let Some(object) = reader.object("", &node, &FILE) else {
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
            "\"claude\", \"codex\", \"gemini\", \"opencode\" or \"command\"",
            &AgentKind::ALL.map(|kind| (kind.name(), kind)),
        ),
        model: model(&mut reader, &object),
        args: texts(reader.texts(&object, "args", false)),
        entrypoint: entrypoint(&mut reader, &object),
        command: command::read(&mut reader, &object),
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
        steer: reader.flag(&object, "steer"),
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
        user: user(&mut reader, &object),
        memory: limits::memory(&mut reader, &object),
        nano_cpus: limits::nano_cpus(&mut reader, &object),
        pids: limits::pids(&mut reader, &object),
        shm: limits::size(&mut reader, &object, "shm"),
        timeout: limits::timeout(&mut reader, &object),
        bounds: limits::bounds(&mut reader, &object),
        copy: sources::copies(&mut reader, &object, places),
        secrets: secrets::read(&mut reader, &object, places),
        ..PodFile::default()
    };
    (pod.mounts, pod.missing_mounts) = sources::mounts(&mut reader, &object, places);
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
        | PodError::MissingSource { at, .. } => *at,
        PodError::Name(_)
        | PodError::NotFound { .. }
        | PodError::NotADirectory { .. }
        | PodError::BrokenLink { .. }
        | PodError::NoDockerfile { .. }
        | PodError::Unreadable { .. }
        | PodError::Unwritable { .. }
        | PodError::Unremovable { .. }
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

/// Who the agent is: a name or a number, and a group behind a colon.
fn user(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<String> {
    const EXPECTED: &str = "a name or number, with a group if need be, such as \"1000:1000\"";
    let node = object.get("user")?;
    let text = match &node.value {
        json::Value::Number(number) if number.is_u64() => return Some(number.to_string()),
        json::Value::Text(text) => text,
        json::Value::Number(_) => {
            reader.wrong_value("user", node.at, format!("has to be {EXPECTED}"), None);
            return None;
        }
        _ => {
            reader.wrong_type("user", node, EXPECTED);
            return None;
        }
    };
    let is_name = |name: &str| {
        let plain = name.strip_suffix('$').unwrap_or(name);
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        plain.chars().all(legal) && !plain.is_empty() && !plain.starts_with(['.', '-'])
    };
    let (name, group) = text.split_once(':').unwrap_or((text, "0"));
    if !is_name(name) || !is_name(group) {
        let problem = format!("has to be {EXPECTED}, but is \"{}\"", shown(text));
        reader.wrong_value("user", node.at, problem, None);
        return None;
    }
    Some(text.clone())
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
    const EXPECTED: &str =
        "\"never\", \"always\", a number of days from 1 or a duration like \"12h\"";
    let Some(node) = object.get("keep") else {
        return Keep::default();
    };
    let keep = if let json::Value::Text(text) = &node.value {
        let seconds = parse_duration(text).and_then(|seconds| u32::try_from(seconds).ok());
        match seconds.filter(|seconds| *seconds > 0) {
            Some(seconds) => Some(Keep::Seconds(seconds)),
            None => {
                let words = [("never", Keep::Never), ("always", Keep::Always)];
                reader.choice(object, "keep", EXPECTED, &words)
            }
        }
    } else {
        reader.count("keep", node, EXPECTED).map(Keep::Days)
    };
    keep.unwrap_or_default()
}

fn max_parallel(reader: &mut Reader<'_>, object: &Object<'_>) -> Option<u32> {
    let node = object.get("maxParallel")?;
    reader.count("maxParallel", node, "a whole number from 1")
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
