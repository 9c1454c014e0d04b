//! An engine that holds a container's name while it still makes it.

use super::support::Home;
use cldpd::runtime::Runtime;
use cldpd::runtime::docker::DockerConfig;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// How often it refuses a name of which it knows no container.
const REFUSALS: usize = 3;

/// A request's first line, once all of it is here.
async fn heard(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lengths = head.lines().filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let length = name.eq_ignore_ascii_case("content-length");
                length.then(|| value.parse::<usize>().ok()).flatten()
            });
            if body.len() >= lengths.next().unwrap_or(0) {
                return head.lines().next().unwrap_or_default().to_owned();
            }
        }
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
}

/// What a daemon that died had asked for is being made, and goes wrong.
async fn engine(path: &Path, asked: Arc<AtomicUsize>) {
    let listener = UnixListener::bind(path).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let line = heard(&mut stream).await;
        let (status, body) = if line.contains("/version") {
            let version = r#"{"Version":"20.10","ApiVersion":"1.41","Os":"linux","Arch":"amd64"}"#;
            ("200 OK", version)
        } else if line.contains("/images/") {
            ("200 OK", r#"{"Id":"sha256:1","Config":{}}"#)
        } else if line.contains("/containers/create") {
            match asked.fetch_add(1, Ordering::Relaxed) < REFUSALS {
                true => ("409 Conflict", r#"{"message":"Conflict: in use"}"#),
                false => ("201 Created", r#"{"Id":"made","Warnings":[]}"#),
            }
        } else {
            ("404 Not Found", r#"{"message":"No such container"}"#)
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_name_that_is_held_by_what_is_not_there_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let asked = Arc::new(AtomicUsize::new(0));
    let (socket, counted) = (path.clone(), asked.clone());
    let served = tokio::spawn(async move { engine(&socket, counted).await });
    let home = Home::with(DockerConfig {
        host: Some(format!("unix://{}", path.display())),
        ..DockerConfig::default()
    })
    .await;
    let pod = home.pod("held", "FROM scratch\n");
    let request = home.request(&pod, "sha256:1", "");
    home.docker.create(&request).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), REFUSALS + 1);
    served.abort();
}
