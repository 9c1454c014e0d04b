//! Engines that are found in other ways than by a socket of this machine.

use super::support::Home;
use super::tls_door::{Authority, TlsDoor};
use crate::support::TestEnv;
use cldpd::model::spec::BuildOptions;
use cldpd::model::{HomeId, Ulid};
use cldpd::runtime::docker::{Docker, DockerConfig};
use cldpd::runtime::{Runtime, RuntimeError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A year in which what is valid now still is, and one in which it was not any more.
const LATER: i32 = 2200;
const PAST: i32 = 2002;

fn with_tls(door: &TlsDoor, certificates: &Path) -> DockerConfig {
    DockerConfig {
        env_host: Some(format!("tcp://{}", door.address)),
        tls_verify: true,
        cert_path: Some(certificates.to_owned()),
        ..DockerConfig::default()
    }
}

async fn refusal(config: DockerConfig) -> (String, String) {
    let docker = Docker::new(config, "/nowhere".into(), HomeId(Ulid::generate()), b"");
    match docker.check().await.unwrap_err() {
        RuntimeError::Unavailable { cause, hint, .. } => (cause, hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

/// An authority whose certificates are accepted on both sides, and a door of its.
async fn trusted() -> (Authority, TlsDoor, TempDir) {
    let authority = Authority::new("everybody's");
    let door = TlsDoor::open(&authority, &authority.sign(&["127.0.0.1"], LATER)).await;
    (authority, door, tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_certificates_on_both_sides_carries_a_whole_session() {
    let (authority, door, dir) = trusted().await;
    authority.write(dir.path(), Some(&authority.sign(&["me"], LATER)));
    let mut home = Home::new().await;
    let config = with_tls(&door, dir.path());
    home.docker = Docker::new(config, home.sessions(), home.id, b"");
    let info = home.docker.check().await.unwrap();
    let place = format!("at tcp://{}", door.address);
    assert!(info.description.ends_with(&place), "{}", info.description);
    // With BuildKit that is a connection that is taken over by another protocol.
    let pod = home.pod("tls", "FROM scratch\nCOPY program /program\n");
    let (image, text) = home.build(&pod, BuildOptions::default()).await;
    let image = image.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let request = home.request(&pod, &image.id, "exit 3");
    home.docker.create(&request).await.unwrap();
    home.docker.start(&request).await.unwrap();
    let ended = home.docker.wait(&request.owner, &request.name).await;
    assert_eq!(ended.unwrap().unwrap().code, 3);
    door.close().await;
    home.clean().await;
}

#[tokio::test]
async fn an_engine_signed_by_somebody_else_is_refused() {
    let (authority, door, dir) = trusted().await;
    Authority::new("another").write(dir.path(), Some(&authority.sign(&["me"], LATER)));
    let (cause, hint) = refusal(with_tls(&door, dir.path())).await;
    assert!(cause.contains("not signed by an authority"), "{cause}");
    assert!(hint.contains("ca.pem"), "{hint}");
    assert!(cause.contains("DOCKER_HOST"), "{cause}");
}

#[tokio::test]
async fn an_engine_with_an_expired_certificate_or_another_name_is_refused() {
    let authority = Authority::new("everybody's");
    let dir = tempfile::tempdir().unwrap();
    authority.write(dir.path(), Some(&authority.sign(&["me"], LATER)));
    for (name, until, expected) in [
        ("127.0.0.1", PAST, "its certificate has expired"),
        ("box.example", LATER, "its certificate is for another name"),
    ] {
        let door = TlsDoor::open(&authority, &authority.sign(&[name], until)).await;
        let (cause, hint) = refusal(with_tls(&door, dir.path())).await;
        assert!(cause.contains(expected), "{cause}");
        assert!(hint.contains("certificate"), "{hint}");
    }
}

#[tokio::test]
async fn who_shows_no_certificate_or_an_expired_one_is_told() {
    let (authority, door, dir) = trusted().await;
    authority.write(dir.path(), None);
    let (cause, hint) = refusal(with_tls(&door, dir.path())).await;
    assert!(cause.contains("does not accept us"), "{cause}");
    assert!(hint.contains("cert.pem and key.pem"), "{hint}");
    authority.write(dir.path(), Some(&authority.sign(&["me"], PAST)));
    let (cause, _) = refusal(with_tls(&door, dir.path())).await;
    assert!(cause.contains("does not accept us"), "{cause}");
}

#[tokio::test]
async fn tls_and_plain_tcp_are_told_apart() {
    let (authority, door, dir) = trusted().await;
    authority.write(dir.path(), Some(&authority.sign(&["me"], LATER)));
    let plain = DockerConfig {
        tls_verify: false,
        ..with_tls(&door, dir.path())
    };
    let (cause, hint) = refusal(plain).await;
    assert!(cause.contains("wants TLS"), "{cause}");
    assert!(hint.contains("DOCKER_TLS_VERIFY=1"), "{hint}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut guest, _) = listener.accept().await.unwrap();
        let _ = guest.read(&mut [0; 4096]).await;
        let _ = guest.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let config = DockerConfig {
        env_host: Some(format!("tcp://{address}")),
        ..with_tls(&door, dir.path())
    };
    let (cause, hint) = refusal(config).await;
    assert!(cause.contains("does not speak TLS"), "{cause}");
    assert!(hint.contains("unset DOCKER_TLS_VERIFY"), "{hint}");
    server.await.unwrap();
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let (authority, door, dir) = trusted().await;
    let (cause, hint) = refusal(with_tls(&door, dir.path())).await;
    assert!(cause.contains("ca.pem: No such file"), "{cause}");
    assert!(hint.contains("DOCKER_CERT_PATH"), "{hint}");
    authority.write(dir.path(), Some(&authority.sign(&["me"], LATER)));
    std::fs::write(dir.path().join("key.pem"), "no key\n").unwrap();
    let (cause, _) = refusal(with_tls(&door, dir.path())).await;
    assert!(cause.contains("key.pem: nothing of the kind"), "{cause}");
    std::fs::write(dir.path().join("ca.pem"), "").unwrap();
    let (cause, _) = refusal(with_tls(&door, dir.path())).await;
    assert!(cause.contains("there is no certificate in"), "{cause}");
}

/// Writes a context as `docker context create` does, and where its TLS material goes.
fn write_context(config: &Path, name: &str, host: &str, skip_verify: bool) -> PathBuf {
    let id = format!("{:x}", Sha256::digest(name.as_bytes()));
    let meta = config.join("contexts/meta").join(&id);
    std::fs::create_dir_all(&meta).unwrap();
    let text = serde_json::json!({
        "Name": name,
        "Metadata": {},
        "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": skip_verify}},
    });
    std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    config.join("contexts/tls").join(id).join("docker")
}

/// The whole way, from the command: a context with TLS, chosen by a variable.
#[tokio::test(flavor = "multi_thread")]
async fn a_docker_context_with_tls_is_used_by_the_command() {
    let authority = Authority::new("everybody's");
    // A name of another: this context is told not to look.
    let door = TlsDoor::open(&authority, &authority.sign(&["box.example"], LATER)).await;
    let host = format!("tcp://{}", door.address);
    tokio::task::spawn_blocking(move || {
        let env = TestEnv::new();
        let config = env.user_home().join(".docker");
        let material = write_context(&config, "secure", &host, true);
        authority.write(&material, Some(&authority.sign(&["me"], LATER)));
        std::fs::write(config.join("config.json"), r#"{"currentContext":"secure"}"#).unwrap();
        let pod = env.docker_pod("context").make();
        let output = env
            .cldpd(["start", &pod, "--prompt", "[[print by context]]"])
            .env("DOCKER_HOST", "")
            .run()
            .ok();
        assert!(output.contains("by context"), "{output}");
        let checks = env.cldpd(["doctor", "--json"]).run().text();
        assert!(checks.contains(&host), "{checks}");
    })
    .await
    .unwrap();
    door.close().await;
}

#[test]
fn a_command_with_another_engine_than_the_daemons_is_told() {
    let env = TestEnv::new();
    let pod = env.docker_pod("other").make();
    let here = env
        .cldpd(["start", &pod, "--prompt", "[[print one]]"])
        .run();
    assert!(!here.stderr.contains("the engine at"), "{}", here.stderr);
    let id = env.cldpd(["sessions", "-a", "-q"]).run().ok();
    let id = id.trim().to_owned();
    let engine = env.daemon()["engine"].as_str().unwrap().to_owned();
    assert!(engine.contains("://"), "{engine}");
    let expected = format!("the daemon uses the engine at {engine}, not tcp://127.0.0.1:9;");
    for (command, variable) in [
        (["start", &pod, "--prompt", "[[print two]]"], "DOCKER_HOST"),
        (
            ["resume", &id, "--prompt", "[[print three]]"],
            "CLDPD_DOCKER_HOST",
        ),
    ] {
        let output = env
            .cldpd(command)
            .env(variable, "tcp://127.0.0.1:9")
            .run()
            .code(0);
        let notes = output.stderr.matches(&expected).count();
        assert_eq!(notes, 1, "{}", output.stderr);
        assert!(output.stderr.contains("cldpd daemon restart"));
    }
}
