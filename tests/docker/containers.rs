use super::support::{self, Home};
use bollard::models::{ContainerCreateBody, ContainerUpdateBody};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use cldpd::model::spec::{BuildOptions, Limits, Mount};
use cldpd::runtime::{PlaceState, Runtime, RuntimeError};
use std::path::Path;

const IMAGE: &str = "FROM scratch\nCOPY program /program\nVOLUME /data\nHEALTHCHECK CMD [\"/program\"]\nSTOPSIGNAL SIGKILL\n";

async fn image(home: &Home, name: &str) -> (cldpd::model::spec::PodSpec, String) {
    let pod = home.pod(name, IMAGE);
    let (built, _) = home.build(&pod, BuildOptions::default()).await;
    (pod, built.unwrap().id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_created_once_with_nothing_secret_in_it() {
    let home = Home::new().await;
    let (mut pod, image) = image(&home, "create").await;
    pod.labels = [
        ("cldpd.home".to_owned(), "stolen".to_owned()),
        ("cldpd".to_owned(), "stolen".to_owned()),
        ("mine".to_owned(), "kept".to_owned()),
    ]
    .into();
    pod.env.insert("PLAIN".to_owned(), "not-here".to_owned());
    pod.group_add = vec!["99".to_owned()];
    pod.extra_hosts = vec!["box:10.1.2.3".to_owned()];
    let shared = home.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    pod.mounts = vec![Mount {
        source: shared.clone(),
        target: "/shared".to_owned(),
        read_only: true,
    }];
    let mut request = home.request(&pod, &image, "args /.cldpd/run/args");
    request.workdir = Some("/".to_owned());
    request.user = Some("0:0".to_owned());
    let id = home.docker.create(&request).await.unwrap();
    assert_eq!(home.docker.create(&request).await.unwrap(), id);

    let options = None::<InspectContainerOptions>;
    let found = home.client.inspect_container(&id, options).await.unwrap();
    let config = found.config.unwrap();
    let labels = config.labels.unwrap();
    assert_eq!(labels["cldpd.home"], home.id.to_string());
    assert_eq!(labels["cldpd.session"], request.owner.session.to_string());
    assert_eq!(labels["cldpd.pod"], pod.name.as_str());
    assert_eq!(labels["cldpd.run"], "0");
    assert_eq!(labels["cldpd.attempt"], "0");
    assert_eq!(labels["mine"], "kept");
    assert!(!labels.contains_key("cldpd"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGTERM"));
    assert_eq!(config.stop_timeout, Some(25));
    assert_eq!(config.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    assert_eq!(config.entrypoint.unwrap(), ["/.cldpd/bin/shim"]);
    let env = config.env.unwrap_or_default();
    assert!(
        !env.iter().any(|value| value.contains("not-here")),
        "{env:?}"
    );
    let host = found.host_config.unwrap();
    assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("none"));
    assert_eq!(host.auto_remove, Some(false));
    assert_eq!(host.group_add.unwrap(), ["99"]);
    assert_eq!(host.extra_hosts.unwrap(), ["box:10.1.2.3"]);
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    let mut targets: Vec<_> = found
        .mounts
        .unwrap()
        .into_iter()
        .map(|mount| (mount.destination.unwrap(), mount.rw.unwrap()))
        .collect();
    targets.sort();
    let expected = [
        ("/.cldpd/bin".to_owned(), false),
        ("/.cldpd/run".to_owned(), true),
        ("/data".to_owned(), true),
        ("/shared".to_owned(), false),
    ];
    assert_eq!(targets, expected);

    home.docker.start(&request).await.unwrap();
    let exit = home.docker.wait(&request.owner, &request.name).await;
    assert_eq!(exit.unwrap().unwrap().code, 0);
    let args = std::fs::read_to_string(request.dirs.path().join("args")).unwrap();
    let expected = format!(
        "serve --dir /.cldpd/run --session {} --run 0 --attempt 0",
        request.owner.session
    );
    assert_eq!(args, expected);
    let again = home.docker.start(&request).await.unwrap_err();
    assert!(again.to_string().contains("run already"), "{again}");
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_engines_and_a_refused_one_is_named() {
    let home = Home::new().await;
    let (mut pod, image) = image(&home, "limits").await;
    let mut request = home.request(&pod, &image, "");
    request.limits = Limits {
        memory: 512 << 20,
        nano_cpus: 1_500_000_000,
        pids: 64,
        shm: 16 << 20,
    };
    let id = home.docker.create(&request).await.unwrap();
    let options = None::<InspectContainerOptions>;
    let found = home.client.inspect_container(&id, options).await.unwrap();
    let host = found.host_config.unwrap();
    assert_eq!(host.memory, Some(536_870_912));
    assert_eq!(host.memory_swap, Some(536_870_912), "no swap beside it");
    assert_eq!(host.nano_cpus, Some(1_500_000_000));
    assert_eq!(host.pids_limit, Some(64));
    assert_eq!(host.shm_size, Some(16 << 20));

    // 0 is unlimited.
    let free = home.request(&pod, &image, "");
    let id = home.docker.create(&free).await.unwrap();
    let found = home.client.inspect_container(&id, None).await.unwrap();
    let host = found.host_config.unwrap();
    assert_eq!(host.memory.unwrap_or(0), 0);
    assert_eq!(host.nano_cpus.unwrap_or(0), 0);
    assert_eq!(host.pids_limit.unwrap_or(0), 0);

    for (key, limits) in [
        (
            "memory",
            Limits {
                memory: 4096,
                ..Limits::default()
            },
        ),
        (
            "cpus",
            Limits {
                nano_cpus: 1_000_000_000_000_000,
                ..Limits::default()
            },
        ),
    ] {
        pod.memory = Some(limits.memory);
        pod.nano_cpus = Some(limits.nano_cpus);
        let mut refused = home.request(&pod, &image, "");
        refused.limits = limits;
        let error = home.docker.create(&refused).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Container { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("\"{key}\" of pod.json")), "{text}");
    }
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_somebody_else_holds_is_an_error_with_a_way_out() {
    let home = Home::new().await;
    let (pod, image) = image(&home, "held").await;
    let request = home.request(&pod, &image, "");
    let options = CreateContainerOptionsBuilder::new()
        .name(&request.name)
        .build();
    let body = ContainerCreateBody {
        image: Some(image.clone()),
        cmd: Some(vec!["/program".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let stranger = home
        .client
        .create_container(Some(options), body)
        .await
        .unwrap()
        .id;
    let error = home.docker.create(&request).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Container { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&request.name), "{text}");
    assert!(text.contains("cldpd did not make"), "{text}");
    assert!(
        text.contains(&format!("docker rm -f {}", &stranger[..12])),
        "{text}"
    );
    // It is nobody's of ours: not found, not listed, not removed.
    let owner = &request.owner;
    assert_eq!(home.docker.find(owner, &request.name).await.unwrap(), None);
    assert_eq!(home.docker.wait(owner, &request.name).await.unwrap(), None);
    assert!(home.docker.list(home.id).await.unwrap().is_empty());
    home.docker
        .remove(owner, &request.name, true)
        .await
        .unwrap();
    home.docker
        .remove_session(home.id, owner.session)
        .await
        .unwrap();
    let options = RemoveContainerOptionsBuilder::new().v(true).build();
    home.client
        .remove_container(&stranger, Some(options))
        .await
        .unwrap();

    // Another attempt at the same run is not this one.
    home.docker.create(&request).await.unwrap();
    let mut later = request.clone();
    later.owner.attempt = 1;
    let text = home.docker.create(&later).await.unwrap_err().to_string();
    assert!(text.contains("run 0 (attempt 0)"), "{text}");
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_source_that_is_missing_fails_and_is_not_made() {
    let home = Home::new().await;
    let (mut pod, image) = image(&home, "mount").await;
    let missing = home.dir.path().join("not/there");
    pod.mounts = vec![Mount {
        source: missing.clone(),
        target: "/x".to_owned(),
        read_only: false,
    }];
    let request = home.request(&pod, &image, "");
    let text = home.docker.create(&request).await.unwrap_err().to_string();
    assert!(text.contains(missing.to_str().unwrap()), "{text}");
    assert!(!missing.exists());
    let owner = &request.owner;
    assert_eq!(home.docker.find(owner, &request.name).await.unwrap(), None);

    let mut request = home.request(&pod, "cldpd-no-such-image", "");
    request.pod.mounts.clear();
    let error = home.docker.create(&request).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Image { .. }), "{error:?}");
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_container_ended_is_told() {
    let home = Home::new().await;
    let (pod, image) = image(&home, "ends").await;
    let docker = &home.docker;

    let request = home.request(&pod, &image, "exit 41");
    docker.create(&request).await.unwrap();
    let found = docker.find(&request.owner, &request.name).await.unwrap();
    assert_eq!(found.unwrap().state, PlaceState::Created);
    // Waiting may begin before it runs.
    let (exit, started) = tokio::join!(
        docker.wait(&request.owner, &request.name),
        docker.start(&request)
    );
    started.unwrap();
    let exit = exit.unwrap().unwrap();
    assert_eq!((exit.code, exit.oom_killed), (41, false));
    assert!(exit.finished.is_some());
    let found = docker.find(&request.owner, &request.name).await.unwrap();
    assert_eq!(found.unwrap().state, PlaceState::Exited(exit));

    let request = home.request(&pod, &image, "gorge");
    let id = docker.create(&request).await.unwrap();
    let little = ContainerUpdateBody {
        memory: Some(32 << 20),
        memory_swap: Some(32 << 20),
        ..ContainerUpdateBody::default()
    };
    home.client.update_container(&id, little).await.unwrap();
    docker.start(&request).await.unwrap();
    let exit = docker.wait(&request.owner, &request.name).await.unwrap();
    let exit = exit.unwrap();
    // Whether the engine heard of the reason before it saw the end is its own
    // affair (it does not always); what it says is what is told.
    let said = home.client.inspect_container(&id, None).await.unwrap();
    let oom = said.state.and_then(|state| state.oom_killed);
    assert_eq!((exit.code, Some(exit.oom_killed)), (137, oom));

    let request = home.request(&pod, &image, "hang");
    let id = docker.create(&request).await.unwrap();
    docker.start(&request).await.unwrap();
    docker.start(&request).await.unwrap();
    let found = docker.find(&request.owner, &request.name).await.unwrap();
    let PlaceState::Running { pid, paused } = found.unwrap().state else {
        panic!("it does not run");
    };
    assert!(pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists()));
    assert!(!paused);
    home.client.pause_container(&id).await.unwrap();
    let found = docker.find(&request.owner, &request.name).await.unwrap();
    assert!(matches!(
        found.unwrap().state,
        PlaceState::Running { paused: true, .. }
    ));
    docker.unpause(&request.owner, &request.name).await.unwrap();
    docker.unpause(&request.owner, &request.name).await.unwrap();
    let found = docker.find(&request.owner, &request.name).await.unwrap();
    assert!(matches!(
        found.unwrap().state,
        PlaceState::Running { paused: false, .. }
    ));
    // Removed while it is waited for: gone.
    let (gone, removed) = tokio::join!(
        docker.wait(&request.owner, &request.name),
        docker.remove(&request.owner, &request.name, true)
    );
    removed.unwrap();
    if let Some(exit) = gone.unwrap() {
        assert_eq!(exit.code, 137);
    }
    let again = docker.wait(&request.owner, &request.name).await.unwrap();
    assert_eq!(again, None);
    docker
        .remove(&request.owner, &request.name, true)
        .await
        .unwrap();

    let mut names: Vec<_> = docker
        .list(home.id)
        .await
        .unwrap()
        .into_iter()
        .map(|found| found.state)
        .collect();
    names.retain(|state| matches!(state, PlaceState::Exited(_)));
    assert_eq!(names.len(), 2);
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_on_where_the_container_ended() {
    let home = Home::new().await;
    let (pod, image) = image(&home, "snap").await;
    let docker = &home.docker;
    let first = home.request(&pod, &image, "touch /root/made touch /data/kept");
    docker.create(&first).await.unwrap();
    let early = docker.snapshot(&first.owner, &first.name, "cldpd-wtdocker-early");
    assert!(early.await.unwrap_err().to_string().contains("not ended"));
    docker.start(&first).await.unwrap();
    let exit = docker.wait(&first.owner, &first.name).await.unwrap();
    assert_eq!(exit.unwrap().code, 0);
    let volumes = docker.find(&first.owner, &first.name).await.unwrap();
    let volumes = volumes.unwrap().volumes;
    assert_eq!(volumes.len(), 1);
    assert_eq!(volumes[0].1, "/data");
    let session = first.owner.session.to_string().to_lowercase();
    let tag = format!("cldpd-snapshot:wtdocker-{session}");
    let id = docker
        .snapshot(&first.owner, &first.name, &tag)
        .await
        .unwrap();
    let again = docker
        .snapshot(&first.owner, &first.name, &tag)
        .await
        .unwrap();
    assert_eq!(again, id);
    docker
        .remove(&first.owner, &first.name, false)
        .await
        .unwrap();

    let owner = &first.owner;
    let plan = "need /root/made need /data/kept";
    let mut next = home.request_of(&pod, &id, plan, owner.session, 1, owner.id.clone());
    next.volumes = volumes;
    docker.create(&next).await.unwrap();
    docker.start(&next).await.unwrap();
    let exit = docker.wait(&next.owner, &next.name).await.unwrap();
    assert_eq!(exit.unwrap().code, 0);
    let list = docker.list(home.id).await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].owner, next.owner);
    // The labels are this run's, not those that the snapshot brought along.
    assert_eq!(home.count().await, (1, 2, 1));

    // What its user keeps of a snapshot under a name of their own is theirs.
    let mine = format!("cldpd-wtdocker-mine-{session}");
    let named = TagImageOptionsBuilder::new().repo(&mine).build();
    let client = &home.client;
    client.tag_image(&id, Some(named)).await.unwrap();
    docker.remove_session(home.id, owner.session).await.unwrap();
    docker.remove_session(home.id, owner.session).await.unwrap();
    // The pod's image stays, and so does that.
    assert_eq!(home.count().await, (0, 2, 0));
    let options = None::<RemoveImageOptions>;
    client.remove_image(&mine, options, None).await.unwrap();
    assert_eq!(home.count().await, (0, 1, 0));
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_made_in_a_directory_of_ours_is_purged() {
    // Root may delete anything: another user has to try it.
    if support::as_nobody("what_root_made_in_a_directory_of_ours_is_purged") {
        return;
    }
    let home = Home::new().await;
    let (pod, image) = image(&home, "purge").await;
    let docker = &home.docker;
    let request = home.request(&pod, &image, "touch /.cldpd/run/a/b/c");
    docker.create(&request).await.unwrap();
    docker.start(&request).await.unwrap();
    docker.wait(&request.owner, &request.name).await.unwrap();
    docker
        .remove(&request.owner, &request.name, true)
        .await
        .unwrap();
    let dir = request.dirs.session.path().to_owned();
    assert!(request.dirs.path().join("a/b/c").exists());
    assert!(
        std::fs::remove_dir_all(&dir).is_err(),
        "it is ours to delete"
    );
    docker.purge(&dir).await.unwrap();
    assert!(!dir.exists());
    docker.purge(&dir).await.unwrap();
    assert_eq!(home.count().await, (0, 1, 0));

    // Nothing outside the sessions' directory is ever deleted.
    for outside in [
        home.dir.path().join("pods"),
        home.sessions(),
        home.sessions().join("../pods"),
    ] {
        let error = docker.purge(&outside).await.unwrap_err();
        assert!(error.to_string().contains("cannot delete"), "{error}");
        assert!(outside.exists());
    }
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_homes_containers_are_not_seen() {
    let (mine, other) = (Home::new().await, Home::new().await);
    let (pod, image) = image(&other, "other").await;
    let request = other.request(&pod, &image, "");
    other.docker.create(&request).await.unwrap();
    assert!(mine.docker.list(mine.id).await.unwrap().is_empty());
    mine.docker
        .remove_session(mine.id, request.owner.session)
        .await
        .unwrap();
    let found = other.docker.find(&request.owner, &request.name).await;
    assert!(found.unwrap().is_some());

    // Made of a snapshot by hand, a container has all the labels but not the name.
    let options = None::<InspectContainerOptions>;
    let found = other
        .client
        .inspect_container(&request.name, options)
        .await
        .unwrap();
    let body = ContainerCreateBody {
        image: Some(image.clone()),
        cmd: Some(vec!["/program".to_owned()]),
        labels: found.config.unwrap().labels,
        ..ContainerCreateBody::default()
    };
    let by_hand = CreateContainerOptionsBuilder::new()
        .name(&format!("by-hand-{}", other.id))
        .build();
    other
        .client
        .create_container(Some(by_hand), body)
        .await
        .unwrap();
    assert_eq!(other.docker.list(other.id).await.unwrap().len(), 1);
    mine.clean().await;
    other.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_an_end() {
    let home = Home::new().await;
    let (mut pod, image) = image(&home, "nostart").await;
    pod.network = Some(format!("wtdocker-none-{}", home.id));
    let request = home.request(&pod, &image, "");
    home.docker.create(&request).await.unwrap();
    let text = home.docker.start(&request).await.unwrap_err().to_string();
    assert!(text.contains(pod.network.as_ref().unwrap()), "{text}");
    let exit = home.docker.wait(&request.owner, &request.name).await;
    let exit = exit.unwrap().unwrap();
    assert_ne!(exit.code, 0);
    assert!(exit.error.is_some() && exit.finished.is_none(), "{exit:?}");
    // What was missing may be there by now: it is tried again.
    let again = home.docker.start(&request).await.unwrap_err().to_string();
    assert!(again.contains(pod.network.as_ref().unwrap()), "{again}");

    std::fs::remove_file(request.dirs.session.shim()).unwrap();
    let mut request = request;
    request.pod.network = Some("none".to_owned());
    request.owner.run = 1;
    request.name = request.owner.id.container_name(1);
    home.docker.create(&request).await.unwrap();
    let text = home.docker.start(&request).await.unwrap_err().to_string();
    assert!(text.contains("/.cldpd/bin/shim"), "{text}");
    let exit = home.docker.wait(&request.owner, &request.name).await;
    assert_eq!(exit.unwrap().unwrap().code, 127);
    home.clean().await;
}
