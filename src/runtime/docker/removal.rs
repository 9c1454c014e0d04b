//! Keeping what a container leaves, and removing it.
//!
//! What is gone already is removed. Only what carries our home's labels is touched.

use super::engine::{Engine, Failure, QUICK, SLOW};
use super::image::{full_tag, look as look_image};
use super::labels;
use super::place;
use super::volumes;
use crate::model::{HomeId, Ulid};
use crate::runtime::{Found, Owner, PlaceState, Result, RuntimeError};
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures::StreamExt;
use std::time::Duration;

/// Copying a container's file system takes as long as it takes; a year is a
/// limit in name only.
const ENDLESS: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes an image of an ended container.
pub(super) async fn snapshot(
    engine: &Engine,
    owner: &Owner,
    name: &str,
    tag: &str,
) -> Result<String> {
    let failed = |cause: &str| RuntimeError::Container {
        container: name.to_owned(),
        cause: cause.to_owned(),
    };
    let Some(found) = place::find(engine, owner, name).await? else {
        return Err(failed("it is gone, so there is nothing to go on from"));
    };
    if !matches!(found.state, PlaceState::Exited(_)) {
        return Err(failed("it has not ended"));
    }
    let tag = full_tag(tag);
    if let Some(id) = taken(engine, &found, &tag).await? {
        return Ok(id);
    }
    let (repository, version) = tag.rsplit_once(':').unwrap_or((&tag, "latest"));
    let options = CommitContainerOptionsBuilder::new()
        .container(&found.id)
        .repo(repository)
        .tag(version)
        .pause(false)
        // Podman takes labels this way alone; the others are the container's already.
        .changes(&format!("LABEL {}={}", labels::SNAPSHOT, found.id))
        .build();
    let mut all = labels::of_owner(owner);
    all.insert(labels::SNAPSHOT.to_owned(), found.id.clone());
    let config = ContainerConfig {
        labels: Some(all),
        ..ContainerConfig::default()
    };
    let committed = engine.client.commit_container(options, config);
    match engine.call(ENDLESS, committed).await {
        Ok(image) => Ok(image.id),
        Err(failure) => Err(failure.of_container(name)),
    }
}

/// The snapshot that an earlier call made of this container.
async fn taken(engine: &Engine, found: &Found, tag: &str) -> Result<Option<String>> {
    let Some(image) = look_image(engine, tag).await? else {
        return Ok(None);
    };
    let labels = image.config.and_then(|config| config.labels);
    let of = labels.and_then(|mut labels| labels.remove(labels::SNAPSHOT));
    Ok(image.id.filter(|_| of.as_ref() == Some(&found.id)))
}

/// Kills and removes a container; with `with_volumes` also those that were
/// made for it.
pub(super) async fn remove(
    engine: &Engine,
    owner: &Owner,
    name: &str,
    with_volumes: bool,
) -> Result<()> {
    match place::find(engine, owner, name).await? {
        Some(found) => remove_found(engine, &found, with_volumes).await,
        None => Ok(()),
    }
}

async fn remove_found(engine: &Engine, found: &Found, with_volumes: bool) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(with_volumes)
        .build();
    let removed = engine.client.remove_container(&found.id, Some(options));
    match engine.call(SLOW, removed).await {
        Ok(()) => {}
        Err(failure) if failure.is_missing() => {}
        // Somebody else is at it.
        Err(failure) if failure.is_conflict() => gone(engine, found).await?,
        Err(failure) => return Err(failure.of_container(&found.name)),
    }
    if !with_volumes {
        return Ok(());
    }
    let had = |name: &str| found.volumes.iter().any(|(volume, _)| volume == name);
    volumes::remove(engine, found.owner.home, found.owner.session, had).await
}

/// Waits for a removal that is under way.
async fn gone(engine: &Engine, found: &Found) -> Result<()> {
    let options = WaitContainerOptionsBuilder::new()
        .condition("removed")
        .build();
    let mut answers = engine.client.wait_container(&found.id, Some(options));
    let answer = async { answers.next().await.transpose() };
    match engine.call(SLOW, answer).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_missing() => Ok(()),
        Err(failure) => Err(failure.of_container(&found.name)),
    }
}

/// Removes all that a session has.
pub(super) async fn remove_session(engine: &Engine, home: HomeId, session: Ulid) -> Result<()> {
    for found in place::list(engine, home).await? {
        if found.owner.session == session {
            remove_found(engine, &found, true).await?;
        }
    }
    remove_snapshots(engine, home, session).await?;
    volumes::remove(engine, home, session, |_| true).await
}

async fn remove_snapshots(engine: &Engine, home: HomeId, session: Ulid) -> Result<()> {
    let options = ListImagesOptionsBuilder::new()
        .filters(&labels::filter(labels::SESSION, &session.to_string()))
        .build();
    let list = engine
        .call(QUICK, engine.client.list_images(Some(options)))
        .await
        .map_err(|failure| failure.of_image("of the session"))?;
    // A later snapshot rests on the earlier ones, and the engine tells times by
    // the second only: what is refused is tried again as long as others go.
    // What a user makes of a snapshot inherits its labels, but not its name.
    let ours = [(labels::HOME, home.to_string())];
    let mut list = list;
    list.retain(|image| labels::carry(&image.labels, &ours));
    list.sort_by_key(|image| std::cmp::Reverse(image.created));
    let tags = list.into_iter().flat_map(|image| image.repo_tags);
    let mut list: Vec<String> = tags.filter(|tag| is_snapshot(tag)).collect();
    loop {
        let before = list.len();
        let mut kept = None;
        let mut left = Vec::new();
        for image in list {
            match remove_image(engine, &image, false).await {
                Ok(()) => {}
                // Somebody made a container or an image of it. The rest goes all the same.
                Err(Failure::Refused { message, .. }) => {
                    kept.get_or_insert(RuntimeError::Image {
                        tag: image.clone(),
                        cause: format!("it cannot be removed: {message}"),
                        hint: None,
                    });
                    left.push(image);
                }
                Err(failure) => return Err(failure.of_image(&image)),
            }
        }
        match kept {
            None => return Ok(()),
            Some(error) if left.len() == before => return Err(error),
            Some(_) => list = left,
        }
    }
}

/// Whether a tag is one that [`snapshot`] is given; an engine may put its own
/// registry before it.
pub(super) fn is_snapshot(tag: &str) -> bool {
    let name = tag.rsplit('/').next().unwrap_or(tag);
    name.starts_with("cldpd-snapshot:")
}

/// Removes the image of a pod, if it was built here (`built` knows its id) and
/// nothing uses it, running or not.
pub(super) async fn remove_pod_image(
    engine: &Engine,
    home: HomeId,
    tag: &str,
    built: impl Fn(&str) -> bool,
) -> Result<()> {
    let Some(image) = look_image(engine, &full_tag(tag)).await? else {
        return Ok(());
    };
    // Images that others build on ours inherit our labels.
    if !image.id.as_deref().is_some_and(built) {
        return Ok(());
    }
    let carried = image
        .config
        .and_then(|config| config.labels)
        .unwrap_or_default();
    if carried.get(labels::HOME) != Some(&home.to_string()) {
        return Ok(());
    }
    match remove_image(engine, &full_tag(tag), false).await {
        Ok(()) | Err(Failure::Refused { .. }) => Ok(()),
        Err(failure) => Err(failure.of_image(tag)),
    }
}

/// Removes a tag, and the image with its last one; by an id and with `force`
/// all of them. One that is gone is removed.
pub(super) async fn remove_image(engine: &Engine, id: &str, force: bool) -> Result<(), Failure> {
    let options = RemoveImageOptionsBuilder::new().force(force).build();
    let removed = engine.client.remove_image(id, Some(options), None);
    match engine.call(SLOW, removed).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_missing() => Ok(()),
        Err(failure) => Err(failure),
    }
}
