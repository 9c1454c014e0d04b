//! All that a home has in an engine, and what rests on what.
//!
//! By its labels, and by what labels alone do not tell: containers have their own
//! name among them, images are in the ledger, since others inherit labels.

use super::engine::{Engine, QUICK, SLOW};
use super::image::{Images, full_tag, look as look_image};
use super::labels;
use super::place;
use super::removal::{self, is_snapshot, remove_image};
use super::states::understood;
use super::sweep::Promised;
use super::volumes;
use super::{helper, probe, purge};
use crate::model::{HomeId, Timestamp, Ulid};
use crate::runtime::{Belonging, Belongs, Result, RuntimeError};
use bollard::models::{ContainerSummary, ImageSummary};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use futures::FutureExt as _;

/// A helper that is older than this has nobody who waits for it: a purge may take an hour.
const HELPER_MAX: i64 = 2 * 3600;

/// All that belongs to `home`; no image while one is being built or is about to be used.
pub(super) async fn list(
    engine: &Engine,
    home: HomeId,
    images: &Images,
    promised: &Promised,
) -> Result<Vec<Belonging>> {
    let mut all = Vec::new();
    for found in place::list(engine, home).await? {
        all.push(Belonging {
            id: found.id.clone(),
            name: found.name.clone(),
            what: Belongs::Container(found),
            users: Vec::new(),
        });
    }
    let containers = containers(engine).await?;
    all.extend(containers.iter().filter_map(|found| of_helper(found, home)));
    all.extend(volumes_of(engine, home).await?);
    if images.building() {
        return Ok(all);
    }
    let options = ListImagesOptionsBuilder::new().all(true).build();
    let listed = engine.client.list_images(Some(options));
    let listed = engine.call(QUICK, listed).await;
    let listed = listed.map_err(|failure| failure.of_image("of this home"))?;
    for image in &listed {
        if promised.holds(&image.id) || !is_of(&image.labels, home) {
            continue;
        }
        let Some((name, what)) = of_image(image, images) else {
            continue;
        };
        let rests = containers
            .iter()
            .filter(|container| container.image_id.as_ref() == Some(&image.id))
            .filter_map(|container| container.id.clone());
        let made_of = listed
            .iter()
            .filter(|other| other.parent_id == image.id)
            .map(|other| other.id.clone());
        all.push(Belonging {
            id: image.id.clone(),
            name,
            what,
            users: rests.chain(made_of).collect(),
        });
    }
    Ok(all)
}

/// Removes one of them, if it is still what it was and nobody uses it.
pub(super) async fn discard(engine: &Engine, one: &Belonging) -> Result<()> {
    match &one.what {
        Belongs::Container(found) => {
            removal::remove(engine, &found.owner, &found.name, false).await
        }
        Belongs::Volume(_) => {
            let removed = engine
                .client
                .remove_volume(&one.id, None::<RemoveVolumeOptions>);
            match engine.call(SLOW, removed).await {
                Err(failure) if !failure.is_missing() => Err(failure.of_container(&one.name)),
                _ => Ok(()),
            }
        }
        Belongs::Helper => {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
            let removed = engine
                .client
                .remove_container(&one.id, Some(options.build()));
            match engine.call(SLOW, removed).await {
                Err(failure) if !failure.is_missing() => Err(failure.of_container(&one.name)),
                _ => Ok(()),
            }
        }
        Belongs::Snapshot(_)
        | Belongs::Image {
            replaced: false, ..
        } => {
            let tag = full_tag(&one.name);
            let now = look_image(engine, &tag).await?.and_then(|image| image.id);
            // Built anew meanwhile, or gone.
            if now.as_ref() != Some(&one.id) {
                return Ok(());
            }
            image(engine, &tag).await
        }
        Belongs::Helped | Belongs::Image { replaced: true, .. } => image(engine, &one.id).await,
    }
}

/// Not by force: the engine refuses what a container or an image is made of.
async fn image(engine: &Engine, name: &str) -> Result<()> {
    let removed = remove_image(engine, name, false).await;
    removed.map_err(|failure| match failure.of_image(name) {
        RuntimeError::Image { tag, cause, .. } => RuntimeError::Image {
            tag,
            cause,
            hint: None,
        },
        other => other,
    })
}

/// Containers of everybody.
async fn containers(engine: &Engine) -> Result<Vec<ContainerSummary>> {
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let listed = engine.client.list_containers(Some(options));
    let listed = engine.call(QUICK, listed.map(understood)).await;
    listed.map_err(|failure| failure.of_container("of this engine"))
}

fn is_of(carried: &std::collections::HashMap<String, String>, home: HomeId) -> bool {
    labels::carry(carried, &[(labels::HOME, home.to_string())])
}

fn of_helper(found: &ContainerSummary, home: HomeId) -> Option<Belonging> {
    let carried = found.labels.as_ref()?;
    let marked = [probe::PROBE, purge::PURGE]
        .iter()
        .any(|mark| carried.contains_key(*mark));
    let name = found.names.iter().flatten().next()?;
    let name = name.strip_prefix('/').unwrap_or(name);
    let named = name.starts_with("cldpd-probe-") || name.starts_with("cldpd-purge-");
    let age = Timestamp::now().0 / 1_000_000_000 - found.created?;
    if !marked || !named || !is_of(carried, home) || age < HELPER_MAX {
        return None;
    }
    Some(Belonging {
        id: found.id.clone()?,
        name: name.to_owned(),
        what: Belongs::Helper,
        users: Vec::new(),
    })
}

fn of_image(image: &ImageSummary, images: &Images) -> Option<(String, Belongs)> {
    let session = || image.labels.get(labels::SESSION)?.parse::<Ulid>().ok();
    if let Some(tag) = image.repo_tags.iter().find(|tag| is_snapshot(tag)) {
        // What a user makes of a snapshot inherits its labels, but not its name.
        return Some((tag.clone(), Belongs::Snapshot(session()?)));
    }
    let nameless = |names: &[String], none: &str| names.iter().all(|name| name == none);
    let replaced = nameless(&image.repo_tags, "<none>:<none>")
        && nameless(&image.repo_digests, "<none>@<none>");
    if image.labels.contains_key(helper::IMAGE) {
        // What a user makes of one gets a name.
        let old = Timestamp::now().0 / 1_000_000_000 - image.created >= HELPER_MAX;
        return (replaced && old).then(|| (image.id.clone(), Belongs::Helped));
    }
    if !images.ledger.has(&image.id) {
        return None;
    }
    let pod = image.labels.get(labels::POD)?.clone();
    let name = match &image.repo_tags[..] {
        _ if replaced => image.id.clone(),
        [tag] => tag.clone(),
        // Somebody gave it a name of their own.
        _ => return None,
    };
    Some((name, Belongs::Image { pod, replaced }))
}

async fn volumes_of(engine: &Engine, home: HomeId) -> Result<Vec<Belonging>> {
    let options = ListVolumesOptionsBuilder::new()
        .filters(&labels::filter(labels::HOME, &home.to_string()))
        .build();
    let listed = engine.client.list_volumes(Some(options));
    let listed = engine.call(QUICK, listed).await;
    let listed = listed.map_err(|failure| volumes::failed(failure.of_container("volumes")))?;
    let ours = |labels: &std::collections::HashMap<String, String>| {
        labels.get(labels::SESSION)?.parse::<Ulid>().ok()
    };
    let volumes = listed.volumes.unwrap_or_default().into_iter();
    let belonging = volumes.filter_map(|volume| {
        let session = ours(&volume.labels).filter(|_| is_of(&volume.labels, home))?;
        Some(Belonging {
            id: volume.name.clone(),
            name: volume.name,
            what: Belongs::Volume(session),
            users: Vec::new(),
        })
    });
    Ok(belonging.collect())
}
