//! The Docker engine, asked directly: what the tests compare our word with.

use super::WATCHDOG;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, WaitContainerOptions,
};
use futures::StreamExt;
use std::future::Future;
use std::path::Path;

/// Runs a future to its end, on a runtime of its own.
#[track_caller]
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(async {
            tokio::time::timeout(WATCHDOG, future)
                .await
                .expect("the engine answers")
        })
}

fn docker() -> Docker {
    Docker::connect_with_defaults().expect("DOCKER_HOST is something that can be connected to")
}

async fn negotiated() -> Docker {
    docker()
        .negotiate_version()
        .await
        .expect("a Docker engine answers: scripts/engine.sh finds or starts one")
}

/// What the engine knows of a container.
#[track_caller]
pub fn inspect(container: &str) -> ContainerInspectResponse {
    block_on(async {
        negotiated()
            .await
            .inspect_container(container, None)
            .await
            .unwrap_or_else(|e| panic!("container {container}: {e}"))
    })
}

/// The same as plain JSON, in the engine's own spelling.
#[track_caller]
pub fn inspect_json(container: &str) -> serde_json::Value {
    serde_json::to_value(inspect(container)).expect("it came as JSON")
}

/// All containers, running or not, that have the label `key=value`.
pub fn containers_with_label(label: &str) -> Vec<ContainerSummary> {
    let filters = std::collections::HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    block_on(async {
        negotiated()
            .await
            .list_containers(Some(options))
            .await
            .expect("containers can be listed")
    })
}

/// Names of all containers that mount something beneath `place`.
pub fn containers_of(place: &Path) -> Vec<String> {
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let all = block_on(async {
        negotiated()
            .await
            .list_containers(Some(options))
            .await
            .expect("containers can be listed")
    });
    all.into_iter()
        .filter(|container| {
            let mounts = container.mounts.iter().flatten();
            mounts
                .filter_map(|mount| mount.source.as_deref())
                .any(|source| Path::new(source).starts_with(place))
        })
        .filter_map(|container| Some(container.names?.first()?.trim_start_matches('/').to_owned()))
        .collect()
}

/// Waits until a container does not run any more.
#[track_caller]
pub fn await_exit(container: &str) {
    block_on(async {
        let docker = negotiated().await;
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        // A code other than 0 comes as an error; that it came is what counts.
        let _ = docker.wait_container(container, Some(options)).next().await;
    });
}

/// Creates a container that is not cldpd's, and does not start it.
#[track_caller]
pub fn create_foreign(name: &str, image: &str) {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["nothing".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    block_on(async {
        negotiated()
            .await
            .create_container(Some(options), body)
            .await
            .unwrap_or_else(|e| panic!("foreign container {name}: {e}"));
    });
}

/// Whether there is such a container.
pub fn container_exists(name: &str) -> bool {
    block_on(async {
        negotiated()
            .await
            .inspect_container(name, None)
            .await
            .is_ok()
    })
}

/// Removes a container by force.
pub fn remove_container(name: &str) {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    block_on(async {
        // Gone already is as good.
        let _ = negotiated()
            .await
            .remove_container(name, Some(options))
            .await;
    });
}

/// What the engine knows of an image, as JSON.
#[track_caller]
pub fn image_json(image: &str) -> serde_json::Value {
    block_on(async {
        let found = negotiated().await.inspect_image(image).await;
        let found = found.unwrap_or_else(|e| panic!("image {image}: {e}"));
        serde_json::to_value(found).expect("it came as JSON")
    })
}

/// The steps of an image, as `docker history` shows them.
#[track_caller]
pub fn image_history(image: &str) -> String {
    block_on(async {
        let found = negotiated().await.image_history(image).await;
        format!(
            "{:?}",
            found.unwrap_or_else(|e| panic!("image {image}: {e}"))
        )
    })
}

/// Whether there is such an image.
pub fn image_exists(image: &str) -> bool {
    block_on(async { negotiated().await.inspect_image(image).await.is_ok() })
}

/// Ids of all images, dangling ones too, that have the label `key=value`.
pub fn images_with_label(label: &str) -> Vec<String> {
    let filters = std::collections::HashMap::from([("label", vec![label])]);
    let options = ListImagesOptionsBuilder::new()
        .all(false)
        .filters(&filters)
        .build();
    block_on(async {
        let images = negotiated().await.list_images(Some(options)).await;
        let images = images.expect("images can be listed");
        images.into_iter().map(|image| image.id).collect()
    })
}

/// Removes an image by force.
pub fn remove_image(image: &str) {
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    block_on(async {
        // Gone already is as good.
        let _ = negotiated()
            .await
            .remove_image(image, Some(options), None)
            .await;
    });
}

/// The architecture that images have to be for.
pub fn architecture() -> String {
    block_on(async {
        let version = negotiated().await.version().await;
        let version = version.expect("the engine says what it is");
        version.arch.expect("and for what")
    })
}

/// Loads an empty image that says it is for `architecture`.
#[track_caller]
pub fn load_image_for(tag: &str, architecture: &str) {
    use sha2::{Digest, Sha256};
    let digest = |bytes: &[u8]| -> String {
        let hash = Sha256::digest(bytes);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    // A tar of nothing: two blocks of zeros.
    let layer = vec![0; 1024];
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/claude"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    })
    .to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let manifest = serde_json::json!([{
        "Config": config_name, "RepoTags": [format!("{tag}:latest")], "Layers": ["layer.tar"],
    }])
    .to_string();
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes)
            .expect("memory can be written");
    };
    add(&config_name, config.as_bytes());
    add("manifest.json", manifest.as_bytes());
    add("layer.tar", &layer);
    let archive = archive.into_inner().expect("memory can be written");
    let options = bollard::query_parameters::ImportImageOptionsBuilder::new().build();
    block_on(async {
        let docker = negotiated().await;
        let body = bollard::body_full(archive.into());
        let answers: Vec<_> = docker.import_image(options, body, None).collect().await;
        for answer in answers {
            let answer = answer.expect("the image can be loaded");
            assert!(answer.error_detail.is_none(), "{answer:?}");
        }
    });
}
