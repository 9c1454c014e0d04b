//! Builds of pods' images that no session asked for.

use super::environment::{Caller, Mask, Values};
use super::handle::{Handle, blocking};
use super::proxy;
use crate::model::api::{PodBuildEvent, PodBuildRequest};
use crate::model::spec::{BuildOptions, PodSpec, SecretKind};
use crate::model::{Blob, Error, ErrorCode, Result, RuntimeName};
use crate::runtime::{BuildRequest, Image, RuntimeError};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;
use tokio::sync::mpsc;

/// Lines waiting for a slow reader; the builder waits beyond.
const LINES: usize = 256;

/// A build that is under way. Dropping it cancels it.
pub struct PodBuild {
    building: Pin<Box<dyn Future<Output = Result<Image, RuntimeError>> + Send>>,
    lines: mpsc::Receiver<Vec<u8>>,
    mask: Mask,
    began: Instant,
    state: State,
}

enum State {
    Building,
    /// What was said last may still have to be told.
    Ended(Result<Image, RuntimeError>),
    Told,
}

impl Handle {
    /// Builds a pod's image, or finds it unchanged.
    ///
    /// # Errors
    /// `pod_not_found`, `invalid_pod`, `credentials` when a build secret is not
    /// where the pod says, `usage` for a pod that has no image,
    /// `runtime_unavailable`. That the build fails is its last event.
    pub async fn build_pod(&self, name: &str, request: PodBuildRequest) -> Result<PodBuild> {
        let shared = self.shared.clone();
        let name = name.to_owned();
        let (pod, runtime, values) = blocking(move || {
            let pod = shared.pods.load(&name).map_err(Error::from)?;
            let runtime = pod.runtime.unwrap_or(shared.settings.runtime);
            let values = values(&pod.spec, &request, runtime)?;
            let options = BuildOptions {
                force: false,
                no_cache: request.no_cache,
                pull: request.pull,
            };
            Ok(((pod.spec, options), runtime, values))
        })
        .await?;
        let (pod, options) = pod;
        if runtime == RuntimeName::Local {
            let name = &pod.name;
            let message = format!("pod {name} runs as a plain process: there is no image to build");
            return Err(Error::new(ErrorCode::Usage, message));
        }
        let runtime = self.shared.runtime(runtime)?.clone();
        runtime.answers().await.map_err(Error::from)?;
        let (sender, lines) = mpsc::channel(LINES);
        let mask = Mask::new(&values);
        let request = BuildRequest {
            proxy: proxy::for_build(&pod, &values.proxy).env,
            secrets: values.build.into_iter().map(|(id, v)| (id, v.0)).collect(),
            ..BuildRequest::new(self.shared.home, pod, options)
        };
        Ok(PodBuild {
            building: Box::pin(async move { runtime.build(&request, sender).await }),
            lines,
            mask,
            began: Instant::now(),
            state: State::Building,
        })
    }
}

/// What the build is to know: of the pod's secrets only its own.
fn values(pod: &PodSpec, request: &PodBuildRequest, runtime: RuntimeName) -> Result<Values> {
    let mut pod = pod.clone();
    pod.inherit_env.clear();
    pod.secrets
        .retain(|secret| secret.kind == SecretKind::Build);
    let none = BTreeMap::new();
    let caller = Caller {
        env: &none,
        inherited: &request.inherited,
        proxy: &request.proxy,
    };
    Values::gather(&pod, BTreeMap::new(), &caller, runtime, false)
}

impl PodBuild {
    /// What comes next; nothing after the result.
    pub async fn next(&mut self) -> Option<Vec<PodBuildEvent>> {
        let mut batch = Vec::new();
        while matches!(self.state, State::Building) {
            tokio::select! {
                biased;
                count = self.lines.recv_many(&mut batch, LINES), if !self.lines.is_closed() => {
                    if count > 0 {
                        return Some(self.output(batch));
                    }
                }
                ended = &mut self.building => self.state = State::Ended(ended),
            }
        }
        if self.lines.recv_many(&mut batch, LINES).await > 0 {
            return Some(self.output(batch));
        }
        match std::mem::replace(&mut self.state, State::Told) {
            State::Ended(Ok(image)) => Some(vec![PodBuildEvent::Complete {
                image: image.id,
                seconds: self.began.elapsed().as_secs_f64(),
                cached: image.cached,
                created: image.created,
            }]),
            State::Ended(Err(error)) => Some(vec![PodBuildEvent::Failed {
                error: self.mask.error(error.into()),
            }]),
            State::Building | State::Told => None,
        }
    }

    fn output(&self, lines: Vec<Vec<u8>>) -> Vec<PodBuildEvent> {
        let lines = lines.into_iter().map(|line| PodBuildEvent::Output {
            line: Blob(self.mask.line(line)),
        });
        lines.collect()
    }
}
