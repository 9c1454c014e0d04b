//! Values that come with a run and are never recorded.
//!
//! Until the shim has the run they lie in a 0600 file of the session; then only
//! in the shim's memory. The names stay in the record.

use crate::model::spec::Spec;
use crate::model::{Error, ErrorCode, Result};
use crate::runtime::session_dir::SessionDir;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

/// Shorter values are not looked for in the output: they would be found everywhere.
const REDACT_MIN: usize = 8;

/// Values by name.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Values(pub(super) BTreeMap<String, String>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Values {
    /// The names.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// What is to be replaced in all output, by name: the values, and the
    /// values as they stand in a JSON string.
    pub(super) fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let mut secrets = Vec::new();
        for (name, value) in self.0.iter().filter(|(_, value)| value.len() >= REDACT_MIN) {
            secrets.push((name.clone(), value.clone().into_bytes()));
            let escaped = serde_json::to_string(value).unwrap_or_default();
            let escaped = escaped.trim_matches('"');
            if !escaped.is_empty() && escaped != value {
                secrets.push((name.clone(), escaped.as_bytes().to_vec()));
            }
        }
        secrets
    }
}

/// Writes the values of a run, durably, before its intent is recorded.
///
/// # Errors
/// When the session's directory cannot be written.
pub(super) fn store(dir: &SessionDir, run: u32, values: &Values) -> Result<()> {
    let failed = |what: &str, error: &std::io::Error| {
        let place = dir.path().display();
        Error::new(
            ErrorCode::Internal,
            format!("cannot {what} in {place}: {error}"),
        )
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir.path())
        .map_err(|error| failed("make the session's directory", &error))?;
    if values.0.is_empty() {
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(dir.env(run))?;
        file.write_all(&serde_json::to_vec(values)?)?;
        file.sync_all()?;
        File::open(dir.path())?.sync_all()
    };
    write().map_err(|error| failed("write the run's values", &error))
}

/// Reads the values of a run back.
///
/// # Errors
/// `credentials` when the run came with values and they are no longer there.
pub(super) fn load(dir: &SessionDir, run: u32, names: &[String]) -> Result<Values> {
    if names.is_empty() {
        return Ok(Values::default());
    }
    let values = fs::read(dir.env(run))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    values.ok_or_else(|| {
        let names = names.join(", ");
        Error::new(
            ErrorCode::Credentials,
            format!("the values of {names} are no longer kept"),
        )
        .hint("dispatch it again from an environment that has them")
    })
}

/// Deletes the values of a run.
pub(super) fn forget(dir: &SessionDir, run: u32) {
    match fs::remove_file(dir.env(run)) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %dir.env(run).display(), "cannot be deleted"),
    }
}

/// The variables of a run: the agent's own, the pod's, then what came with the run.
pub(super) fn merge(
    agent: &BTreeMap<String, String>,
    spec: &Spec,
    values: &Values,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = agent.clone();
    all.extend(spec.pod.env.clone());
    all.extend(values.0.clone());
    all.into_iter()
        .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
        .collect()
}
