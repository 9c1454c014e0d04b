//! What is done with pods' directories without the daemon.

use crate::client::Home;
use crate::model::{Error, Result};
use crate::pod::Pods;
pub use crate::pod::{Added, Place, Template, schema};
use std::path::{Path, PathBuf};

/// Makes a pod, named or named after its repository; returns its name and directory.
///
/// # Errors
/// `invalid_pod` when the name is none, or the pod cannot be made; `refused`
/// when there is one of that name.
pub fn create(
    home: &Home,
    name: Option<&str>,
    template: Template,
    from_repo: Option<&Path>,
) -> Result<(String, PathBuf)> {
    home.make()?;
    let pods = pods(home);
    match (name, from_repo) {
        (None, Some(repo)) => {
            let (name, dir) = pods.create_from(repo, template)?;
            Ok((name.to_string(), dir))
        }
        (name, from_repo) => {
            let name = name.unwrap_or_default();
            let dir = pods.create(name, template, from_repo)?;
            Ok((name.to_owned(), dir))
        }
    }
}

/// Pods with everything that is wrong with each: those named, or all.
///
/// # Errors
/// When the directory of the pods cannot be read.
pub fn check(home: &Home, names: Vec<String>) -> Result<Vec<(String, Vec<Error>)>> {
    let names = if names.is_empty() {
        pods(home)
            .list()?
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    } else {
        names
    };
    let checked = names.into_iter().map(|name| {
        let problems = problems(home, &name);
        (name, problems)
    });
    Ok(checked.collect())
}

/// Everything that is wrong with a pod.
pub fn problems(home: &Home, name: &str) -> Vec<Error> {
    let problems = pods(home).check(name);
    problems.into_iter().map(Error::from).collect()
}

/// What is allowed in a pod and worth a thought, and which variables it wants
/// that are not set here.
pub fn notes(home: &Home, name: &str) -> Vec<String> {
    let Ok(pod) = pods(home).load(name) else {
        return Vec::new();
    };
    let unset = |name: &str| std::env::var_os(name).is_none();
    let mut notes = pod.warnings.clone();
    for variable in pod.spec.inherit_env.iter().filter(|name| unset(name)) {
        notes.push(format!(
            "{variable} is not set here; pod {name} inherits it"
        ));
    }
    for variable in pod.spec.secret_variables().filter(|name| unset(name)) {
        notes.push(format!(
            "{variable} is not set here; a secret of pod {name} is read from it"
        ));
    }
    notes
}

/// A pod's directory, whatever is wrong with what is in it.
///
/// # Errors
/// `pod_not_found`, `invalid_pod`.
pub fn directory(home: &Home, name: &str) -> Result<PathBuf> {
    Ok(pods(home).directory(name)?)
}

/// Links a directory as a pod.
///
/// # Errors
/// `invalid_pod` with all that is wrong with it; `refused` when the name is another's.
pub fn add(home: &Home, dir: &Path, name: Option<&str>) -> Result<Added> {
    home.make()?;
    Ok(pods(home).add(dir, name)?)
}

/// What is in a pod's place.
///
/// # Errors
/// `pod_not_found`, `invalid_pod`.
pub fn place(home: &Home, name: &str) -> Result<Place> {
    Ok(pods(home).place(name)?)
}

/// Removes what is in a pod's place; of a link nothing but the link.
///
/// # Errors
/// As [`place`], or when it cannot be removed.
pub fn remove(home: &Home, name: &str) -> Result<Place> {
    Ok(pods(home).remove(name)?)
}

fn pods(home: &Home) -> Pods {
    let user_home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    Pods::new(home.pods(), user_home.map(PathBuf::from))
}
