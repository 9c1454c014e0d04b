//! What a home has beside sessions: its pods.

use super::handle::{Handle, blocking};
use crate::model::api::PodView;
use crate::model::{Bounds, Error, Result, RuntimeName, Timestamp, Ulid};
use crate::pod::{Listed, Pod};
use std::time::Duration;

/// How long the engine's word on an image is waited for in a listing.
const ENGINE_PATIENCE: Duration = Duration::from_secs(3);

impl Handle {
    /// All pods, broken ones with their problems.
    ///
    /// # Errors
    /// When the directory of pods cannot be read.
    pub async fn pods(&self) -> Result<Vec<PodView>> {
        let shared = self.shared.clone();
        let listed = blocking(move || {
            let listed = shared.pods.list().map_err(Error::from)?;
            let with_link = |(name, pod): Listed| (shared.pods.link(&name), name, pod);
            Ok(listed.into_iter().map(with_link).collect::<Vec<_>>())
        })
        .await?;
        let newest = self.shared.directory.newest_by_pod();
        let mut views = Vec::new();
        for (link, name, pod) in listed {
            let link = link.map(|to| to.display().to_string());
            let last_used = newest.iter().find(|(pod, _)| pod.as_str() == name);
            let last_used = last_used.map(|(_, ulid)| dispatched(*ulid));
            views.push(match pod {
                Ok(pod) => PodView {
                    last_used,
                    link,
                    ..describe(&pod)
                },
                Err(problems) => PodView {
                    dir: self.shared.pods.root().join(&name).display().to_string(),
                    name,
                    image: None,
                    built: None,
                    last_used,
                    inherit_env: Vec::new(),
                    secret_env: Vec::new(),
                    problems: problems.into_iter().map(Error::from).collect(),
                    warnings: Vec::new(),
                    link,
                    spec: None,
                    agent: None,
                    model: None,
                    runtime: None,
                    timeout: None,
                    bounds: Bounds::default(),
                },
            });
        }
        self.add_images(&mut views).await;
        Ok(views)
    }

    /// One pod, without asking the engine when its image was built: every
    /// dispatch begins with this.
    ///
    /// # Errors
    /// `pod_not_found`, `invalid_pod`.
    pub async fn pod(&self, name: &str) -> Result<PodView> {
        let shared = self.shared.clone();
        let wanted = name.to_owned();
        let (pod, link) = blocking(move || {
            let pod = shared.pods.load(&wanted).map_err(Error::from)?;
            Ok((pod, shared.pods.link(&wanted)))
        })
        .await?;
        let newest = self.shared.directory.newest_by_pod();
        Ok(PodView {
            last_used: newest.get(&pod.spec.name).map(|ulid| dispatched(*ulid)),
            link: link.map(|to| to.display().to_string()),
            ..describe(&pod)
        })
    }

    /// The address of the Docker engine that was used last; none before one was.
    #[must_use]
    pub fn engine_address(&self) -> Option<String> {
        self.shared.runtime(RuntimeName::Docker).ok()?.address()
    }

    async fn add_images(&self, views: &mut [PodView]) {
        let Ok(docker) = self.shared.runtime(RuntimeName::Docker) else {
            return;
        };
        let ask = async {
            // An engine that does not answer is asked once, not for every pod.
            if docker.check().await.is_err() {
                return;
            }
            for view in views.iter_mut() {
                if let Some(image) = &view.image {
                    view.built = docker.image_created(image).await.ok().flatten();
                }
            }
        };
        let _ = tokio::time::timeout(ENGINE_PATIENCE, ask).await;
    }
}

fn dispatched(ulid: Ulid) -> Timestamp {
    let millis = i64::try_from(ulid.timestamp_ms()).unwrap_or(i64::MAX);
    Timestamp(millis.saturating_mul(1_000_000))
}

fn describe(pod: &Pod) -> PodView {
    PodView {
        name: pod.spec.name.to_string(),
        dir: pod.spec.dir.display().to_string(),
        image: Some(pod.spec.image.clone()),
        built: None,
        last_used: None,
        inherit_env: pod.spec.inherit_env.clone(),
        secret_env: pod.spec.secret_variables().map(str::to_owned).collect(),
        problems: Vec::new(),
        warnings: pod.warnings.clone(),
        link: None,
        spec: Some(pod.spec.clone()),
        agent: pod.agent,
        model: pod.model.clone(),
        runtime: pod.runtime,
        timeout: pod.timeout,
        bounds: pod.bounds,
    }
}
