//! Containers of a Docker engine, by its API.
//!
//! Every object that is made carries the labels of `labels`; what does not is
//! never touched. Nothing that is secret reaches the engine, and no output
//! comes from it but a builder's.

mod account;
mod archive;
mod belongings;
mod build;
mod container;
mod context;
mod contexts;
mod copy;
mod credentials;
mod endpoint;
mod engine;
mod examine;
mod flight;
mod helper;
mod ignore;
mod image;
mod labels;
mod ledger;
mod limits;
mod place;
mod probe;
mod progress;
mod pull;
mod purge;
mod removal;
mod session;
mod states;
mod sweep;
mod tls;
mod unreachable;
mod volumes;
mod watch;

pub use endpoint::DockerConfig;

use super::{
    Belonging, BuildRequest, Chunks, CreateRequest, EngineInfo, ExitInfo, Found, Happenings, Image,
    ImageConfig, Owner, Result, Runtime, Upload,
};
use crate::model::api::{Check, PathStat};
use crate::model::{HomeId, RuntimeName, Timestamp, Ulid};
use async_trait::async_trait;
use engine::Engine;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::sync::{Mutex, mpsc};

/// A Docker engine as a place for sessions.
///
/// It is looked for when it is first needed, and again after it was not there.
pub struct Docker {
    config: DockerConfig,
    /// The directory of all sessions' directories.
    sessions: PathBuf,
    home: HomeId,
    /// The shim's program, for deleting what is root's.
    shim: &'static [u8],
    engine: Mutex<Option<Arc<Engine>>>,
    /// Where the engine that was found last listens.
    address: std::sync::Mutex<Option<String>>,
    images: Arc<image::Images>,
    promised: sweep::Promised,
}

impl Docker {
    /// The engine that `config` leads to. `sessions` is the directory of all
    /// sessions' directories: nothing outside it is ever purged. `shim` is the
    /// shim's program.
    #[must_use]
    pub fn new(config: DockerConfig, sessions: PathBuf, home: HomeId, shim: &'static [u8]) -> Self {
        Self {
            images: Arc::new(image::Images::new(&config, &sessions)),
            config,
            sessions,
            home,
            shim,
            engine: Mutex::default(),
            address: std::sync::Mutex::default(),
            promised: sweep::Promised::default(),
        }
    }

    async fn engine(&self) -> Result<Arc<Engine>> {
        let mut slot = self.engine.lock().await;
        if let Some(engine) = slot.as_ref().filter(|engine| !engine.is_lost()) {
            return Ok(Arc::clone(engine));
        }
        let engine = self.find_engine().await?;
        *slot = Some(Arc::clone(&engine));
        Ok(engine)
    }

    async fn find_engine(&self) -> Result<Arc<Engine>> {
        let engine = Arc::new(Engine::find(&self.config).await?);
        *self.last_address() = Some(engine.endpoint.to_string());
        Ok(engine)
    }

    /// Nothing is left half done under the lock, so a poisoned one is as good.
    fn last_address(&self) -> MutexGuard<'_, Option<String>> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Runtime for Docker {
    fn name(&self) -> RuntimeName {
        RuntimeName::Docker
    }

    async fn check(&self) -> Result<EngineInfo> {
        // Asks anew: an engine that answered once may have gone or changed.
        let engine = self.find_engine().await?;
        let info = engine.info.clone();
        *self.engine.lock().await = Some(engine);
        Ok(info)
    }

    async fn answers(&self) -> Result<()> {
        // What an engine is costs it much more to say than that it is there: it
        // starts a program for each of its parts to learn their versions.
        let known = self.engine.lock().await.clone();
        match known.filter(|engine| !engine.is_lost()) {
            Some(engine) if engine.is_chosen(&self.config) && engine.ping().await => Ok(()),
            _ => self.check().await.map(drop),
        }
    }

    async fn examine(&self) -> Vec<Check> {
        let engine = match self.find_engine().await {
            Ok(engine) => engine,
            Err(error) => return vec![Check::failed("docker", error.into())],
        };
        let mut checks = examine::engine(&engine).await;
        checks.push(probe::files(&engine, self.home, self.shim, &self.sessions).await);
        checks
    }

    fn address(&self) -> Option<String> {
        self.last_address().clone()
    }

    async fn build(&self, request: &BuildRequest, lines: mpsc::Sender<Vec<u8>>) -> Result<Image> {
        let BuildRequest { home, pod, .. } = request;
        let engine = self.engine().await?;
        let ready = image::ready(Arc::clone(&engine), &self.images, request, &lines);
        let image = ready.await?;
        self.promised.promise(&image.id);
        if !image.cached {
            sweep::steps(&engine, &self.images, &pod.name, &self.promised).await;
            sweep::old_images(&engine, *home, &self.images, &self.promised).await;
        }
        Ok(image)
    }

    async fn image_created(&self, tag: &str) -> Result<Option<Timestamp>> {
        image::created(&*self.engine().await?, tag).await
    }

    async fn image_config(&self, image: &str) -> Result<ImageConfig> {
        image::config(&*self.engine().await?, image).await
    }

    async fn create(&self, request: &CreateRequest) -> Result<String> {
        let created = container::create(&*self.engine().await?, request).await;
        self.promised.keep(&request.image);
        created
    }

    async fn copy_in(&self, request: &CreateRequest) -> Result<Vec<String>> {
        copy::put(&self.engine().await?, request).await
    }

    async fn start(&self, request: &CreateRequest) -> Result<()> {
        place::start(&*self.engine().await?, request).await
    }

    async fn find(&self, owner: &Owner, name: &str) -> Result<Option<Found>> {
        place::find(&*self.engine().await?, owner, name).await
    }

    async fn list(&self, home: HomeId) -> Result<Vec<Found>> {
        place::list(&*self.engine().await?, home).await
    }

    async fn belongings(&self, home: HomeId) -> Result<Vec<Belonging>> {
        let engine = self.engine().await?;
        belongings::list(&engine, home, &self.images, &self.promised).await
    }

    async fn discard(&self, one: &Belonging) -> Result<()> {
        belongings::discard(&*self.engine().await?, one).await
    }

    async fn wait(&self, owner: &Owner, name: &str) -> Result<Option<ExitInfo>> {
        place::wait(&*self.engine().await?, owner, name).await
    }

    async fn stat(&self, name: &str, path: &str) -> Result<Option<PathStat>> {
        archive::stat(&*self.engine().await?, name, path).await
    }

    async fn read_archive(&self, name: &str, path: &str) -> Result<Chunks> {
        Ok(archive::read(self.engine().await?, name, path))
    }

    async fn write_archive(&self, name: &str, path: &str, upload: Upload) -> Result<()> {
        archive::write(&self.engine().await?, name, path, upload).await
    }

    async fn watch(&self, home: HomeId, since: Timestamp) -> Result<Happenings> {
        Ok(watch::watch(self.engine().await?, home, since))
    }

    async fn unpause(&self, owner: &Owner, name: &str) -> Result<()> {
        place::unpause(&*self.engine().await?, owner, name).await
    }

    async fn snapshot(&self, owner: &Owner, name: &str, tag: &str) -> Result<String> {
        removal::snapshot(&*self.engine().await?, owner, name, tag).await
    }

    async fn remove(&self, owner: &Owner, name: &str, volumes: bool) -> Result<()> {
        let engine = self.engine().await?;
        removal::remove(&engine, owner, name, volumes).await?;
        // It may have been the last that kept an older image.
        sweep::old_images(&engine, self.home, &self.images, &self.promised).await;
        Ok(())
    }

    async fn remove_session(&self, home: HomeId, session: Ulid) -> Result<()> {
        let engine = self.engine().await?;
        removal::remove_session(&engine, home, session).await?;
        sweep::old_images(&engine, home, &self.images, &self.promised).await;
        Ok(())
    }

    async fn remove_image(&self, home: HomeId, tag: &str) -> Result<()> {
        let built = |id: &str| self.images.ledger.has(id);
        removal::remove_pod_image(&*self.engine().await?, home, tag, built).await
    }

    async fn purge(&self, dir: &Path) -> Result<()> {
        let Some(refused) = purge::beneath(&self.sessions, dir).await? else {
            return Ok(());
        };
        if self.shim.is_empty() {
            return Err(refused.into_error());
        }
        let engine = self.engine().await?;
        refused.with_helper(&engine, self.home, self.shim).await
    }
}
