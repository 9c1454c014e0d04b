//! Images that nobody here builds: pulled from their registry when they are
//! not there, or when somebody asks for a newer one.

use super::credentials::{self, registry};
use super::engine::{Engine, Failure};
use super::flight::Log;
use super::image::{Images, checked, joined, look};
use crate::model::spec::PodSpec;
use crate::runtime::{BuildRequest, Image, Result, RuntimeError};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The image of a pod without a Dockerfile.
pub(super) async fn ready(
    engine: Arc<Engine>,
    images: &Images,
    request: &BuildRequest,
    tag: &str,
    lines: &mpsc::Sender<Vec<u8>>,
) -> Result<Image> {
    let there = look(&engine, tag).await?;
    let before = there.as_ref().and_then(|image| image.id.clone());
    if let Some(image) = there
        && !request.options.pull
    {
        return checked(&engine, tag, image, true);
    }
    // The name that we build under is nobody's to pull.
    if before.is_none() && request.pod.image == PodSpec::default_image(&request.pod.name) {
        let dockerfile = request.pod.dir.join("Dockerfile");
        return Err(unusable(
            tag,
            "there is no such image, and the pod has no Dockerfile to build it from",
            Some(format!(
                "write {}, or name an \"image\" in pod.json",
                dockerfile.display()
            )),
        ));
    }
    let key = format!("pull {tag}");
    let work = |log: Arc<Log>, cancel: CancellationToken| {
        let credentials = images.credentials.clone();
        let (tag, pod) = (tag.to_owned(), request.pod.clone());
        async move {
            let work = async {
                let host = registry(&tag);
                let known = credentials.of(host).await;
                if let Err(cause) = &known {
                    let line = format!("going on without credentials for {host}: {cause}");
                    log.write(line.into_bytes()).await;
                }
                let known = known.ok().flatten();
                let logged_in = known.is_some();
                let header = known.as_ref().map(credentials::header);
                let pulled = tokio::select! {
                    () = cancel.cancelled() => return Err(unusable(&tag, "the pull was cancelled", None)),
                    pulled = pull(&engine, &tag, header, &log) => pulled,
                };
                if let Err(failure) = pulled {
                    return Err(refused(failure, &tag, &pod, logged_in));
                }
                let Some(image) = look(&engine, &tag).await? else {
                    return Err(unusable(&tag, "it was pulled, and is gone again", None));
                };
                // Asked for a newer one, and there is none.
                let same = before.is_some() && image.id == before;
                checked(&engine, &tag, image, same)
            };
            Arc::new(work.await)
        }
    };
    let result = images.flights.join(&key, lines, work).await;
    joined(result, tag)
}

async fn pull(
    engine: &Engine,
    tag: &str,
    header: Option<String>,
    log: &Log,
) -> Result<(), Failure> {
    // bollard encodes credentials in a way that the engine does not always read.
    let client = engine
        .client
        .clone()
        .with_request_modifier(move |mut request| {
            if let Some(Ok(value)) = header.as_ref().map(|header| header.parse()) {
                request.headers_mut().insert("x-registry-auth", value);
            }
            request
        });
    let options = CreateImageOptionsBuilder::new().from_image(tag).build();
    let mut messages = client.create_image(Some(options), None, None);
    let mut layers = Layers::default();
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| engine.failure(&error))?;
        let status = message.status.unwrap_or_default();
        if let Some(line) = layers.line(message.id.as_deref(), &status) {
            log.write(line.into_bytes()).await;
        }
    }
    Ok(())
}

/// What is said of a pull: a line when a layer is there, not one for each
/// thousand of its bytes.
#[derive(Default)]
pub(super) struct Layers {
    said: HashMap<String, String>,
}

impl Layers {
    /// The line for a state, if it is worth one.
    pub(super) fn line(&mut self, id: Option<&str>, status: &str) -> Option<String> {
        let Some(id) = id else {
            return (!status.is_empty()).then(|| status.to_owned());
        };
        let worth = [
            "Pulling from",
            "Already exists",
            "Download complete",
            "Pull complete",
        ];
        if !worth.iter().any(|state| status.starts_with(state)) {
            return None;
        }
        let before = self.said.insert(id.to_owned(), status.to_owned());
        (before.as_deref() != Some(status)).then(|| format!("{id}: {status}"))
    }
}

fn unusable(tag: &str, cause: &str, hint: Option<String>) -> RuntimeError {
    RuntimeError::Image {
        tag: tag.to_owned(),
        cause: cause.to_owned(),
        hint,
    }
}

/// Why there is no image, and what to do about it, from the engine's words.
fn refused(failure: Failure, tag: &str, pod: &PodSpec, logged_in: bool) -> RuntimeError {
    let message = match failure {
        Failure::Refused { message, .. } => message,
        Failure::Unreachable(error) => return error,
    };
    let host = registry(tag);
    let said = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let login = match host {
        "docker.io" => "docker login".to_owned(),
        host => format!("docker login {host}"),
    };
    let dockerfile = pod.dir.join("Dockerfile");
    let (cause, hint) = if says(&[
        "unauthorized",
        "denied",
        "no basic auth",
        "authentication",
        "forbidden",
    ]) {
        let cause = match logged_in {
            true => format!(
                "{host} does not accept the credentials that docker has for it, or there is no such image"
            ),
            false => format!("{host} wants credentials, or there is no such image"),
        };
        (cause, format!("`{login}`, and check the name in pod.json"))
    } else if says(&[
        "not found",
        "manifest unknown",
        "name unknown",
        "does not exist",
    ]) {
        let cause = format!("it is not on this machine, and {host} has no such image");
        let hint = format!(
            "correct \"image\" in pod.json, or write {}",
            dockerfile.display()
        );
        (cause, hint)
    } else if says(&[
        "dial tcp",
        "lookup ",
        "timeout",
        "timed out",
        "connection refused",
        "no such host",
        "tls:",
        "x509",
        "eof",
        "server gave http response",
    ]) {
        let cause = format!("{host} cannot be reached by the engine");
        let hint = format!("is the network there? `docker pull {tag}` has to work");
        (cause, hint)
    } else {
        let hint = format!("`docker pull {tag}` has to work");
        ("it could not be pulled".to_owned(), hint)
    };
    unusable(tag, &format!("{cause}: {message}"), Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PodName;

    #[test]
    fn a_layer_has_a_line_when_it_is_there() {
        let mut layers = Layers::default();
        let mut lines = Vec::new();
        for (id, status) in [
            (Some("latest"), "Pulling from library/x"),
            (Some("a"), "Pulling fs layer"),
            (Some("a"), "Waiting"),
            (Some("a"), "Downloading"),
            (Some("a"), "Downloading"),
            (Some("a"), "Verifying Checksum"),
            (Some("a"), "Download complete"),
            (Some("a"), "Download complete"),
            (Some("a"), "Extracting"),
            (Some("a"), "Pull complete"),
            (Some("b"), "Already exists"),
            (None, "Digest: sha256:1"),
            (None, ""),
        ] {
            lines.extend(layers.line(id, status));
        }
        assert_eq!(
            lines,
            [
                "latest: Pulling from library/x",
                "a: Download complete",
                "a: Pull complete",
                "b: Already exists",
                "Digest: sha256:1",
            ]
        );
    }

    #[test]
    fn the_engines_words_become_a_cause_and_a_way_out() {
        let pod = PodSpec::bare(PodName::new("p").unwrap(), "/pods/p".into());
        for (said, logged_in, cause, hint) in [
            (
                "manifest for r.io/x:1 not found: manifest unknown: manifest unknown",
                false,
                "r.io has no such image",
                "/pods/p/Dockerfile",
            ),
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                false,
                "wants credentials",
                "docker login r.io",
            ),
            (
                "Get \"https://r.io/v2/x/manifests/1\": unauthorized: wrong password",
                true,
                "does not accept",
                "docker login r.io",
            ),
            (
                "Get \"https://r.io/v2/\": dial tcp: lookup r.io: no such host",
                false,
                "cannot be reached",
                "docker pull r.io/x:1",
            ),
            (
                "no space left on device",
                false,
                "no space left",
                "docker pull",
            ),
        ] {
            let failure = Failure::Refused {
                status: 500,
                message: said.to_owned(),
            };
            let error = refused(failure, "r.io/x:1", &pod, logged_in);
            let RuntimeError::Image {
                tag,
                cause: why,
                hint: way,
            } = error
            else {
                panic!("{error:?}");
            };
            assert_eq!(tag, "r.io/x:1");
            assert!(why.contains(cause) && why.contains(said), "{why}");
            assert!(way.unwrap().contains(hint), "{said}");
        }
    }
}
