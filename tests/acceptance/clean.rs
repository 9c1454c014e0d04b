//! 5.13: what is kept, what goes, and what goes on afterwards.

use crate::support::events::{lines, of_kind, of_run, outcome};
use crate::support::pods::PodBuilder;
use crate::support::{TestEnv, engine};
use cldpd::model::Timestamp;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

#[test]
fn a113_what_was_stopped_goes_on_where_it_was() {
    let env = TestEnv::new();
    let pod = env.docker_pod("again").make();
    let first = "[[remember the plan]][[write /tmp/branch half done]][[print ready]]\
                 [[append /tmp/count x]][[sleep 600000]]";
    let id = env.start(&[&pod, "--prompt", first]);
    env.await_line(&id, "ready");
    env.cldpd(["stop", &id]).run().ok();
    assert_eq!(outcome(&env.session(&id)), "stopped");
    // Also when nobody remembers but the journal.
    env.kill_daemon();

    let prompt = "[[recall]][[read /tmp/branch]][[read /tmp/count]]";
    let again = env.cldpd(["resume", &id, "--prompt", prompt]).run().ok();
    assert!(
        again.contains("the plan") && again.contains("half done"),
        "{again}"
    );
    assert!(!again.contains("ready") && !again.contains("xx"), "{again}");
    let events = env.events(&id);
    assert_eq!(of_kind(&events, "run_started").len(), 2);
    let conversation = |run: u64| {
        let said = lines(&of_run(&events, run), "stdout").join("\n");
        let at = said.find("\"session_id\":\"").expect("an init line") + 14;
        said[at..at + 36].to_owned()
    };
    assert_eq!(conversation(0), conversation(1));
    assert_eq!(env.session(&id)["container"], format!("cldpd-{id}-r1"));
}

#[test]
fn a115_a_removal_that_failed_half_way_is_finished_later() {
    let env = TestEnv::new();
    let pod = env.docker_pod("half").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print first]]"]);
    assert_eq!(env.wait(&id), 0);
    env.cldpd(["resume", &id, "--prompt", "[[print second]]"])
        .run()
        .ok();
    let ulid = env.session(&id)["ulid"]
        .as_str()
        .expect("a ULID")
        .to_owned();
    let snapshots = || engine::images_with_label(&format!("cldpd.session={ulid}"));
    let taken = snapshots();
    assert_eq!(taken.len(), 1);
    // Somebody made a container of its snapshot: that cannot go.
    let foreign = format!("foreign-{}", env.tag());
    env.owns_container(&foreign);
    engine::create_foreign(&foreign, &taken[0]);

    let failed = env.cldpd(["rm", &id]).run().code(1);
    assert!(
        failed.stderr.contains("it is tried again later"),
        "{}",
        failed.stderr
    );
    let pending = || {
        assert_eq!(env.session(&id)["state"], "removing");
        let table = env.cldpd(["sessions", "-a"]).run().ok();
        assert!(table.contains("removing"), "{table}");
        assert_eq!(snapshots(), taken);
        assert!(env.session_dirs().contains(&ulid), "its files are kept");
        assert_eq!(env.said(&id), "first\nsecond\n");
        let shown = env.cldpd(["gc"]).run().ok();
        assert!(
            shown.contains(&id) && shown.contains("not finished"),
            "{shown}"
        );
    };
    pending();
    let refused = env.cldpd(["resume", &id, "--prompt", "x"]).run();
    assert_ne!(refused.code, 0);
    env.cldpd(["rm", &id]).run().code(1);
    env.kill_daemon();
    env.start_daemon();
    pending();

    engine::remove_container(&foreign);
    env.cldpd(["rm", &id]).run().ok();
    assert_eq!(env.session(&id)["state"], "removed");
    assert_eq!(snapshots(), Vec::<String>::new());
    assert!(!env.session_dirs().contains(&ulid));
    assert_eq!(env.said(&id), "first\nsecond\n");
    let nothing = env.cldpd(["gc"]).run().code(0);
    assert_eq!(nothing.text(), "");
}

#[test]
fn a115_the_next_daemon_finishes_a_removal() {
    let env = TestEnv::new();
    let pod = env.fake_pod("pod").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print said]]"]);
    assert_eq!(env.wait(&id), 0);
    let script = env.home().join("pods/fake.json");
    let failing =
        json!({"calls": {"remove_session": {"error": "device or resource busy", "times": 1}}});
    std::fs::write(&script, failing.to_string()).expect("the home is ours");
    let failed = env.cldpd(["rm", &id]).run().code(1);
    assert!(
        failed.stderr.contains("device or resource busy"),
        "{}",
        failed.stderr
    );
    assert_eq!(env.session(&id)["state"], "removing");
    std::fs::write(&script, "{}").expect("the home is ours");
    env.kill_daemon();
    let follow = env
        .cldpd(["events", "-f", "--since", "1h", "--format", "jsonl"])
        .spawn();
    follow.line("\"complete\":true");
    drop(follow);
    assert_eq!(env.session(&id)["state"], "removed");
    assert_eq!(env.said(&id), "said\n");
}

#[test]
fn a117_what_is_kept_for_a_while_goes_then_whatever_daemon_there_is() {
    let env = TestEnv::new();
    let keep = |pod: PodBuilder<'_>, time: &str| pod.plain().json(json!({"keep": time})).make();
    let pod = keep(env.docker_pod("kept"), "6s");
    let id = env.start(&[&pod, "--prompt", "[[print said]]"]);
    assert_eq!(env.wait(&id), 0);
    let longer = keep(env.local_pod("longer"), "1h");
    let stays = env.start(&[&longer, "--prompt", "[[print stays]]"]);
    assert_eq!(env.wait(&stays), 0);
    env.kill_daemon();
    // Under the second daemon, as under the first, another one is told of in time.
    let follow = env
        .cldpd(["events", "-f", "--since", "1h", "--format", "jsonl"])
        .spawn();
    let second = env.start(&[&pod, "--prompt", "[[print said]]"]);
    for id in [&id, &second] {
        let gone = format!("\"session\":\"{id}\"");
        loop {
            let line = follow.line(&gone);
            if line.contains("\"complete\":true") {
                break;
            }
        }
    }
    drop(follow);
    for id in [&id, &second] {
        assert!(!engine::container_exists(&format!("cldpd-{id}-r0")));
        assert_eq!(env.session(id)["state"], "removed");
        assert_eq!(env.said(id), "said\n");
        let events = env.events(id);
        let time = |value: &Value| {
            let text = value.as_str().expect("a time");
            Timestamp::parse(text).expect("a time")
        };
        let removed = time(&of_kind(&events, "removed")[0]["time"]);
        let kept = removed.since(time(&env.session(id)["ended"]));
        assert!(kept >= Duration::from_secs(6), "{kept:?}");
    }
    assert_eq!(env.session(&stays)["state"], "ended");
}

/// Copies a directory as it is.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp is everywhere").success());
}

/// A home's engine, as far as this test goes.
fn there(names: &[&str], images: &[&str]) -> Vec<bool> {
    let containers = names.iter().map(|name| engine::container_exists(name));
    let images = images.iter().map(|image| engine::image_exists(image));
    containers.chain(images).collect()
}

#[test]
fn a116_gc_says_what_it_would_do_and_takes_nothing_that_is_needed() {
    let env = TestEnv::new();
    // Stopped, with a snapshot and a volume of its own: all of it is to be resumed from.
    let volume = "FROM scratch\nCOPY claude /bin/claude\nCOPY tmp /tmp\nENV PATH=/bin\n\
                  VOLUME /data\nWORKDIR /tmp\nENTRYPOINT [\"/bin/claude\"]\n";
    let kept_pod = env.docker_pod("kept").plain().dockerfile(volume).make();
    let kept = env.start(&[&kept_pod, "--prompt", "[[write /data/f one]]"]);
    assert_eq!(env.wait(&kept), 0);
    let second = "[[write /tmp/g two]][[print ready]][[sleep 600000]]";
    let resumed = env.cldpd(["resume", "-d", &kept, "--prompt", second]).run();
    resumed.code(0);
    env.await_line(&kept, "ready");
    env.cldpd(["stop", &kept]).run().ok();
    // Its pod is gone, and nobody uses its image any more.
    let gone_pod = env.docker_pod("gone").plain().make();
    let gone = env.start(&[&gone_pod, "--prompt", "x"]);
    assert_eq!(env.wait(&gone), 0);
    env.cldpd(["rm", &gone]).run().ok();
    env.cldpd(["pod", "rm", "--yes", &gone_pod]).run().ok();
    // A session that the journal does not know, since an older one was put back.
    let lost_pod = env.docker_pod("lost").plain().dockerfile(volume).make();
    env.stop_daemon();
    let (journal, before) = (env.home().join("journal"), env.root().join("before"));
    copy(&journal, &before);
    let lost = env.start(&[&lost_pod, "--prompt", "[[write /data/f x]]"]);
    assert_eq!(env.wait(&lost), 0);
    let ulid = env.session(&lost)["ulid"]
        .as_str()
        .expect("a ULID")
        .to_owned();
    env.stop_daemon();
    std::fs::remove_dir_all(&journal).expect("ours");
    copy(&before, &journal);
    let dir = env.home().join("sessions").join(&ulid);
    let old = std::fs::File::open(&dir).expect("its directory");
    old.set_modified(SystemTime::now() - Duration::from_secs(3600))
        .expect("ours");
    // Of other homes, and of nobody.
    let other = TestEnv::new();
    let other_pod = other.docker_pod("other").plain().make();
    let others = other.start(&[&other_pod, "--prompt", "x"]);
    assert_eq!(other.wait(&others), 0);
    let (image, container) = (
        format!("cldpd-foreign-{}", env.tag()),
        format!("cldpd-{}-r0", env.tag()),
    );
    env.owns_image(&image);
    env.owns_container(&container);
    engine::load_image_for(&image, &engine::architecture());
    engine::create_foreign(&container, &image);

    let names = [
        &format!("cldpd-{kept}-r1"),
        &format!("cldpd-{others}-r0"),
        &container,
        &format!("cldpd-{lost}-r0"),
    ];
    let names = names.map(String::as_str);
    let images = [
        &format!("cldpd-{kept_pod}"),
        &format!("cldpd-{lost_pod}"),
        &format!("cldpd-{other_pod}"),
        &image,
        &format!("cldpd-{gone_pod}"),
    ];
    let images = images.map(String::as_str);
    env.start_daemon();
    let would = env.cldpd(["gc", "--json"]).run().json();
    let items = would["items"].as_array().expect("items");
    let found: Vec<(&str, &str)> = items
        .iter()
        .map(|item| {
            (
                item["kind"].as_str().expect("a kind"),
                item["name"].as_str().expect("a name"),
            )
        })
        .collect();
    let gone_image = format!("cldpd-{gone_pod}:latest");
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.contains(&("container", names[3])), "{found:?}");
    assert!(
        found.contains(&("directory", dir.to_str().expect("text"))),
        "{found:?}"
    );
    assert!(found.contains(&("image", &gone_image)), "{found:?}");
    let volumes: Vec<_> = found.iter().filter(|(kind, _)| *kind == "volume").collect();
    assert!(
        volumes.len() == 1 && volumes[0].1.contains(&lost),
        "{found:?}"
    );

    let shown = env.cldpd(["gc"]).run().ok();
    assert_eq!(there(&names, &images), [true; 9]);
    assert!(dir.exists());
    let done = env.cldpd(["gc", "--force"]).run().code(0);
    assert_eq!(done.text(), shown, "just what was said");
    assert!(done.stderr.contains("4 things removed"), "{}", done.stderr);
    let stays = [true, true, true, false, true, true, true, true, false];
    assert_eq!(there(&names, &images), stays);
    assert!(!dir.exists());
    let again = env.cldpd(["gc", "--force"]).run().code(0);
    assert_eq!(again.text(), "");
    assert_eq!(there(&names, &images), stays);

    // All that is needed to go on is there.
    let read = "[[read /data/f]][[read /tmp/g]]";
    let on = env.cldpd(["resume", &kept, "--prompt", read]).run().ok();
    assert!(on.contains("one") && on.contains("two"), "{on}");
    let of_other: Value = other.session(&others);
    assert_eq!(of_other["state"], "ended");
}
