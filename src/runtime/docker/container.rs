//! What a container is created with, and creating it.
//!
//! Nothing secret is in a container's configuration: no environment, no prompt,
//! no argument but where the shim finds its directory.

use super::engine::{Engine, QUICK, SLOW};
use super::image;
use super::labels;
use super::limits;
use super::states::understood;
use super::unreachable::BLIND_HINT;
use super::volumes;
use crate::model::spec::SecretKind;
use crate::runtime::session_dir::{CONTAINER_BIN, CONTAINER_RUN, CONTAINER_SECRETS};
use crate::runtime::{CreateRequest, Owner, Result, RuntimeError, user_labels};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder,
};
use futures::FutureExt as _;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an engine that stops the container waits before it kills: the
/// shim's grace of 10 s, and 15 s for the last records.
const STOP_TIMEOUT: i64 = 25;

/// So long an engine may take to make a container that another daemon asked for.
const BEING_MADE: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Bytes of memory for each file of a secret; none is longer.
const SECRET_ROOM: usize = 1 << 20;

/// The shim's argument list.
fn serve_command(owner: &Owner) -> Vec<String> {
    let options = [
        ("--dir", CONTAINER_RUN.to_owned()),
        ("--session", owner.session.to_string()),
        ("--run", owner.run.to_string()),
        ("--attempt", owner.attempt.to_string()),
    ];
    let mut all = vec!["serve".to_owned()];
    for (name, value) in options {
        all.extend([name.to_owned(), value]);
    }
    all
}

/// Creates it, or finds the one that is there already.
///
/// Nearly always there is none, so it is looked for only when the engine refuses.
pub(super) async fn create(engine: &Engine, request: &CreateRequest) -> Result<String> {
    let began = Instant::now();
    loop {
        let (error, held) = match make(engine, request).await {
            Ok(id) => return Ok(id),
            Err(Unmade::Error(error @ RuntimeError::Unavailable { .. })) => return Err(error),
            Err(Unmade::Error(error)) => (error, false),
            Err(Unmade::Held(error)) => (error, true),
        };
        match look(engine, &request.name).await? {
            // What an earlier call of ours made, or a stranger who has the name.
            Some(found) => return same(&found, request),
            // A daemon that died had asked for it, and the engine is at it still: it
            // holds the name before it knows of a container.
            None if held && began.elapsed() < BEING_MADE => {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            None => return Err(error),
        }
    }
}

/// Why a container was not made.
enum Unmade {
    /// Its name is held.
    Held(RuntimeError),
    Error(RuntimeError),
}

impl From<RuntimeError> for Unmade {
    fn from(error: RuntimeError) -> Self {
        Self::Error(error)
    }
}

async fn make(engine: &Engine, request: &CreateRequest) -> Result<String, Unmade> {
    let image = image::inspect(engine, &request.image).await?;
    let config = image.config.unwrap_or_default();
    let user = config.user.unwrap_or_default();
    let mut body = body(request, &config.volumes.unwrap_or_default(), &user)?;
    // Podman makes a timer even of a check that says NONE, where there is none.
    if config.healthcheck.is_some() {
        body.healthcheck = Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        });
    }
    let mounts = body.host_config.as_ref().and_then(|h| h.mounts.as_deref());
    volumes::prepare(engine, &request.owner, mounts.unwrap_or_default()).await?;
    let options = CreateContainerOptionsBuilder::new()
        .name(&request.name)
        .build();
    let created = engine.client.create_container(Some(options), body);
    match engine.call(SLOW, created).await {
        Ok(created) => {
            if let Err(error) = limits::check(request, &created.warnings) {
                discard(engine, &created.id).await;
                return Err(error.into());
            }
            Ok(created.id)
        }
        // It went after it was looked at.
        Err(failure) if failure.is_missing() => Err(failure.of_image(&request.image).into()),
        Err(failure) if failure.is_conflict() => {
            Err(Unmade::Held(failure.of_container(&request.name)))
        }
        Err(failure) => {
            let error = limits::refused(request, failure.of_container(&request.name));
            Err(unseen(engine, request, error).into())
        }
    }
}

/// Removes a container that has just been made and will not do.
async fn discard(engine: &Engine, id: &str) {
    let options = RemoveContainerOptionsBuilder::new().v(true).build();
    let removed = engine.client.remove_container(id, Some(options));
    if let Err(failure) = engine.call(SLOW, removed).await {
        tracing::warn!(container = id, ?failure, "left behind until later");
    }
}

/// An engine that says that our own directory does not exist, or makes an empty
/// one of that name, does not see this machine's files.
pub(super) fn unseen(
    engine: &Engine,
    request: &CreateRequest,
    error: RuntimeError,
) -> RuntimeError {
    let ours = request.dirs.session.path().to_string_lossy();
    // What is not here either is missing for another reason.
    if !request.dirs.session.shim().exists() {
        return error;
    }
    match error {
        RuntimeError::Container { container, cause }
            if cause.contains("does not exist") && cause.contains(&*ours)
                || cause.contains("no such file") && cause.contains(CONTAINER_BIN) =>
        {
            RuntimeError::Container {
                container,
                cause: format!(
                    "the engine at {} does not see {ours}, which is on this machine; {BLIND_HINT}",
                    engine.endpoint
                ),
            }
        }
        other => other,
    }
}

/// The container of this name, whosever it is.
pub(super) async fn look(engine: &Engine, name: &str) -> Result<Option<ContainerInspectResponse>> {
    // An id, or the beginning of one, finds a container too; that is not its name.
    let found = look_at(engine, name).await?;
    Ok(found.filter(|found| name_of(found) == name))
}

/// What the engine knows of a container of this name or id.
pub(super) async fn look_at(
    engine: &Engine,
    what: &str,
) -> Result<Option<ContainerInspectResponse>> {
    let options = None::<InspectContainerOptions>;
    let inspected = engine.client.inspect_container(what, options);
    match engine.call(QUICK, inspected.map(understood)).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure.of_container(what)),
    }
}

/// The container's name, without the slash that the engine puts before it.
fn name_of(found: &ContainerInspectResponse) -> &str {
    let name = found.name.as_deref().unwrap_or_default();
    name.strip_prefix('/').unwrap_or(name)
}

/// The container's labels.
pub(super) fn labels_of(found: &ContainerInspectResponse) -> HashMap<String, String> {
    let config = found.config.as_ref();
    config
        .and_then(|config| config.labels.clone())
        .unwrap_or_default()
}

/// Whether it is the one that the request would make.
fn same(found: &ContainerInspectResponse, request: &CreateRequest) -> Result<String> {
    let labels = labels_of(found);
    let owner = labels::owner(&labels, &request.name);
    let id = found.id.clone().unwrap_or_default();
    if owner.as_ref() == Some(&request.owner) {
        return Ok(id);
    }
    let short = id.get(..12).unwrap_or(&id);
    let whose = match owner {
        Some(owner) if owner.home != request.owner.home => {
            format!("a container of another cldpd home ({})", owner.home)
        }
        Some(owner) => format!(
            "run {} (attempt {}) of session {}",
            owner.run, owner.attempt, owner.id
        ),
        None => "a container that cldpd did not make".to_owned(),
    };
    Err(RuntimeError::Container {
        container: request.name.clone(),
        cause: format!(
            "the name is held by {short}, {whose}; remove it with `docker rm -f {short}`, or rename it"
        ),
    })
}

fn body(
    request: &CreateRequest,
    declared: &[String],
    image_user: &str,
) -> Result<ContainerCreateBody> {
    let pod = &request.pod;
    let mut all: HashMap<_, _> = user_labels(pod).into_iter().collect();
    all.extend(labels::of_owner(&request.owner));
    all.insert(labels::NAME.to_owned(), request.name.clone());
    Ok(ContainerCreateBody {
        image: Some(request.image.clone()),
        entrypoint: Some(vec![format!("{CONTAINER_BIN}/shim")]),
        cmd: Some(serve_command(&request.owner)),
        working_dir: request.workdir.clone(),
        user: request.user.clone(),
        labels: Some(all),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: Some(STOP_TIMEOUT),
        host_config: Some(limits::apply(
            request.limits,
            host(request, declared, image_user)?,
        )),
        ..ContainerCreateBody::default()
    })
}

fn host(request: &CreateRequest, declared: &[String], image_user: &str) -> Result<HostConfig> {
    let pod = &request.pod;
    Ok(HostConfig {
        mounts: Some(mounts(request, declared)?),
        tmpfs: secrets(request, image_user),
        group_add: some(&pod.group_add),
        extra_hosts: some(&pod.extra_hosts),
        network_mode: pod.network.clone(),
        log_config: Some(HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        // The shim is the first process also where the engine would
        // rather put one of its own there.
        init: Some(false),
        ..HostConfig::default()
    })
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The memory that files of secrets lie in.
///
/// Where the image has the directory already (a build secret leaves it behind),
/// the engine goes by that one's mode: so it has to be its user's. A user that
/// is only named cannot be told; then the image is not to have it.
fn secrets(request: &CreateRequest, image_user: &str) -> Option<HashMap<String, String>> {
    let files = request.pod.secrets.iter();
    let files = files
        .filter(|secret| secret.kind == SecretKind::File)
        .count();
    if files == 0 {
        return None;
    }
    let mut options = format!("mode=1777,size={}", (files + 1) * SECRET_ROOM);
    let user = request.user.as_deref().unwrap_or(image_user);
    let (user, group) = user.split_once(':').unwrap_or((user, "0"));
    if let Ok(user) = user.parse::<u32>() {
        let group = group.parse::<u32>().unwrap_or(0);
        options.push_str(&format!(",uid={user},gid={group}"));
    }
    Some(HashMap::from([(CONTAINER_SECRETS.to_owned(), options)]))
}

/// Ours, the pod's, and the volumes, each target once.
///
/// As `Mounts` and not as `Binds`: a source that is missing has to fail, and
/// not to be made by root.
fn mounts(request: &CreateRequest, declared: &[String]) -> Result<Vec<Mount>> {
    let dirs = &request.dirs;
    let mut all = vec![
        bind(&dirs.session.bin(), CONTAINER_BIN, true, &request.name)?,
        bind(&dirs.path(), CONTAINER_RUN, false, &request.name)?,
    ];
    for mount in &request.pod.mounts {
        all.push(if mount.source.is_absolute() {
            bind(&mount.source, &mount.target, mount.read_only, &request.name)?
        } else {
            Mount {
                typ: Some(MountType::VOLUME),
                source: Some(text(&mount.source, &request.name)?),
                target: Some(mount.target.clone()),
                read_only: Some(mount.read_only),
                ..Mount::default()
            }
        });
    }
    let taken = |all: &[Mount], target: &str| {
        let target = target.trim_end_matches('/');
        all.iter()
            .filter_map(|mount| mount.target.as_deref())
            .any(|other| other.trim_end_matches('/') == target)
    };
    for (name, target) in &request.volumes {
        if !taken(&all, target) {
            all.push(volumes::mount(&request.owner, name.clone(), target));
        }
    }
    for target in declared {
        if !taken(&all, target) {
            let name = volumes::name(&request.owner, target);
            all.push(volumes::mount(&request.owner, name, target));
        }
    }
    Ok(all)
}

fn bind(source: &Path, target: &str, read_only: bool, container: &str) -> Result<Mount> {
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(text(source, container)?),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    })
}

/// The engine's API is JSON: a path that is no text cannot be told to it.
fn text(path: &Path, container: &str) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| RuntimeError::Container {
            container: container.to_owned(),
            cause: format!("the mount source {} is not UTF-8", path.display()),
        })
}
