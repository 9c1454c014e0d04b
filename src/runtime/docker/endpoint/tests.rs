use super::*;
use crate::runtime::RuntimeError;
use sha2::{Digest, Sha256};
use std::fs;
use tempfile::TempDir;

fn unix(path: &str) -> Endpoint {
    Endpoint::Unix(path.into())
}

fn tcp(address: &str) -> Endpoint {
    Endpoint::Tcp(address.into(), None)
}

#[track_caller]
fn endpoint(config: &DockerConfig) -> Endpoint {
    match candidates(config) {
        Ok(Candidates::Chosen(chosen)) => chosen.endpoint,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refusal(config: &DockerConfig) -> (String, String) {
    match candidates(config) {
        Err(RuntimeError::Unavailable { cause, hint, .. }) => (cause, hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

/// A directory as `docker context create` leaves it.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir_of(&self, kind: &str, name: &str) -> PathBuf {
        let id = format!("{:x}", Sha256::digest(name.as_bytes()));
        self.0.path().join("contexts").join(kind).join(id)
    }

    fn meta(&self, name: &str, text: &str) {
        let dir = self.dir_of("meta", name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("meta.json"), text).unwrap();
    }

    fn context(&self, name: &str, host: &str, skip: bool) {
        let endpoint = format!(r#"{{"Host":"{host}","SkipTLSVerify":{skip}}}"#);
        let text =
            format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
        self.meta(name, &text);
    }

    fn current(&self, name: &str) {
        let text = format!(r#"{{"auths":{{}},"currentContext":"{name}"}}"#);
        fs::write(self.0.path().join("config.json"), text).unwrap();
    }

    fn config(&self) -> DockerConfig {
        DockerConfig {
            docker_config_dir: Some(self.0.path().into()),
            ..DockerConfig::default()
        }
    }
}

#[test]
fn addresses_are_read_as_docker_writes_them() {
    let parse = |host| Endpoint::parse(host, None);
    assert_eq!(parse("unix:///a/b.sock"), Ok(unix("/a/b.sock")));
    assert_eq!(parse("/a/b.sock"), Ok(unix("/a/b.sock")));
    assert_eq!(parse("tcp://10.0.0.1:99"), Ok(tcp("10.0.0.1:99")));
    assert_eq!(parse("tcp://box/"), Ok(tcp("box:2375")));
    for bad in ["ssh://me@box", "https://box", "unix://", "box", ""] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let refused = parse("ssh://me@box").unwrap_err();
    assert!(refused.cause.contains("on another machine"), "{refused:?}");
    assert!(refused.hint.contains("ssh me@box cldpd"), "{refused:?}");
}

#[test]
fn the_flag_goes_before_the_environment_and_that_before_the_context() {
    let store = Store::new();
    store.context("elsewhere", "unix:///ctx.sock", false);
    store.context("named", "unix:///named.sock", false);
    store.current("elsewhere");
    let mut config = store.config();
    assert_eq!(endpoint(&config), unix("/ctx.sock"));
    config.env_context = Some("named".into());
    assert_eq!(endpoint(&config), unix("/named.sock"));
    config.env_host = Some("unix:///env.sock".into());
    assert_eq!(endpoint(&config), unix("/env.sock"));
    config.host = Some("unix:///flag.sock".into());
    assert_eq!(endpoint(&config), unix("/flag.sock"));
    assert_eq!(config.address().as_deref(), Some("unix:///flag.sock"));

    config.host = None;
    config.env_host = Some("  ".into());
    config.env_context = Some("default".into());
    assert!(matches!(candidates(&config), Ok(Candidates::Usual(_))));
}

#[test]
fn a_context_that_cannot_be_used_is_named() {
    let store = Store::new();
    let mut config = store.config();
    let mut refused = |name: &str| {
        config.env_context = Some(name.into());
        refusal(&config)
    };
    let (cause, hint) = refused("missing");
    assert!(cause.contains("the docker context \"missing\" (DOCKER_CONTEXT): there is no such"));
    assert!(hint.contains("docker context ls"), "{hint}");
    store.meta("broken", "{\"Endpoints\": 7");
    let (cause, _) = refused("broken");
    assert!(cause.contains("meta.json"), "{cause}");
    store.meta("empty", "{}");
    let (cause, _) = refused("empty");
    assert!(cause.contains("no docker endpoint"), "{cause}");
    store.context("far", "ssh://me@box", false);
    let (cause, hint) = refused("far");
    assert!(cause.contains("on another machine"), "{cause}");
    assert!(hint.contains("ssh me@box cldpd"), "{hint}");

    store.current("gone");
    let (cause, _) = refusal(&store.config());
    assert!(cause.contains("\"gone\" (docker context use)"), "{cause}");
    fs::write(store.0.path().join("config.json"), "{").unwrap();
    let (cause, _) = refusal(&store.config());
    assert!(cause.contains("config.json"), "{cause}");
}

#[test]
fn tls_is_as_the_variables_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = DockerConfig {
        env_host: Some("tcp://box".into()),
        cert_path: Some(dir.path().into()),
        ..DockerConfig::default()
    };
    assert_eq!(endpoint(&config), tcp("box:2375"));
    config.tls_verify = true;
    let file = |name: &str| dir.path().join(name);
    let mut expected = Tls {
        authority: Some(file("ca.pem")),
        identity: None,
        verify: true,
    };
    let with = |tls: &Tls| Endpoint::Tcp("box:2376".into(), Some(tls.clone()));
    assert_eq!(endpoint(&config), with(&expected));
    fs::write(file("cert.pem"), "").unwrap();
    fs::write(file("key.pem"), "").unwrap();
    expected.identity = Some((file("cert.pem"), file("key.pem")));
    assert_eq!(endpoint(&config), with(&expected));
    config.tls_verify = false;
    config.tls = true;
    expected.verify = false;
    assert_eq!(endpoint(&config), with(&expected));

    // Without DOCKER_CERT_PATH they are docker's own.
    config.cert_path = None;
    config.user_home = Some(dir.path().into());
    let Endpoint::Tcp(_, Some(tls)) = endpoint(&config) else {
        panic!("no TLS");
    };
    assert_eq!(tls.authority, Some(dir.path().join(".docker/ca.pem")));
}

#[test]
fn tls_is_as_the_context_says() {
    let store = Store::new();
    store.context("plain", "tcp://box:99", false);
    store.context("trusting", "tcp://box:99", true);
    store.context("strict", "tcp://box:99", false);
    let material = store.dir_of("tls", "strict").join("docker");
    fs::create_dir_all(&material).unwrap();
    fs::write(material.join("ca.pem"), "").unwrap();
    let mut config = store.config();
    // The variables are for addresses without a context.
    config.tls_verify = true;
    let mut tls_of = |name: &str| {
        config.env_context = Some(name.into());
        match endpoint(&config) {
            Endpoint::Tcp(address, tls) => {
                assert_eq!(address, "box:99");
                tls
            }
            other => panic!("{other}"),
        }
    };
    assert_eq!(tls_of("plain"), None);
    let trusting = tls_of("trusting").unwrap();
    assert!(!trusting.verify && trusting.authority.is_none());
    let strict = tls_of("strict").unwrap();
    assert!(strict.verify && strict.identity.is_none());
    assert_eq!(strict.authority, Some(material.join("ca.pem")));
}

#[test]
fn without_a_choice_the_usual_sockets_are_tried() {
    let config = DockerConfig::read(None, Some("/home/me".into()), |name| match name {
        "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
        "DOCKER_HOST" => Some("".into()),
        _ => None,
    });
    let Ok(Candidates::Usual(list)) = candidates(&config) else {
        panic!("a context was found");
    };
    assert_eq!(list[0], unix("/var/run/docker.sock"));
    for path in [
        "/run/user/7/docker.sock",
        "/home/me/.docker/run/docker.sock",
        "/home/me/.docker/desktop/docker.sock",
        "/run/user/7/podman/podman.sock",
        "/run/podman/podman.sock",
    ] {
        assert!(list.contains(&unix(path)), "{path}");
    }
}
