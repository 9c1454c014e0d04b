//! `pod new`: a pod to begin with.
//!
//! Invariant: nothing that is there is ever written over, but our own schema.

use super::templates::Template;
use super::{PodError, Pods, names, schema};
use crate::model::PodName;
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Beside the pods, where their pod.json says it is.
const SCHEMA: &str = "pod.schema.json";

impl Pods {
    /// Makes a pod that can be started as it is, and returns its directory.
    /// With `from_repo`, its image has a clone of that repository's `origin`.
    ///
    /// # Errors
    /// [`PodError::Exists`] when something of that name is there;
    /// [`PodError::Repository`] when `from_repo` has no `origin`.
    pub fn create(
        &self,
        name: &str,
        template: Template,
        from_repo: Option<&Path>,
    ) -> Result<PathBuf, PodError> {
        let name = PodName::new(name).map_err(PodError::Name)?;
        let clone = from_repo.map(origin).transpose()?;
        self.prepare()?;
        let dir = self.claim(&name)?;
        fill(&dir, template, clone.as_deref())?;
        Ok(dir)
    }

    /// The same from a repository that it is named after, with a number behind
    /// the name where that is taken.
    ///
    /// # Errors
    /// [`PodError::Repository`] when it has no `origin`.
    pub fn create_from(
        &self,
        repo: &Path,
        template: Template,
    ) -> Result<(PodName, PathBuf), PodError> {
        let clone = origin(repo)?;
        self.prepare()?;
        let (name, dir) = self.claim_free(&names::of_directory(repo))?;
        fill(&dir, template, Some(&clone))?;
        Ok((name, dir))
    }

    /// Makes the directory of all pods, with the schema that they name.
    pub(super) fn prepare(&self) -> Result<(), PodError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(unwritable(&self.root))?;
        let path = self.root.join(SCHEMA);
        let text = schema();
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        // By a name of its own first: an editor may be reading it.
        let fresh = self.root.join(format!(".{SCHEMA}.{}", std::process::id()));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(unwritable(&path))
    }

    /// Makes the directory of a pod that is not there yet.
    fn claim(&self, name: &PodName) -> Result<PathBuf, PodError> {
        let dir = self.root.join(name.as_str());
        match fs::create_dir(&dir) {
            Ok(()) => Ok(dir),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(PodError::Exists {
                name: name.to_string(),
                path: dir,
            }),
            Err(source) => Err(PodError::Unwritable { path: dir, source }),
        }
    }

    /// The same, under the first name like `wanted` that is free.
    fn claim_free(&self, wanted: &str) -> Result<(PodName, PathBuf), PodError> {
        for name in names::candidates(wanted).take(NAMES) {
            match self.claim(&name) {
                Ok(dir) => return Ok((name, dir)),
                Err(PodError::Exists { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(PodError::Exists {
            name: wanted.to_owned(),
            path: self.root.join(wanted),
        })
    }
}

/// Names that are tried before a pod is named by hand.
const NAMES: usize = 1000;

pub(super) fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> PodError {
    let path = path.to_owned();
    move |source| PodError::Unwritable { path, source }
}

/// Writes the files of a new pod. Half a pod would stand in the way of the
/// next attempt, and is taken back.
fn fill(dir: &Path, template: Template, clone: Option<&str>) -> Result<(), PodError> {
    for (file, text) in template.files() {
        let path = dir.join(file);
        let text = match (*file, clone) {
            ("Dockerfile", Some(url)) => cloning(text, url),
            _ => (*text).to_owned(),
        };
        if let Err(source) = fs::write(&path, text) {
            let _ = fs::remove_dir_all(dir);
            return Err(PodError::Unwritable { path, source });
        }
    }
    Ok(())
}

/// A Dockerfile whose last step clones a repository into the working directory.
fn cloning(dockerfile: &str, url: &str) -> String {
    let words = serde_json::json!(["git", "clone", "--", url, "."]);
    format!(
        "{dockerfile}\n# As old as the image: `cldpd pod build --no-cache` clones it anew.\nRUN {words}\n"
    )
}

/// The address of a repository's `origin`, usable without credentials.
fn origin(repo: &Path) -> Result<String, PodError> {
    let failed = |cause: String| PodError::Repository {
        path: repo.to_owned(),
        cause,
    };
    let config = git_dir(repo).join("config");
    let mut text = String::new();
    fs::File::open(&config)
        .and_then(|file| file.take(super::FILE_MAX).read_to_string(&mut text))
        .map_err(|error| failed(format!("cannot read {}: {error}", config.display())))?;
    let url = origin_url(&text).ok_or_else(|| {
        let config = config.display();
        failed(format!("{config} has no remote \"origin\" with a url"))
    })?;
    Ok(without_credentials(&url))
}

/// Where a repository's configuration lies; a linked worktree's `.git` is a file that says so.
fn git_dir(repo: &Path) -> PathBuf {
    let dot_git = repo.join(".git");
    let Ok(text) = fs::read_to_string(&dot_git) else {
        return dot_git;
    };
    let Some(dir) = text.trim().strip_prefix("gitdir: ") else {
        return dot_git;
    };
    let dir = repo.join(dir);
    match fs::read_to_string(dir.join("commondir")) {
        Ok(common) => dir.join(common.trim()),
        Err(_) => dir,
    }
}

fn origin_url(config: &str) -> Option<String> {
    let mut in_origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            in_origin = line.replace(' ', "") == "[remote\"origin\"]";
        } else if in_origin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "url"
            && !value.trim().is_empty()
        {
            return Some(value.trim().trim_matches('"').to_owned());
        }
    }
    None
}

/// `https://user:token@host/…` without what is before the host, and
/// `git@host:path` as `https://host/path`: nothing secret gets into a Dockerfile,
/// and no key is needed to build it.
fn without_credentials(url: &str) -> String {
    if let Some((scheme, rest)) = url.split_once("://") {
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        return format!("{scheme}://{host}{path}");
    }
    match url
        .split_once('@')
        .and_then(|(_, rest)| rest.split_once(':'))
    {
        Some((host, path)) => format!("https://{host}/{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_credentials() {
        for (url, clean) in [
            ("https://github.com/o/r.git", "https://github.com/o/r.git"),
            ("https://me:t0ken@github.com/o/r", "https://github.com/o/r"),
            ("https://a@b@host", "https://host"),
            ("git@github.com:o/r.git", "https://github.com/o/r.git"),
            ("ssh://git@host:22/o/r", "ssh://host:22/o/r"),
            ("/srv/r.git", "/srv/r.git"),
        ] {
            assert_eq!(without_credentials(url), clean);
        }
    }

    #[test]
    fn origin_is_found_in_its_section_only() {
        let config = "[core]\n\turl = no\n[remote \"up\"]\n url = no\n\
                      [remote \"origin\"]\n\tfetch = x\n\turl = https://h/p\n";
        assert_eq!(origin_url(config).as_deref(), Some("https://h/p"));
        assert_eq!(origin_url("[remote \"origin\"]\n[x]\nurl = no"), None);
    }
}
