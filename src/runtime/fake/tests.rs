use super::*;
use crate::model::spec::{BuildOptions, Limits, PodSpec};
use crate::model::{PodName, SessionId};
use crate::pod::Pods;
use crate::runtime::session_dir::SessionDir;
use std::fs::OpenOptions;
use tempfile::TempDir;

/// A runtime whose containers have all ended with 7.
struct Stub;

fn ended() -> ExitInfo {
    ExitInfo {
        code: 7,
        ..ExitInfo::default()
    }
}

#[async_trait]
impl Runtime for Stub {
    fn name(&self) -> RuntimeName {
        RuntimeName::Local
    }
    async fn check(&self) -> Result<EngineInfo> {
        Ok(EngineInfo {
            description: "stub".to_owned(),
            architecture: "amd64".to_owned(),
        })
    }
    async fn build(&self, request: &BuildRequest, _: mpsc::Sender<Vec<u8>>) -> Result<Image> {
        Ok(Image {
            id: format!("stub:{}", request.pod.image),
            cached: true,
            created: None,
        })
    }
    async fn image_created(&self, _: &str) -> Result<Option<Timestamp>> {
        Ok(None)
    }
    async fn image_config(&self, image: &str) -> Result<ImageConfig> {
        Ok(ImageConfig {
            command: vec![image.to_owned()],
            ..ImageConfig::default()
        })
    }
    async fn create(&self, request: &CreateRequest) -> Result<String> {
        Ok(request.image.clone())
    }
    async fn start(&self, _: &CreateRequest) -> Result<()> {
        Ok(())
    }
    async fn find(&self, owner: &Owner, name: &str) -> Result<Option<Found>> {
        Ok(Some(Found {
            owner: owner.clone(),
            name: name.to_owned(),
            id: "id".to_owned(),
            state: PlaceState::Exited(ended()),
            volumes: Vec::new(),
        }))
    }
    async fn list(&self, _: HomeId) -> Result<Vec<Found>> {
        Ok(Vec::new())
    }
    async fn wait(&self, _: &Owner, _: &str) -> Result<Option<ExitInfo>> {
        Ok(Some(ended()))
    }
    async fn stat(&self, _: &str, _: &str) -> Result<Option<PathStat>> {
        Ok(None)
    }
    async fn read_archive(&self, _: &str, _: &str) -> Result<Chunks> {
        Ok(Box::pin(futures::stream::empty()))
    }
    async fn write_archive(&self, _: &str, _: &str, _: Upload) -> Result<()> {
        Ok(())
    }
    async fn unpause(&self, _: &Owner, _: &str) -> Result<()> {
        Ok(())
    }
    async fn snapshot(&self, _: &Owner, _: &str, tag: &str) -> Result<String> {
        Ok(tag.to_owned())
    }
    async fn remove(&self, _: &Owner, _: &str, _: bool) -> Result<()> {
        Ok(())
    }
    async fn remove_session(&self, _: HomeId, _: Ulid) -> Result<()> {
        Ok(())
    }
    async fn purge(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}

struct World {
    home: TempDir,
    fake: Arc<Fake>,
}

const HOME: HomeId = HomeId(Ulid(1));

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let pods = home.path().join("pods");
        fs::create_dir_all(pods.join("my-pod")).unwrap();
        fs::write(pods.join("my-pod/Dockerfile"), "FROM scratch").unwrap();
        let fake = Arc::new(Fake::new(Arc::new(Stub), pods));
        Self { home, fake }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("pods/my-pod")
    }

    fn script(&self, json: &str) {
        fs::write(self.dir().join("fake.json"), json).unwrap();
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        path
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir().join("fake.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn pod(&self) -> PodSpec {
        let pods = Pods::new(self.home.path().join("pods"), None);
        pods.load("my-pod").unwrap().spec
    }

    fn request(&self, image: &str) -> CreateRequest {
        let session = Ulid(9);
        let id = SessionId::new(&PodName::new("my-pod").unwrap(), session);
        CreateRequest {
            owner: Owner {
                home: HOME,
                session,
                id,
                run: 0,
                attempt: 1,
            },
            name: "c".to_owned(),
            image: image.to_owned(),
            pod: self.pod(),
            workdir: None,
            user: None,
            limits: Limits::default(),
            copy: false,
            dirs: SessionDir::new(self.home.path(), session).run(0, 1),
            volumes: Vec::new(),
        }
    }

    async fn build(&self, options: BuildOptions) -> (Result<Image>, Vec<String>) {
        let (sender, mut lines) = mpsc::channel(100);
        let built = self
            .fake
            .build(&BuildRequest::new(HOME, self.pod(), options), sender)
            .await;
        let mut said = Vec::new();
        while let Some(line) = lines.recv().await {
            said.push(String::from_utf8(line).unwrap());
        }
        (built, said)
    }
}

#[tokio::test]
async fn an_image_is_built_once_and_again_when_something_changed() {
    let world = World::new();
    world.script(r#"{"build": {"steps": ["one", "two"]}}"#);
    let plain = BuildOptions::default();
    let (image, said) = world.build(plain).await;
    let image = image.unwrap();
    assert!(!image.cached);
    assert_eq!(said, ["one", "two"]);
    let (again, said) = world.build(plain).await;
    let again = again.unwrap();
    assert!(again.cached && said.is_empty());
    assert_eq!((again.id.clone(), again.created), (image.id, image.created));
    assert_eq!(
        world.fake.image_created("cldpd-my-pod").await.unwrap(),
        again.created
    );
    assert_eq!(world.fake.image_created("cldpd-other").await.unwrap(), None);

    fs::write(world.dir().join("new"), "").unwrap();
    assert!(!world.build(plain).await.0.unwrap().cached);
    let force = BuildOptions {
        force: true,
        no_cache: true,
        pull: false,
    };
    assert!(!world.build(force).await.0.unwrap().cached);
    let short: Vec<String> = world
        .log()
        .iter()
        .map(|line| line.replace(" cldpd-my-pod", ""))
        .collect();
    let asked = [
        "build",
        "built",
        "build",
        "build",
        "built",
        "build force no_cache",
        "built",
    ];
    assert_eq!(short, asked);
}

#[tokio::test]
async fn a_build_waits_at_its_gate_and_streams_before_it() {
    let world = World::new();
    let fifo = world.fifo("gate");
    world.script(&format!(
        r#"{{"build": {{"steps": ["before", {{"gate": {fifo:?}}}, "after"]}}}}"#
    ));
    let (sender, mut lines) = mpsc::channel(1);
    let (fake, pod) = (Arc::clone(&world.fake), world.pod());
    let build = tokio::spawn(async move {
        fake.build(
            &BuildRequest::new(HOME, pod, BuildOptions::default()),
            sender,
        )
        .await
    });
    assert_eq!(lines.recv().await.unwrap(), b"before");
    assert!(lines.try_recv().is_err() && !build.is_finished());
    let open = move || OpenOptions::new().write(true).open(fifo).map(drop);
    tokio::task::spawn_blocking(open).await.unwrap().unwrap();
    assert_eq!(lines.recv().await.unwrap(), b"after");
    assert!(build.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_abandoned_gate_holds_nobody() {
    let world = World::new();
    let fifo = world.fifo("gate");
    world.script(&format!(
        r#"{{"calls": {{"build": {{"gate": {fifo:?}}}}}}}"#
    ));
    let (fake, pod) = (Arc::clone(&world.fake), world.pod());
    let (sender, mut lines) = mpsc::channel(1);
    let build = tokio::spawn(async move {
        fake.build(
            &BuildRequest::new(HOME, pod, BuildOptions::default()),
            sender,
        )
        .await
    });
    build.abort();
    assert!(build.await.unwrap_err().is_cancelled());
    assert_eq!(lines.recv().await, None);
}

#[tokio::test]
async fn failures_are_as_scripted() {
    let world = World::new();
    world.script(r#"{"build": {"steps": ["x"], "fail": {"code": 2, "text": "no package"}}}"#);
    let (error, said) = world.build(BuildOptions::default()).await;
    let error = error.unwrap_err();
    assert_eq!(said, ["x"]);
    assert!(matches!(error, RuntimeError::Build { .. }));
    let text = "the image cldpd-my-pod could not be built: exit code 2: no package\nx";
    assert_eq!(error.to_string(), text);

    world.script(r#"{"architecture": "s390x"}"#);
    let error = world.build(BuildOptions::default()).await.0.unwrap_err();
    assert!(matches!(error, RuntimeError::Image { .. }), "{error}");

    world.script(r#"{"unavailable": "connection refused"}"#);
    let error = world.build(BuildOptions::default()).await.0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "fake is not available: connection refused"
    );
    assert!(world.fake.check().await.is_ok());
    fs::rename(
        world.dir().join("fake.json"),
        world.home.path().join("pods/fake.json"),
    )
    .unwrap();
    assert!(world.fake.check().await.is_err() && world.fake.list(HOME).await.is_err());
    assert!(world.fake.create(&world.request("x")).await.is_err());
    fs::remove_file(world.home.path().join("pods/fake.json")).unwrap();

    let request = world.request("x");
    world.script(
        r#"{"calls": {"create": {"conflict": true}, "start": {"error": "boom", "times": 1}}}"#,
    );
    let error = world.fake.create(&request).await.unwrap_err().to_string();
    assert!(
        error.starts_with("container c: its name is taken"),
        "{error}"
    );
    let error = world.fake.start(&request).await.unwrap_err().to_string();
    assert_eq!(error, "container c: boom");
    assert!(world.fake.start(&request).await.is_ok());

    world.script(r#"{"cals": {}}"#);
    let error = world.fake.start(&request).await.unwrap_err().to_string();
    assert!(error.contains("fake.json: unknown field `cals`"), "{error}");
    world.script(r#"{"missing": true}"#);
    fs::remove_file(world.dir().join("Dockerfile")).unwrap();
    fs::write(world.dir().join("pod.json"), r#"{"image": "alpine"}"#).unwrap();
    let error = world.build(BuildOptions::default()).await.0.unwrap_err();
    assert!(error.to_string().contains("no such image"), "{error}");
    world.script("{}");
    assert!(world.build(BuildOptions::default()).await.0.unwrap().cached);
}

#[tokio::test]
async fn the_rest_is_the_runtime_beneath() {
    let world = World::new();
    let image = world.build(BuildOptions::default()).await.0.unwrap().id;
    let request = world.request(&image);
    let fake = &world.fake;
    assert_eq!(fake.create(&request).await.unwrap(), "stub:cldpd-my-pod");
    let config = fake.image_config(&image).await.unwrap();
    assert_eq!(
        (config.command, config.user),
        (vec!["stub:cldpd-my-pod".to_owned()], String::new())
    );
    world.script(
        r#"{"command": ["a"], "user": "agent", "workdir": "/w",
            "exit": {"oom_killed": true, "code": 137, "finished": "2026-11-21T00:00:00Z"}}"#,
    );
    let config = fake.image_config(&image).await.unwrap();
    assert_eq!(
        (config.command, config.user),
        (vec!["a".to_owned()], "agent".to_owned())
    );
    assert_eq!(config.workdir.as_deref(), Some("/w"));
    let exit = fake.wait(&request.owner, "c").await.unwrap().unwrap();
    assert!(exit.oom_killed && exit.code == 137 && exit.finished.is_some());
    let found = fake.find(&request.owner, "c").await.unwrap().unwrap();
    assert_eq!(found.state, PlaceState::Exited(exit));
    world.script("{}");
    assert_eq!(fake.wait(&request.owner, "c").await.unwrap(), Some(ended()));
    fake.snapshot(&request.owner, "c", "t").await.unwrap();
    fake.remove(&request.owner, "c", true).await.unwrap();
    fake.remove_session(HOME, Ulid(9)).await.unwrap();
    fake.purge(Path::new("/x")).await.unwrap();
    let log = world.log();
    let asked: Vec<&str> = log.iter().map(String::as_str).skip(2).collect();
    assert_eq!(
        asked,
        [
            "create c",
            "image_config",
            "image_config",
            "wait c",
            "find c",
            "wait c",
            "snapshot c t",
            "remove c volumes"
        ]
    );
    let engine = fs::read_to_string(world.home.path().join("pods/fake.log")).unwrap();
    assert_eq!(engine, format!("remove_session {}\npurge /x\n", Ulid(9)));
    // A pod whose directory is gone can still be cleaned up after.
    fs::remove_dir_all(world.dir()).unwrap();
    fake.remove(&request.owner, "c", false).await.unwrap();
}
