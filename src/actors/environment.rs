//! Values that come with a run and are never recorded.
//!
//! Until the shim has the run they lie in a 0600 file of the session; then only
//! in the shim's memory. The names stay in the record.

use super::proxy::{self, Proxies};
use crate::model::spec::{PodSpec, SecretKind, SecretSource, SecretSpec, Spec};
use crate::model::{Blob, Error, ErrorCode, Result, RunRecord, RuntimeName, SessionRecord};
use crate::runtime::session_dir::{CONTAINER_SECRETS, SessionDir};
use crate::runtime::shim::redact::Redactor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Shorter values are not looked for in the output: they would be found everywhere.
const REDACT_MIN: usize = 8;
/// Largest file that a secret is read from.
const SECRET_MAX: u64 = 1 << 20;
/// Mode of the files of secrets: the agent's user may read them.
const SECRET_MODE: u32 = 0o400;

/// Values by name, each for its purpose.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Values {
    /// Variables of the agent.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Files beneath `/run/secrets`.
    #[serde(default)]
    pub(super) files: BTreeMap<String, Blob>,
    /// Secrets of the image's build, which the agent never gets.
    #[serde(default)]
    pub(super) build: BTreeMap<String, Blob>,
    /// The caller's proxies, as they are there.
    #[serde(default)]
    pub(super) proxy: BTreeMap<String, String>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What whoever dispatches has sent along.
pub(super) struct Caller<'a> {
    /// What was given with the command.
    pub(super) env: &'a BTreeMap<String, String>,
    /// What was looked up there for the pod.
    pub(super) inherited: &'a BTreeMap<String, String>,
    /// The proxies there.
    pub(super) proxy: &'a BTreeMap<String, String>,
}

impl Values {
    /// The values of a run: the pod's own, which are no part of its spec, and
    /// the caller's. A `further` run builds no image. Blocking.
    ///
    /// # Errors
    /// `credentials` when a secret is not where its pod says; `invalid_pod` when
    /// it cannot be given there.
    pub(super) fn gather(
        pod: &PodSpec,
        own: BTreeMap<String, String>,
        caller: &Caller<'_>,
        runtime: RuntimeName,
        further: bool,
    ) -> Result<Self> {
        let mut values = Self {
            env: own,
            proxy: caller.proxy.clone(),
            ..Self::default()
        };
        for name in &pod.inherit_env {
            if let Some(value) = caller.inherited.get(name) {
                values.env.insert(name.clone(), value.clone());
            }
        }
        for secret in &pod.secrets {
            let name = secret.name.clone();
            match secret.kind {
                SecretKind::Env => {
                    let value = variable(pod, secret, read(pod, secret, caller)?)?;
                    values.env.insert(name, value);
                }
                SecretKind::File if runtime != RuntimeName::Docker => {
                    return Err(no_files(pod, secret, runtime));
                }
                SecretKind::File => {
                    values.files.insert(name, Blob(read(pod, secret, caller)?));
                }
                SecretKind::Build if further || runtime == RuntimeName::Local => {}
                SecretKind::Build => {
                    values.build.insert(name, Blob(read(pod, secret, caller)?));
                }
            }
        }
        values.env.extend(caller.env.clone());
        Ok(values)
    }

    /// The names.
    pub(super) fn names(&self) -> Vec<String> {
        let (env, files) = (self.env.keys(), self.files.keys());
        let (build, proxy) = (self.build.keys(), self.proxy.keys());
        let mut names: Vec<String> = env
            .chain(files)
            .chain(build)
            .chain(proxy)
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// What is to be replaced in all output, by name; the shim finds it as it
    /// stands in a JSON string, too. Of a proxy only its credentials.
    pub(super) fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let env = self
            .env
            .iter()
            .map(|(name, value)| (name, value.as_bytes()));
        let files = self.files.iter().chain(&self.build);
        // Whoever shows a file's text may leave its last line end away.
        let files = files.map(|(name, value)| (name, value.0.trim_ascii_end()));
        let proxy = self.proxy.iter().flat_map(|(name, value)| {
            let parts = proxy::credentials(value).into_iter();
            parts.map(move |part| (name, part.as_bytes()))
        });
        env.chain(files)
            .chain(proxy)
            .filter(|(_, value)| value.len() >= REDACT_MIN)
            .map(|(name, value)| (name.clone(), value.to_vec()))
            .collect()
    }

    /// The files of an agent, for its shim: path, mode, contents.
    pub(super) fn secret_files(&self) -> Vec<(Vec<u8>, u32, Vec<u8>)> {
        let files = self.files.iter();
        files
            .map(|(name, value)| {
                let path = format!("{CONTAINER_SECRETS}/{name}").into_bytes();
                (path, SECRET_MODE, value.0.clone())
            })
            .collect()
    }

    /// The proxies, as this session's runs can use them.
    pub(super) fn proxies(&self, spec: &Spec) -> Proxies {
        proxy::for_run(spec, &self.env, &self.proxy)
    }
}

/// Replaces the values of a run in what its build says, line by line: of a
/// value of several lines each that is long enough is one of them.
pub(super) struct Mask(Redactor);

impl Mask {
    pub(super) fn new(values: &Values) -> Self {
        let mut redactor = Redactor::default();
        for (name, value) in values.secrets() {
            redactor.add(name.as_bytes(), &value);
            for line in value.split(|byte| *byte == b'\n') {
                let line = line.trim_ascii();
                if line.len() >= REDACT_MIN {
                    redactor.add(name.as_bytes(), line);
                }
            }
        }
        Self(redactor)
    }

    /// A line without them.
    pub(super) fn line(&self, line: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::with_capacity(line.len());
        self.0.feed(&mut Vec::new(), &line, true, &mut out);
        out
    }

    /// An error without them: it quotes the build's last lines.
    pub(super) fn error(&self, error: Error) -> Error {
        Error {
            message: self.0.text(&error.message),
            ..error
        }
    }
}

fn read(pod: &PodSpec, secret: &SecretSpec, caller: &Caller<'_>) -> Result<Vec<u8>> {
    match &secret.source {
        SecretSource::Env(variable) => {
            let given = caller.env.get(variable);
            let value = given.or_else(|| caller.inherited.get(variable));
            let value = value.map(|value| value.clone().into_bytes());
            value.ok_or_else(|| {
                let message = format!(
                    "{variable} is not set here; the secret \"{}\" of pod {} is read from it",
                    secret.name, pod.name
                );
                Error::new(ErrorCode::Credentials, message)
                    .hint(format!("set {variable} where you call cldpd"))
            })
        }
        SecretSource::File(path) => read_file(path).map_err(|why| {
            let message = format!(
                "the secret \"{}\" of pod {} cannot be read from {}: {why}",
                secret.name,
                pod.name,
                path.display()
            );
            Error::new(ErrorCode::Credentials, message)
                .hint("put it there, readable for the user of the daemon")
        }),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let plain = |error: std::io::Error| {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        text.to_lowercase()
    };
    // NONBLOCK: a pipe in the file's place must not hold everybody up.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path);
    let file = file.map_err(plain)?;
    if !file.metadata().map_err(plain)?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(SECRET_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(plain)?;
    if bytes.len() as u64 > SECRET_MAX {
        return Err(format!("it is longer than {SECRET_MAX} bytes"));
    }
    Ok(bytes)
}

/// As a variable's value: files end with a line end that is not meant.
fn variable(pod: &PodSpec, secret: &SecretSpec, mut value: Vec<u8>) -> Result<String> {
    if matches!(secret.source, SecretSource::File(_)) && value.last() == Some(&b'\n') {
        value.pop();
    }
    let text = String::from_utf8(value).ok();
    text.filter(|text| !text.contains('\0')).ok_or_else(|| {
        let message = format!(
            "the secret \"{}\" of pod {} is no text, so it cannot be a variable",
            secret.name, pod.name
        );
        Error::new(ErrorCode::Credentials, message).hint("give it \"as\": \"file\" in pod.json")
    })
}

fn no_files(pod: &PodSpec, secret: &SecretSpec, runtime: RuntimeName) -> Error {
    let message = format!(
        "the secret \"{}\" of pod {} is a file beneath {CONTAINER_SECRETS}, which the runtime {runtime} does not have",
        secret.name, pod.name
    );
    Error::new(ErrorCode::InvalidPod, message)
        .hint("give it \"as\": \"env\" in pod.json, or use --runtime docker")
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
    if *values == Values::default() {
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

/// Deletes the values of a run, and of the one that it tries again, unless they are
/// needed for another try.
pub(super) fn forget_unneeded(dir: &SessionDir, record: &SessionRecord, number: u32) {
    let asked = record.runs.get(number as usize).map(RunRecord::asked);
    let mut numbers = vec![number];
    numbers.extend(asked.filter(|asked| *asked != number));
    for number in numbers {
        if !record.needs_values(number) {
            forget(dir, number);
        }
    }
}

/// The variables of a run: the agent's own, the caller's zone and proxies, the
/// pod's, then what came with the run.
pub(super) fn merge(
    agent: &BTreeMap<String, String>,
    spec: &Spec,
    values: &Values,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = agent.clone();
    if let Some(zone) = &spec.zone {
        all.insert("TZ".to_owned(), zone.clone());
    }
    all.extend(values.proxies(spec).env);
    all.extend(spec.pod.env.clone());
    all.extend(values.env.clone());
    all.into_iter()
        .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
        .collect()
}

#[cfg(test)]
mod tests;
