//! What was built here, by image id, in a file of the home.
//!
//! Labels alone do not tell: an image that somebody builds on ours inherits
//! them. And what the classic builder makes on its way has none. Losing the file
//! loses no more than the removal of images that it names.

use crate::model::ids::PodName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file, in memory and on disk.
pub(super) struct Ledger {
    path: PathBuf,
    made: Mutex<Made>,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Made {
    /// Images of pods.
    images: BTreeSet<String>,
    /// Steps of the classic builder that may lead to no image.
    steps: BTreeMap<String, Vec<String>>,
}

impl Ledger {
    /// What the file says; nothing when it is not there.
    pub(super) fn open(path: PathBuf) -> Self {
        let made = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "which images are ours is not known any more");
                Made::default()
            }),
            Err(_) => Made::default(),
        };
        Self {
            path,
            made: Mutex::new(made),
        }
    }

    /// Whether this image was built here.
    pub(super) fn has(&self, image: &str) -> bool {
        self.lock().images.contains(image)
    }

    /// This image was built here.
    pub(super) fn built(&self, image: &str) {
        self.change(|made| {
            made.images.insert(image.to_owned());
        });
    }

    /// Only these are still there.
    pub(super) fn retain(&self, there: &HashSet<&str>) {
        self.change(|made| made.images.retain(|image| there.contains(image.as_str())));
    }

    /// A builder made these on its way to this pod's image.
    pub(super) fn add_steps(&self, pod: &PodName, steps: Vec<String>) {
        if steps.is_empty() {
            return;
        }
        self.change(|made| {
            let all = made.steps.entry(pod.to_string()).or_default();
            all.extend(steps);
        });
    }

    /// What builders made on their way to this pod's images, once.
    pub(super) fn take_steps(&self, pod: &PodName) -> Vec<String> {
        let mut taken = Vec::new();
        self.change(|made| taken = made.steps.remove(pod.as_str()).unwrap_or_default());
        taken
    }

    /// Changes it, and writes it if that changed anything.
    fn change(&self, change: impl FnOnce(&mut Made)) {
        let mut made = self.lock();
        let before = made.clone();
        change(&mut made);
        if *made == before {
            return;
        }
        if let Err(error) = self.write(&made) {
            tracing::warn!(path = %self.path.display(), %error, "which images are ours cannot be written down");
        }
    }

    fn write(&self, made: &Made) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(made)?)?;
        std::fs::rename(&fresh, &self.path)
    }

    /// Nothing is left half done under the lock, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.json");
        let pod = PodName::new("p").unwrap();
        let ledger = Ledger::open(path.clone());
        ledger.built("sha256:1");
        ledger.built("sha256:2");
        ledger.add_steps(&pod, vec!["3".to_owned()]);
        let ledger = Ledger::open(path.clone());
        assert!(ledger.has("sha256:1") && ledger.has("sha256:2"));
        ledger.retain(&HashSet::from(["sha256:2", "sha256:9"]));
        assert_eq!(ledger.take_steps(&pod), ["3"]);
        let ledger = Ledger::open(path.clone());
        assert!(!ledger.has("sha256:1") && !ledger.has("sha256:9") && ledger.has("sha256:2"));
        assert!(ledger.take_steps(&pod).is_empty());
        std::fs::write(&path, "{").unwrap();
        assert!(!Ledger::open(path).has("sha256:2"));
    }
}
