use super::support::{Door, Home, program};
use bollard::query_parameters::RemoveImageOptionsBuilder;
use cldpd::model::spec::BuildOptions;
use cldpd::runtime::docker::{Docker, DockerConfig};
use cldpd::runtime::{BuildRequest, Runtime, RuntimeError};
use sha2::Digest;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

const SIMPLE: &str = "FROM scratch\nCOPY program /program\nRUN [\"/program\", \"say\", \"built\", \"complain\", \"loudly\"]\nENTRYPOINT [\"/program\"]\nCMD [\"a\", \"b\"]\nWORKDIR /w\nUSER 12:34\n";

/// A home that builds with BuildKit, or with the builder before it.
pub async fn builder(classic: bool) -> Home {
    Home::with(DockerConfig {
        classic,
        ..DockerConfig::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_once_and_again_when_its_context_changes() {
    let home = Home::new().await;
    let mut pod = home.pod("cached", SIMPLE);
    let unforced = BuildOptions::default();

    let (first, lines) = home.build(&pod, unforced).await;
    let first = first.unwrap();
    assert!(!first.cached);
    assert!(first.created.is_some());
    assert!(
        lines.lines().any(|line| line.ends_with(" built")),
        "{lines}"
    );
    assert!(
        lines.lines().any(|line| line.ends_with(" loudly")),
        "{lines}"
    );
    assert!(lines.contains("COPY program /program"), "{lines}");

    let (second, lines) = home.build(&pod, unforced).await;
    let second = second.unwrap();
    assert!(second.cached);
    assert_eq!(second.id, first.id);
    assert_eq!(lines, "");

    std::fs::write(pod.dir.join("more"), "something").unwrap();
    let (third, _) = home.build(&pod, unforced).await;
    assert!(!third.unwrap().cached);

    pod.build_args.insert("A".to_owned(), "1".to_owned());
    let (fourth, _) = home.build(&pod, unforced).await;
    assert!(!fourth.unwrap().cached);

    for insist in ["force", "no_cache", "pull"] {
        let options = BuildOptions {
            force: insist == "force",
            no_cache: insist == "no_cache",
            pull: insist == "pull",
        };
        let (again, lines) = home.build(&pod, options).await;
        assert!(!again.unwrap().cached, "{insist}");
        let ran = lines.lines().any(|line| line.ends_with(" built"));
        assert_eq!(ran, insist == "no_cache", "{insist}: {lines}");
    }

    let config = home.docker.image_config(&first.id).await.unwrap();
    assert_eq!(config.command, ["/program", "a", "b"]);
    assert_eq!(config.workdir.as_deref(), Some("/w"));
    assert_eq!(config.user, "12:34");
    assert!(
        home.docker
            .image_created(&pod.image)
            .await
            .unwrap()
            .is_some()
    );
    let missing = home.docker.image_created("cldpd-no-such-image").await;
    assert_eq!(missing.unwrap(), None);
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_says_why() {
    for classic in [false, true] {
        failing(classic).await;
    }
}

async fn failing(classic: bool) {
    let home = builder(classic).await;
    let pod = home.pod(
        "failing",
        "FROM scratch\nCOPY program /program\nRUN [\"/program\", \"say\", \"so-close\", \"exit\", \"7\"]\n",
    );
    let (result, lines) = home.build(&pod, BuildOptions::default()).await;
    let error = result.unwrap_err();
    assert!(matches!(error, RuntimeError::Build { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&pod.image), "{text}");
    let exit = ["exit code: 7", "non-zero code: 7"];
    assert!(exit.iter().any(|word| text.contains(word)), "{text}");
    assert!(text.contains("so-close"), "{text}");
    assert!(lines.contains("so-close"), "{lines}");

    std::fs::write(pod.dir.join("Dockerfile"), "FRUM scratch\n").unwrap();
    let (result, _) = home.build(&pod, BuildOptions::default()).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("FRUM"), "{text}");

    std::fs::remove_file(pod.dir.join("Dockerfile")).unwrap();
    let (result, _) = home.build(&pod, BuildOptions::default()).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("Dockerfile"), "{text}");
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_architecture_is_refused() {
    let home = Home::new().await;
    let mut pod = home.pod("foreign", "");
    pod.dockerfile = false;

    let (result, _) = home.build(&pod, BuildOptions::default()).await;
    let error = result.unwrap_err();
    let RuntimeError::Image { tag, cause, hint } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*tag, format!("{}:latest", pod.image));
    assert!(cause.contains("no such image"), "{cause}");
    assert!(hint.as_ref().unwrap().contains("Dockerfile"), "{hint:?}");

    let ours = home.docker.check().await.unwrap().architecture;
    let theirs = if ours == "arm64" { "amd64" } else { "arm64" };
    let image = saved(&pod.image, theirs, &home.id.to_string());
    home.load(image).await;
    let (result, _) = home.build(&pod, BuildOptions::default()).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains(theirs) && text.contains(&ours), "{text}");
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_go_meanwhile_disturb_no_build_of_the_classic_builder() {
    let home = builder(true).await;
    let steps: String = (0..20).map(|n| format!("ENV STEP_{n}=1\n")).collect();
    let dockerfile = format!("FROM scratch\n{steps}COPY program /program\n");
    let pod = home.pod("disturbed", &dockerfile);
    // Images without a parent are what it looks through for its first step.
    let disturb = async {
        for number in 0.. {
            let name = format!("{}-{}", pod.image, number % 4);
            let architecture = if number % 8 < 4 { "arm64" } else { "amd64" };
            home.load(saved(&name, architecture, &name)).await;
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let removed = home.client.remove_image(&name, Some(options), None);
            removed.await.unwrap();
        }
    };
    let builds = async {
        for _ in 0..4 {
            let options = BuildOptions {
                force: true,
                ..BuildOptions::default()
            };
            home.build(&pod, options).await.0.unwrap();
        }
    };
    tokio::select! {
        () = disturb => {}
        () = builds => {}
    }
    for number in 0..4 {
        let name = format!("{}-{number}", pod.image);
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        // All but the one that was just there are gone.
        let _ = home.client.remove_image(&name, Some(options), None).await;
    }
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_once_build_once() {
    let home = Arc::new(Home::new().await);
    let pod = home.pod("twice", SIMPLE);
    let options = BuildOptions {
        no_cache: true,
        ..BuildOptions::default()
    };
    let (one, two) = tokio::join!(home.build(&pod, options), home.build(&pod, options));
    let (first, second) = (one.0.unwrap(), two.0.unwrap());
    assert_eq!(first.id, second.id);
    assert!(one.1.contains("built"), "{}", one.1);
    assert_eq!(one.1, two.1);
    assert_eq!(home.count().await.1, 1);
    Arc::into_inner(home).unwrap().clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_nobody_waits_for_is_cancelled() {
    for classic in [false, true] {
        cancelled(classic).await;
    }
}

/// What it says is there while it runs, and it ends when nobody listens.
async fn cancelled(classic: bool) {
    let home = builder(classic).await;
    let dockerfile = format!(
        "FROM scratch\nCOPY program /program\nRUN [\"/program\", \"say\", \"begun-{}\", \"hang\"]\n",
        home.id
    );
    let pod = home.pod("hanging", &dockerfile);
    let (tx, mut rx) = mpsc::channel::<Vec<u8>>(4);
    let request = BuildRequest::new(home.id, pod, BuildOptions::default());
    let build = home.docker.build(&request, tx);
    let begun = async {
        let said = format!("begun-{}", home.id);
        while let Some(line) = rx.recv().await {
            if line.ends_with(said.as_bytes()) && !line.contains(&b'[') {
                return hanging(&home);
            }
        }
        panic!("it ended");
    };
    let process = tokio::select! {
        result = build => panic!("it ended: {result:?}"),
        process = begun => process,
    };
    // The future is dropped, and with it the build: the engine kills its step.
    // SAFETY: it owns the descriptor, which stays open and the same while it lives.
    let process = unsafe { AsyncFd::register(process) }.unwrap();
    let died = tokio::time::timeout(Duration::from_secs(60), process.readable());
    died.await
        .expect("the step still runs")
        .unwrap()
        .retain_ready();
    home.clean().await;
}

/// The process of this machine that runs the program and hangs.
fn hanging(home: &Home) -> OwnedFd {
    let wanted = format!("/program\0say\0begun-{}\0hang\0", home.id);
    let pid = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find(|entry| {
            let command = std::fs::read(entry.path().join("cmdline"));
            command.is_ok_and(|line| line == wanted.as_bytes())
        })
        .unwrap();
    let pid = pid.file_name().to_string_lossy().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).unwrap()
}

/// An image with nothing in it, as `docker save` writes one.
fn saved(name: &str, architecture: &str, home: &str) -> Vec<u8> {
    let layer = vec![0; 1024];
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Labels": { "cldpd.home": home } },
        "rootfs": {
            "type": "layers",
            "diff_ids": [format!("sha256:{:x}", sha2::Sha256::digest(&layer))],
        },
        "history": [{ "created_by": "test" }],
    });
    let manifest = serde_json::json!([{
        "Config": "config.json",
        "RepoTags": [format!("{name}:latest")],
        "Layers": ["layer.tar"],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, contents) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, path, &contents[..])
            .unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_that_cannot_be_read_is_named() {
    let home = Home::new().await;
    let mut pod = home.pod("gone", SIMPLE);
    pod.dir = pod.dir.join("nowhere");
    let (result, _) = home.build(&pod, BuildOptions::default()).await;
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("cannot read") && text.contains("nowhere"),
        "{text}"
    );
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_leave_no_connection_behind() {
    let home = Home::new().await;
    let pod = home.pod("leak", SIMPLE);
    let path = home.dir.path().join("s");
    let door = Door::open(&path);
    let config = DockerConfig {
        host: Some(format!("unix://{}", path.display())),
        ..DockerConfig::default()
    };
    let docker = Docker::new(config, home.sessions(), home.id, program());
    let (tx, mut rx) = mpsc::channel(4);
    let request = BuildRequest::new(home.id, pod, BuildOptions::default());
    let build = docker.build(&request, tx);
    let (built, ()) = tokio::join!(build, async { while rx.recv().await.is_some() {} });
    built.unwrap();
    let mut inside = door.inside.subscribe();
    let empty = inside.wait_for(|(all, open)| *all > 2 && *open == 0);
    let empty = tokio::time::timeout(Duration::from_secs(30), empty).await;
    empty.expect("a connection stays open").unwrap();
    door.close().await;
    home.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_nobody_uses_any_more_go_with_the_next_build() {
    let home = Home::new().await;
    let pod = home.pod("sweep", SIMPLE);
    let mut kept = None;
    for round in 0..4 {
        std::fs::write(pod.dir.join("round"), round.to_string()).unwrap();
        let (image, _) = home.build(&pod, BuildOptions::default()).await;
        let request = home.request(&pod, &image.unwrap().id, "");
        home.docker.create(&request).await.unwrap();
        if round == 1 {
            kept = Some(request);
            continue;
        }
        home.docker
            .remove(&request.owner, &request.name, true)
            .await
            .unwrap();
    }
    // The newest, and the one that a container is made of.
    assert_eq!(home.count().await, (1, 2, 0));
    assert!(home.docker.image_config(&kept.unwrap().image).await.is_ok());
    home.clean().await;
}
