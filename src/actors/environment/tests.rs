use super::*;
use crate::model::{AgentKind, PodName, Ulid};

fn pod(secrets: Vec<SecretSpec>) -> PodSpec {
    let mut pod = PodSpec::bare(PodName::new("p").expect("a name"), "/p".into());
    pod.secrets = secrets;
    pod
}

fn secret(name: &str, source: SecretSource, kind: SecretKind) -> SecretSpec {
    let name = name.to_owned();
    SecretSpec { name, source, kind }
}

fn of_env(name: &str, variable: &str, kind: SecretKind) -> SecretSpec {
    secret(name, SecretSource::Env(variable.to_owned()), kind)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn gather(
    pod: &PodSpec,
    env: &[(&str, &str)],
    inherited: &[(&str, &str)],
    runtime: RuntimeName,
) -> Result<Values> {
    let (env, inherited, proxy) = (map(env), map(inherited), map(&[]));
    let caller = Caller {
        env: &env,
        inherited: &inherited,
        proxy: &proxy,
    };
    Values::gather(pod, BTreeMap::new(), &caller, runtime, false)
}

#[test]
fn each_kind_goes_its_own_way() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    std::fs::write(&path, "from a file\n\n").expect("our own directory");
    let of_file = |name, kind| secret(name, SecretSource::File(path.clone()), kind);
    let pod = pod(vec![
        of_env("TOKEN", "HERE", SecretKind::Env),
        of_file("KEY", SecretKind::Env),
        of_env("cert", "CERT", SecretKind::File),
        of_file("key", SecretKind::File),
        of_env("npm", "NPM", SecretKind::Build),
    ]);
    let here = [("HERE", "h"), ("CERT", "c"), ("NPM", "n"), ("OTHER", "o")];
    let values = gather(&pod, &[("FLAG", "f")], &here, RuntimeName::Docker)?;
    // One line end goes with a variable, none with a file.
    let env = [("FLAG", "f"), ("KEY", "from a file\n"), ("TOKEN", "h")];
    assert_eq!(values.env, map(&env));
    assert_eq!(values.files["cert"], Blob::from("c"));
    assert_eq!(values.files["key"], Blob::from("from a file\n\n"));
    assert_eq!(values.build["npm"], Blob::from("n"));
    assert_eq!(
        values.names(),
        ["FLAG", "KEY", "TOKEN", "cert", "key", "npm"]
    );
    let files = values.secret_files();
    assert_eq!(
        files[0],
        (b"/run/secrets/cert".to_vec(), 0o400, b"c".to_vec())
    );
    // What is stored is what is read, with the kinds told apart.
    let session = SessionDir::new(dir.path(), Ulid(7));
    store(&session, 0, &values)?;
    assert_eq!(load(&session, 0, &values.names())?, values);
    forget(&session, 0);
    let lost = load(&session, 0, &values.names()).expect_err("it is gone");
    assert_eq!(lost.code, ErrorCode::Credentials);
    assert!(!format!("{values:?}").contains("from a file"));
    Ok(())
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let long = dir.path().join("long");
    std::fs::write(&long, vec![b'x'; (1 << 20) + 1]).expect("our own directory");
    let missing = dir.path().join("missing");
    for (path, why) in [
        (missing.as_path(), "no such file"),
        (dir.path(), "no regular file"),
        (long.as_path(), "longer than 1048576"),
    ] {
        let source = SecretSource::File(path.to_owned());
        let pod = pod(vec![secret("key", source, SecretKind::File)]);
        let error = gather(&pod, &[], &[], RuntimeName::Docker).expect_err("it is not there");
        assert_eq!(error.code, ErrorCode::Credentials);
        let place = path.display().to_string();
        for part in ["\"key\"", "pod p", why, place.as_str()] {
            assert!(error.message.contains(part), "{part} in {error}");
        }
    }
    let absent = pod(vec![of_env("TOKEN", "HERE", SecretKind::Env)]);
    let error = gather(&absent, &[], &[], RuntimeName::Local).expect_err("it is not set");
    assert_eq!(error.code, ErrorCode::Credentials);
    assert!(error.message.contains("HERE is not set"), "{error}");
    let binary = dir.path().join("binary");
    std::fs::write(&binary, b"\xff\xfe").expect("our own directory");
    let source = SecretSource::File(binary);
    let odd = pod(vec![secret("K", source, SecretKind::Env)]);
    let error = gather(&odd, &[], &[], RuntimeName::Local).expect_err("it is no text");
    assert!(error.message.contains("no text"), "{error}");
}

#[test]
fn plain_processes_have_no_files_and_no_builds() -> Result<()> {
    let files = pod(vec![of_env("cert", "CERT", SecretKind::File)]);
    for runtime in [RuntimeName::Local, RuntimeName::Fake] {
        let error = gather(&files, &[], &[("CERT", "c")], runtime).expect_err("there is no place");
        assert_eq!(error.code, ErrorCode::InvalidPod);
        assert!(error.message.contains("cert"), "{error}");
    }
    let build = pod(vec![of_env("npm", "NPM", SecretKind::Build)]);
    assert_eq!(
        gather(&build, &[], &[], RuntimeName::Local)?,
        Values::default()
    );
    Ok(())
}

#[test]
fn the_pod_and_the_flags_have_the_last_word() {
    let mut of = Spec::bare(pod(Vec::new()), RuntimeName::Local, AgentKind::Claude);
    of.zone = Some("Asia/Tokyo".to_owned());
    let mut values = Values {
        proxy: map(&[("HTTP_PROXY", "http://localhost:1")]),
        ..Values::default()
    };
    let merged = |of: &Spec, values: &Values| -> BTreeMap<String, String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let all = merge(&map(&[("AGENT", "a")]), of, values).into_iter();
        all.map(|(name, value)| (text(name), text(value))).collect()
    };
    let plain = [
        ("AGENT", "a"),
        ("HTTP_PROXY", "http://localhost:1"),
        ("TZ", "Asia/Tokyo"),
    ];
    assert_eq!(merged(&of, &values), map(&plain));
    of.pod.env = map(&[("TZ", ""), ("http_proxy", "")]);
    let own = [("AGENT", "a"), ("TZ", ""), ("http_proxy", "")];
    assert_eq!(merged(&of, &values), map(&own));
    values.env = map(&[("TZ", "UTC")]);
    assert_eq!(merged(&of, &values)["TZ"], "UTC");
}

#[test]
fn what_is_long_enough_is_replaced() {
    let values = Values {
        env: map(&[("SHORT", "1234567"), ("LONG", "12345678")]),
        files: BTreeMap::from([("key".to_owned(), Blob::from("first line\nsecond line\nx\n"))]),
        build: BTreeMap::from([("npm".to_owned(), Blob::from("npm token"))]),
        proxy: map(&[
            ("HTTP_PROXY", "http://user:password@proxy:1"),
            ("NO_PROXY", "localhost,example.com"),
        ]),
    };
    let secrets = values.secrets();
    let secrets: Vec<(&str, &str)> = secrets
        .iter()
        .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).expect("text")))
        .collect();
    let expected = [
        ("LONG", "12345678"),
        ("key", "first line\nsecond line\nx"),
        ("npm", "npm token"),
        ("HTTP_PROXY", "user:password"),
        ("HTTP_PROXY", "password"),
    ];
    assert_eq!(secrets, expected);
    // A build speaks in lines.
    let mask = Mask::new(&values);
    let line = mask.line(b"> second line of npm token".to_vec());
    assert_eq!(line, b"> [redacted:key] of [redacted:npm]");
    let error = Error::new(ErrorCode::BuildFailed, "failed:\n  first line\n  npm token");
    assert_eq!(
        mask.error(error).message,
        "failed:\n  [redacted:key]\n  [redacted:npm]"
    );
}
