//! Images: there already, built from the pod's directory, or pulled.
//!
//! An image that we build carries the digest of what it was built from as a
//! label; it is built again only when that has changed, or when somebody
//! insists. Where there is a Dockerfile no registry is ever asked for the image:
//! the name that we build under could be anybody's there.

use super::build;
use super::context::Context;
use super::credentials::Credentials;
use super::endpoint::DockerConfig;
use super::engine::{Engine, QUICK};
use super::flight::{Flights, Log};
use super::labels;
use super::ledger::Ledger;
use super::pull;
use crate::model::Timestamp;
use crate::model::spec::{SecretSource, SecretSpec};
use crate::runtime::{BuildRequest, Image, ImageConfig, Result, RuntimeError};
use bollard::models::ImageInspect;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How images are come by.
pub(super) struct Images {
    /// What is being built or pulled.
    pub(super) flights: Flights<Arc<Result<Image>>>,
    /// What registries are told.
    pub(super) credentials: Credentials,
    /// Whether BuildKit is not wanted.
    pub(super) classic: bool,
    /// What was built here.
    pub(super) ledger: Ledger,
    busy: Arc<AtomicUsize>,
}

/// A build that is under way.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Images {
    /// `sessions` is a directory of the home.
    pub(super) fn new(config: &DockerConfig, sessions: &Path) -> Self {
        let beside = || sessions.with_file_name("images.json");
        let ledger = config.ledger.clone().unwrap_or_else(beside);
        Self {
            flights: Flights::default(),
            credentials: Credentials::new(config.config_dir().as_deref()),
            classic: config.classic,
            ledger: Ledger::open(ledger),
            busy: Arc::default(),
        }
    }

    /// Whether something is being built: an image may be there that has no tag yet.
    pub(super) fn building(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Busy(Arc::clone(&self.busy))
    }
}

/// The tag with its version: what is without one is `latest`.
pub(super) fn full_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.contains(':') || image.contains('@') {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

/// The pod's image, built or pulled if need be.
pub(super) async fn ready(
    engine: Arc<Engine>,
    images: &Arc<Images>,
    request: &BuildRequest,
    lines: &mpsc::Sender<Vec<u8>>,
) -> Result<Image> {
    let BuildRequest {
        home, pod, options, ..
    } = request;
    let home = *home;
    let tag = full_tag(&pod.image);
    if !pod.dockerfile {
        return pull::ready(engine, images, request, &tag, lines).await;
    }
    let args = pod.build_args.clone();
    let dir = pod.dir.clone();
    let hidden: Vec<PathBuf> = pod.secrets.iter().filter_map(file_of).collect();
    let read = tokio::task::spawn_blocking(move || {
        let context = Context::read(&dir, &hidden)?;
        let digest = context.digest(&args)?;
        Ok::<_, RuntimeError>((context, digest))
    });
    let failed = |cause: String| RuntimeError::Build {
        tag: tag.clone(),
        cause,
    };
    let (context, digest) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(error) => return Err(failed(format!("reading its context failed: {error}"))),
    };
    let key = format!(
        "build {tag} {digest} {home} {} {} {} {}",
        options.force,
        options.no_cache,
        options.pull,
        fingerprint(request)
    );
    let order = build::Order {
        tag: tag.clone(),
        digest,
        home,
        pod: pod.name.clone(),
        build_args: pod.build_args.clone(),
        proxy: request.proxy.clone(),
        secrets: request.secrets.clone(),
        no_cache: options.no_cache,
        pull: options.pull,
        context: Arc::new(context),
    };
    let insisted = options.force || options.no_cache || options.pull;
    let work = {
        let (images, tag) = (Arc::clone(images), tag.clone());
        |log: Arc<Log>, cancel: CancellationToken| async move {
            let work = async {
                if !insisted && let Some(image) = unchanged(&engine, &order).await? {
                    return Ok(image);
                }
                let _busy = images.begin();
                let id = build::run(&engine, &images, order, &log, cancel).await?;
                let image = inspect(&engine, &id).await?;
                let image = checked(&engine, &tag, image, false)?;
                images.ledger.built(&image.id);
                Ok(image)
            };
            Arc::new(work.await)
        }
    };
    joined(images.flights.join(&key, lines, work).await, &tag)
}

/// The file that a secret's value is in.
fn file_of(secret: &SecretSpec) -> Option<PathBuf> {
    match &secret.source {
        SecretSource::File(path) => Some(path.clone()),
        SecretSource::Env(_) => None,
    }
}

/// What one got who joined a build or a pull.
pub(super) fn joined(result: Option<Arc<Result<Image>>>, tag: &str) -> Result<Image> {
    match result.as_deref() {
        Some(Ok(image)) => Ok(image.clone()),
        Some(Err(error)) => Err(shared(error)),
        None => Err(RuntimeError::Build {
            tag: tag.to_owned(),
            cause: "it was given up".to_owned(),
        }),
    }
}

/// Who brings other secrets or another proxy has a build of their own. This
/// stays in memory.
fn fingerprint(request: &BuildRequest) -> String {
    let mut hasher = Sha256::new();
    let secrets = request.secrets.iter().map(|(k, v)| (k, v.as_slice()));
    let proxy = request.proxy.iter().map(|(k, v)| (k, v.as_bytes()));
    for (name, value) in secrets.chain(proxy) {
        for part in [name.as_bytes(), value] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    format!("{:x}", hasher.finalize())
}

/// The image that is there, if it was built by us from the same.
async fn unchanged(engine: &Engine, order: &build::Order) -> Result<Option<Image>> {
    let Some(image) = look(engine, &order.tag).await? else {
        return Ok(None);
    };
    let config = image.config.as_ref();
    let built_from = config
        .and_then(|config| config.labels.as_ref())
        .and_then(|labels| labels.get(labels::CONTEXT));
    if built_from != Some(&order.digest) {
        return Ok(None);
    }
    checked(engine, &order.tag, image, true).map(Some)
}

/// An image for another machine would fail later, and darkly.
pub(super) fn checked(
    engine: &Engine,
    tag: &str,
    image: ImageInspect,
    cached: bool,
) -> Result<Image> {
    let ours = &engine.info.architecture;
    let theirs = image.architecture.unwrap_or_default();
    if !theirs.is_empty() && !ours.is_empty() && theirs != *ours {
        return Err(RuntimeError::Image {
            tag: tag.to_owned(),
            cause: format!("it is for {theirs}, and the engine runs {ours}"),
            hint: Some(format!("build or pull it for linux/{ours}")),
        });
    }
    Ok(Image {
        id: image.id.unwrap_or_else(|| tag.to_owned()),
        cached,
        created: image.created.as_ref().and_then(timestamp),
    })
}

/// The image, if it is there.
pub(super) async fn look(engine: &Engine, image: &str) -> Result<Option<ImageInspect>> {
    match engine.call(QUICK, engine.client.inspect_image(image)).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure.of_image(image)),
    }
}

/// The image, which has to be there.
pub(super) async fn inspect(engine: &Engine, image: &str) -> Result<ImageInspect> {
    look(engine, image)
        .await?
        .ok_or_else(|| RuntimeError::Image {
            tag: image.to_owned(),
            cause: "there is no such image".to_owned(),
            hint: Some("was it removed? `--build` builds it again".to_owned()),
        })
}

/// When an image was made.
pub(super) async fn created(engine: &Engine, tag: &str) -> Result<Option<Timestamp>> {
    let image = look(engine, &full_tag(tag)).await?;
    Ok(image.and_then(|image| image.created.as_ref().and_then(timestamp)))
}

/// What an image says about how it is to be run.
pub(super) async fn config(engine: &Engine, image: &str) -> Result<ImageConfig> {
    let config = inspect(engine, image).await?.config.unwrap_or_default();
    let mut command = config.entrypoint.unwrap_or_default();
    command.extend(config.cmd.unwrap_or_default());
    Ok(ImageConfig {
        command,
        workdir: config.working_dir.filter(|dir| !dir.is_empty()),
        user: config.user.unwrap_or_default(),
    })
}

fn timestamp(date: &bollard::models::BollardDate) -> Option<Timestamp> {
    // An image of no known date says the year 1.
    date.timestamp_nanos_opt().map(Timestamp)
}

/// An error for one more of those who waited.
fn shared(error: &RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Unavailable {
            runtime,
            cause,
            hint,
        } => RuntimeError::Unavailable {
            runtime: *runtime,
            cause: cause.clone(),
            hint: hint.clone(),
        },
        RuntimeError::Build { tag, cause } => RuntimeError::Build {
            tag: tag.clone(),
            cause: cause.clone(),
        },
        RuntimeError::Image { tag, cause, hint } => RuntimeError::Image {
            tag: tag.clone(),
            cause: cause.clone(),
            hint: hint.clone(),
        },
        RuntimeError::Path {
            container,
            path,
            cause,
            missing,
        } => RuntimeError::Path {
            container: container.clone(),
            path: path.clone(),
            cause: cause.clone(),
            missing: *missing,
        },
        RuntimeError::Container { container, cause } => RuntimeError::Container {
            container: container.clone(),
            cause: cause.clone(),
        },
        RuntimeError::Io {
            action,
            path,
            source,
        } => RuntimeError::Io {
            action,
            path: path.clone(),
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::full_tag;

    #[test]
    fn a_tag_without_a_version_means_the_latest() {
        for (image, tag) in [
            ("cldpd-a", "cldpd-a:latest"),
            ("cldpd-a:1", "cldpd-a:1"),
            ("box:5000/a", "box:5000/a:latest"),
            ("a@sha256:12", "a@sha256:12"),
        ] {
            assert_eq!(full_tag(image), tag);
        }
    }
}
