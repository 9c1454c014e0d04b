//! Images of a pod that a newer one has replaced.
//!
//! An engine would keep them for ever. What a container or another image rests
//! on stays, and so does what was handed out a moment ago and will be used.

use super::engine::{Engine, QUICK, SLOW};
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

    fn holds(&self, image: &str) -> bool {
        self.lock()
            .get(image)
            .is_some_and(|(_, since)| since.elapsed() < PATIENCE)
    }

    /// Nothing is left half done under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (usize, Instant)>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the images of this pod that lost their tag to a newer one, as far
/// as nobody uses them. What cannot be removed now can be after another build.
pub(super) async fn old_images(engine: &Engine, home: HomeId, pod: &PodName, promised: &Promised) {
    let mut filters = labels::filter(&[
        (labels::HOME, home.to_string()),
        (labels::POD, pod.to_string()),
    ]);
    filters.insert("dangling".to_owned(), vec!["true".to_owned()]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let listed = engine.client.list_images(Some(options));
    for image in engine.call(QUICK, listed).await.unwrap_or_default() {
        let snapshot = image.labels.contains_key(labels::SESSION);
        if snapshot || promised.holds(&image.id) {
            continue;
        }
        // Not by force: the engine refuses what a container is made of.
        let removed = engine
            .client
            .remove_image(&image.id, None::<RemoveImageOptions>, None);
        if let Err(failure) = engine.call(SLOW, removed).await {
            tracing::debug!(image = image.id, ?failure, "an old image stays");
        }
    }
}
