//! 5.3: images.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::{kinds, lines, of_kind, only, outcome};
use serde_json::json;

/// The image that the last build of a session came to.
fn built(env: &TestEnv, id: &str) -> (String, bool) {
    let events = env.events(id);
    let complete = only(&events, "build_complete");
    let image = complete["image"].as_str().expect("an image").to_owned();
    (image, complete["cached"].as_bool().expect("cached or not"))
}

#[test]
fn a021_arguments_and_context_reach_the_builder() {
    let env = TestEnv::new();
    let pod = env
        .docker_pod("args")
        .plain()
        .dockerfile(
            "FROM scratch\nARG WHO\nENV WHO=$WHO\nCOPY claude /bin/claude\nCOPY tmp /tmp\n\
             COPY sub/note.txt /note.txt\nENV PATH=/bin\n",
        )
        .json(json!({"buildArgs": {"WHO": "from pod.json"}}))
        .make();
    let dir = env.home().join("pods").join(&pod);
    std::fs::create_dir(dir.join("sub")).expect("the home is ours");
    std::fs::write(dir.join("sub/note.txt"), "of the context\n").expect("the home is ours");
    let id = env.start(&[&pod, "--prompt", "[[env WHO]][[read /note.txt]]"]);
    assert_eq!(env.wait(&id), 0);
    let said = env.said(&id);
    assert!(said.contains("from pod.json"), "{said}");
    assert!(said.contains("of the context"), "{said}");

    let broken = env
        .docker_pod("broken")
        .dockerfile("FROM scratch\nCOPY no-such-file /x\n")
        .make();
    let output = env
        .cldpd(["start", &broken, "--prompt", "x"])
        .run()
        .code(125);
    assert!(
        output.stderr.contains("could not be built"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("no-such-file"), "{}", output.stderr);
    let row = env
        .cldpd(["sessions", "-a", "--pod", &broken, "--json"])
        .run()
        .json();
    assert_eq!(outcome(&row[0]), "build_failed");
    let ulid = row[0]["ulid"].as_str().expect("a ULID");
    assert_eq!(
        engine::containers_with_label(&format!("cldpd.session={ulid}")),
        []
    );
    assert!(!engine::image_exists(&format!("cldpd-{broken}")));
}

#[test]
fn a022_build_output_is_shown_while_it_happens() {
    let env = TestEnv::new();
    let (first, second) = (env.gate("first"), env.gate("second"));
    let pod = env
        .fake_pod("slow")
        .plain()
        .fake(json!({"build": {
            "steps": [
                "step one", {"gate": first.path()}, "step two", {"gate": second.path()},
            ],
        }}))
        .make();
    let id = env.start(&[&pod, "--prompt", "[[print built]]"]);
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    // The builder stands before the gate after its first line, and has not
    // printed the second.
    follow.line("step one");
    assert!(!String::from_utf8_lossy(&follow.stdout_so_far()).contains("step two"));
    first.open();
    follow.line("step two");
    assert!(!String::from_utf8_lossy(&follow.stdout_so_far()).contains("build_complete"));
    assert_eq!(env.session(&id)["state"], "building");
    second.open();
    follow.line("build_complete");
    let output = follow.finish().code(0);
    assert!(output.text().contains("\"built\""));
}

#[test]
fn a023_a_failed_build_is_a_session() {
    let env = TestEnv::new();
    let pod = env
        .fake_pod("fails")
        .fake(json!({"build": {"steps": ["one", "two"], "fail": {"code": 17, "text": "no such package"}}}))
        .make();
    let output = env.cldpd(["start", &pod, "--prompt", "x"]).run().code(125);
    assert!(
        output.stderr.contains("no such package"),
        "{}",
        output.stderr
    );
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert_eq!(rows[0]["state"], "ended");
    assert_eq!(outcome(&rows[0]), "build_failed");
    assert_eq!(rows[0]["error"]["code"], "build_failed");
    let id = rows[0]["id"].as_str().expect("an id");
    let events = env.events(id);
    let built: Vec<&str> = of_kind(&events, "build_output")
        .iter()
        .filter_map(|e| e["line"].as_str())
        .collect();
    assert_eq!(built, ["one", "two"]);
    assert_eq!(only(&events, "error")["code"], "build_failed");
    assert!(
        only(&events, "error")["message"]
            .as_str()
            .is_some_and(|m| m.contains("17"))
    );
    assert_eq!(kinds(&events).last(), Some(&"run_ended"));
    assert!(of_kind(&events, "creating").is_empty());
    assert!(
        !env.fake_log(&pod)
            .iter()
            .any(|call| call.starts_with("create"))
    );
    let logs = env.cldpd(["logs", id]).run();
    let text = logs.text() + &logs.stderr;
    assert!(
        text.contains("no such package") && text.contains("two"),
        "{text}"
    );
    assert_eq!(env.wait(id), 125);
}

#[test]
fn a024_an_unchanged_context_is_not_built_again() {
    let env = TestEnv::new();
    let pod = env
        .docker_pod("cache")
        .plain()
        .json(json!({"buildArgs": {"A": "1"}}))
        .make();
    let dir = env.home().join("pods").join(&pod);
    let run = |flags: &[&str]| {
        let mut args = vec![pod.as_str(), "--prompt", "[[print ran]]"];
        args.extend(flags);
        let id = env.start(&args);
        assert_eq!(env.wait(&id), 0);
        assert_eq!(lines(&env.events(&id), "stdout"), ["ran"]);
        id
    };
    let first = run(&[]);
    assert!(!built(&env, &first).1, "there was nothing to use");
    assert!(!of_kind(&env.events(&first), "build_output").is_empty());

    let second = run(&[]);
    assert_eq!(built(&env, &second), (built(&env, &first).0, true));
    assert!(of_kind(&env.events(&second), "build_output").is_empty());

    let forced = run(&["--build"]);
    assert!(!built(&env, &forced).1);
    assert!(!of_kind(&env.events(&forced), "build_output").is_empty());

    std::fs::write(dir.join("new-file"), "x").expect("the home is ours");
    assert!(!built(&env, &run(&[])).1, "a new file in the context");
    assert!(built(&env, &run(&[])).1);

    let text = std::fs::read_to_string(dir.join("Dockerfile")).expect("it is there");
    std::fs::write(dir.join("Dockerfile"), text + "LABEL changed=yes\n").expect("the home is ours");
    let changed = run(&[]);
    assert!(!built(&env, &changed).1, "a changed Dockerfile");
    let image = engine::image_json(&format!("cldpd-{pod}"));
    assert_eq!(image["Config"]["Labels"]["changed"], "yes");

    let text = std::fs::read_to_string(dir.join("pod.json")).expect("it is there");
    std::fs::write(dir.join("pod.json"), text.replace("\"1\"", "\"2\"")).expect("the home is ours");
    assert!(!built(&env, &run(&[])).1, "a changed build argument");

    let foreground = env
        .cldpd(["start", &pod, "--prompt", "[[print x]]"])
        .run()
        .code(0);
    assert!(
        foreground.stderr.contains("ago"),
        "the image's age is told: {}",
        foreground.stderr
    );
}

#[test]
fn an_image_that_vanishes_is_built_once_more() {
    let env = TestEnv::new();
    let gone = |name: &str, times: u32| {
        let create = json!({"gone": true, "times": times});
        let pod = env.fake_pod(name).plain();
        pod.fake(json!({"calls": {"create": create}})).make()
    };
    let id = env.start(&[&gone("once", 1), "--prompt", "[[print ran]]"]);
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    assert_eq!(lines(&events, "stdout"), ["ran"]);
    assert_eq!(of_kind(&events, "build_started").len(), 2);
    assert_eq!(of_kind(&events, "run_started").len(), 1);

    let id = env.start(&[&gone("twice", 2), "--prompt", "x"]);
    assert_eq!(env.wait(&id), 125);
    let events = env.events(&id);
    assert_eq!(of_kind(&events, "build_started").len(), 2);
    let message = only(&events, "error")["message"].as_str();
    assert!(message.is_some_and(|m| m.contains("no such image")));
}

#[test]
fn a027_a_build_secret_is_in_the_build_and_nowhere_else() {
    let env = TestEnv::new();
    let secret = |kind: &str| format!("S3cr3t-{kind}-{}-value", env.tag());
    let (token, key) = (secret("token"), secret("key"));
    // A line of its own: builders' caches are everybody's.
    let dockerfile = format!(
        "FROM scratch\nENV OF={}\nCOPY claude /bin/claude\nCOPY tmp /tmp\nENV PATH=/bin\nWORKDIR /tmp\n\
         ARG CLDPD_SCRIPT=\"[[read /run/secrets/NPM]][[print]][[read /run/secrets/key]]\"\n\
         RUN --mount=type=secret,id=NPM,required=true --mount=type=secret,id=key,required=true \
         [\"/bin/claude\"]\n",
        cldpd::model::Ulid::generate(),
    );
    let pod = env
        .docker_pod("secret")
        .plain()
        .dockerfile(&dockerfile)
        .json(json!({"secrets": [
            {"name": "NPM", "env": "NPM_TOKEN", "as": "build"},
            {"name": "key", "file": "key", "as": "build"},
        ]}))
        .make();
    let file = env.home().join("pods").join(&pod).join("key");
    std::fs::write(&file, format!("{key}\n")).expect("the home is ours");
    let start = |token: &str| {
        let start = env.cldpd(["start", "-d", &pod, "--prompt", "[[print ran]]"]);
        let id = start.env("NPM_TOKEN", token).run().ok();
        let id = id.trim().to_owned();
        let code = env.wait(&id);
        assert_eq!(code, 0, "{:#?}", env.events(&id));
        id
    };
    let first = start(&token);
    let events = env.events(&first);
    let whole = serde_json::Value::from(events.clone()).to_string();
    for name in ["NPM", "key"] {
        assert!(whole.contains(&format!("[redacted:{name}]")), "{whole}");
    }
    let image = format!("cldpd-{pod}");
    let mut told = vec![
        whole,
        engine::image_json(&image).to_string(),
        engine::image_history(&image),
        env.inspect(&first).to_string(),
    ];
    // Whoever brings other values has the same image.
    std::fs::write(&file, "another-value").expect("the home is ours");
    let second = start("another-token");
    assert_eq!(built(&env, &second), (built(&env, &first).0, true));

    env.stop_daemon();
    let log = std::fs::read_to_string(env.home().join("log/daemon.log"));
    told.push(log.expect("it is there"));
    for text in &told {
        for value in [&token, &key] {
            assert!(!text.contains(value.as_str()), "{text}");
        }
    }
    let mut open = vec![env.home().join("journal"), env.home().join("sessions")];
    while let Some(place) = open.pop() {
        for entry in std::fs::read_dir(&place)
            .expect("the home is ours")
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
                continue;
            }
            let Ok(bytes) = std::fs::read(entry.path()) else {
                continue;
            };
            for value in [&token, &key] {
                let found = bytes
                    .windows(value.len())
                    .any(|part| part == value.as_bytes());
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}
