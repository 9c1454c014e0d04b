//! 5.2, 5.3: pods that are made, linked, edited, built and removed.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::only;
use serde_json::{Value, json};
use std::path::Path;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("our own directory");
    std::fs::write(path, text).expect("our own directory");
}

/// A repository of that name, with an origin.
fn repository(env: &TestEnv, name: &str) -> std::path::PathBuf {
    let repo = env.root().join("src").join(name);
    let config = "[remote \"origin\"]\n\turl = https://example.org/o/r\n";
    write(&repo.join(".git/config"), config);
    repo
}

#[test]
fn a019_the_round_trip_of_a_pod() {
    let env = TestEnv::new();
    let place = env.home().join("pods");
    let made = env
        .cldpd(["pod", "new", "mine", "--template", "command"])
        .run();
    assert_eq!(made.ok().trim(), place.join("mine").display().to_string());
    let again = env.cldpd(["pod", "new", "mine"]).run().code(5);
    assert!(
        again.stderr.contains("is there already"),
        "{}",
        again.stderr
    );

    // Twice the same is nothing; another under its name is refused.
    let elsewhere = env.root().join("repo/agent");
    write(&elsewhere.join("Dockerfile"), "FROM scratch\n");
    let add = |name: &str, path: &Path| {
        let path = path.display().to_string();
        env.cldpd(["pod", "add", &path, "--name", name]).run()
    };
    assert_eq!(add("linked", &elsewhere).ok(), "linked\n");
    let same = add("linked", &elsewhere).code(0);
    assert!(same.stderr.contains("already"), "{}", same.stderr);
    let other = env.root().join("repo/other");
    write(&other.join("Dockerfile"), "FROM scratch\n");
    for name in ["linked", "mine"] {
        let refused = add(name, &other).code(5);
        assert!(refused.stderr.contains(name), "{}", refused.stderr);
    }
    write(&other.join("pod.json"), "{\"memry\": 1}");
    let wrong = add("other", &other).code(125);
    assert!(wrong.stderr.contains("\"memory\""), "{}", wrong.stderr);
    assert!(!place.join("other").exists());

    // What is edited is checked, and left as it was written.
    let bad = env.root().join("bad.json");
    write(&bad, "{\n  \"memory\": -1\n}\n");
    let edit = |editor: &str| {
        let editor = editor.to_owned();
        env.cldpd(["pod", "edit", "linked"]).env("EDITOR", editor)
    };
    let none = env.cldpd(["pod", "edit", "linked"]).run().code(2);
    assert!(none.stderr.contains("EDITOR"), "{}", none.stderr);
    let copied = edit(&format!("cp '{}'", bad.display())).run().code(1);
    assert!(copied.stderr.contains("pod.json:2:13"), "{}", copied.stderr);
    assert!(elsewhere.join("pod.json").exists(), "the link was followed");
    let good = env.root().join("good.json");
    let settings = json!({
        "runtime": "local", "memory": 512, "cpus": 1.5, "timeout": "90m", "user": "1000:1000",
        "secrets": [{"name": "TOKEN", "env": "MINE"}],
    });
    write(&good, &settings.to_string());
    edit(&format!("cp '{}'", good.display())).run().ok();
    let failed = edit("false").run().code(125);
    assert!(failed.stderr.contains("\"false\""), "{}", failed.stderr);
    let visual = env
        .cldpd(["pod", "edit", "mine", "--file", "template.md"])
        .env("EDITOR", "false")
        .env("VISUAL", "truncate --size 0")
        .run();
    visual.ok();
    let template = std::fs::read(place.join("mine/template.md")).expect("it is there");
    assert_eq!(template, b"");

    let show = env.cldpd(["pod", "show", "linked"]).run().ok();
    for line in [
        "memory       512 MiB",
        "cpus         1.5",
        "timeout      1h30m",
        "user         1000:1000",
        "secrets      TOKEN from $MINE, as a variable",
    ] {
        assert!(show.contains(line), "{line} in {show}");
    }
    let real = std::fs::canonicalize(&elsewhere).expect("it is there");
    assert!(
        show.contains(&format!("link to      {}", real.display())),
        "{show}"
    );
    let table = env.cldpd(["pods"]).run().ok();
    let row = table.lines().find(|line| line.starts_with("linked"));
    assert!(
        row.is_some_and(|row| row.contains(&real.display().to_string())),
        "{table}"
    );
    let check = env.cldpd(["pod", "check"]).run().code(0);
    assert_eq!(check.text(), "linked: ok\nmine: ok\n");

    // A link goes without a word, a directory only when that is said.
    let gone = env.cldpd(["pod", "rm", "linked"]).run().code(0);
    assert!(
        gone.stderr.contains(&real.display().to_string()),
        "{}",
        gone.stderr
    );
    assert!(real.join("Dockerfile").exists() && !place.join("linked").exists());
    let refused = env.cldpd(["pod", "rm", "mine"]).run().code(5);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert!(place.join("mine/Dockerfile").exists());
    env.cldpd(["pod", "rm", "mine", "--yes"]).run().ok();
    assert!(!place.join("mine").exists());
    env.cldpd(["pod", "rm", "mine", "--yes"]).run().code(3);
}

#[test]
fn a_pod_with_live_sessions_is_not_removed() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.fake_pod("busy").plain().make();
    let id = env.start(&[&pod, "--prompt", &format!("[[print up]]{}", gate.hold())]);
    env.await_line(&id, "up");
    let refused = env.cldpd(["pod", "rm", &pod, "--yes"]).run().code(5);
    assert!(refused.stderr.contains(&id), "{}", refused.stderr);
    env.cldpd(["pod", "rm", &pod, "--yes", "--force"])
        .run()
        .ok();
    gate.open();
    assert_eq!(env.wait(&id), 0, "it went on without its pod");
    assert_eq!(env.said(&id), "up\n");
}

#[test]
fn a033_names_are_made_of_whatever_a_repository_is_called() {
    let env = TestEnv::new();
    let long = "Long Name ".repeat(24);
    for (base, expected) in [
        ("My Project!!", "my-project".to_owned()),
        ("проект", "pod".to_owned()),
        ("!!!", "pod-2".to_owned()),
        (
            long.as_str(),
            "long-name-".repeat(24)[..62]
                .trim_end_matches('-')
                .to_owned(),
        ),
    ] {
        let repo = repository(&env, base).display().to_string();
        let new = ["pod", "new", "--template", "command", "--from-repo", &repo];
        let dir = env.cldpd(new).run().ok();
        let name = dir.trim().rsplit('/').next().expect("a name").to_owned();
        assert_eq!(name, expected, "{base:?}");
        env.cldpd(["pod", "check", &name]).run().ok();
        let id = env.start(&[&name, "--runtime", "local", "--prompt", "x"]);
        env.wait(&id);
        let container = only(&env.events(&id), "creating")["container"].clone();
        assert_eq!(container, format!("cldpd-{id}-r0"));
        let hex = id
            .strip_prefix(&format!("{name}-"))
            .expect("the pod's name first");
        assert!(
            hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()),
            "{id}"
        );
        assert!(!id.contains("--"), "{id}");
    }
    let nameless = env.cldpd(["pod", "new"]).run().code(2);
    assert!(nameless.stderr.contains("NAME"), "{}", nameless.stderr);
}

/// An image that has stand-ins for a shell and what is called in it.
fn base_image(env: &TestEnv) -> String {
    let base = env
        .docker_pod("base")
        // A line of its own: builders' caches are everybody's.
        .dockerfile(&format!(
            "FROM scratch\nENV OF={}\nCOPY claude /bin/sh\nCOPY claude /bin/git\n\
             COPY etc /etc\nCOPY tmp /tmp\nENV PATH=/bin\n",
            cldpd::model::Ulid::generate(),
        ))
        .make();
    let dir = env.home().join("pods").join(&base);
    let users = "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n";
    write(&dir.join("etc/passwd"), users);
    write(&dir.join("etc/group"), "root:x:0:\nnode:x:1000:\n");
    env.cldpd(["pod", "build", &base]).run().ok();
    format!("cldpd-{base}")
}

#[test]
fn every_template_is_built() {
    let env = TestEnv::new();
    let base = base_image(&env);
    let repo = repository(&env, "r").display().to_string();
    for (template, user, ran) in [
        (
            "claude",
            "node",
            "npm install --global @anthropic-ai/claude-code@2.",
        ),
        ("codex", "node", "npm install --global @openai/codex@0."),
        (
            "gemini",
            "node",
            "npm install --global @google/gemini-cli@0.",
        ),
        ("opencode", "node", "npm install --global opencode-ai@1."),
        ("command", "agent", "useradd --create-home agent"),
    ] {
        let name = format!("{template}-{}", env.tag());
        env.owns_image(&format!("cldpd-{name}"));
        let new = [
            "pod",
            "new",
            &name,
            "--template",
            template,
            "--from-repo",
            &repo,
        ];
        let dir = env.cldpd(new).run().ok();
        let json = Path::new(dir.trim()).join("pod.json");
        let text = std::fs::read(&json).expect("it was made");
        let mut settings: Value = serde_json::from_slice(&text).expect("it is JSON");
        settings["buildArgs"] = json!({ "BASE": base });
        write(&json, &settings.to_string());

        let built = env.cldpd(["pod", "build", &name]).run().code(0);
        for line in [
            ran,
            "apt-get install",
            "git clone -- https://example.org/o/r .",
        ] {
            assert!(built.stderr.contains(line), "{line} in {}", built.stderr);
        }
        let image = engine::image_json(built.text().trim());
        let config = &image["Config"];
        assert_eq!(config["User"], user, "{template}");
        assert_eq!(config["WorkingDir"], "/workspace");
        let variables = config["Env"].to_string();
        assert_eq!(
            variables.contains("AUTOUPDATE"),
            matches!(template, "claude" | "opencode"),
            "{variables}"
        );
        let again = env.cldpd(["pod", "build", &name]).run().code(0);
        assert_eq!(again.stdout, built.stdout);
        assert!(
            again.stderr.contains("nothing has changed"),
            "{}",
            again.stderr
        );
    }
}

#[test]
fn a_build_tells_how_it_goes_and_why_it_failed() {
    let env = TestEnv::new();
    let good = env
        .fake_pod("good")
        .fake(json!({"build": {"steps": ["step one", "step two"]}}))
        .make();
    let bad = env
        .fake_pod("bad")
        .fake(json!({"build": {"steps": ["a line", "the last line"], "fail": {"code": 17, "text": "no such package"}}}))
        .make();
    let local = env.local_pod("process").make();
    let built = env.cldpd(["pod", "build", &good]).run().code(0);
    assert!(
        built.stderr.contains("step one\nstep two\n"),
        "{}",
        built.stderr
    );
    assert!(
        built.text().contains("good"),
        "the image's id: {}",
        built.text()
    );

    let both = env
        .cldpd(["pod", "build", &bad, &good, "--no-cache"])
        .run()
        .code(125);
    assert!(
        both.stderr.contains("bad | the last line"),
        "{}",
        both.stderr
    );
    assert!(both.stderr.contains("no such package"), "{}", both.stderr);
    assert!(both.stderr.contains("good | step two"), "{}", both.stderr);
    assert_eq!(both.text().lines().count(), 1, "the other was built");
    assert!(
        env.fake_log(&good)
            .contains(&"build cldpd-good no_cache".to_owned())
    );

    env.cldpd(["pod", "build", "absent"]).run().code(3);
    let nothing = env.cldpd(["pod", "build", &local]).run().code(2);
    assert!(
        nothing.stderr.contains("plain process"),
        "{}",
        nothing.stderr
    );
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert_eq!(rows, json!([]), "no session was made for it");
}

#[test]
fn whoever_leaves_a_build_cancels_it() {
    let env = TestEnv::new();
    let gate = env.gate("builder");
    let pod = env
        .fake_pod("slow")
        .fake(json!({"build": {"steps": ["begun", {"gate": gate.path()}, "done"]}}))
        .make();
    let build = || env.cldpd(["pod", "build", &pod]).spawn();
    let first = build();
    first.error_line("begun");
    drop(first);
    // One build at a time: that this one begins says that the other is over.
    let second = build();
    second.error_line("begun");
    gate.open();
    second.error_line("done");
    second.finish().code(0);
    let log = env.fake_log(&pod);
    let finished = log.iter().filter(|line| line.starts_with("built")).count();
    assert_eq!(finished, 1, "{log:?}");
}
