//! Images that a newer one has replaced, and what builds leave on their way.
//!
//! An engine would keep them for ever. What a container or another image rests
//! on stays, and so does what was handed out a moment ago and will be used. What
//! was not built here is not touched, also where it carries our labels.

use super::engine::{Engine, QUICK, SLOW};
use super::image::Images;
use super::labels;
use crate::model::HomeId;
use crate::model::ids::PodName;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptions};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an image is kept for who asked for it and has made no container yet.
const PATIENCE: Duration = Duration::from_secs(600);

/// Images that were handed out, and of which no container has been made yet.
#[derive(Default)]
pub(super) struct Promised {
    images: Mutex<HashMap<String, (usize, Instant)>>,
}

impl Promised {
    /// Somebody will use this image.
    pub(super) fn promise(&self, image: &str) {
        let now = Instant::now();
        let mut images = self.lock();
        images.retain(|_, (_, since)| now.duration_since(*since) < PATIENCE);
        let entry = images.entry(image.to_owned()).or_insert((0, now));
        *entry = (entry.0 + 1, now);
    }

    /// Somebody has used it, or has failed to.
    pub(super) fn keep(&self, image: &str) {
        let mut images = self.lock();
        let Some((waiting, _)) = images.get_mut(image) else {
            return;
        };
        *waiting -= 1;
        if *waiting == 0 {
            images.remove(image);
        }
    }

    pub(super) fn holds(&self, image: &str) -> bool {
        self.lock()
            .get(image)
            .is_some_and(|(_, since)| since.elapsed() < PATIENCE)
    }

    /// Nothing is left half done under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (usize, Instant)>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what the classic builder left on its way to this pod's newest image.
///
/// Steps that lead to an image go with it. What a failed build made, and the
/// stages that an image was only copied from, nothing leads to: the builder
/// goes on from them, until there is a newer image.
pub(super) async fn steps(engine: &Engine, images: &Images, pod: &PodName, promised: &Promised) {
    let made = images.ledger.take_steps(pod);
    if made.is_empty() {
        return;
    }
    let dangling = HashMap::from([("dangling", vec!["true"])]);
    let options = ListImagesOptionsBuilder::new().filters(&dangling).build();
    let listed = engine.client.list_images(Some(options));
    for image in engine.call(QUICK, listed).await.unwrap_or_default() {
        let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let ours = made.iter().any(|made| id.starts_with(made.as_str()));
        if ours && !promised.holds(&image.id) {
            remove(engine, &image.id).await;
        }
    }
}

/// Removes the images of this home that lost their tag to a newer one, as far
/// as nobody uses them. What cannot be removed now can be another time.
pub(super) async fn old_images(
    engine: &Engine,
    home: HomeId,
    images: &Images,
    promised: &Promised,
) {
    // An image that was just built has no tag for a moment.
    if images.building() {
        return;
    }
    let filters = labels::filter(labels::HOME, &home.to_string());
    let options = ListImagesOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let listed = engine.client.list_images(Some(options));
    let Ok(listed) = engine.call(QUICK, listed).await else {
        return;
    };
    if images.building() {
        return;
    }
    let there = listed.iter().map(|image| image.id.as_str()).collect();
    images.ledger.retain(&there);
    for image in &listed {
        let nameless = |names: &[String], none: &str| names.iter().all(|name| name == none);
        let dangling = nameless(&image.repo_tags, "<none>:<none>")
            && nameless(&image.repo_digests, "<none>@<none>");
        if dangling && images.ledger.has(&image.id) && !promised.holds(&image.id) {
            remove(engine, &image.id).await;
        }
    }
}

/// Not by force: the engine refuses what a container or an image is made of.
async fn remove(engine: &Engine, image: &str) {
    let removed = engine
        .client
        .remove_image(image, None::<RemoveImageOptions>, None);
    if let Err(failure) = engine.call(SLOW, removed).await {
        tracing::debug!(image, ?failure, "an old image stays");
    }
}
