//! Pods: the directories beneath `$CLDPD_HOME/pods` that say what to run.
//!
//! A pod is a directory with a `Dockerfile` (unless it runs locally), and optionally a `pod.json` and a
//! `template.md`. [`Pods`] finds, reads, checks and makes them.
//!
//! Invariant: a [`Pod`] that was loaded is valid, and no name ever leads out of
//! the pods directory: names are checked before any file is touched.

mod command;
mod error;
mod file;
mod json;
mod keys;
mod limits;
mod link;
mod names;
mod new;
mod reader;
mod schema;
mod secrets;
mod socket;
mod sources;
mod templates;

pub use error::{PodError, Position};
pub use file::is_secret_name;
pub use link::{Added, Place};
pub use schema::schema;
pub use templates::Template;

use crate::model::api::Task;
use crate::model::spec::{Permissions, PodSpec};
use crate::model::{AgentKind, Blob, Bounds, PodName, RuntimeName};
use file::PodFile;
use sources::Places;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// `pod.json` and `template.md` may have at most so many bytes.
pub const FILE_MAX: u64 = 1 << 20;

/// A pod of a listing: its directory's name, and its contents or all that is wrong with it.
pub type Listed = (String, Result<Pod, Vec<PodError>>);

/// The directory of all pods.
#[derive(Clone, Debug)]
pub struct Pods {
    root: PathBuf,
    user_home: Option<PathBuf>,
}

/// A valid pod, as it stands now.
#[derive(Clone, PartialEq, Eq)]
pub struct Pod {
    /// What is frozen into a session; `env` is without the values that count as secrets.
    pub spec: PodSpec,
    /// Those values, by name. Never recorded.
    pub secret_env: BTreeMap<String, String>,
    /// What is put before the first prompt.
    pub template: Option<String>,
    /// `agent`.
    pub agent: Option<AgentKind>,
    /// `model`.
    pub model: Option<String>,
    /// `timeout`, in seconds.
    pub timeout: Option<u32>,
    /// `maxTurns`, `maxCost`, `idleTimeout`.
    pub bounds: Bounds,
    /// `permissions`.
    pub permissions: Permissions,
    /// `steer`.
    pub steer: bool,
    /// `runtime`.
    pub runtime: Option<RuntimeName>,
    /// Sources of optional mounts that are not there; the mounts are left out.
    pub missing_mounts: Vec<PathBuf>,
    /// What is allowed and worth a thought.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pod")
            .field("spec", &self.spec)
            .field("secret_env", &self.secret_env.keys())
            .field("template", &self.template)
            .field("agent", &self.agent)
            .field("model", &self.model)
            .field("timeout", &self.timeout)
            .field("bounds", &self.bounds)
            .field("permissions", &self.permissions)
            .field("steer", &self.steer)
            .field("runtime", &self.runtime)
            .field("missing_mounts", &self.missing_mounts)
            .field("warnings", &self.warnings)
            .finish()
    }
}

impl Pod {
    /// The first prompt: the template, a blank line, and the task.
    ///
    /// The template's bytes stay as they are; only as many line ends follow it
    /// as make one blank line.
    #[must_use]
    pub fn prompt(&self, task: &Task) -> Blob {
        let mut prompt = Vec::new();
        if let Some(template) = &self.template {
            prompt.extend_from_slice(template.as_bytes());
            if !template.ends_with('\n') {
                prompt.extend_from_slice(b"\n\n");
            } else if !template.ends_with("\n\n") && !template.ends_with("\n\r\n") {
                prompt.push(b'\n');
            }
        }
        prompt.extend_from_slice(&task.text());
        Blob(prompt)
    }
}

impl Pods {
    /// The pods beneath `root` (`$CLDPD_HOME/pods`), of the user whose home is `user_home`.
    #[must_use]
    pub fn new(root: PathBuf, user_home: Option<PathBuf>) -> Self {
        Self {
            root: std::path::absolute(&root).unwrap_or(root),
            user_home,
        }
    }

    /// The directory of all of them.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the link points that is in a pod's place; none for a directory.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<PathBuf> {
        let name = PodName::new(name).ok()?;
        fs::read_link(self.root.join(name.as_str())).ok()
    }

    /// Reads a pod.
    ///
    /// # Errors
    /// What is wrong with it: the thing itself if it is one, else [`PodError::Several`].
    pub fn load(&self, name: &str) -> Result<Pod, PodError> {
        self.read(name).map_err(|problems| self.one(name, problems))
    }

    /// Several problems as one.
    fn one(&self, name: &str, mut problems: Vec<PodError>) -> PodError {
        if problems.len() > 1 {
            let name = name.to_owned();
            return PodError::Several { name, problems };
        }
        problems.pop().unwrap_or_else(|| PodError::Unreadable {
            path: self.root.clone(),
            cause: "unknown cause".to_owned(),
        })
    }

    /// Everything that is wrong with a pod.
    #[must_use]
    pub fn check(&self, name: &str) -> Vec<PodError> {
        self.read(name).err().unwrap_or_default()
    }

    /// All pods, sorted by name, each with its contents or all that is wrong
    /// with it. Links to directories count; files and hidden directories do not.
    ///
    /// # Errors
    /// When the directory of all pods is there and cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, PodError> {
        let names = self.names()?;
        let read = |name: String| {
            let pod = self.read(&name);
            (name, pod)
        };
        Ok(names.into_iter().map(read).collect())
    }

    /// The names of all directories and links to directories, sorted.
    fn names(&self) -> Result<Vec<String>, PodError> {
        let unreadable = |error: std::io::Error| PodError::Unreadable {
            path: self.root.clone(),
            cause: error.to_string(),
        };
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let directory = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata.is_dir(),
                // A broken link, or one that may not be followed: listed with what is wrong.
                Err(_) => true,
            };
            if directory && !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Pod, Vec<PodError>> {
        let pod_name = PodName::new(name).map_err(|error| vec![PodError::Name(error)])?;
        let path = self.root.join(pod_name.as_str());
        let dir = self.real(&pod_name, &path).map_err(|e| vec![e])?;
        self.read_at(pod_name, &path, dir)
    }

    /// Reads the pod that is seen at `path` and is in truth in `dir`. Paths in
    /// its pod.json are relative to the directory itself, not to a link to it.
    fn read_at(&self, name: PodName, path: &Path, dir: PathBuf) -> Result<Pod, Vec<PodError>> {
        let mut problems = Vec::new();

        let dockerfile = match regular_file(&path.join("Dockerfile")) {
            Ok(there) => there,
            Err(problem) => {
                problems.push(problem);
                true
            }
        };
        let json_path = path.join("pod.json");
        let mut json_readable = true;
        let json = read_bounded(&json_path).unwrap_or_else(|problem| {
            problems.push(problem);
            json_readable = false;
            None
        });
        let places = Places {
            pod: &dir,
            home: self.user_home.as_deref(),
        };
        let (file, wrong) = file::read(&json_path, &json.unwrap_or_default(), &places);
        // What stands in a file that cannot be understood might have named the image.
        let image_unknown = !json_readable || !wrong.is_empty();
        // A plain process needs no image.
        let imageless = file.runtime == Some(RuntimeName::Local);
        if !dockerfile && file.image.is_none() && !image_unknown && !imageless {
            problems.push(PodError::NoDockerfile { dir: path.into() });
        }
        problems.extend(wrong);
        let template = read_template(&path.join("template.md")).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(pod(name, dir, dockerfile, template, file))
    }

    /// A pod's directory, links resolved, whatever is wrong with what is in it.
    ///
    /// # Errors
    /// [`PodError::NotFound`], or that it is no directory.
    pub fn directory(&self, name: &str) -> Result<PathBuf, PodError> {
        let name = PodName::new(name).map_err(PodError::Name)?;
        self.real(&name, &self.root.join(name.as_str()))
    }

    fn real(&self, name: &PodName, path: &Path) -> Result<PathBuf, PodError> {
        let error = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => match fs::canonicalize(path) {
                Ok(dir) => return Ok(dir),
                Err(error) => error,
            },
            Ok(_) => return Err(PodError::NotADirectory { path: path.into() }),
            Err(error) => error,
        };
        match fs::read_link(path) {
            Ok(target) if error.kind() == ErrorKind::NotFound => Err(PodError::BrokenLink {
                path: path.into(),
                target,
            }),
            Ok(_) | Err(_) => Err(self.absent(name, path, &error)),
        }
    }

    /// Why there is nothing at a pod's place.
    fn absent(&self, name: &PodName, path: &Path, error: &std::io::Error) -> PodError {
        if error.kind() != ErrorKind::NotFound {
            return PodError::Unreadable {
                path: path.into(),
                cause: error.to_string(),
            };
        }
        let names = self.names().unwrap_or_default();
        let nearest = reader::nearest(name.as_str(), names.iter().map(String::as_str));
        PodError::NotFound {
            name: name.to_string(),
            path: path.into(),
            nearest: nearest.map(str::to_owned),
        }
    }
}

/// Puts together what was read.
fn pod(
    name: PodName,
    dir: PathBuf,
    dockerfile: bool,
    template: Option<String>,
    file: PodFile,
) -> Pod {
    let (secret_env, env) = file::split_secrets(file.env);
    let warnings = socket::warnings(&name, &file.mounts);
    Pod {
        spec: PodSpec {
            image: file.image.unwrap_or_else(|| file::default_image(&name)),
            name,
            dir,
            dockerfile,
            env,
            secret_env: secret_env.keys().cloned().collect(),
            inherit_env: file.inherit_env,
            build_args: file.build_args,
            workdir: file.workdir,
            mounts: file.mounts,
            group_add: file.group_add,
            extra_hosts: file.extra_hosts,
            network: file.network,
            labels: file.labels,
            entrypoint: file.entrypoint,
            command: file.command,
            args: file.args,
            max_parallel: file.max_parallel,
            keep: file.keep,
            user: file.user,
            memory: file.memory,
            nano_cpus: file.nano_cpus,
            pids: file.pids,
            shm: file.shm,
            copy: file.copy,
            secrets: file.secrets,
        },
        secret_env,
        template,
        agent: file.agent,
        model: file.model,
        timeout: file.timeout,
        bounds: file.bounds,
        permissions: file.permissions,
        steer: file.steer,
        runtime: file.runtime,
        missing_mounts: file.missing_mounts,
        warnings,
    }
}

/// Whether there is a regular file (or a link to one).
fn regular_file(path: &Path) -> Result<bool, PodError> {
    let cause = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Ok(true),
        Ok(_) => "not a regular file".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => format!("it is a link to {}, which is not there", target.display()),
            Err(_) => return Ok(false),
        },
        Err(error) => error.to_string(),
    };
    Err(PodError::Unreadable {
        path: path.into(),
        cause,
    })
}

/// The bytes of a file that may be absent, but not endless or something else than a file.
fn read_bounded(path: &Path) -> Result<Option<Vec<u8>>, PodError> {
    if !regular_file(path)? {
        return Ok(None);
    }
    let unreadable = |cause: String| PodError::Unreadable {
        path: path.into(),
        cause,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(unreadable(format!("it has more than {FILE_MAX} bytes")));
    }
    Ok(Some(bytes))
}

/// The template; one of nothing but white space is none.
fn read_template(path: &Path) -> Result<Option<String>, PodError> {
    let Some(bytes) = read_bounded(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| PodError::Unreadable {
        path: path.into(),
        cause: format!(
            "it is not UTF-8 text (byte {})",
            error.utf8_error().valid_up_to() + 1
        ),
    })?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

#[cfg(test)]
mod tests;
