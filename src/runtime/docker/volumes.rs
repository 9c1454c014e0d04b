//! Volumes that an image declares.
//!
//! An engine would give them random names and forget whose they are. Made by
//! name and labelled, they go from one container of a session to its next, and
//! are found again whatever happened in between.

use super::engine::{Engine, QUICK, SLOW};
use super::labels;
use crate::model::{HomeId, Ulid};
use crate::runtime::{Owner, Result, RuntimeError};
use bollard::models::{Mount, MountPoint, MountType, MountVolumeOptions, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The name of the session's volume at `target`.
pub(super) fn name(owner: &Owner, target: &str) -> String {
    let digest = Sha256::digest(target.as_bytes());
    let short: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    format!("cldpd-{}-v{short}", owner.id)
}

/// It as a mount. The labels go to a volume that is made by this; one that is
/// there keeps its own.
pub(super) fn mount(owner: &Owner, name: String, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions {
            labels: Some(of_session(owner)),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

fn of_session(owner: &Owner) -> HashMap<String, String> {
    HashMap::from([
        (labels::HOME.to_owned(), owner.home.to_string()),
        (labels::SESSION.to_owned(), owner.session.to_string()),
    ])
}

/// Makes those of `mounts` that are ours, where the engine would forget the
/// labels: Podman does. One that is there stays as it is.
pub(super) async fn prepare(engine: &Engine, owner: &Owner, mounts: &[Mount]) -> Result<()> {
    if !engine.podman {
        return Ok(());
    }
    for mount in mounts {
        let labelled = mount.volume_options.as_ref();
        if labelled.is_none_or(|options| options.labels.is_none()) {
            continue;
        }
        let volume = VolumeCreateRequest {
            name: mount.source.clone(),
            labels: Some(of_session(owner)),
            ..VolumeCreateRequest::default()
        };
        match engine
            .call(QUICK, engine.client.create_volume(volume))
            .await
        {
            Ok(_) => {}
            Err(failure) if failure.is_conflict() => {}
            Err(failure) => return Err(failed(failure.of_container("volumes"))),
        }
    }
    Ok(())
}

/// The volumes of a container, with their targets.
pub(super) fn of(mounts: &[MountPoint]) -> Vec<(String, String)> {
    mounts
        .iter()
        .filter(|mount| mount.typ.as_deref() == Some("volume"))
        .filter_map(|mount| Some((mount.name.clone()?, mount.destination.clone()?)))
        .collect()
}

/// Removes those of the session's volumes that `wanted` says. One that is
/// still in use stays.
pub(super) async fn remove(
    engine: &Engine,
    home: HomeId,
    session: Ulid,
    wanted: impl Fn(&str) -> bool,
) -> Result<()> {
    let options = ListVolumesOptionsBuilder::new()
        .filters(&labels::filter(labels::SESSION, &session.to_string()))
        .build();
    let list = engine
        .call(QUICK, engine.client.list_volumes(Some(options)))
        .await
        .map_err(|failure| failed(failure.of_container("volumes")))?;
    let ours = [
        (labels::HOME, home.to_string()),
        (labels::SESSION, session.to_string()),
    ];
    for volume in list.volumes.unwrap_or_default() {
        if !labels::carry(&volume.labels, &ours) || !wanted(&volume.name) {
            continue;
        }
        let removed = engine
            .client
            .remove_volume(&volume.name, None::<RemoveVolumeOptions>);
        match engine.call(SLOW, removed).await {
            Ok(()) => {}
            Err(failure) if failure.is_missing() || failure.is_conflict() => {}
            Err(failure) => return Err(failure.of_container(&volume.name)),
        }
    }
    Ok(())
}

pub(super) fn failed(error: RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Container { cause, .. } => RuntimeError::Container {
            container: "its volumes".to_owned(),
            cause,
        },
        other => other,
    }
}
