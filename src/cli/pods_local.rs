//! What is done with pods' directories without the daemon.

use crate::client::Home;
use crate::model::{Error, Result};
use crate::pod::Pods;
pub use crate::pod::{Template, schema};
use std::path::{Path, PathBuf};

/// Makes a pod and returns its directory.
///
/// # Errors
/// `invalid_pod` when the name is none, or the pod cannot be made.
pub fn create(
    home: &Home,
    name: &str,
    template: Template,
    from_repo: Option<&Path>,
) -> Result<PathBuf> {
    home.make()?;
    Ok(pods(home).create(name, template, from_repo)?)
}

/// Pods with everything that is wrong with each: those named, or all.
///
/// # Errors
/// When the directory of the pods cannot be read.
pub fn check(home: &Home, names: Vec<String>) -> Result<Vec<(String, Vec<Error>)>> {
    let pods = pods(home);
    let names = if names.is_empty() {
        pods.list()?.into_iter().map(|(name, _)| name).collect()
    } else {
        names
    };
    let checked = names.into_iter().map(|name| {
        let problems = pods.check(&name).into_iter().map(Error::from).collect();
        (name, problems)
    });
    Ok(checked.collect())
}

/// Names that a pod inherits and that are not set here.
pub fn unset(home: &Home, name: &str) -> Vec<String> {
    let inherited = pods(home).load(name).map(|pod| pod.spec.inherit_env);
    let mut names = inherited.unwrap_or_default();
    names.retain(|name| std::env::var_os(name).is_none());
    names
}

/// What is allowed in a pod and worth a thought.
pub fn warnings(home: &Home, name: &str) -> Vec<String> {
    let loaded = pods(home).load(name);
    loaded.map(|pod| pod.warnings).unwrap_or_default()
}

fn pods(home: &Home) -> Pods {
    let user_home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    Pods::new(home.pods(), user_home.map(PathBuf::from))
}
