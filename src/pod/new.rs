//! `pod new`: a pod to begin with.
//!
//! Invariant: nothing that is there is ever written over.

use super::{PodError, Pods};
use crate::model::PodName;
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What a new pod runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Template {
    /// Claude Code, installed from npm.
    #[default]
    Claude,
    /// A program of one's own, for which `cat` stands at first.
    Command,
}

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
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| PodError::Unwritable { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(unwritable(&self.root))?;
        let dir = self.root.join(name.as_str());
        fs::create_dir(&dir).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => PodError::Exists {
                name: name.to_string(),
                path: dir.clone(),
            },
            _ => PodError::Unwritable {
                path: dir.clone(),
                source,
            },
        })?;
        for (file, text) in files(template, clone.as_deref()) {
            let path = dir.join(file);
            if let Err(source) = fs::write(&path, text) {
                // Half a pod would stand in the way of the next attempt.
                let _ = fs::remove_dir_all(&dir);
                return Err(PodError::Unwritable { path, source });
            }
        }
        Ok(dir)
    }
}

fn files(template: Template, clone: Option<&str>) -> [(&'static str, String); 3] {
    let clone = clone.map_or_else(String::new, |url| {
        let words = serde_json::json!(["git", "clone", "--", url, "."]);
        format!("\n# As old as the image: rebuild with `cldpd start --no-cache`.\nRUN {words}\n")
    });
    let (dockerfile, json) = match template {
        Template::Claude => (CLAUDE_DOCKERFILE, CLAUDE_JSON),
        Template::Command => (COMMAND_DOCKERFILE, COMMAND_JSON),
    };
    [
        ("Dockerfile", format!("{dockerfile}{clone}")),
        ("pod.json", json.to_owned()),
        ("template.md", TEMPLATE.to_owned()),
    ]
}

const CLAUDE_DOCKERFILE: &str = "\
# The image that this pod's agents run in.
FROM node:22-slim

RUN apt-get update \\
 && apt-get install -y --no-install-recommends ca-certificates git ripgrep \\
 && rm -rf /var/lib/apt/lists/*
RUN npm install --global @anthropic-ai/claude-code

RUN mkdir /workspace && chown node:node /workspace
USER node
WORKDIR /workspace
";

const CLAUDE_JSON: &str = "\
{
  \"agent\": \"claude\",
  \"inheritEnv\": [\"ANTHROPIC_API_KEY\", \"CLAUDE_CODE_OAUTH_TOKEN\"]
}
";

const COMMAND_DOCKERFILE: &str = "\
# The image that this pod's program runs in.
FROM debian:stable-slim

RUN apt-get update \\
 && apt-get install -y --no-install-recommends ca-certificates git \\
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home agent && mkdir /workspace && chown agent:agent /workspace
USER agent
WORKDIR /workspace
";

/// `cat` says back what it is told: enough to see that the pod works.
const COMMAND_JSON: &str = "\
{
  \"agent\": \"command\",
  \"entrypoint\": [\"cat\"]
}
";

const TEMPLATE: &str = "\
You work alone in a container: nobody can answer questions while you do. When
something is unclear, choose the simplest reading, say which one, and go on.
Run the tests before you end, and end with a summary of what you changed.
";

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
