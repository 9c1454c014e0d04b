//! 5.4: what comes with a run: the caller's time zone, proxies and secrets.

use crate::support::{TestEnv, engine};
use serde_json::json;

#[test]
fn a034_the_callers_time_zone() {
    let env = TestEnv::new();
    let prompt = "[[env TZ]]";
    let zone_of = |pod: &str, flags: &[&str]| {
        let args = [&["start", pod, "--prompt", prompt][..], flags].concat();
        let start = env.cldpd(args).env("TZ", ":Europe/Bucharest");
        start.run().ok()
    };
    let docker = env.docker_pod("zone").plain().make();
    let local = env.local_pod("zone-local").plain().make();
    for pod in [&docker, &local] {
        assert_eq!(zone_of(pod, &[]), "TZ=Europe/Bucharest\n", "{pod}");
        // What was asked for goes over what was found.
        assert_eq!(zone_of(pod, &["--env", "TZ=UTC"]), "TZ=UTC\n", "{pod}");
    }
    let own = env.local_pod("zone-own").plain();
    let own = own.json(json!({"env": {"TZ": "Asia/Tokyo"}})).make();
    assert_eq!(zone_of(&own, &[]), "TZ=Asia/Tokyo\n");
    // It is frozen with the session: a later run has it, wherever it is asked for.
    let id = env.start(&[&local, "--prompt", prompt]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.inspect(&id)["spec"]["zone"], "UTC");
    let resume = env.cldpd(["resume", &id, "--prompt", prompt]);
    assert_eq!(resume.env("TZ", "Africa/Cairo").run().ok(), "TZ=UTC\n");
}

/// `NAME=value` lines of what was said.
fn variable<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn a035_the_callers_proxies() {
    let env = TestEnv::new();
    let prompt = "[[envall]]";
    let start = |pod: &str| {
        let start = env.cldpd(["start", "-d", pod, "--prompt", prompt]);
        let start = start
            .env("HTTP_PROXY", "http://localhost:3128")
            .env("HTTPS_PROXY", "http://user:t0ps3cret@127.0.0.1:3128/")
            .env("all_proxy", "http://[::1]:3128")
            .env("http_proxy", "http://proxy.example:8080")
            .env("NO_PROXY", "a,xhost.docker.internalx");
        let id = start.run().ok().trim().to_owned();
        assert_eq!(env.wait(&id), 0);
        id
    };
    let bridged = json!({"network": null, "env": {"no_proxy": "own"}});
    let docker = env.docker_pod("proxied").plain();
    let docker = docker.json(bridged).make();
    let id = start(&docker);
    let said = env.said(&id);
    for (name, value) in [
        ("HTTP_PROXY", Some("http://host.docker.internal:3128")),
        (
            "HTTPS_PROXY",
            Some("http://[redacted:HTTPS_PROXY]@host.docker.internal:3128/"),
        ),
        ("all_proxy", Some("http://host.docker.internal:3128")),
        ("http_proxy", Some("http://proxy.example:8080")),
        ("no_proxy", Some("own")),
        ("NO_PROXY", None),
    ] {
        assert_eq!(variable(&said, name), value, "{name} in {said}");
    }
    let container = engine::inspect_json(&format!("cldpd-{id}-r0"));
    let hosts = &container["HostConfig"]["ExtraHosts"];
    assert_eq!(*hosts, json!(["host.docker.internal:host-gateway"]));
    let inspect = env.cldpd(["inspect", &id]).run().ok();
    assert!(!inspect.contains("t0ps3cret") && !container.to_string().contains("t0ps3cret"));

    let plain = env.docker_pod("exceptions").plain();
    let plain = plain.json(json!({"network": null})).make();
    let said = env.said(&start(&plain));
    let exceptions = variable(&said, "NO_PROXY").expect("it is set");
    assert_eq!(exceptions, "a,xhost.docker.internalx,host.docker.internal");

    // A build is told the same, and finds that host. A line of its own: caches are everybody's.
    let dockerfile = format!(
        "FROM scratch\nENV OF={}\nCOPY claude /bin/claude\nCOPY tmp /tmp\nENV PATH=/bin\n\
         ARG CLDPD_SCRIPT=\"[[read /etc/hosts]][[env HTTP_PROXY]]\"\nRUN [\"/bin/claude\"]\n\
         ENTRYPOINT [\"/bin/claude\"]\n",
        cldpd::model::Ulid::generate(),
    );
    let built = env.docker_pod("reaches").plain().dockerfile(&dockerfile);
    let built = built.json(json!({"network": null})).make();
    let id = start(&built);
    let events = env.cldpd(["logs", "--format", "jsonl", &id]).run().ok();
    let output = |line: &str| line.contains(r#""kind":"build_output""#);
    let built: String = events.lines().filter(|line| output(line)).collect();
    assert!(built.contains("\\thost.docker.internal"), "{built}");
    // Which of two spellings a builder takes is its own affair.
    assert!(built.contains("HTTP_PROXY=http://"), "{built}");

    // Nobody to talk to, nothing to be told.
    let closed = env.docker_pod("closed").plain().make();
    let id = start(&closed);
    assert!(!env.said(&id).contains("PROXY"));
    let container = engine::inspect_json(&format!("cldpd-{id}-r0"));
    assert_eq!(container["HostConfig"]["ExtraHosts"], json!(null));

    // A plain process is where its caller is.
    let local = env.local_pod("unproxied").plain().make();
    let said = env.said(&start(&local));
    assert_eq!(variable(&said, "HTTP_PROXY"), Some("http://localhost:3128"));
    let exceptions = variable(&said, "NO_PROXY");
    assert_eq!(exceptions, Some("a,xhost.docker.internalx"));
}

#[test]
fn a_secret_is_there_for_every_run_or_none_begins() {
    let env = TestEnv::new();
    let file = env.root().join("key");
    let secrets = json!({"secrets": [
        {"name": "TOKEN", "env": "TOKEN_HERE"},
        {"name": "key", "file": file, "as": "file"},
    ]});
    let pod = env.docker_pod("needs").plain().json(secrets.clone()).make();
    let prompt = "[[read /run/secrets/key]][[env TOKEN]]";
    let start = || env.cldpd(["start", "-d", &pod, "--prompt", prompt]);
    std::fs::write(&file, "short\n").expect("our own directory");
    let unset = start().run().code(77);
    for part in ["TOKEN_HERE is not set", "\"TOKEN\"", pod.as_str()] {
        assert!(unset.stderr.contains(part), "{part} in {}", unset.stderr);
    }
    std::fs::remove_file(&file).expect("our own directory");
    let unreadable = start().env("TOKEN_HERE", "t").run().code(77);
    let place = file.display().to_string();
    for part in [
        "secret's file",
        "does not exist",
        pod.as_str(),
        place.as_str(),
    ] {
        assert!(
            unreadable.stderr.contains(part),
            "{part} in {}",
            unreadable.stderr
        );
    }
    // Nothing was recorded, and nothing lies about.
    assert_eq!(env.cldpd(["sessions", "-a", "-q"]).run().ok(), "");
    assert!(env.session_dirs().is_empty());

    std::fs::write(&file, "short\n").expect("our own directory");
    let id = start().env("TOKEN_HERE", "t").run().ok().trim().to_owned();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.said(&id), "short\n\nTOKEN=t\n");
    // A further run has what is there now, from whoever asks for it.
    std::fs::write(&file, "new").expect("our own directory");
    let resume = || env.cldpd(["resume", &id, "--prompt", prompt]);
    let unset = resume().run().code(77);
    assert!(unset.stderr.contains("TOKEN_HERE"), "{}", unset.stderr);
    let said = resume().env("TOKEN_HERE", "u").run().ok();
    assert_eq!(said, "new\nTOKEN=u\n");

    // A plain process has no /run/secrets of its own.
    let local = env.local_pod("nowhere").plain().json(secrets).make();
    let start = env.cldpd(["start", "-d", &local, "--prompt", prompt]);
    let refused = start.env("TOKEN_HERE", "t").run().code(125);
    assert!(refused.stderr.contains("local"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("\"as\": \"env\""),
        "{}",
        refused.stderr
    );
}
