//! 5.11: secrets, and who may do what.

use crate::support::env::BINARY;
use crate::support::events::only;
use crate::support::{TestEnv, engine, procfs};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files beneath `dir` that contain `needle`.
fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            found.extend(files_with(&path, needle));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a101_secrets_are_nowhere() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let tag = env.tag().to_owned();
    // Long and odd enough to be found nowhere by chance.
    let secret = |kind: &str| format!("S3cr3t-{kind}-{tag}-value");
    let (pod_value, inherited, flag) = (secret("pod"), secret("inherit"), secret("flag"));
    let (token, cert, build) = (secret("token"), secret("cert"), secret("build"));
    let file = env.root().join("cert");
    std::fs::write(&file, format!("{cert}\nof two lines\n")).expect("our own directory");
    let pod = env
        .docker_pod("secrets")
        .plain()
        .dockerfile(&format!(
            // A line of its own: builders' caches are everybody's.
            "FROM scratch\nENV OF={}\nCOPY claude /bin/claude\nCOPY tmp /tmp\nENV PATH=/bin\n\
             ENV CLDPD_SCRIPT=\"[[read /run/secrets/forge]]\"\n\
             RUN --mount=type=secret,id=forge [\"/bin/claude\"]\n\
             ENV CLDPD_SCRIPT=\"\"\nENTRYPOINT [\"/bin/claude\"]\n",
            cldpd::model::Ulid::generate(),
        ))
        .json(json!({
            "user": "1000:1000",
            "env": {"API_TOKEN": pod_value},
            "inheritEnv": ["INHERITED"],
            "secrets": [
                {"name": "NPM", "env": "NPM_HERE"},
                {"name": "cert", "file": file, "as": "file"},
                {"name": "forge", "env": "FORGE_HERE", "as": "build"},
            ],
        }))
        .make();
    let prompt = format!(
        "[[env API_TOKEN]][[env INHERITED]][[env FLAG]][[env NPM]][[read /run/secrets/cert]]\
         [[env forge]][[env FORGE_HERE]][[print ready]]{}[[env FLAG]]",
        gate.hold()
    );
    let start = env
        .cldpd(["start", "-d", &pod, "--env", "FLAG", "--prompt", &prompt])
        .env("INHERITED", &inherited)
        .env("FLAG", &flag)
        .env("NPM_HERE", &token)
        .env("FORGE_HERE", &build)
        .run()
        .code(0);
    let id = start.text().trim().to_owned();
    env.await_line(&id, "ready");

    let values = [&pod_value, &inherited, &flag, &token, &cert, &build];
    for arguments in procfs::all_arguments() {
        assert!(
            values.iter().all(|value| !arguments.contains(*value)),
            "{arguments}"
        );
    }
    let inspect = engine::inspect_json(&format!("cldpd-{id}-r0")).to_string();
    assert!(inspect.contains("/run/secrets"), "{inspect}");
    let image = engine::image_json(&format!("cldpd-{pod}")).to_string();
    gate.open();
    assert_eq!(env.wait(&id), 0);
    let said = env.said(&id);
    for name in ["API_TOKEN", "INHERITED", "FLAG", "NPM", "cert"] {
        assert!(said.contains(&format!("[redacted:{name}]")), "{said}");
    }
    assert!(
        !said.contains("of two lines"),
        "a value of two lines: {said}"
    );
    // What is for the build is not for the agent; what the build prints of it is replaced.
    assert!(said.contains("forge is not set") && said.contains("FORGE_HERE is not set"));
    let events = env.cldpd(["logs", "--format", "jsonl", &id]).run().ok();
    assert!(events.contains("[redacted:forge]"), "{events}");
    let told = [
        inspect,
        image,
        events,
        said,
        env.cldpd(["logs", &id]).run().ok(),
        env.cldpd(["logs", "--format", "jsonl", &id]).run().ok(),
        env.cldpd(["sessions", "-a", "--json"]).run().ok(),
        env.cldpd(["inspect", &id]).run().ok(),
        env.cldpd(["events", "--since", "1h"]).run().ok(),
        env.cldpd(["pod", "show", &pod]).run().ok(),
    ];
    for text in &told {
        assert!(values.iter().all(|value| !text.contains(*value)), "{text}");
    }
    // Beneath the home nothing has them but the pod.json that the user wrote.
    env.stop_daemon();
    for value in [&inherited, &flag, &token, &cert, &build] {
        let found = files_with(&env.home(), value);
        assert!(found.is_empty(), "{found:?}");
    }
    let own = env.home().join("pods").join(&pod).join("pod.json");
    assert_eq!(files_with(&env.home(), &pod_value), [own]);

    // A wrong pod.json is quoted, but not its values.
    let wrong = env
        .pod("wrong")
        .raw_json(&format!(
            "{{\"env\": {{\"API_TOKEN\": [\"{pod_value}\"]}}}}"
        ))
        .make();
    let output = env
        .cldpd(["start", "-d", &wrong, "--prompt", "x"])
        .run()
        .code(125);
    assert!(!output.stderr.contains(&pod_value), "{}", output.stderr);
}

#[test]
fn a102_inherited_variables() {
    let env = TestEnv::new();
    let pod = env
        .docker_pod("inherit")
        .plain()
        .json(json!({
            "env": {"BOTH": "from pod.json", "KEPT": "from pod.json"},
            "inheritEnv": ["BOTH", "ABSENT", "EMPTY", "KEPT"],
        }))
        .make();
    let prompt = "[[env BOTH]][[env ABSENT]][[env EMPTY]][[env KEPT]][[env FLAG]][[envall]]";
    let start = env
        .cldpd([
            "start",
            "-d",
            &pod,
            "--env",
            "FLAG=over",
            "--env",
            "NOWHERE",
            "--prompt",
            prompt,
        ])
        .env("BOTH", "inherited")
        .env("EMPTY", "")
        .env("FLAG", "under")
        .run()
        .code(0);
    for name in ["ABSENT", "NOWHERE"] {
        assert!(
            start.stderr.contains(name),
            "names that are not set are told: {}",
            start.stderr
        );
    }
    let id = start.text().trim().to_owned();
    assert_eq!(env.wait(&id), 0);
    let said = env.said(&id);
    for line in [
        "BOTH=[redacted:BOTH]",
        "EMPTY=",
        "KEPT=from pod.json",
        "FLAG=over",
    ] {
        assert!(said.lines().any(|l| l == line), "{line} in {said}");
    }
    assert!(
        !said
            .lines()
            .any(|l| l.starts_with("ABSENT=") || l.starts_with("NOWHERE=")),
        "{said}"
    );
    let check = env.cldpd(["pod", "check", &pod]).run().code(0);
    assert!(
        (check.text() + &check.stderr).contains("ABSENT"),
        "{}",
        check.stderr
    );

    // Credentials for a later run come from whoever resumes; which are missing is said.
    let resume = env
        .cldpd(["resume", "-d", &id, "--prompt", "[[envall]]"])
        .run()
        .code(0);
    assert!(resume.stderr.contains("BOTH"), "{}", resume.stderr);
    assert_eq!(env.wait(&id), 0);
    let record = env.inspect(&id)["record"].clone();
    let names = record["runs"][0]["env"].as_array().expect("names").clone();
    assert!(
        names.contains(&json!("BOTH")) && names.contains(&json!("FLAG")),
        "{names:?}"
    );
    assert_eq!(
        only(&env.events(&id), "created")["spec"]["pod"]["env"]["KEPT"],
        "from pod.json"
    );
}

#[test]
fn a105_only_the_user_can_reach_it() {
    let env = TestEnv::new();
    let pod = env.local_pod("own").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print x]]"]);
    assert_eq!(env.wait(&id), 0);
    let mode = |path: &Path| {
        let meta =
            std::fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        meta.permissions().mode() & 0o777
    };
    let home = env.home();
    let daemon = env.daemon();
    let socket = PathBuf::from(daemon["socket"].as_str().expect("a socket"));
    assert_eq!(mode(&home), 0o700);
    for dir in ["journal", "sessions", "run", "log"] {
        assert_eq!(mode(&home.join(dir)), 0o700, "{dir}");
    }
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&home.join("log/daemon.log")), 0o600);
    let listeners = procfs::tcp_listeners(env.daemon_pid());
    assert!(listeners.is_empty(), "a TCP socket: {listeners:?}");

    // Another user does not get through, even where somebody opened the doors.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let binary = env.root().join("cldpd");
    std::fs::copy(BINARY, &binary).expect("our own directory");
    let open = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("we are root");
    };
    open(env.root(), 0o755);
    let sessions = || {
        let program = binary.display().to_string();
        crate::support::process::Cmd::new(&env, &program, ["sessions", "-a"])
            .uid(65534)
            .run()
    };
    let shut = sessions();
    assert_eq!(shut.code, 69, "{}", shut.stderr);
    assert!(!shut.text().contains(&id));
    open(&home, 0o777);
    open(socket.parent().expect("a directory"), 0o777);
    open(&socket, 0o666);
    let opened = sessions();
    assert_ne!(opened.code, 0);
    assert!(
        !opened.text().contains(&id),
        "the peer is asked who it is: {}",
        opened.text()
    );
    open(&home, 0o700);
}

#[test]
fn a106_ids_are_no_paths() {
    let env = TestEnv::new();
    let pod = env.local_pod("ids").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print x]]"]);
    assert_eq!(env.wait(&id), 0);
    let canary = env.home().join("canary");
    std::fs::write(&canary, "alive").expect("the home is ours");
    let absolute = canary.display().to_string();
    for name in [
        "..",
        ".",
        "a/b",
        "../canary",
        &absolute,
        "",
        "a..b",
        "-",
        "a\nb",
        "sessions/..",
    ] {
        for verb in [
            &["rm", "-f"][..],
            &["stop"],
            &["logs"],
            &["inspect"],
            &["kill", "-s", "TERM"],
            &["wait"],
        ] {
            let mut args = verb.to_vec();
            args.extend(["--", name]);
            let output = env.cldpd(&args).run().code(2);
            assert!(
                output.stderr.contains("invalid session id"),
                "{args:?}: {}",
                output.stderr
            );
        }
    }
    let output = env
        .cldpd(["resume", "--prompt", "x", "--", "../canary"])
        .run()
        .code(2);
    assert!(output.stderr.contains("invalid"), "{}", output.stderr);
    assert_eq!(
        std::fs::read_to_string(&canary).expect("it survived"),
        "alive"
    );
    env.cldpd(["rm", &id]).run().ok();
    assert_eq!(
        std::fs::read_to_string(&canary).expect("it survived"),
        "alive"
    );
    assert!(
        env.home()
            .join("pods")
            .join(&pod)
            .join("Dockerfile")
            .exists()
    );
}
