//! 5.4: containers, as the engine has them.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::only;
use crate::support::fnv1a64;
use serde_json::{Value, json};

/// The container of a session's run, by the engine's word.
fn container(id: &str, run: u32) -> Value {
    engine::inspect_json(&format!("cldpd-{id}-r{run}"))
}

fn count(list: &Value, wanted: &str) -> usize {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter(|item| **item == wanted).count()
}

#[test]
fn a029_the_create_request_has_everything_once() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let data = env.root().join("data");
    std::fs::create_dir(&data).expect("our own directory");
    std::fs::write(data.join("file"), "mounted\n").expect("our own directory");
    let shared = env.shared();
    let pod = env
        .docker_pod("create")
        .plain()
        .json(json!({
            "groupAdd": ["4242"],
            "workdir": "/tmp/work dir",
            "labels": {"team": "red"},
            "network": null,
            "extraHosts": ["host.docker.internal:host-gateway"],
            "env": {"PLAIN": "value"},
            "mounts": [
                {"source": shared, "target": shared},
                {"source": data, "target": "/data", "readOnly": true},
            ],
        }))
        .make();
    let prompt = format!("[[cwd]][[read /data/file]][[print ready]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let inspect = container(&id, 0);
    let (config, host) = (&inspect["Config"], &inspect["HostConfig"]);
    assert_eq!(count(&host["GroupAdd"], "4242"), 1);
    assert_eq!(config["WorkingDir"], "/tmp/work dir");
    assert_eq!(config["Labels"]["team"], "red");
    assert_eq!(
        count(&host["ExtraHosts"], "host.docker.internal:host-gateway"),
        1
    );

    let mounts = host["Mounts"].as_array().expect("mounts");
    let to = |target: &str| {
        let found: Vec<&Value> = mounts.iter().filter(|m| m["Target"] == target).collect();
        assert_eq!(found.len(), 1, "{target} once in {mounts:?}");
        found[0]
    };
    assert_eq!(to("/data")["ReadOnly"], true);
    assert_eq!(to("/data")["Source"], data.display().to_string());
    let shared = to(&shared.display().to_string());
    assert!(!shared["ReadOnly"].as_bool().unwrap_or(false));
    assert_eq!(to("/.cldpd/bin")["ReadOnly"], true);
    to("/.cldpd/run");
    assert_eq!(mounts.len(), 4);
    assert!(
        host["Binds"].is_null(),
        "a missing source must fail, not be made"
    );

    // What travels over the shim's socket is not in the container's configuration.
    let text = inspect.to_string();
    assert!(!text.contains("PLAIN") && !text.contains("ready"), "{text}");
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert_eq!(host["AutoRemove"], false);
    assert_eq!(
        host["RestartPolicy"]["Name"]
            .as_str()
            .unwrap_or("no")
            .trim_start_matches("no"),
        ""
    );
    assert_eq!(config["StopSignal"], "SIGTERM");
    gate.open();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.said(&id), "cwd: /tmp/work dir\nmounted\n\nready\n");
}

#[test]
fn a030_labels_say_whose_it_is() {
    let env = TestEnv::new();
    let pod = env
        .docker_pod("labels")
        .plain()
        .json(json!({"labels": {"mine": "kept"}}))
        .make();
    // The user's own stand beside ours, never over them.
    let forged = env
        .pod("forged")
        .json(json!({"labels": {"cldpd.session": "forged"}}))
        .make();
    let output = env
        .cldpd(["start", &forged, "--prompt", "x"])
        .run()
        .code(125);
    assert!(output.stderr.contains("cldpd.session"), "{}", output.stderr);

    let id = env.start(&[&pod, "--prompt", "[[print x]]"]);
    assert_eq!(env.wait(&id), 0);
    let ulid = env.session(&id)["ulid"]
        .as_str()
        .expect("a ULID")
        .to_owned();
    let labels = container(&id, 0)["Config"]["Labels"].clone();
    assert_eq!(labels["cldpd.session"], ulid.as_str());
    assert_eq!(labels["cldpd.pod"], pod.as_str());
    assert_eq!(labels["cldpd.run"], "0");
    assert_eq!(labels["cldpd.attempt"], "1");
    assert_eq!(labels["mine"], "kept");
    let home = labels["cldpd.home"].as_str().expect("a home");
    assert_eq!(home.len(), 26, "a ULID: {home}");

    // The snapshot that a resume makes is labelled too, and afresh.
    env.cldpd(["resume", "-d", &id, "--prompt", "[[print y]]"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    let labels = container(&id, 1)["Config"]["Labels"].clone();
    assert_eq!(labels["cldpd.run"], "1");
    assert_eq!(labels["cldpd.home"], home);
    assert_eq!(labels["mine"], "kept");
    let snapshots = engine::images_with_label(&format!("cldpd.session={ulid}"));
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    let snapshot = engine::image_json(&snapshots[0]);
    assert_eq!(snapshot["Config"]["Labels"]["cldpd.home"], home);

    env.cldpd(["rm", &id]).run().ok();
    assert_eq!(
        engine::containers_with_label(&format!("cldpd.session={ulid}")),
        []
    );
    assert_eq!(
        engine::images_with_label(&format!("cldpd.session={ulid}")),
        [""; 0]
    );
    assert!(
        engine::image_exists(&format!("cldpd-{pod}")),
        "the pod's image stays"
    );
}

#[test]
fn a031_one_pod_runs_many_times_at_once() {
    let env = TestEnv::new();
    let gate: Vec<_> = (0..4).map(|n| env.gate(&format!("g{n}"))).collect();
    let pod = env.docker_pod("many").plain().make();
    let prompt = |n: usize| format!("[[print here {n}]]{}[[exit {n}]]", gate[n].hold());
    let starts: Vec<_> = (0..4)
        .map(|n| {
            env.cldpd(["start", "-d", &pod, "--prompt", &prompt(n)])
                .spawn()
        })
        .collect();
    let ids: Vec<String> = starts
        .into_iter()
        .map(|start| start.finish().ok().trim().to_owned())
        .collect();
    for (n, id) in ids.iter().enumerate() {
        env.await_line(id, &format!("here {n}"));
    }
    let live = env
        .cldpd(["sessions", "--state", "running", "--json"])
        .run()
        .json();
    assert_eq!(live.as_array().map(Vec::len), Some(4));
    let mut names: Vec<String> = ids
        .iter()
        .map(|id| {
            container(id, 0)["Name"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
    for gate in &gate {
        gate.open();
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(env.wait(id), i32::try_from(n).expect("small"));
        assert_eq!(env.said(id), format!("here {n}\n"));
    }
    // And as one command.
    let ids = env.start_many(&[&pod, "--count", "3", "--prompt", "[[print counted]]"]);
    assert_eq!(ids.len(), 3);
    for id in &ids {
        assert_eq!(env.wait(id), 0);
        assert_eq!(env.said(id), "counted\n");
    }
}

#[test]
fn a032_a_taken_name_is_told() {
    let env = TestEnv::new();
    let pod = env.docker_pod("taken").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print first]]"]);
    assert_eq!(env.wait(&id), 0);
    // The only name that can be known beforehand is that of a further run.
    let name = format!("cldpd-{id}-r1");
    env.owns_container(&name);
    engine::create_foreign(&name, &format!("cldpd-{pod}"));

    let output = env
        .cldpd(["resume", &id, "--prompt", "[[print second]]"])
        .run()
        .code(125);
    assert!(output.stderr.contains(&name), "{}", output.stderr);
    let events = env.events(&id);
    let error = only(&events, "error");
    assert_eq!(error["code"], "container_failed");
    assert!(
        error["message"].as_str().is_some_and(|m| m.contains(&name)),
        "{error}"
    );
    let logs = env.cldpd(["logs", &id]).run();
    assert!(
        (logs.text() + &logs.stderr).contains(&name),
        "it is in the logs too"
    );
    let foreign = engine::inspect_json(&name);
    assert_eq!(foreign["State"]["Status"], "created", "it was not touched");

    // With the name free again the conversation goes on.
    engine::remove_container(&name);
    env.cldpd(["resume", "-d", &id, "--prompt", "[[print third]]"])
        .run()
        .ok();
    assert_eq!(env.cldpd(["wait", &id]).run().code, 0);
    assert_eq!(env.said(&id), "first\nthird\n");
}

#[test]
fn a038_prompts_are_bytes() {
    let env = TestEnv::new();
    let pod = env.docker_pod("bytes").plain().make();
    let witness = env.shared().join("executed");
    let mut big = b"[[echo]]".to_vec();
    big.extend(
        (0..1024 * 1024 - 8).map(|n: u32| b"abcdefghijklmnopqrstuvwxyz \n"[n as usize % 28]),
    );
    assert_eq!(big.len(), 1024 * 1024);
    let mut binary = b"[[echo]]".to_vec();
    binary.extend(
        (1..=255u8)
            .cycle()
            .take(5000)
            .filter(|b| *b != b'[' && *b != b']'),
    );
    let quoted = format!(
        "[[echo]] 'single' \"double\" `touch {0}` $(touch {0}) ; touch {0}\n\\SCADEOF\nEOF\n\ttab\r\n",
        witness.display()
    );
    let prompts: Vec<Vec<u8>> = vec![
        big,
        binary,
        quoted.into_bytes(),
        b"--help [[echo]]".to_vec(),
        b"-[[echo]]".to_vec(),
        "[[echo]] \u{1F980} \u{e9}\u{0301}".as_bytes().to_vec(),
    ];
    let mut running = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let file = env.root().join(format!("prompt-{index}"));
        std::fs::write(&file, prompt).expect("our own directory");
        let args = [
            "start",
            "-d",
            &pod,
            "--prompt-file",
            &file.display().to_string(),
        ]
        .map(str::to_owned);
        running.push((prompt.clone(), env.cldpd(args).run().ok().trim().to_owned()));
        let piped = env
            .cldpd(["start", "-d", &pod, "--prompt-file", "-"])
            .stdin(prompt.clone());
        running.push((prompt.clone(), piped.run().ok().trim().to_owned()));
        if prompt.len() < 100_000
            && let Ok(text) = String::from_utf8(prompt.clone())
        {
            let id = env.start(&[&pod, "--prompt", &text]);
            running.push((prompt.clone(), id));
        }
    }
    for (prompt, id) in running {
        assert_eq!(env.wait(&id), 0);
        let said = env.raw(&id);
        let said = String::from_utf8_lossy(&said);
        let first = said.lines().next().unwrap_or_default();
        let expected = format!(
            "prompt: {} bytes, fnv {:016x}",
            prompt.len(),
            fnv1a64(&prompt)
        );
        assert_eq!(first, expected);
    }
    assert!(!witness.exists(), "nothing of a prompt is executed");
}
