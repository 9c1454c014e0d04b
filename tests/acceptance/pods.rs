//! 5.2: pods and what they say.

use crate::support::TestEnv;
use crate::support::engine;
use crate::support::events::only;
use serde_json::json;

#[test]
fn a010_a_dockerfile_is_enough() {
    let env = TestEnv::new();
    let pod = env.pod("bare").make();
    env.cldpd(["pod", "check", &pod]).run().ok();
    let show = env.cldpd(["pod", "show", &pod, "--json"]).run().json();
    assert_eq!(show["image"], "cldpd-bare");
    assert_eq!(show["problems"], json!([]));

    // Without an image there is no program; what was dispatched is what counts.
    let id = env.start(&[&pod, "--runtime", "local", "--prompt", "exactly this"]);
    env.wait(&id);
    let spec = &env.inspect(&id)["spec"];
    assert_eq!(spec["pod"]["image"], "cldpd-bare");
    assert_eq!(spec["pod"]["env"], json!({}));
    assert_eq!(spec["pod"]["mounts"], json!([]));
    assert_eq!(spec["pod"]["workdir"], json!(null));
    assert_eq!(only(&env.events(&id), "queued")["prompt"], "exactly this");
}

#[test]
fn a011_discovery_errors_are_distinct() {
    let env = TestEnv::new();
    env.pod("empty").no_dockerfile().make();
    env.pod("broken").raw_json("{\n  \"env\": {,}\n}\n").make();
    let unreadable = env.pod("odd").make();
    std::fs::create_dir(
        env.home()
            .join("pods")
            .join(&unreadable)
            .join("template.md"),
    )
    .expect("the home is ours");

    let check = |pod: &str, code: i32, needles: &[&str]| {
        let output = env
            .cldpd(["start", "-d", pod, "--prompt", "x"])
            .run()
            .code(code);
        assert_eq!(output.stdout, b"");
        for needle in needles {
            assert!(
                output.stderr.contains(needle),
                "{needle:?} in {}",
                output.stderr
            );
        }
        output.stderr
    };
    let mut texts = vec![
        check("absent", 3, &["absent"]),
        check("empty", 125, &["empty", "Dockerfile"]),
        check("broken", 125, &["pod.json", "2:11"]),
        check("odd", 125, &["template.md"]),
    ];
    texts.dedup();
    assert_eq!(texts.len(), 4);
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert_eq!(rows, json!([]), "nothing was created");
}

#[test]
fn a012_names_are_checked_before_anything_is_touched() {
    let env = TestEnv::new();
    let outside = env.home().join("evil");
    std::fs::create_dir(&outside).expect("the home is ours");
    std::fs::write(outside.join("Dockerfile"), "FROM scratch\n").expect("the home is ours");
    for name in [
        "../evil", "a/b", ".", "..", "", "a\nb", "/etc", "pod.", "-x",
    ] {
        let output = env
            .cldpd(["start", "--prompt", "x", "-d", "--", name])
            .run()
            .code(125);
        assert!(
            output.stderr.contains("invalid pod name"),
            "{name:?}: {}",
            output.stderr
        );
        assert!(!output.stderr.contains("evil\n"), "{}", output.stderr);
    }
    let output = env
        .cldpd(["start", "-d", "--prompt", "x", "MyRepo"])
        .run()
        .code(125);
    assert!(output.stderr.contains("\"MyRepo\""), "{}", output.stderr);
    assert!(
        output.stderr.contains("lower case: myrepo"),
        "{}",
        output.stderr
    );
    let output = env.cldpd(["pod", "new", "../evil2"]).run().code(125);
    assert!(
        output.stderr.contains("invalid pod name"),
        "{}",
        output.stderr
    );
    assert!(!env.home().join("evil2").exists());
    assert!(!env.home().join("sessions").exists() || env.session_dirs().is_empty());
}

#[test]
fn a013_one_broken_pod_does_not_hide_the_others() {
    let env = TestEnv::new();
    env.pod("alpha").make();
    env.pod("beta").make();
    env.pod("gamma").raw_json("{\"envv\": {}}").make();
    let elsewhere = env.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("our own directory");
    std::fs::write(elsewhere.join("Dockerfile"), "FROM scratch\n").expect("our own directory");
    std::os::unix::fs::symlink(&elsewhere, env.home().join("pods/linked")).expect("a link");
    // What is no pod is not shown as one.
    std::fs::write(env.home().join("pods/notes.txt"), "x").expect("the home is ours");

    let pods = env.cldpd(["pods", "--json"]).run().json();
    let rows: Vec<(&str, bool)> = pods
        .as_array()
        .expect("a list")
        .iter()
        .map(|pod| {
            (
                pod["name"].as_str().expect("a name"),
                pod["problems"] == json!([]),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("alpha", true),
            ("beta", true),
            ("gamma", false),
            ("linked", true)
        ]
    );
    let table = env.cldpd(["pods"]).run().ok();
    let broken = table
        .lines()
        .find(|line| line.starts_with("gamma"))
        .expect("a row");
    assert!(broken.contains("envv"), "{table}");
}

#[test]
fn a014_the_template_and_the_issue() {
    let env = TestEnv::new();
    let url = "https://github.com/org/repo/issues/1";
    let with = env.fake_pod("with").plain().template("[[echo]] T").make();
    let ended = env.fake_pod("ended").plain().template("T\n").make();
    let empty = env.fake_pod("empty").plain().template("").make();

    let id = env.start(&[&with, "--issue", url]);
    assert_eq!(env.wait(&id), 0);
    let expected = format!("[[echo]] T\n\nWork on this GitHub issue: {url}");
    assert_eq!(only(&env.events(&id), "queued")["prompt"], expected);
    let said = env.said(&id);
    assert!(
        said.contains(&expected),
        "the agent was told exactly that: {said}"
    );
    assert!(
        said.contains(&format!("prompt: {} bytes", expected.len())),
        "{said}"
    );

    env.cldpd(["resume", "-d", &id, "--prompt", "[[echo]] P"])
        .run()
        .ok();
    assert_eq!(env.wait(&id), 0);
    let events = env.events(&id);
    let resumed = events
        .iter()
        .rfind(|e| e["kind"] == "queued")
        .expect("queued");
    assert_eq!(resumed["prompt"], "[[echo]] P");

    let id = env.start(&[&ended, "--issue", url]);
    assert_eq!(env.wait(&id), 0);
    let expected = format!("T\n\nWork on this GitHub issue: {url}");
    assert_eq!(only(&env.events(&id), "queued")["prompt"], expected);

    let id = env.start(&[&empty, "--issue", url]);
    assert_eq!(env.wait(&id), 0);
    let expected = format!("Work on this GitHub issue: {url}");
    assert_eq!(only(&env.events(&id), "queued")["prompt"], expected);
}

#[test]
fn a015_a_tilde_is_the_users_home() {
    let env = TestEnv::new();
    let home = env.user_home();
    std::fs::create_dir(home.join("k")).expect("our own directory");
    std::fs::write(home.join("value"), "hush hush").expect("our own directory");
    let pod = env
        .fake_pod("tilde")
        .json(json!({
            "mounts": [{"source": "~/k", "target": "/k"}, {"source": "~", "target": "/home"}],
            "copy": [{"source": "~/k", "target": "~/k"}],
            "secrets": [{"name": "S", "file": "~/value"}],
        }))
        .make();
    let spec = env.cldpd(["pod", "show", &pod, "--json"]).run().json()["spec"].clone();
    assert_eq!(spec["mounts"][0]["source"], json!(home.join("k")));
    assert_eq!(spec["mounts"][1]["source"], json!(home));
    assert_eq!(
        spec["copy"][0],
        json!({"source": home.join("k"), "target": "~/k"})
    );
    assert_eq!(
        spec["secrets"][0]["source"],
        json!({"file": home.join("value")})
    );

    let other = env
        .fake_pod("other")
        .json(json!({
            "mounts": [{"source": "~bob/x", "target": "/x"}],
            "copy": [{"source": "~bob/y", "target": "/y"}],
            "secrets": [{"name": "S", "file": "~bob/z"}],
        }))
        .make();
    let check = env.cldpd(["pod", "check", &other]).run().code(1);
    for (key, path) in [
        ("mounts[0].source", "x"),
        ("copy[0].source", "y"),
        ("secrets[0].file", "z"),
    ] {
        let wrong = format!("\"{key}\" is \"~bob/{path}\": the form ~bob/ is not supported");
        assert!(check.stderr.contains(&wrong), "{wrong}: {}", check.stderr);
    }
}

#[test]
fn a016_a_missing_mount_source_is_named_and_not_made() {
    let env = TestEnv::new();
    let missing = env.root().join("not/there");
    let pod = env
        .docker_pod("mount")
        .json(json!({"mounts": [{"source": missing, "target": "/data"}]}))
        .make();
    let output = env.cldpd(["start", &pod, "--prompt", "x"]).run().code(125);
    assert!(
        output.stderr.contains(&missing.display().to_string()),
        "{}",
        output.stderr
    );
    assert!(!missing.exists() && !env.root().join("not").exists());
    assert_eq!(env.session_dirs(), [""; 0], "nothing was created");
    assert_eq!(
        engine::containers_with_label(&format!("cldpd.pod={pod}")),
        []
    );
    let check = env.cldpd(["pod", "check", &pod]).run().code(1);
    let text = check.text() + &check.stderr;
    assert!(text.contains(&missing.display().to_string()), "{text}");

    // Relative sources are the pod's, `~` is the user's.
    std::fs::create_dir(env.user_home().join("k")).expect("our own directory");
    let pod = env
        .fake_pod("relative")
        .json(json!({"mounts": [{"source": "~/k", "target": "/k"}, {"source": "Dockerfile", "target": "/d"}]}))
        .make();
    let id = env.start(&[&pod, "--prompt", "[[exit 0]]"]);
    env.wait(&id);
    let mounts = &env.inspect(&id)["spec"]["pod"]["mounts"];
    assert_eq!(
        mounts[0]["source"],
        env.user_home().join("k").display().to_string()
    );
    let dockerfile = env.home().join("pods/relative/Dockerfile");
    assert_eq!(mounts[1]["source"], dockerfile.display().to_string());
}

#[test]
fn a017_an_unknown_key_is_named_with_its_nearest() {
    let env = TestEnv::new();
    let pod = env
        .pod("keys")
        .raw_json("{\n  \"env\": {},\n  \"inheritENV\": []\n}\n")
        .make();
    let output = env
        .cldpd(["start", "-d", &pod, "--prompt", "x"])
        .run()
        .code(125);
    for needle in ["pods/keys/pod.json:3:3", "\"inheritENV\"", "\"inheritEnv\""] {
        assert!(
            output.stderr.contains(needle),
            "{needle} in {}",
            output.stderr
        );
    }
    let pod = env
        .pod("nested")
        .raw_json("{\"mounts\": [\n  {\"source\": \"/\", \"targt\": \"/x\"}\n]}\n")
        .make();
    let output = env.cldpd(["pod", "check", &pod]).run().code(1);
    let text = output.text() + &output.stderr;
    for needle in ["pod.json:2:", "targt", "target"] {
        assert!(text.contains(needle), "{needle} in {text}");
    }
}

#[test]
fn a109_the_engines_socket_is_mounted_only_when_asked_for_and_said() {
    const SOCKET: &str = "/var/run/docker.sock";
    let env = TestEnv::new();
    let mounted = |pod: &str| {
        let output = env
            .cldpd(["start", pod, "--prompt", "[[print ran]]"])
            .run()
            .code(0);
        let row = env
            .cldpd(["sessions", "-a", "--pod", pod, "--json"])
            .run()
            .json();
        let id = row[0]["id"].as_str().expect("an id");
        let inspect = engine::inspect_json(&format!("cldpd-{id}-r0"));
        let mounts = inspect["Mounts"].as_array().expect("mounts");
        let socket = |mount: &&serde_json::Value| {
            let (source, target) = (&mount["Source"], &mount["Destination"]);
            format!("{source} {target}").contains("docker.sock")
        };
        (output.stderr, mounts.iter().filter(socket).count())
    };
    let plain = env.docker_pod("plain").plain().make();
    let (said, count) = mounted(&plain);
    assert_eq!(count, 0, "nobody asked for it");
    assert!(!said.contains("docker socket"), "{said}");

    let shared = env.shared();
    let asking = env
        .docker_pod("asking")
        .plain()
        .json(json!({"mounts": [
            {"source": shared, "target": shared},
            {"source": SOCKET, "target": SOCKET},
        ]}))
        .make();
    let (said, count) = mounted(&asking);
    assert_eq!(count, 1);
    let warning = format!(
        "note: pod {asking} mounts the docker socket {SOCKET}: what runs there controls this machine"
    );
    assert!(said.contains(&warning), "{said}");
    let check = env.cldpd(["pod", "check", &asking]).run().code(0);
    assert!(check.stderr.contains(&warning), "{}", check.stderr);
    let show = env.cldpd(["pod", "show", &asking]).run().code(0);
    assert!(show.stderr.contains(&warning), "{}", show.stderr);
}
