//! How containers stand: finding, starting, waiting.
//!
//! Everything asks by name and then looks at the labels; what is not ours is
//! as good as not there. A container that somebody gave another name is found by
//! its labels.

use super::container::{labels_of, look, look_at, unseen};
use super::engine::{Engine, Failure, QUICK, SLOW};
use super::image;
use super::labels;
use super::states::understood;
use super::volumes;
use crate::model::{HomeId, Timestamp};
use crate::runtime::{CreateRequest, ExitInfo, Found, Owner, PlaceState, Result, RuntimeError};
use bollard::errors::Error as EngineError;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use futures::{FutureExt, StreamExt};
use std::collections::HashMap;

/// The container of this owner and name.
pub(super) async fn find(engine: &Engine, owner: &Owner, name: &str) -> Result<Option<Found>> {
    let found = look(engine, name).await?;
    let found = found.and_then(|found| read(&found, name));
    if let Some(found) = found.filter(|found| found.owner == *owner) {
        return Ok(Some(found));
    }
    for summary in summaries(engine, labels::NAME, name)
        .await
        .map_err(|failure| failure.of_container(name))?
    {
        let found = renamed(engine, &summary).await?;
        if let Some(found) = found.filter(|found| found.owner == *owner) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The container, if it is ours and has another name than it was given.
async fn renamed(engine: &Engine, summary: &ContainerSummary) -> Result<Option<Found>> {
    let labels = summary.labels.as_ref();
    let (Some(name), Some(id), Some(image)) = (
        labels.and_then(|labels| labels.get(labels::NAME)),
        &summary.id,
        &summary.image_id,
    ) else {
        return Ok(None);
    };
    // One that somebody made of a snapshot has its labels of that. Of an image
    // that is gone nobody can say.
    let Some(image) = image::look(engine, image).await? else {
        return Ok(None);
    };
    let of_image = image.config.and_then(|config| config.labels);
    if of_image.is_some_and(|labels| labels.get(labels::NAME) == Some(name)) {
        return Ok(None);
    }
    let found = look_at(engine, id).await?;
    Ok(found.and_then(|found| read(&found, name)))
}

/// How often a list may be broken off by containers that go meanwhile.
const LISTS: usize = 8;

/// All containers of a home.
pub(super) async fn list(engine: &Engine, home: HomeId) -> Result<Vec<Found>> {
    let mut broken_off = 0;
    let list = loop {
        match summaries(engine, labels::HOME, &home.to_string()).await {
            Ok(list) => break list,
            // Podman gives up a list where one of its containers goes.
            Err(failure) if failure.is_missing() && broken_off < LISTS => broken_off += 1,
            Err(failure) => return Err(failure.of_container("of this home")),
        }
    };
    let mut all: Vec<Found> = Vec::new();
    let mut others = Vec::new();
    for summary in list {
        let name = summary.names.iter().flatten().find_map(|name| {
            let name = name.strip_prefix('/')?;
            labels::owner(summary.labels.as_ref()?, name).map(|_| name.to_owned())
        });
        let Some(name) = name else {
            others.push(summary);
            continue;
        };
        // The list does not say how an ended one ended.
        let found = look(engine, &name).await?;
        let found = found.and_then(|found| read(&found, &name));
        all.extend(found.filter(|found| found.owner.home == home));
    }
    for summary in others {
        let found = renamed(engine, &summary).await?;
        let found = found.filter(|found| found.owner.home == home);
        // Where the one that it says to be is there as well, it is another.
        let is_there = |found: &Found| all.iter().any(|other| other.name == found.name);
        all.extend(found.filter(|found| !is_there(found)));
    }
    Ok(all)
}

/// All containers that carry this label.
async fn summaries(
    engine: &Engine,
    key: &str,
    value: &str,
) -> std::result::Result<Vec<ContainerSummary>, Failure> {
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&labels::filter(key, value))
        .build();
    let listed = engine.client.list_containers(Some(options));
    engine.call(QUICK, listed.map(understood)).await
}

/// Starts it, unless it runs.
pub(super) async fn start(engine: &Engine, request: &CreateRequest) -> Result<()> {
    let name = &request.name;
    let failed = |cause: &str| RuntimeError::Container {
        container: name.clone(),
        cause: cause.to_owned(),
    };
    let Some(found) = find(engine, &request.owner, name).await? else {
        return Err(failed("it is gone"));
    };
    match found.state {
        PlaceState::Created => {}
        // An earlier start failed before anything ran.
        PlaceState::Exited(exit) if exit.finished.is_none() && exit.error.is_some() => {}
        PlaceState::Running { .. } => return Ok(()),
        PlaceState::Exited(_) => return Err(failed("it has run already")),
        PlaceState::Gone => return Err(failed("it is gone")),
    }
    let started = engine
        .client
        .start_container(&found.id, None::<StartContainerOptions>);
    engine
        .call(SLOW, started)
        .await
        .map_err(|failure| unseen(engine, request, failure.of_container(name)))
}

/// Waits until it has ended.
pub(super) async fn wait(engine: &Engine, owner: &Owner, name: &str) -> Result<Option<ExitInfo>> {
    loop {
        let since = Timestamp::now();
        let Some(found) = find(engine, owner, name).await? else {
            return Ok(None);
        };
        match found.state {
            PlaceState::Gone => return Ok(None),
            PlaceState::Exited(exit) => return Ok(Some(exit)),
            PlaceState::Running { .. } => ended(engine, &found).await?,
            // The engine takes one that never ran for one that has ended.
            PlaceState::Created => begun(engine, &found, since).await?,
        }
    }
}

/// Returns when it runs no more. However long that takes.
async fn ended(engine: &Engine, found: &Found) -> Result<()> {
    let options = WaitContainerOptionsBuilder::new()
        .condition("not-running")
        .build();
    let mut answers = engine.client.wait_container(&found.id, Some(options));
    match answers.next().await {
        // An exit code that is not 0 comes as an error of the client's; the
        // code is read from the container's state afterwards.
        Some(Ok(_) | Err(EngineError::DockerContainerWaitError { .. })) => Ok(()),
        Some(Err(error)) => match engine.failure(&error) {
            failure if failure.is_missing() => Ok(()),
            failure => Err(failure.of_container(&found.name)),
        },
        None => Err(broken_off(engine, &found.name)),
    }
}

/// Returns when it was started or removed since `since`.
async fn begun(engine: &Engine, found: &Found, since: Timestamp) -> Result<()> {
    // The engine repeats what happened since then, so nothing falls between
    // looking and listening. Its clock may be another; a minute covers that.
    let filters = HashMap::from([
        ("container", vec![found.id.as_str()]),
        // Podman has its own words for the latter two.
        ("event", vec!["start", "die", "destroy", "died", "remove"]),
    ]);
    let options = EventsOptionsBuilder::new()
        .since(&(since.0 / 1_000_000_000 - 60).to_string())
        .filters(&filters)
        .build();
    let mut events = Box::pin(engine.client.events(Some(options)));
    match events.next().await {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(engine.failure(&error).of_container(&found.name)),
        None => Err(broken_off(engine, &found.name)),
    }
}

fn broken_off(engine: &Engine, name: &str) -> RuntimeError {
    let error = EngineError::IOError {
        err: std::io::Error::other("it was closed"),
    };
    engine.failure(&error).of_container(name)
}

/// Unfreezes it, if it is frozen.
pub(super) async fn unpause(engine: &Engine, owner: &Owner, name: &str) -> Result<()> {
    let Some(found) = find(engine, owner, name).await? else {
        return Ok(());
    };
    if !matches!(found.state, PlaceState::Running { paused: true, .. }) {
        return Ok(());
    }
    match engine
        .call(SLOW, engine.client.unpause_container(&found.id))
        .await
    {
        Ok(()) => Ok(()),
        Err(Failure::Refused { message, .. }) if message.contains("not paused") => Ok(()),
        Err(failure) => Err(failure.of_container(name)),
    }
}

/// What the engine says about a container of ours that was made with this name.
fn read(found: &ContainerInspectResponse, name: &str) -> Option<Found> {
    Some(Found {
        owner: labels::owner(&labels_of(found), name)?,
        name: name.to_owned(),
        id: found.id.clone()?,
        state: state(found.state.as_ref()?),
        volumes: volumes::of(found.mounts.as_deref().unwrap_or_default()),
    })
}

fn state(state: &ContainerState) -> PlaceState {
    use ContainerStateStatusEnum as Status;
    let running = |paused| PlaceState::Running {
        pid: state
            .pid
            .and_then(|pid| u32::try_from(pid).ok())
            .filter(|pid| *pid != 0),
        paused,
    };
    match state.status {
        // A start that failed leaves it created, with the engine's reason.
        Some(Status::CREATED) => match exit(state) {
            exit if exit.error.is_some() => PlaceState::Exited(exit),
            _ => PlaceState::Created,
        },
        Some(Status::RUNNING | Status::RESTARTING | Status::STOPPING) => running(false),
        Some(Status::PAUSED) => running(true),
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) => PlaceState::Exited(exit(state)),
        Some(Status::EMPTY) | None => match state.running {
            Some(true) => running(state.paused.unwrap_or(false)),
            Some(false) | None => PlaceState::Exited(exit(state)),
        },
    }
}

fn exit(state: &ContainerState) -> ExitInfo {
    ExitInfo {
        code: state.exit_code.unwrap_or(-1),
        oom_killed: state.oom_killed.unwrap_or(false),
        finished: state
            .finished_at
            .as_deref()
            .and_then(|time| Timestamp::parse(time).ok()),
        error: state.error.clone().filter(|error| !error.is_empty()),
    }
}
