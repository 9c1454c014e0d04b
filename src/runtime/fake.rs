//! A scripted engine for tests: images are markers, containers are local
//! processes, and what fails or waits is said by a `fake.json` in the pod's
//! directory (`fake/script.rs` shows one).
//!
//! Invariant: the script is read at each call, and each call is logged before
//! anything is done, so that a test sees what the engine was asked. Nothing but
//! the count of scripted errors is in memory: a new daemon meets the same engine.

mod script;
#[cfg(test)]
mod tests;

use super::{
    BuildRequest, Chunks, CreateRequest, EngineInfo, ExitInfo, Found, Image, ImageConfig, Owner,
    PlaceState, Result, Runtime, RuntimeError, Upload,
};
use crate::model::api::PathStat;
use crate::model::spec::PodSpec;
use crate::model::{HomeId, RuntimeName, Timestamp, Ulid};
use async_trait::async_trait;
use script::{BUILT, OURS, Script, Step, failed};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Image ids begin with this, then the pod and the digest of its context, and
/// end with the id that the runtime beneath gave it.
const IMAGE: &str = "fake:";

/// The scripted engine.
pub struct Fake {
    inner: Arc<dyn Runtime>,
    pods: PathBuf,
    /// How often a call has failed as its script says.
    failures: Mutex<HashMap<(PathBuf, &'static str), u32>>,
    /// One build of a pod at a time; later ones find its image.
    builds: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fake {
    /// An engine whose containers `inner` runs (the local runtime), for the pods beneath `pods`.
    #[must_use]
    pub fn new(inner: Arc<dyn Runtime>, pods: PathBuf) -> Self {
        Self {
            inner,
            pods,
            failures: Mutex::default(),
            builds: Mutex::default(),
        }
    }

    /// Logs a call and does what the script says of it: waits, fails, or neither.
    async fn call(
        &self,
        dir: &Path,
        name: &'static str,
        what: &str,
        error: impl FnOnce(String) -> RuntimeError + Send,
    ) -> Result<Script> {
        script::log(dir, format!("{name} {what}").trim_end())?;
        let script = Script::read(dir)?;
        script.reachable()?;
        if dir != self.pods {
            Script::read(&self.pods)?.reachable()?;
        }
        let call = script.call(name);
        if let Some(path) = &call.gate {
            script::gate(path).await?;
        }
        let Some(cause) = call.cause() else {
            return Ok(script);
        };
        if self.fails_again(dir, name, call.times) {
            return Err(error(cause));
        }
        Ok(script)
    }

    fn fails_again(&self, dir: &Path, name: &'static str, times: Option<u32>) -> bool {
        let Some(times) = times else {
            return true;
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((dir.to_owned(), name)).or_default();
        *count += 1;
        *count <= times
    }

    /// A call about a container.
    async fn on_container(
        &self,
        owner: &Owner,
        name: &'static str,
        container: &str,
        more: &str,
    ) -> Result<Script> {
        let what = format!("{container} {more}");
        let error = |cause| RuntimeError::Container {
            container: container.to_owned(),
            cause,
        };
        self.call(&self.dir_of(owner), name, &what, error).await
    }

    /// A call about no pod in particular.
    async fn on_engine(&self, name: &'static str, what: &str) -> Result<Script> {
        let error = |cause| RuntimeError::Unavailable {
            runtime: RuntimeName::Fake,
            cause,
            hint: None,
        };
        self.call(&self.pods, name, what, error).await
    }

    /// A session's id is its pod's name, a dash and 8 digits.
    fn dir_of(&self, owner: &Owner) -> PathBuf {
        let id = owner.id.as_str();
        self.pods
            .join(id.rsplit_once('-').map_or(id, |(pod, _)| pod))
    }

    fn turn_of(&self, dir: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        builds.entry(dir.to_owned()).or_default().clone()
    }

    fn image(&self, pod: &PodSpec, built: Built, beneath: &Image, cached: bool) -> Image {
        Image {
            id: format!("{IMAGE}{}:{}:{}", pod.name, built.digest, beneath.id),
            cached,
            created: Some(built.created),
        }
    }

    fn found(&self, mut found: Found) -> Result<Found> {
        if let PlaceState::Exited(exit) = found.state {
            let script = Script::read(&self.dir_of(&found.owner))?;
            found.state = PlaceState::Exited(script.retell(exit));
        }
        Ok(found)
    }
}

#[async_trait]
impl Runtime for Fake {
    fn name(&self) -> RuntimeName {
        RuntimeName::Fake
    }

    async fn check(&self) -> Result<EngineInfo> {
        self.on_engine("check", "").await?;
        let mut info = self.inner.check().await?;
        info.description = format!("scripted, over {}", info.description);
        Ok(info)
    }

    async fn build(&self, request: &BuildRequest, lines: mpsc::Sender<Vec<u8>>) -> Result<Image> {
        let BuildRequest { pod, options, .. } = request;
        let mut what = pod.image.clone();
        let flags = [
            (options.force, " force"),
            (options.no_cache, " no_cache"),
            (options.pull, " pull"),
        ];
        what.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
        let dir = self.pods.join(pod.name.as_str());
        let build_error = |cause| RuntimeError::Build {
            tag: pod.image.clone(),
            cause,
        };
        let script = self.call(&dir, "build", &what, build_error).await?;
        let image_error = |cause: String, hint: &str| RuntimeError::Image {
            tag: pod.image.clone(),
            cause,
            hint: Some(hint.to_owned()),
        };
        let engine = self.inner.check().await?.architecture;
        let other = script.architecture.as_ref().filter(|arch| **arch != engine);
        let turn = self.turn_of(&dir);
        let _turn = turn.lock().await;

        let digest = digest(pod, &dir)?;
        let there = Built::read(&dir)?.filter(|built| built.digest == digest);
        let insisted = options.force || options.no_cache || options.pull;
        let (built, cached) = match there {
            _ if !pod.dockerfile => {
                if script.missing {
                    let hint = "pull it, or write a Dockerfile";
                    return Err(image_error("there is no such image".to_owned(), hint));
                }
                let created = there.map_or(Timestamp::default(), |built| built.created);
                (Built { digest, created }, true)
            }
            Some(built) if !insisted => (built, true),
            _ => {
                run(&script, &lines).await.map_err(build_error)?;
                let created = Timestamp::now();
                let built = Built { digest, created };
                built.write(&dir)?;
                script::log(&dir, &format!("built {}", pod.image))?;
                (built, false)
            }
        };
        if let Some(arch) = other {
            let cause = format!("it is for {arch}, this machine is {engine}");
            return Err(image_error(cause, "build it for this machine"));
        }
        // The runtime beneath has its own idea of an image and says nothing while it makes it.
        let (silent, _) = mpsc::channel(1);
        let beneath = BuildRequest {
            options: crate::model::spec::BuildOptions::default(),
            ..request.clone()
        };
        let beneath = self.inner.build(&beneath, silent).await?;
        Ok(self.image(pod, built, &beneath, cached))
    }

    async fn image_created(&self, tag: &str) -> Result<Option<Timestamp>> {
        self.on_engine("image_created", tag).await?;
        let entries = match fs::read_dir(&self.pods) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("cannot read", self.pods.clone(), source)),
        };
        // Which pod has another tag than its own name is not known here.
        for entry in entries.flatten() {
            if tag.strip_prefix("cldpd-").map(str::as_bytes)
                == Some(entry.file_name().as_encoded_bytes())
            {
                return Ok(Built::read(&entry.path())?.map(|built| built.created));
            }
        }
        Ok(None)
    }

    async fn image_config(&self, image: &str) -> Result<ImageConfig> {
        let Some((pod, beneath)) = parse_image(image) else {
            return self.inner.image_config(image).await;
        };
        let error = |cause| RuntimeError::Image {
            tag: image.to_owned(),
            cause,
            hint: None,
        };
        let dir = self.pods.join(pod);
        let script = self.call(&dir, "image_config", "", error).await?;
        let mut config = self.inner.image_config(beneath).await?;
        if let Some(command) = script.command {
            config.command = command;
        }
        if let Some(user) = script.user {
            config.user = user;
        }
        config.workdir = script.workdir.or(config.workdir);
        Ok(config)
    }

    async fn create(&self, request: &CreateRequest) -> Result<String> {
        let error = |cause: String| match cause == script::NO_IMAGE {
            true => RuntimeError::Image {
                tag: request.image.clone(),
                cause,
                hint: None,
            },
            false => RuntimeError::Container {
                container: request.name.clone(),
                cause,
            },
        };
        let what = format!("{} ", request.name);
        self.call(&self.dir_of(&request.owner), "create", &what, error)
            .await?;
        self.inner.create(&beneath(request)).await
    }

    async fn start(&self, request: &CreateRequest) -> Result<()> {
        self.on_container(&request.owner, "start", &request.name, "")
            .await?;
        self.inner.start(&beneath(request)).await
    }

    async fn find(&self, owner: &Owner, name: &str) -> Result<Option<Found>> {
        self.on_container(owner, "find", name, "").await?;
        let found = self.inner.find(owner, name).await?;
        found.map(|found| self.found(found)).transpose()
    }

    async fn list(&self, home: HomeId) -> Result<Vec<Found>> {
        self.on_engine("list", "").await?;
        let all = self.inner.list(home).await?;
        all.into_iter().map(|found| self.found(found)).collect()
    }

    async fn wait(&self, owner: &Owner, name: &str) -> Result<Option<ExitInfo>> {
        self.on_container(owner, "wait", name, "").await?;
        let exit = self.inner.wait(owner, name).await?;
        // What it says may have changed while this waited.
        let script = Script::read(&self.dir_of(owner))?;
        Ok(exit.map(|exit| script.retell(exit)))
    }

    async fn stat(&self, name: &str, path: &str) -> Result<Option<PathStat>> {
        self.on_engine("stat", &format!("{name} {path}")).await?;
        self.inner.stat(name, path).await
    }

    async fn read_archive(&self, name: &str, path: &str) -> Result<Chunks> {
        let what = format!("{name} {path}");
        self.on_engine("read_archive", &what).await?;
        self.inner.read_archive(name, path).await
    }

    async fn write_archive(&self, name: &str, path: &str, upload: Upload) -> Result<()> {
        let what = format!("{name} {path}");
        self.on_engine("write_archive", &what).await?;
        self.inner.write_archive(name, path, upload).await
    }

    async fn unpause(&self, owner: &Owner, name: &str) -> Result<()> {
        self.on_container(owner, "unpause", name, "").await?;
        self.inner.unpause(owner, name).await
    }

    async fn snapshot(&self, owner: &Owner, name: &str, tag: &str) -> Result<String> {
        self.on_container(owner, "snapshot", name, tag).await?;
        self.inner.snapshot(owner, name, tag).await
    }

    async fn remove(&self, owner: &Owner, name: &str, volumes: bool) -> Result<()> {
        let more = if volumes { "volumes" } else { "" };
        self.on_container(owner, "remove", name, more).await?;
        self.inner.remove(owner, name, volumes).await
    }

    async fn remove_session(&self, home: HomeId, session: Ulid) -> Result<()> {
        self.on_engine("remove_session", &session.to_string())
            .await?;
        self.inner.remove_session(home, session).await
    }

    async fn purge(&self, dir: &Path) -> Result<()> {
        self.on_engine("purge", &dir.display().to_string()).await?;
        self.inner.purge(dir).await
    }
}

/// Performs a build; the error is the builder's word.
async fn run(script: &Script, lines: &mpsc::Sender<Vec<u8>>) -> std::result::Result<(), String> {
    let mut last = "";
    for step in &script.build.steps {
        match step {
            Step::Line(line) => {
                last = line;
                // Nobody listens any more: the build goes on all the same.
                let _ = lines.send(line.clone().into_bytes()).await;
            }
            Step::Gate { gate } => script::gate(gate).await.map_err(|e| e.to_string())?,
        }
    }
    let Some(fail) = &script.build.fail else {
        return Ok(());
    };
    let mut cause = format!("exit code {}: {}", fail.code, fail.text);
    if !last.is_empty() {
        cause.push('\n');
        cause.push_str(last);
    }
    Err(cause)
}

/// The request for the runtime beneath.
fn beneath(request: &CreateRequest) -> CreateRequest {
    let mut request = request.clone();
    if let Some((_, image)) = parse_image(&request.image) {
        request.image = image.to_owned();
    }
    request
}

/// The pod's name and the image beneath.
fn parse_image(image: &str) -> Option<(&str, &str)> {
    let mut parts = image.strip_prefix(IMAGE)?.splitn(3, ':');
    let (pod, _, beneath) = (parts.next()?, parts.next()?, parts.next()?);
    Some((pod, beneath))
}

/// An image that was built: a file in the pod's directory.
struct Built {
    digest: String,
    created: Timestamp,
}

impl Built {
    fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(BUILT);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("cannot read", path, source)),
        };
        Ok(text.split_once(' ').and_then(|(digest, created)| {
            Some(Self {
                digest: digest.to_owned(),
                created: Timestamp::parse(created.trim()).ok()?,
            })
        }))
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(BUILT);
        let text = format!("{} {}\n", self.digest, self.created);
        fs::write(&path, text).map_err(|source| failed("cannot write", path, source))
    }
}

/// The digest of the files in a pod's directory and of the build arguments.
fn digest(pod: &PodSpec, dir: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let unreadable = |source| failed("cannot read", dir.clone(), source);
        for entry in fs::read_dir(&dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let name = entry.file_name();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && !OURS.iter().any(|ours| name == *ours) {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (name, value) in &pod.build_args {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    for path in files {
        field(path.as_os_str().as_encoded_bytes());
        field(&fs::read(&path).map_err(|source| failed("cannot read", path.clone(), source))?);
    }
    Ok(format!("{:x}", hasher.finalize()))
}
