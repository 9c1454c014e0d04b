//! A throw-away home on the real engine, and the removal of all it made.

use bollard::query_parameters::{
    ImportImageOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RemoveVolumeOptions,
};
use cldpd::model::ids::PodName;
use cldpd::model::spec::{BuildOptions, Limits, PodSpec};
use cldpd::model::{HomeId, SessionId, Ulid};
use cldpd::runtime::docker::{Docker, DockerConfig};
use cldpd::runtime::session_dir::SessionDir;
use cldpd::runtime::{BuildRequest, CreateRequest, Image, Owner, Result, Runtime};
use futures::StreamExt;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Where the test program lies for a test that runs as another user.
const PROGRAM_PATH: &str = "CLDPD_TEST_PROGRAM";

/// Runs the test `name` as a user who is not root, but may use the engine;
/// false when this is no root.
pub fn as_nobody(name: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(dir.path(), mode(0o777)).unwrap();
    let (test, program_path) = (dir.path().join("test"), dir.path().join("program"));
    std::fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    std::fs::write(&program_path, program()).unwrap();
    std::fs::set_permissions(&program_path, mode(0o755)).unwrap();
    let group = std::fs::metadata(engine_socket()).map_or(65534, |socket| socket.gid());
    let output = Command::new(test)
        .arg(name)
        .env(PROGRAM_PATH, program_path)
        .env("TMPDIR", dir.path())
        .uid(65534)
        .gid(group)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    true
}

/// The engine's socket.
pub fn engine_socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let path = host.strip_prefix("unix://").unwrap_or_default();
    PathBuf::from(if path.is_empty() {
        "/var/run/docker.sock"
    } else {
        path
    })
}

/// The static test program's bytes.
pub fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os(PROGRAM_PATH) {
            return std::fs::read(path).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("program");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/program.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let status = Command::new(rustc)
            .args(["--edition=2024", "-O", "-C", "target-feature=+crt-static"])
            .args(["-C", "panic=abort", "-C", "strip=symbols", "-o"])
            .arg(&out)
            .arg(source)
            .status()
            .unwrap();
        assert!(status.success(), "the test program does not compile");
        std::fs::read(out).unwrap()
    })
}

/// A home, with an engine to itself as far as labels go.
pub struct Home {
    pub id: HomeId,
    pub dir: TempDir,
    pub docker: Docker,
    pub client: bollard::Docker,
}

impl Home {
    pub async fn new() -> Self {
        Self::with(DockerConfig::default()).await
    }

    /// A home whose daemon was configured like this.
    pub async fn with(config: DockerConfig) -> Self {
        let id = HomeId(Ulid::generate());
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sessions")).unwrap();
        let config = DockerConfig {
            env_host: std::env::var("DOCKER_HOST").ok(),
            ..config
        };
        let client = bollard::Docker::connect_with_defaults()
            .unwrap()
            .negotiate_version()
            .await
            .expect("these tests need a docker engine: see scripts/engine.sh");
        Self {
            id,
            docker: Docker::new(config, dir.path().join("sessions"), id, program()),
            dir,
            client,
        }
    }

    pub fn sessions(&self) -> PathBuf {
        self.dir.path().join("sessions")
    }

    /// Loads an image that is as `docker save` writes one.
    pub async fn load(&self, saved: Vec<u8>) {
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let body = bollard::body_full(saved.into());
        let mut load = self.client.import_image(options, body, None);
        while let Some(message) = load.next().await {
            message.unwrap();
        }
    }

    /// A pod named for this home, so that its image is nobody else's.
    pub fn pod(&self, name: &str, dockerfile: &str) -> PodSpec {
        let tail = self.id.to_string().to_lowercase();
        let name = PodName::new(&format!("wtdocker-{name}-{}", &tail[16..])).unwrap();
        let dir = self.dir.path().join("pods").join(name.as_str());
        std::fs::create_dir_all(&dir).unwrap();
        // Builders' caches are shared by all who use the engine: a line that
        // nobody else has keeps this home's steps its own.
        let own = format!("FROM scratch\nENV TEST_HOME={}\n", self.id);
        let dockerfile = dockerfile.replace("FROM scratch\n", &own);
        std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
        std::fs::write(dir.join("program"), program()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.join("program"), mode).unwrap();
        PodSpec {
            dockerfile: true,
            network: Some("none".to_owned()),
            ..PodSpec::bare(name, dir)
        }
    }

    /// A pod's image, with the lines of its build.
    pub async fn build(&self, pod: &PodSpec, options: BuildOptions) -> (Result<Image>, String) {
        let request = BuildRequest::new(self.id, pod.clone(), options);
        self.build_of(&request).await
    }

    /// The same with secrets or a proxy.
    pub async fn build_of(&self, request: &BuildRequest) -> (Result<Image>, String) {
        let (tx, mut rx) = mpsc::channel::<Vec<u8>>(4);
        let lines = async {
            let mut text = String::new();
            while let Some(line) = rx.recv().await {
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            }
            text
        };
        tokio::join!(self.docker.build(request, tx), lines)
    }

    /// What a container of a new session of this pod is created with; its
    /// first process does what `plan` says.
    pub fn request(&self, pod: &PodSpec, image: &str, plan: &str) -> CreateRequest {
        let session = Ulid::generate();
        let id = SessionId::new(&pod.name, session);
        self.request_of(pod, image, plan, session, 0, id)
    }

    pub fn request_of(
        &self,
        pod: &PodSpec,
        image: &str,
        plan: &str,
        session: Ulid,
        run: u32,
        id: SessionId,
    ) -> CreateRequest {
        let dirs = SessionDir::new(&self.sessions(), session);
        std::fs::create_dir_all(dirs.bin()).unwrap();
        std::fs::write(dirs.shim(), program()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dirs.shim(), mode).unwrap();
        let dirs = dirs.run(run, 0);
        std::fs::create_dir_all(dirs.path()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dirs.path(), mode).unwrap();
        std::fs::write(dirs.path().join("plan"), plan).unwrap();
        CreateRequest {
            name: id.container_name(run),
            owner: Owner {
                home: self.id,
                session,
                id,
                run,
                attempt: 0,
            },
            image: image.to_owned(),
            pod: pod.clone(),
            workdir: None,
            user: None,
            limits: Limits::default(),
            copy: false,
            dirs,
            volumes: Vec::new(),
        }
    }

    fn filter(&self) -> HashMap<&'static str, Vec<String>> {
        HashMap::from([("label", vec![format!("cldpd.home={}", self.id)])])
    }

    /// How many containers, images and volumes of this home there are.
    pub async fn count(&self) -> (usize, usize, usize) {
        let filter = self.filter();
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filter);
        let images = ListImagesOptionsBuilder::new().filters(&filter);
        let volumes = ListVolumesOptionsBuilder::new().filters(&filter);
        (
            self.client
                .list_containers(Some(containers.build()))
                .await
                .unwrap()
                .len(),
            self.client
                .list_images(Some(images.build()))
                .await
                .unwrap()
                .len(),
            self.client
                .list_volumes(Some(volumes.build()))
                .await
                .unwrap()
                .volumes
                .map_or(0, |volumes| volumes.len()),
        )
    }

    /// Removes all that this home has in the engine.
    pub async fn clean(self) {
        let filter = self.filter();
        let containers = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filter);
        for container in self
            .client
            .list_containers(Some(containers.build()))
            .await
            .unwrap()
        {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
            let id = container.id.unwrap();
            self.client
                .remove_container(&id, Some(options.build()))
                .await
                .unwrap();
        }
        let images = ListImagesOptionsBuilder::new().filters(&filter);
        let mut images = self.client.list_images(Some(images.build())).await.unwrap();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        for image in images {
            let options = RemoveImageOptionsBuilder::new().force(true);
            let _ = self
                .client
                .remove_image(&image.id, Some(options.build()), None)
                .await;
        }
        let volumes = ListVolumesOptionsBuilder::new().filters(&filter);
        let volumes = self.client.list_volumes(Some(volumes.build())).await;
        for volume in volumes.unwrap().volumes.unwrap_or_default() {
            let options = None::<RemoveVolumeOptions>;
            self.client
                .remove_volume(&volume.name, options)
                .await
                .unwrap();
        }
        assert_eq!(self.count().await, (0, 0, 0), "something is left behind");
    }
}

/// A door to the engine that counts who is inside, and can be closed.
pub struct Door {
    /// How many came, and how many are inside.
    pub inside: watch::Sender<(u32, u32)>,
    tasks: JoinHandle<()>,
}

impl Door {
    pub fn open(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let inside = watch::Sender::new((0, 0));
        let counted = inside.clone();
        let tasks = tokio::spawn(async move {
            let mut guests = JoinSet::new();
            loop {
                let (mut guest, _) = listener.accept().await.unwrap();
                counted.send_modify(|(all, open)| (*all, *open) = (*all + 1, *open + 1));
                let counted = counted.clone();
                guests.spawn(async move {
                    let mut engine = UnixStream::connect(engine_socket()).await.unwrap();
                    let _ = copy_bidirectional(&mut guest, &mut engine).await;
                    counted.send_modify(|(_, open)| *open -= 1);
                });
            }
        });
        Self { inside, tasks }
    }

    /// Nobody comes in any more, and who is inside is thrown out.
    pub async fn close(self) {
        self.tasks.abort();
        let _ = self.tasks.await;
    }
}
