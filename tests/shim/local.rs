//! The runtime of plain processes.

use super::support::*;
use cldpd::model::spec::Limits;
use cldpd::model::{HomeId, PodName, RuntimeName, SessionId};
use cldpd::runtime::local::Local;
use cldpd::runtime::session_dir::SessionDir;
use cldpd::runtime::shim::{Control, Peer, Shim};
use cldpd::runtime::{CreateRequest, Owner, PlaceState, Runtime};
use std::path::PathBuf;

struct Ground {
    home: tempfile::TempDir,
    local: Local,
    id: HomeId,
}

impl Ground {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let id = HomeId(id());
        let local = Local::new(home.path().to_owned(), id);
        Self { home, local, id }
    }

    fn request(&self) -> CreateRequest {
        let session = id();
        let pod = PodName::new("pod").unwrap();
        let name = SessionId::new(&pod, session);
        let pod = serde_json::json!({
            "name": "pod", "dir": PathBuf::from("/"), "image": "x", "dockerfile": false,
        });
        CreateRequest {
            owner: Owner {
                home: self.id,
                session,
                id: name.clone(),
                run: 0,
                attempt: 1,
            },
            name: name.container_name(0),
            image: "local".to_owned(),
            pod: serde_json::from_value(pod).unwrap(),
            workdir: Some("/usr".to_owned()),
            user: None,
            limits: Limits::default(),
            copy: false,
            dirs: SessionDir::new(self.home.path(), session).run(0, 1),
            volumes: Vec::new(),
        }
    }

    async fn state(&self, request: &CreateRequest) -> Option<PlaceState> {
        let found = self
            .local
            .find(&request.owner, &request.name)
            .await
            .unwrap();
        found.map(|found| found.state)
    }

    async fn shim(&self, request: &CreateRequest) -> Shim {
        Shim::connect(&request.dirs, Peer::Local, 1, PATIENCE)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_session_from_its_beginning_to_its_removal() {
    let ground = Ground::new();
    let (local, request) = (&ground.local, ground.request());
    assert_eq!(local.name(), RuntimeName::Local);
    assert!(
        local
            .check()
            .await
            .unwrap()
            .description
            .contains("not isolated")
    );
    assert_eq!(ground.state(&request).await, None);
    let id = local.create(&request).await.unwrap();
    assert_eq!(local.create(&request).await.unwrap(), id);
    assert_eq!(ground.state(&request).await, Some(PlaceState::Created));
    let other = CreateRequest {
        name: "other".to_owned(),
        ..request.clone()
    };
    assert!(local.create(&other).await.is_err());
    assert_eq!(ground.state(&other).await, None);
    local.start(&request).await.unwrap();
    local.start(&request).await.unwrap();
    assert!(matches!(
        ground.state(&request).await,
        Some(PlaceState::Running {
            pid: Some(_),
            paused: false
        })
    ));
    let all = local.list(ground.id).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (&all[0].owner, &all[0].name),
        (&request.owner, &request.name)
    );
    assert!(
        local
            .list(HomeId(super::support::id()))
            .await
            .unwrap()
            .is_empty()
    );

    let shim = ground.shim(&request).await;
    shim.run(&sh("pwd; env; exit 11")).await.unwrap();
    let wait = local
        .wait(&request.owner, &request.name)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(wait.code, 11);
    assert!(wait.finished.is_some() && wait.error.is_none());
    assert!(local.start(&request).await.is_err());
    let mut spool =
        cldpd::runtime::shim::Spool::open(&request.dirs, (request.owner.session, 0, 1)).unwrap();
    let records = spool.read(None, usize::MAX).unwrap();
    let text = text(&records, 0);
    assert!(text.starts_with("/usr\n"), "{text}");
    let names = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name);
    for name in names {
        assert!(
            ["PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name),
            "{name}"
        );
    }
    assert_eq!(
        local
            .snapshot(&request.owner, &request.name, "x")
            .await
            .unwrap(),
        "local"
    );
    local
        .remove(&request.owner, &request.name, true)
        .await
        .unwrap();
    local
        .remove(&request.owner, &request.name, true)
        .await
        .unwrap();
    assert_eq!(ground.state(&request).await, None);
    assert_eq!(
        local.wait(&request.owner, &request.name).await.unwrap(),
        None
    );
    let dir = request.dirs.session.path();
    local.purge(dir).await.unwrap();
    assert!(!dir.exists());
    local.purge(dir).await.unwrap();
}

#[tokio::test]
async fn removing_kills_what_is_left() {
    let ground = Ground::new();
    let (local, request) = (&ground.local, ground.request());
    local.create(&request).await.unwrap();
    local.start(&request).await.unwrap();
    let shim = ground.shim(&request).await;
    shim.run(&sh(
        "trap '' TERM; setsid sleep 1000 & echo $!; echo $$; echo ready; wait",
    ))
    .await
    .unwrap();
    let mut spool =
        cldpd::runtime::shim::Spool::open(&request.dirs, (request.owner.session, 0, 1)).unwrap();
    let mut records = Vec::new();
    while !text(&records, 0).contains("ready") {
        let written = shim.written(spool.position()).await.unwrap();
        records.extend(spool.read(Some(written), usize::MAX).unwrap());
    }
    // Somebody who has a recorded pid, but began at another time, is a stranger.
    let mut stranger = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let path = request.dirs.path().join("keepers");
    let mut keepers = std::fs::read_to_string(&path).unwrap();
    keepers.push_str(&format!("9 {0} 1 {0} 1\n", stranger.id()));
    std::fs::write(&path, keepers).unwrap();
    local
        .remove_session(HomeId(id()), request.owner.session)
        .await
        .unwrap();
    assert!(matches!(
        ground.state(&request).await,
        Some(PlaceState::Running { .. })
    ));
    local
        .remove_session(ground.id, request.owner.session)
        .await
        .unwrap();
    for process in text(&records, 0).lines().take(2) {
        gone(process.parse().unwrap()).await;
    }
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(!controls(&records).contains(&Control::Finished));
}

#[tokio::test]
async fn a_killed_shim_is_found_dead_and_waited_for() {
    let ground = Ground::new();
    let (local, request) = (&ground.local, ground.request());
    local.create(&request).await.unwrap();
    let (waiting, owner, name) = (local.clone(), request.owner.clone(), request.name.clone());
    let waiting = tokio::spawn(async move { waiting.wait(&owner, &name).await });
    local.start(&request).await.unwrap();
    let Some(PlaceState::Running { pid: Some(pid), .. }) = ground.state(&request).await else {
        panic!("it does not run");
    };
    kill(i32::try_from(pid).unwrap());
    let info = tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(info.code, 137);
    assert_eq!(info.error.as_deref(), Some("its shim was killed"));
    assert!(matches!(
        ground.state(&request).await,
        Some(PlaceState::Exited(_))
    ));
}

#[tokio::test]
async fn a_shim_that_cannot_begin_is_an_error_with_its_word() {
    let ground = Ground::new();
    let (local, request) = (&ground.local, ground.request());
    local.create(&request).await.unwrap();
    let lost = CreateRequest {
        workdir: Some("/no/such/place".to_owned()),
        ..request.clone()
    };
    let error = local.start(&lost).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/place"), "{error}");
    std::fs::create_dir(request.dirs.path().join("spool.0000")).unwrap();
    let error = local.start(&request).await.unwrap_err().to_string();
    assert!(error.contains("cannot begin the spool"), "{error}");
    let Some(PlaceState::Exited(info)) = ground.state(&request).await else {
        panic!("it has not ended");
    };
    assert!(info.error.unwrap().contains("cannot begin the spool"));
}

#[tokio::test]
async fn purging_follows_no_links_and_minds_no_depth() {
    let ground = Ground::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("kept"), "x").unwrap();
    let dir = ground.home.path().join(id().to_string());
    let mut deep = dir.clone();
    for _ in 0..3000 {
        deep.push("d");
        // Made from within, since the path gets longer than paths can be.
        if deep.as_os_str().len() > 3000 {
            let parent = ground.home.path().join("above");
            std::fs::create_dir_all(&deep).unwrap();
            std::fs::rename(&dir, &parent).unwrap();
            std::fs::create_dir(&dir).unwrap();
            std::fs::rename(&parent, dir.join("below")).unwrap();
            deep = dir.clone();
        }
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.join("link")).unwrap();
    std::fs::write(deep.join("file"), "y").unwrap();
    ground.local.purge(&dir).await.unwrap();
    assert!(!dir.exists());
    assert!(outside.path().join("kept").exists());
    assert!(ground.local.purge(outside.path()).await.is_err());
    assert!(ground.local.purge(ground.home.path()).await.is_err());
    assert!(
        ground
            .local
            .purge(&ground.home.path().join(".."))
            .await
            .is_err()
    );
}
