//! `cldpd doctor`: what it finds, with engines and without.

use crate::support::{Podman, TestEnv, engine};
use serde_json::{Value, json};

/// The check of that name.
#[track_caller]
fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let all = checks.as_array().expect("a list of checks");
    let found = all.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {checks:#}"))
}

#[track_caller]
fn hint(check: &Value) -> &str {
    check["hint"].as_str().expect("a way out")
}

#[test]
fn doctor_tries_the_engine_and_leaves_nothing() {
    let env = TestEnv::new();
    let output = env
        .cldpd(["doctor", "--json"])
        .env("ANTHROPIC_API_KEY", "sk-not-to-be-told")
        .run();
    assert!(!format!("{output:?}").contains("sk-not-to-be-told"));
    let checks = output.json();
    for name in [
        "home",
        "socket",
        "daemon",
        "journal",
        "disk",
        "docker clock",
        "local",
        "credentials of claude",
        "credentials of codex",
    ] {
        assert_ne!(check(&checks, name)["state"], "failed", "{checks:#}");
    }
    let docker = check(&checks, "docker");
    let message = docker["message"].as_str().expect("text");
    for part in [
        "Docker ",
        "(API 1.",
        "at unix://",
        "BuildKit",
        "storage",
        "GiB of memory",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let files = check(&checks, "docker files");
    assert_eq!(files["state"], "ok", "{files:#}");
    let probes = engine::containers_with_label("cldpd.probe=1");
    let ours = format!("{}/", env.home().display());
    let left = probes.iter().filter(|container| {
        let mounts = container.mounts.iter().flatten();
        mounts
            .filter_map(|mount| mount.source.as_deref())
            .any(|source| source.starts_with(&ours))
    });
    assert_eq!(left.count(), 0);
    assert!(env.session_dirs().is_empty());
}

#[test]
fn doctor_works_with_a_dead_engine() {
    let env = TestEnv::new();
    let output = env
        .cldpd(["doctor", "--json"])
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .run()
        .code(1);
    let checks: Value = serde_json::from_str(&output.text()).expect("JSON");
    let docker = check(&checks, "docker");
    assert_eq!(docker["state"], "failed");
    assert_eq!(hint(docker), "is the docker daemon running?");
    assert_eq!(check(&checks, "journal")["state"], "ok");
    let claude = check(&checks, "credentials of claude");
    assert_eq!(claude["state"], "warning");
    assert!(hint(claude).contains("inheritEnv"), "{claude:#}");
}

#[test]
fn doctor_works_without_a_daemon() {
    let env = TestEnv::new();
    env.config("nonsense = 1\n");
    let output = env.cldpd(["doctor"]).run().code(1);
    let text = output.text();
    assert!(text.contains("failed   daemon: "), "{text}");
    assert!(text.contains("unknown key \"nonsense\""), "{text}");
    assert!(text.contains("home: "), "{text}");
    assert!(text.contains("credentials of claude: "), "{text}");
}

/// A real engine that does not see this machine's `/tmp/…` home, and what helps.
#[test]
fn podman_that_does_not_see_the_home_is_found_out_and_helped() {
    let env = TestEnv::new();
    let podman = Podman::blind_to(env.root());
    let pod = env
        .pod("blind")
        .on_docker()
        .json(json!({"mounts": []}))
        .make();
    let host = format!("[docker]\nhost = \"{}\"\n", podman.host());
    env.config(&host);
    let output = env.cldpd(["doctor", "--json"]).run().code(1);
    let checks: Value = serde_json::from_str(&output.text()).expect("JSON");
    let files = check(&checks, "docker files");
    assert_eq!(files["state"], "failed", "{files:#}");
    assert!(hint(files).contains("session_dir"), "{files:#}");
    let failed = env
        .cldpd(["start", &pod, "--prompt", "[[print seen]]"])
        .run();
    assert_eq!(failed.code, 125, "{}", failed.stderr);
    assert!(failed.stderr.contains("session_dir"), "{}", failed.stderr);
    env.cldpd(["rm", "--all", "--yes"]).run().ok();
    env.stop_daemon();

    let shared = podman.shared();
    env.config(&format!("{host}session_dir = \"{}\"\n", shared.display()));
    let checks = env.cldpd(["doctor", "--json"]).run().json();
    assert_eq!(check(&checks, "docker files")["state"], "ok");
    let output = env
        .cldpd(["start", &pod, "--prompt", "[[print seen]]"])
        .run();
    assert!(output.ok().contains("seen"));
    env.cldpd(["rm", "--all", "--yes"]).run().ok();
    env.cldpd(["daemon", "stop"]).run().ok();
}
