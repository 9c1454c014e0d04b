use super::support::{self, Door, Home};
use cldpd::model::spec::BuildOptions;
use cldpd::model::{HomeId, Ulid};
use cldpd::runtime::docker::{Docker, DockerConfig};
use cldpd::runtime::{PlaceState, Runtime, RuntimeError};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

fn docker(host: &str) -> Docker {
    let config = DockerConfig {
        host: Some(host.to_owned()),
        ..DockerConfig::default()
    };
    Docker::new(config, "/nowhere".into(), HomeId(Ulid::generate()), b"")
}

async fn refusal(docker: &Docker) -> (String, String) {
    let error = docker.check().await.unwrap_err();
    let text = error.to_string();
    let RuntimeError::Unavailable { hint, .. } = error else {
        panic!("{error:?}");
    };
    assert!(text.starts_with("docker is not available: "), "{text}");
    (text, hint.unwrap_or_default())
}

/// Answers every request on the socket with `answer`.
fn serve(path: &Path, answer: impl Into<Vec<u8>>) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    let answer = answer.into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
        }
    })
}

fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_missing_socket_asks_for_the_daemon() {
    let (text, hint) = refusal(&docker("unix:///nowhere/docker.sock")).await;
    assert!(
        text.contains("there is no socket unix:///nowhere/docker.sock"),
        "{text}"
    );
    assert_eq!(hint, "is the docker daemon running?");
}

#[tokio::test]
async fn a_socket_that_nobody_listens_at_asks_for_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (text, hint) = refusal(&docker(&format!("unix://{}", path.display()))).await;
    assert!(text.contains("nothing listens at"), "{text}");
    assert_eq!(hint, "is the docker daemon running?");
}

#[tokio::test]
async fn a_socket_that_may_not_be_opened_asks_for_the_group() {
    if support::as_nobody("a_socket_that_may_not_be_opened_asks_for_the_group") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&path, mode(0)).unwrap();
    let (text, hint) = refusal(&docker(&format!("unix://{}", path.display()))).await;
    assert!(text.contains("no permission to open"), "{text}");
    assert!(hint.contains("docker \"$USER\""), "{hint}");

    // Nor is it told apart from a missing one behind a closed door.
    std::fs::set_permissions(dir.path(), mode(0)).unwrap();
    let (text, _) = refusal(&docker(&format!("unix://{}", path.display()))).await;
    std::fs::set_permissions(dir.path(), mode(0o700)).unwrap();
    assert!(text.contains("no permission to open"), "{text}");
}

#[tokio::test]
async fn strangers_and_old_engines_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("closing", Vec::new(), "the connection to"),
        (
            "garbage",
            b"220 mail.example ready\r\n".to_vec(),
            "no docker engine",
        ),
        ("empty", json("200 OK", "{}"), "no docker engine"),
        ("html", json("404 Not Found", "<html>"), "no docker engine"),
        (
            "old",
            json(
                "200 OK",
                r#"{"Version":"19.03.1","ApiVersion":"1.40","Os":"linux"}"#,
            ),
            "speaks API 1.40, and at least 1.41 is needed",
        ),
        (
            "windows",
            json(
                "200 OK",
                r#"{"Version":"27","ApiVersion":"1.47","Os":"windows"}"#,
            ),
            "windows containers",
        ),
    ];
    for (name, answer, expected) in cases {
        let path = dir.path().join(name);
        let server = serve(&path, answer);
        let (text, _) = refusal(&docker(&format!("unix://{}", path.display()))).await;
        assert!(text.contains(expected), "{name}: {text}");
        server.abort();
    }
}

#[tokio::test]
async fn an_engine_that_comes_later_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let docker = docker(&format!("unix://{}", path.display()));
    refusal(&docker).await;
    let version = r#"{"Version":"99.1","ApiVersion":"1.99","Os":"linux","Arch":"amd64"}"#;
    let server = serve(&path, json("200 OK", version));
    let info = docker.check().await.unwrap();
    let expected = format!("Docker 99.1 (API 1.99) at unix://{}", path.display());
    assert_eq!(info.description, expected);
    assert_eq!(info.architecture, "amd64");
    server.abort();
}

#[tokio::test]
async fn an_address_of_no_use_is_named() {
    let (text, _) = refusal(&docker("ssh://me@box")).await;
    assert!(text.contains("ssh://me@box"), "{text}");
    let config = DockerConfig {
        env_host: Some("unix:///nowhere/s".to_owned()),
        ..DockerConfig::default()
    };
    let docker = Docker::new(config, "/nowhere".into(), HomeId(Ulid::generate()), b"");
    let (text, _) = refusal(&docker).await;
    assert!(text.contains("DOCKER_HOST"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_away_ends_a_wait_and_is_found_again() {
    let home = Home::new().await;
    let pod = home.pod("goes", "FROM scratch\nCOPY program /program\n");
    let (image, _) = home.build(&pod, BuildOptions::default()).await;
    let request = home.request(&pod, &image.unwrap().id, "hang");
    home.docker.create(&request).await.unwrap();
    home.docker.start(&request).await.unwrap();

    let path = home.dir.path().join("s");
    let door = Door::open(&path);
    let config = DockerConfig {
        host: Some(format!("unix://{}", path.display())),
        ..DockerConfig::default()
    };
    let docker = Docker::new(config, home.sessions(), home.id, b"");
    let mut inside = door.inside.subscribe();
    let close = async {
        // Connecting, looking, looking at the labels, then waiting.
        inside.wait_for(|(all, _)| *all == 3).await.unwrap();
        door.close().await;
    };
    let (waited, ()) = tokio::join!(docker.wait(&request.owner, &request.name), close);
    let error = waited.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Unavailable { .. }),
        "{error:?}"
    );
    refusal(&docker).await;

    std::fs::remove_file(&path).unwrap();
    let door = Door::open(&path);
    let found = docker.find(&request.owner, &request.name).await.unwrap();
    assert!(matches!(found.unwrap().state, PlaceState::Running { .. }));
    door.close().await;
    home.clean().await;
}
