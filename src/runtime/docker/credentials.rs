//! Credentials of registries, from docker's own configuration.
//!
//! `docker login` put them into `config.json`, or into a helper that it names.
//! They are read anew for each pull and build, go to the engine in a header or
//! over the build's session, and are not kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What Docker Hub is called where credentials are kept.
const HUB: &str = "https://index.docker.io/v1/";
/// A helper that takes longer waits for somebody who is not there.
const HELPER_MAX: Duration = Duration::from_secs(30);

/// Where credentials are found.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, serde::de::IgnoredAny>,
    cred_helpers: HashMap<String, serde::de::IgnoredAny>,
}

impl Credentials {
    /// Those of the configuration in this directory.
    pub(super) fn new(dir: Option<&Path>) -> Self {
        Self {
            config: dir.map(|dir| dir.join("config.json")),
        }
    }

    /// What a registry is to be told, if there is anything.
    ///
    /// # Errors
    /// Why what there is cannot be used; never with a value.
    pub(super) async fn of(&self, registry: &str) -> Result<Option<DockerCredentials>, String> {
        let Some(config) = self.config.clone() else {
            return Ok(None);
        };
        let key = match registry {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB,
            other => other,
        };
        let (key, address) = (key.to_owned(), key.to_owned());
        let read = tokio::task::spawn_blocking(move || read(&config, &key));
        let found = match tokio::time::timeout(HELPER_MAX, read).await {
            Ok(Ok(found)) => found?,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => {
                return Err(format!(
                    "docker's credential helper did not answer within {} s",
                    HELPER_MAX.as_secs()
                ));
            }
        };
        Ok(found.map(|found| {
            let mut all = DockerCredentials {
                serveraddress: Some(address),
                ..DockerCredentials::default()
            };
            match found {
                DockerCredential::IdentityToken(token) => all.identitytoken = Some(token),
                DockerCredential::UsernamePassword(name, password) => {
                    all.username = Some(name);
                    all.password = Some(password);
                }
            }
            all
        }))
    }

    /// All that the configuration names, by registry: a builder that cannot ask
    /// is told all at once. What cannot be read is left out.
    pub(super) async fn all(&self) -> HashMap<String, DockerCredentials> {
        let mut all = HashMap::new();
        let text = self.config.as_ref().map(std::fs::read);
        let config = text.and_then(|text| serde_json::from_slice(&text.ok()?).ok());
        let Config {
            auths,
            cred_helpers,
        } = config.unwrap_or_default();
        let names: BTreeSet<_> = auths.into_keys().chain(cred_helpers.into_keys()).collect();
        for name in names {
            match self.of(&name).await {
                Ok(Some(found)) => {
                    all.insert(name, found);
                }
                Ok(None) => {}
                Err(cause) => tracing::warn!(registry = name, cause, "no credentials"),
            }
        }
        all
    }
}

/// Credentials as the engine reads them from a header.
pub(super) fn header(credentials: &impl serde::Serialize) -> String {
    URL_SAFE.encode(serde_json::to_vec(credentials).unwrap_or_default())
}

/// The registry of an image's reference.
pub(super) fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) | None => "docker.io",
    }
}

fn read(config: &Path, key: &str) -> Result<Option<DockerCredential>, String> {
    use CredentialRetrievalError as E;
    let place = config.display();
    let text = match std::fs::read(config) {
        Ok(text) => text,
        // As docker itself, without a configuration or permission to it.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(format!("cannot read {place}: {error}")),
    };
    match docker_credential::get_credential_from_reader(&text[..], key) {
        Ok(found) => Ok(Some(found)),
        Err(E::NoCredentialConfigured) => Ok(None),
        // That is how a helper says that it has none.
        Err(E::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(E::HelperFailure { helper, stderr, .. }) => {
            let line = stderr.lines().next().unwrap_or_default().escape_debug();
            Err(format!("{helper}, which {place} names, failed: {line}"))
        }
        Err(E::HelperCommunicationError) => Err(format!(
            "the credential helper that {place} names cannot be run: is it in the PATH of the daemon?"
        )),
        Err(E::ConfigReadError) => Err(format!("{place} is not what docker writes")),
        Err(
            error @ (E::MalformedHelperResponse
            | E::CredentialDecodingError
            | E::CredentialMismatchError
            | E::ConfigNotFound),
        ) => Err(format!("{place}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_registry_is_what_docker_takes_it_for() {
        for (reference, host) in [
            ("ubuntu", "docker.io"),
            ("ubuntu:24.04", "docker.io"),
            ("library/ubuntu", "docker.io"),
            ("ghcr.io/a/b:c", "ghcr.io"),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a@sha256:00", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry(reference), host, "{reference}");
        }
    }

    async fn names(credentials: &Credentials, registry: &str) -> (String, String) {
        let found = credentials.of(registry).await.unwrap().unwrap_or_default();
        (
            found.username.unwrap_or_default(),
            found.password.or(found.identitytoken).unwrap_or_default(),
        )
    }

    #[tokio::test]
    async fn what_docker_login_left_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::new(Some(dir.path()));
        assert!(credentials.of("ghcr.io").await.unwrap().is_none());
        assert!(credentials.all().await.is_empty());
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pass:word");
        let config = serde_json::json!({
            "auths": {
                "ghcr.io": {"auth": auth},
                "https://index.docker.io/v1/": {"auth": auth},
                "token.io": {"identitytoken": "T"},
                "empty.io": {},
            },
            "currentContext": "x",
        });
        let path = dir.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let me = ("me".to_owned(), "pass:word".to_owned());
        assert_eq!(names(&credentials, "ghcr.io").await, me);
        assert_eq!(names(&credentials, "docker.io").await, me);
        assert_eq!(names(&credentials, "registry-1.docker.io").await, me);
        assert_eq!(names(&credentials, "token.io").await.1, "T");
        assert!(credentials.of("other.io").await.unwrap().is_none());
        let mut all: Vec<_> = credentials.all().await.into_keys().collect();
        all.sort();
        assert_eq!(all, ["ghcr.io", HUB, "token.io"]);

        std::fs::write(&path, "{").unwrap();
        let error = credentials.of("ghcr.io").await.unwrap_err();
        assert!(error.contains("config.json"), "{error}");
    }

    #[tokio::test]
    async fn a_helper_that_cannot_be_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"credHelpers": {"a.io": "cldpd-no-such-helper"}});
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let credentials = Credentials::new(Some(dir.path()));
        let error = credentials.of("a.io").await.unwrap_err();
        assert!(error.contains("helper"), "{error}");
        assert!(credentials.of("b.io").await.unwrap().is_none());
        assert!(credentials.all().await.is_empty());
        let mode = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(dir.path().join("config.json"), mode).unwrap();
    }
}
