//! Containers of nothing but the shim, for what only an engine can do or see.
//!
//! Without a network, with one directory, labelled, and put away by whoever
//! started them.

use super::engine::{Engine, SLOW};
use super::labels;
use super::removal::remove_image;
use crate::model::HomeId;
use crate::runtime::{Result, RuntimeError};
use bollard::errors::Error as EngineError;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};
use futures::StreamExt;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// The label of images that are made for this.
pub(super) const IMAGE: &str = "cldpd.purge";

/// What a helper is to do.
pub(super) struct Helper<'a> {
    /// The container's name.
    pub name: &'a str,
    /// Its label.
    pub label: &'static str,
    /// The shim's arguments.
    pub arguments: Vec<String>,
    /// Its user; the image's when absent.
    pub user: Option<&'static str>,
    /// The directory of this machine that it sees.
    pub dir: &'a Path,
    /// Where.
    pub target: &'static str,
}

impl Helper<'_> {
    /// Creates and starts it.
    pub(super) async fn start(&self, engine: &Engine, home: HomeId, image: &str) -> Result<()> {
        let failed = |failure: super::engine::Failure| failure.of_container(self.name);
        let options = CreateContainerOptionsBuilder::new().name(self.name).build();
        let body = self.body(home, image);
        let created = engine.client.create_container(Some(options), body);
        engine.call(SLOW, created).await.map_err(failed)?;
        let started = engine
            .client
            .start_container(self.name, None::<StartContainerOptions>);
        engine.call(SLOW, started).await.map_err(failed)?;
        fail_point!("helper.started");
        Ok(())
    }

    /// Removes it, and its image. Both are labelled; what cannot be removed now
    /// is seen by whoever looks.
    pub(super) async fn put_away(&self, engine: &Engine, image: &str) {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let removed = engine.client.remove_container(self.name, Some(options));
        let _ = engine.call(SLOW, removed).await;
        let _ = remove_image(engine, image, true).await;
    }

    fn body(&self, home: HomeId, image: &str) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["/shim".to_owned()]),
            cmd: Some(self.arguments.clone()),
            user: self.user.map(str::to_owned),
            labels: Some(HashMap::from([
                (labels::HOME.to_owned(), home.to_string()),
                (self.label.to_owned(), "1".to_owned()),
            ])),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".to_owned()),
                    config: None,
                }),
                mounts: Some(vec![Mount {
                    typ: Some(MountType::BIND),
                    source: Some(self.dir.to_string_lossy().into_owned()),
                    target: Some(self.target.to_owned()),
                    read_only: Some(false),
                    ..Mount::default()
                }]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

/// An image of nothing but the shim, which is for whoever made it to remove.
pub(super) async fn import(
    engine: &Engine,
    home: HomeId,
    shim: &[u8],
    name: &str,
) -> Result<String> {
    let archive = archive(shim).map_err(|error| RuntimeError::Image {
        tag: name.to_owned(),
        cause: format!("cannot make it: {error}"),
        hint: None,
    })?;
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .message("cldpd helper")
        .changes(vec![format!("LABEL {}={home} {IMAGE}=1", labels::HOME)])
        .build();
    let body = bollard::body_full(archive.into());
    let mut messages = engine.client.create_image(Some(options), Some(body), None);
    let imported = async {
        let mut id = None;
        while let Some(message) = messages.next().await {
            id = message?.status.or(id);
        }
        Ok::<_, EngineError>(id)
    };
    match engine.call(SLOW, imported).await {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(RuntimeError::Image {
            tag: name.to_owned(),
            cause: "the engine did not say what it imported".to_owned(),
            hint: None,
        }),
        Err(failure) => Err(failure.of_image(name)),
    }
}

fn archive(shim: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(shim.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, "shim", shim)?;
    archive.into_inner()
}
