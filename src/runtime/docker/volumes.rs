//! Volumes that an image declares.
//!
//! An engine would give them random names and forget whose they are. Made by
//! name and labelled, they go from one container of a session to its next, and
//! are found again whatever happened in between.

use super::engine::{Engine, QUICK, SLOW};
use super::labels;
use crate::model::{HomeId, Ulid};
use crate::runtime::{Owner, Result, RuntimeError};
use bollard::models::{Mount, MountPoint, MountType, MountVolumeOptions};
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
    let labels = HashMap::from([
        (labels::HOME.to_owned(), owner.home.to_string()),
        (labels::SESSION.to_owned(), owner.session.to_string()),
    ]);
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions {
            labels: Some(labels),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
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
        .filters(&labels::filter_session(home, session))
        .build();
    let list = engine
        .call(QUICK, engine.client.list_volumes(Some(options)))
        .await
        .map_err(|failure| failed(failure.of_container("volumes")))?;
    for volume in list.volumes.unwrap_or_default() {
        if !wanted(&volume.name) {
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

fn failed(error: RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Container { cause, .. } => RuntimeError::Container {
            container: "its volumes".to_owned(),
            cause,
        },
        other => other,
    }
}
