//! Podman, by the API that it shares with Docker: a service of each test's own.

use crate::support::{Podman, TestEnv};
use serde_json::Value;

/// A home whose engine is that Podman.
fn home(podman: &Podman) -> TestEnv {
    let env = TestEnv::new();
    env.config(&format!("[docker]\nhost = \"{}\"\n", podman.host()));
    env
}

fn inspect(podman: &Podman, container: &str) -> Value {
    let text = podman.run(&["container", "inspect", container]);
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.into_iter().next().unwrap()
}

fn count(podman: &Podman, args: &[&str]) -> usize {
    podman.run(args).lines().count()
}

#[test]
fn podman_runs_a_session_from_its_build_to_its_removal() {
    let podman = Podman::start();
    let env = home(&podman);
    let pod = env
        .pod("podman")
        .on_docker()
        .json(serde_json::json!({"labels": {"mine": "yes"}}))
        .make();
    let output = env
        .cldpd([
            "start",
            &pod,
            "--prompt",
            "[[print by podman]][[err aside]][[exit 7]]",
        ])
        .run()
        .code(7);
    assert!(output.text().contains("by podman"), "{}", output.text());
    let id = env.cldpd(["sessions", "-a", "-q"]).run().ok();
    let id = id.trim();
    assert!(env.said(id).contains("by podman"));
    assert_eq!(env.wait(id), 7);
    let name = format!("cldpd-{id}-r0");
    let container = inspect(&podman, &name);
    assert_eq!(container["State"]["ExitCode"], 7);
    let config = &container["Config"];
    assert_eq!(config["Labels"]["mine"], "yes");
    assert_eq!(config["Labels"]["cldpd.name"], name.as_str());
    assert!(config["Healthcheck"].is_null(), "{config:#}");
    let host = &container["HostConfig"];
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert_eq!(host["NetworkMode"], "none");
    // What is not changed is not built again.
    let again = env.start(&[&pod, "--prompt", "[[print again]]"]);
    assert_eq!(env.wait(&again), 0);
    let events = env.events(&again);
    let built = events
        .iter()
        .find(|e| e["kind"] == "build_complete")
        .unwrap();
    assert_eq!(built["cached"], true, "{built:#}");

    env.cldpd(["rm", id, &again]).run().ok();
    assert_eq!(count(&podman, &["ps", "--all", "--quiet"]), 0);
    assert!(env.session_dirs().is_empty());
    assert!(env.said(id).contains("by podman"));
}

#[test]
fn podman_resumes_where_a_session_ended() {
    let podman = Podman::start();
    let env = home(&podman);
    let dockerfile = "FROM scratch\nCOPY claude /bin/claude\nCOPY tmp /tmp\nENV PATH=/bin\n\
                      WORKDIR /tmp\nVOLUME /data\nENTRYPOINT [\"/bin/claude\"]\n";
    let pod = env.pod("podman").on_docker().dockerfile(dockerfile).make();
    let task = "[[write /tmp/notes kept]][[write /data/notes also]]";
    let id = env.start(&[&pod, "--prompt", task]);
    assert_eq!(env.wait(&id), 0);
    let task = "[[read /tmp/notes]][[read /data/notes]]";
    let output = env.cldpd(["resume", &id, "--prompt", task]).run().ok();
    assert!(output.contains("kept"), "{output}");
    assert!(output.contains("also"), "{output}");
    let volumes = ["volume", "ls", "--quiet"];
    assert_eq!(count(&podman, &volumes), 1);
    let by_session = ["images", "--quiet", "--filter"];
    let ulid = env.inspect(&id)["ulid"].as_str().unwrap().to_owned();
    let filter = format!("label=cldpd.session={ulid}");
    let snapshots = [&by_session[..], &[filter.as_str()]].concat();
    assert_eq!(count(&podman, &snapshots), 1);
    // Only the last container is kept, and with the session its snapshots go.
    assert_eq!(count(&podman, &["ps", "--all", "--quiet"]), 1);
    env.cldpd(["rm", &id]).run().ok();
    assert_eq!(count(&podman, &["ps", "--all", "--quiet"]), 0);
    assert_eq!(count(&podman, &snapshots), 0);
    assert_eq!(count(&podman, &volumes), 0);
}

#[test]
fn podman_sessions_outlive_the_daemon_and_are_stopped() {
    let podman = Podman::start();
    let env = home(&podman);
    let pod = env.pod("podman").on_docker().make();
    let gate = env.gate("gate");
    let task = format!("[[print before]]{}[[print after]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &task]);
    env.await_line(&id, "before");
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(env.daemon()["adopted"], 1);
    env.cldpd(["stop", "-t", "5", &id]).run().ok();
    assert_eq!(env.wait(&id), 143);
    let ended = inspect(&podman, &format!("cldpd-{id}-r0"));
    assert_eq!(ended["State"]["Running"], false);
    assert!(!env.said(&id).contains("after"));
}

#[test]
fn gc_on_podman_takes_what_nobody_needs_and_nothing_else() {
    let podman = Podman::start();
    let env = home(&podman);
    let kept_pod = env.pod("kept").on_docker().make();
    let kept = env.start(&[&kept_pod, "--prompt", "[[print kept]]"]);
    assert_eq!(env.wait(&kept), 0);
    env.stop_daemon();
    // The other session is one that the journal does not know: an older one was put back.
    let (journal, before) = (env.home().join("journal"), env.root().join("before"));
    let copied = |from: &std::path::Path, to: &std::path::Path| {
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").args([from, to]).status().unwrap().success());
    };
    copied(&journal, &before);
    let lost_pod = env.pod("lost").on_docker().make();
    let lost = env.start(&[&lost_pod, "--prompt", "[[print lost]]"]);
    assert_eq!(env.wait(&lost), 0);
    env.stop_daemon();
    std::fs::remove_dir_all(&journal).unwrap();
    copied(&before, &journal);
    std::fs::remove_dir_all(env.home().join("pods/lost")).unwrap();
    env.start_daemon();
    let shown = env.cldpd(["gc"]).run().ok();
    assert!(shown.contains(&format!("cldpd-{lost}-r0")), "{shown}");
    assert!(shown.contains("its pod is gone"), "{shown}");
    assert!(!shown.contains(&kept), "{shown}");
    let done = env.cldpd(["gc", "--force"]).run().code(0);
    assert_eq!(done.text(), shown, "just what was said");
    assert_eq!(env.cldpd(["gc"]).run().ok(), "");
    assert_eq!(count(&podman, &["ps", "--all", "--quiet"]), 1);
    let names = podman.run(&["images", "--format", "{{.Repository}}"]);
    assert!(names.contains("cldpd-kept"), "{names}");
    assert!(!names.contains("cldpd-lost"), "{names}");
    let again = ["resume", &kept, "--prompt", "[[print again]]"];
    assert!(env.cldpd(again).run().ok().contains("again"));
    env.cldpd(["rm", &kept]).run().ok();
}
