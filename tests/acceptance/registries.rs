//! 5.3: images that come from a registry, here one on loopback.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::{lines, of_kind, only, outcome};
use crate::support::registry::Registry;
use serde_json::{Value, json};

const OLD: &str = "2020-01-01T00:00:00Z";
const NEWER: &str = "2021-01-01T00:00:00Z";

/// A pod whose image is in a registry; the image goes with the home.
fn pod(env: &TestEnv, name: &str, image: &str) -> String {
    env.owns_image(image);
    env.docker_pod(name)
        .plain()
        .no_dockerfile()
        .json(json!({"image": image}))
        .make()
}

fn output(events: &[Value]) -> Vec<&str> {
    let lines = of_kind(events, "build_output");
    lines.iter().filter_map(|e| e["line"].as_str()).collect()
}

fn image(events: &[Value]) -> (&str, bool) {
    let complete = only(events, "build_complete");
    let image = complete["image"].as_str().expect("an image");
    (image, complete["cached"].as_bool().expect("cached or not"))
}

#[test]
fn a025_an_absent_image_is_pulled_with_progress() {
    let env = TestEnv::new();
    let registry = Registry::new();
    let reference = registry.push_agent(&format!("agent-{}", env.tag()), OLD);
    let pod = pod(&env, "pulled", &reference);
    let first = env
        .cldpd(["start", &pod, "--prompt", "[[print ran]]"])
        .run()
        .code(0);
    assert!(first.text().contains("ran"));
    for words in ["Pull complete", "image pulled in"] {
        assert!(first.stderr.contains(words), "{}", first.stderr);
    }
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    let events = env.events(rows[0]["id"].as_str().expect("an id"));
    let said = output(&events);
    assert!(said.len() < 10, "a line for each layer's state: {said:?}");
    let (old, cached) = image(&events);
    assert!(!cached);

    // What is there is used, and said to be old.
    let asked = registry.requests();
    assert!(!asked.is_empty());
    let second = env
        .cldpd(["start", &pod, "--prompt", "[[print ran]]"])
        .run()
        .code(0);
    assert_eq!(registry.requests(), asked);
    assert!(
        second.stderr.contains("--pull gets a newer one"),
        "{}",
        second.stderr
    );

    // Asked for, a newer one comes; what there is is the newest then.
    registry.push_agent(&format!("agent-{}", env.tag()), NEWER);
    let pulled = |expected: bool| {
        let id = env.start(&["--pull", &pod, "--prompt", "[[print ran]]"]);
        assert_eq!(env.wait(&id), 0);
        let events = env.events(&id);
        let (image, cached) = image(&events);
        assert_eq!(cached, expected);
        image.to_owned()
    };
    let new = pulled(false);
    assert_ne!(new, old);
    assert_eq!(pulled(true), new);
    engine::remove_image(old);
}

#[test]
fn a025_two_starts_at_once_pull_or_build_once() {
    let env = TestEnv::new();
    let registry = Registry::new();
    let reference = registry.push_agent(&format!("once-{}", env.tag()), OLD);
    let from_registry = pod(&env, "once", &reference);
    registry.hold();
    let ids = [(); 2].map(|()| env.start(&[&from_registry, "--prompt", "[[print ran]]"]));
    for id in &ids {
        env.await_event(id, "build_started");
    }
    registry.release();
    for id in &ids {
        assert_eq!(env.wait(id), 0);
        let events = env.events(id);
        assert_eq!(lines(&events, "stdout"), ["ran"]);
        assert!(
            output(&events)
                .iter()
                .any(|line| line.contains("Pull complete"))
        );
    }
    let blobs = registry.requests();
    let blobs = blobs.iter().filter(|path| path.contains("/blobs/"));
    assert_eq!(
        blobs.count(),
        2,
        "the configuration and the only layer, once"
    );

    let built = env.docker_pod("built").plain().make();
    let ids = env.start_many(&[&built, "--count", "2", "--prompt", "[[print ran]]"]);
    let images: Vec<String> = ids
        .iter()
        .map(|id| {
            assert_eq!(env.wait(id), 0);
            let events = env.events(id);
            assert_eq!(lines(&events, "stdout"), ["ran"]);
            image(&events).0.to_owned()
        })
        .collect();
    assert_eq!(images[0], images[1]);
    let label = format!("cldpd.pod={built}");
    assert_eq!(engine::images_with_label(&label).len(), 1);
}

#[test]
fn a025_what_cannot_be_pulled_says_why_and_what_to_do() {
    let env = TestEnv::new();
    let (open, closed) = (Registry::new(), Registry::with_login("me", "opensesame"));
    let missing = format!("{}/nothing:latest", open.host());
    let locked = closed.push_agent(&format!("locked-{}", env.tag()), OLD);
    let nobody = "127.0.0.1:1/agent:latest".to_owned();
    for (name, reference, words) in [
        ("missing", missing, ["has no such image", "pod.json"]),
        ("locked", locked, ["wants credentials", "docker login"]),
        ("nobody", nobody, ["cannot be reached", "docker pull"]),
    ] {
        let pod = pod(&env, name, &reference);
        let failed = env.cldpd(["start", &pod, "--prompt", "x"]).run().code(125);
        for word in words.iter().chain([&reference.as_str()]) {
            assert!(failed.stderr.contains(word), "{word}: {}", failed.stderr);
        }
        let row = env.cldpd(["sessions", "-a", "--pod", &pod, "--json"]).run();
        assert_eq!(outcome(&row.json()[0]), "failed");
    }
}

#[test]
fn a025_what_docker_login_left_opens_a_registry_to_pulls_and_builds() {
    for builder in ["1", "0"] {
        let env = TestEnv::new();
        let registry = Registry::with_login("me", "opensesame>?~");
        let reference = registry.push_agent(&format!("private-{}", env.tag()), OLD);
        env.owns_image(&reference);
        // Credentials come from a helper, as most have it.
        let helper = env.bin().join("docker-credential-cldpdtest");
        let script = "#!/bin/sh\nread server\n\
            echo '{\"Username\": \"me\", \"Secret\": \"opensesame>?~\"}'\n";
        std::fs::write(&helper, script).expect("the home is ours");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&helper, mode).expect("the home is ours");
        let docker = env.user_home().join(".docker");
        std::fs::create_dir_all(&docker).expect("the home is ours");
        let config = json!({"credHelpers": {registry.host(): "cldpdtest"}});
        std::fs::write(docker.join("config.json"), config.to_string()).expect("the home is ours");
        let path = format!("/usr/bin:/bin:{}", env.bin().display());
        let start = env.cldpd(["daemon", "start"]).env("PATH", path);
        start.env("DOCKER_BUILDKIT", builder).run().ok();

        let built = env
            .docker_pod("from")
            .plain()
            .dockerfile(&format!("FROM {reference}\nLABEL of={}\n", env.tag()))
            .make();
        let pulled = pod(&env, "pulled", &reference);
        for pod in [built, pulled] {
            let id = env.start(&[&pod, "--pull", "--prompt", "[[print ran]]"]);
            let code = env.wait(&id);
            let events = env.events(&id);
            assert_eq!(code, 0, "DOCKER_BUILDKIT={builder}: {events:#?}");
            assert_eq!(lines(&events, "stdout"), ["ran"]);
            let whole = Value::from(events).to_string();
            assert!(!whole.contains("opensesame"), "{whole}");
        }
        let log = std::fs::read_to_string(env.home().join("log/daemon.log"));
        assert!(!log.expect("it is there").contains("opensesame"));
    }
}

#[test]
fn a026_only_the_newest_image_and_what_is_used_remain() {
    for builder in ["1", "0"] {
        let env = TestEnv::new();
        env.cldpd(["daemon", "start"])
            .env("DOCKER_BUILDKIT", builder)
            .run()
            .ok();
        // Somebody else's, that lost its name as ours do.
        let foreign = format!("foreign-{}", env.tag());
        let mut others = Vec::new();
        for architecture in ["amd64", "arm64"] {
            engine::load_image_for(&foreign, architecture);
            let id = engine::image_json(&foreign)["Id"]
                .as_str()
                .map(str::to_owned);
            let id = id.expect("an image has an id");
            env.owns_image(&id);
            others.push(id);
        }
        let pod = env.docker_pod("rebuilt").plain().make();
        let label = format!("cldpd.pod={pod}");
        let dir = env.home().join("pods").join(&pod);
        let round = |number: usize, flags: &[&str]| {
            std::fs::write(dir.join("tmp/round"), number.to_string()).expect("the home is ours");
            let id = env.start(&[&[pod.as_str(), "--prompt", "[[print ran]]"], flags].concat());
            assert_eq!(env.wait(&id), 0);
            let events = env.events(&id);
            let (image, cached) = image(&events);
            assert!(!cached);
            (id, image.to_owned())
        };
        let (kept, used) = round(0, &[]);
        let mut newest = String::new();
        for number in 1..4 {
            newest = round(number, &["--rm"]).1;
        }
        let mut left = engine::images_with_label(&label);
        left.sort();
        let mut expected = vec![used.clone(), newest.clone()];
        expected.sort();
        assert_eq!(left, expected, "DOCKER_BUILDKIT={builder}");

        // With the session goes the image that only it kept.
        env.cldpd(["rm", &kept]).run().ok();
        assert_eq!(engine::images_with_label(&label), [newest]);
        for id in others {
            assert!(engine::image_exists(&id), "not ours: {id}");
        }
    }
}
