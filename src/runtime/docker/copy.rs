//! `copy` of `pod.json`: files that a container has before its first start.
//!
//! They belong to the container's user, and so do the directories that are made
//! for them. Nothing goes into a mount: what lies there is not the container's.

use super::archive;
use super::engine::Engine;
use crate::archive::{Chunks, Owner, Packer, produce};
use crate::model::api::{PathKind, PathStat};
use crate::model::spec::{CopyFile, PodSpec};
use crate::runtime::{CreateRequest, Result, RuntimeError};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Where everything of ours is mounted.
const OURS: &str = "/.cldpd";
/// Of a directory that is made on the way to a target.
const PARENT_MODE: u32 = 0o755;

/// Puts the pod's files into a container that was created and not started.
/// Returns what was left out, and why.
pub(super) async fn put(engine: &Arc<Engine>, request: &CreateRequest) -> Result<Vec<String>> {
    let pod = &request.pod;
    if pod.copy.is_empty() {
        return Ok(Vec::new());
    }
    let user = archive::user(engine, &request.name).await?;
    let variable = pod.env.get("HOME").cloned().or(user.home_variable);
    let home = variable.unwrap_or(user.account.home);
    let mounts = mounts(pod);
    let mut left_out = Vec::new();
    for file in &pod.copy {
        let target = target(&file.target, &home);
        if let Some(mount) = mounts.iter().find(|mount| target.starts_with(mount)) {
            left_out.push(format!(
                "{} is not copied to {}: {} is a mount",
                file.source.display(),
                target.display(),
                mount.display()
            ));
            continue;
        }
        one(engine, request, file, &target, user.account.owner, &mounts)
            .await
            .map_err(|error| about(file, &target, error))?;
    }
    Ok(left_out)
}

async fn one(
    engine: &Engine,
    request: &CreateRequest,
    file: &CopyFile,
    target: &Path,
    owner: Owner,
    mounts: &[PathBuf],
) -> Result<()> {
    let Some(parent) = target.parent() else {
        return Err(failed(
            &request.name,
            "a file cannot be the root".to_owned(),
        ));
    };
    let dir = deepest(engine, &request.name, parent).await?;
    let beneath = |path: &Path| path.strip_prefix(&dir).map(Path::to_owned).ok();
    let Some(name) = beneath(target) else {
        return Err(failed(&request.name, "it has no place".to_owned()));
    };
    let mounts = mounts.iter().filter_map(|mount| beneath(mount)).collect();
    let chunks = pack(file.source.clone(), name, owner, mounts);
    archive::put(engine, &request.name, &dir.to_string_lossy(), chunks).await
}

/// An archive of `source` under the name `name`, with the directories above it.
fn pack(source: PathBuf, name: PathBuf, owner: Owner, without: Vec<PathBuf>) -> Chunks {
    produce(move |to| {
        // The file that is meant, where a link stands for it.
        let source = source.canonicalize().map_err(|error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", source.display()))
        })?;
        let mut packer = Packer::new(to, Some(owner)).without(without);
        let mut above: Vec<&Path> = name.ancestors().skip(1).collect();
        above.retain(|path| !path.as_os_str().is_empty());
        for directory in above.into_iter().rev() {
            packer.directory(directory, PARENT_MODE)?;
        }
        packer.add(&source, &name)?;
        packer.finish()
    })
}

/// The deepest directory on the way to `path` that the container has.
async fn deepest(engine: &Engine, container: &str, path: &Path) -> Result<PathBuf> {
    for candidate in path.ancestors() {
        let text = candidate.to_string_lossy();
        match archive::stat(engine, container, &text).await? {
            None => {}
            // The engine follows a link when it takes an archive apart there.
            Some(PathStat {
                kind: PathKind::Directory | PathKind::Link,
                ..
            }) => return Ok(candidate.to_owned()),
            Some(PathStat {
                kind: PathKind::File | PathKind::Other,
                ..
            }) => {
                let cause = format!("{text} is no directory");
                return Err(failed(container, cause));
            }
        }
    }
    Ok(PathBuf::from("/"))
}

/// The target as a path without `~`, `.` and `..`.
fn target(text: &str, home: &str) -> PathBuf {
    let whole = match text.strip_prefix('~') {
        Some(rest) => Path::new(home).join(rest.trim_start_matches('/')),
        None => PathBuf::from(text),
    };
    let mut clean = PathBuf::from("/");
    for component in whole.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn mounts(pod: &PodSpec) -> Vec<PathBuf> {
    let pods = pod.mounts.iter().map(|mount| target(&mount.target, "/"));
    pods.chain([PathBuf::from(OURS)]).collect()
}

fn failed(container: &str, cause: String) -> RuntimeError {
    RuntimeError::Container {
        container: container.to_owned(),
        cause,
    }
}

/// The error, with what was to be copied.
fn about(file: &CopyFile, target: &Path, error: RuntimeError) -> RuntimeError {
    let what = format!(
        "{} cannot be copied to {}",
        file.source.display(),
        target.display()
    );
    match error {
        RuntimeError::Container { container, cause }
        | RuntimeError::Path {
            container, cause, ..
        } => failed(&container, format!("{what}: {cause}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_plain() {
        let at = |text: &str| target(text, "/home/u").display().to_string();
        assert_eq!(at("~/.claude.json"), "/home/u/.claude.json");
        assert_eq!(at("~"), "/home/u");
        assert_eq!(at("~/"), "/home/u");
        assert_eq!(at("/a/./b/../c/"), "/a/c");
        assert_eq!(at("/../../etc"), "/etc");
    }
}
