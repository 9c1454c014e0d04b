//! Every error that bad input can meet: what is said, and the exit code.
//!
//! One table. Texts stand here as users see them, with `ROOT` for the test's
//! directory and `TAG` for what makes its names unique. To change a text, change
//! the product and copy what the failing test prints.

use crate::support::events::{of_kind, only};
use crate::support::http::{CannedServer, answer};
use crate::support::process::Output;
use crate::support::{TestEnv, engine};
use serde_json::json;
use std::path::PathBuf;

struct Case {
    /// What is wrong, in the issue's words.
    name: &'static str,
    /// Provokes it.
    provoke: fn(&TestEnv) -> Output,
    /// The exit code.
    code: i32,
    /// Standard error.
    stderr: &'static str,
}

const TABLE: &[Case] = &[
    Case {
        name: "a pod's name that is a path",
        provoke: |env| start(env, "../evil"),
        code: 125,
        stderr: "\
error: invalid pod name \"../evil\"
hint: a pod is named by lower-case letters and digits, with . _ __ or - between them, at most 63 of them
",
    },
    Case {
        name: "a pod's name in upper case",
        provoke: |env| start(env, "MyRepo"),
        code: 125,
        stderr: "\
error: invalid pod name \"MyRepo\"
hint: write it in lower case: myrepo
",
    },
    Case {
        name: "a pod that is not there",
        provoke: |env| {
            env.pod("myrepo").make();
            start(env, "myrpo")
        },
        code: 3,
        stderr: "\
error: pod \"myrpo\" not found in ROOT/c/pods
hint: did you mean myrepo?
",
    },
    Case {
        name: "a pod's directory without a Dockerfile",
        provoke: |env| {
            let pod = env.pod("bare").no_dockerfile().make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: ROOT/c/pods/bare/Dockerfile: not found
hint: write one, or name an image in pod.json
",
    },
    Case {
        name: "a pod.json that is no JSON",
        provoke: |env| {
            let pod = env.pod("syntax").raw_json("{\n  \"env\": {\"A\" \"b\"}\n}\n").make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: ROOT/c/pods/syntax/pod.json:2:15: expected `:`
",
    },
    Case {
        name: "a pod.json with an unknown key",
        provoke: |env| {
            let pod = env.pod("key").raw_json("{\n  \"mount\": []\n}\n").make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: ROOT/c/pods/key/pod.json:2:3: unknown key \"mount\"
hint: did you mean \"mounts\"?
",
    },
    Case {
        name: "a pod.json with a value of the wrong kind",
        provoke: |env| {
            let pod = env.pod("kind").raw_json("{\n  \"workdir\": 7\n}\n").make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: ROOT/c/pods/kind/pod.json:2:14: \"workdir\": expected a string, found a number
",
    },
    Case {
        name: "a mount's source that is not there",
        provoke: |env| {
            let pod = env
                .pod("mount")
                .raw_json("{\n  \"mounts\": [{\"source\": \"~/nowhere\", \"target\": \"/x\"}]\n}\n")
                .make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: ROOT/c/pods/mount/pod.json:2:25: \"mounts[0].source\": ROOT/u/nowhere does not exist
",
    },
    Case {
        name: "an image that does not build",
        provoke: |env| {
            let pod = env.docker_pod("broken").dockerfile("FROM scratch\nCOPY nope /\n").make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: the image cldpd-broken-TAG could not be built: COPY failed: nope: not found
",
    },
    Case {
        name: "an image for another architecture",
        provoke: |env| {
            let image = format!("cldpd-it-arch-{}", env.tag());
            env.owns_image(&image);
            engine::load_image_for(&image, foreign_architecture());
            let pod = env.docker_pod("arch").no_dockerfile().json(json!({"image": image})).make();
            start(env, &pod)
        },
        code: 125,
        stderr: "\
error: the image cldpd-it-arch-TAG cannot be used: it is for FOREIGN, and this engine is NATIVE
",
    },
    Case {
        name: "an engine that is down",
        provoke: |env| {
            env.config("[docker]\nhost = \"unix:///nowhere/docker.sock\"\n");
            let pod = env.pod("down").json(json!({"runtime": "docker"})).make();
            start(env, &pod)
        },
        code: 69,
        stderr: "\
error: docker is not available: /nowhere/docker.sock: No such file or directory
hint: start the engine, or see `cldpd doctor`
",
    },
    Case {
        name: "an engine that is too old",
        provoke: |env| {
            let socket = env.root().join("old.sock");
            let body = r#"{"Version":"1.11.0","ApiVersion":"1.23","MinAPIVersion":"1.12","Os":"linux","Arch":"amd64"}"#;
            let _server = CannedServer::new(&socket, |_| {
                answer("200 OK", &[("Api-Version", "1.23"), ("Server", "Docker/1.11.0 (linux)")], body)
            });
            env.config(&format!("[docker]\nhost = \"unix://{}\"\n", socket.display()));
            let pod = env.pod("old").json(json!({"runtime": "docker"})).make();
            start(env, &pod)
        },
        code: 69,
        stderr: "\
error: docker is not available: the engine at unix://ROOT/old.sock speaks API 1.23, and 1.41 is needed
hint: upgrade the engine to 20.10 or newer
",
    },
    Case {
        name: "an engine that does not permit it",
        provoke: |env| {
            let socket = env.root().join("denied.sock");
            let server = answer("403 Forbidden", &[], r#"{"message":"authorization denied by plugin"}"#);
            let _server = CannedServer::new(&socket, move |_| server.clone());
            env.config(&format!("[docker]\nhost = \"unix://{}\"\n", socket.display()));
            let pod = env.pod("denied").json(json!({"runtime": "docker"})).make();
            start(env, &pod)
        },
        code: 69,
        stderr: "\
error: docker is not available: the engine at unix://ROOT/denied.sock refuses: authorization denied by plugin
",
    },
    Case {
        name: "an id that is unknown",
        provoke: |env| env.cldpd(["logs", "myrepo-0badc0de"]).run(),
        code: 3,
        stderr: "\
error: session \"myrepo-0badc0de\" not found
hint: see `cldpd sessions -a` for the sessions there are
",
    },
    Case {
        name: "an id that is a path",
        provoke: |env| env.cldpd(["logs", "../x"]).run(),
        code: 2,
        stderr: "\
error: invalid session id \"../x\"
hint: see `cldpd sessions -a` for the sessions there are
",
    },
    Case {
        name: "an id that is ambiguous",
        provoke: |env| {
            let pod = env.fake_pod("twin").make();
            for id in env.start_many(&[&pod, "--count", "2", "--prompt", "[[exit 0]]"]) {
                env.wait(&id);
            }
            env.cldpd(["logs", "twin-"]).run()
        },
        code: 2,
        stderr: "\
error: \"twin-\" fits several sessions:
  twin-ID
  twin-ID
hint: name one of them
",
    },
    Case {
        name: "a socket that is stale is no error",
        provoke: |env| {
            env.start_daemon();
            env.kill_daemon();
            env.cldpd(["sessions", "-q"]).run()
        },
        code: 0,
        stderr: "",
    },
    Case {
        name: "a socket where somebody else listens",
        provoke: |env| {
            let socket = daemon_socket(env);
            let _server = CannedServer::new(&socket, |_| "SSH-2.0-OpenSSH_9.2\r\n".to_owned());
            let output = env.cldpd(["sessions"]).run();
            std::fs::remove_file(socket).expect("still there");
            output
        },
        code: 69,
        stderr: "\
error: what listens at ROOT/c/run/cldpd.sock is no cldpd daemon
hint: end it, or remove the socket, or set CLDPD_HOME to another directory
",
    },
    Case {
        name: "a home whose socket's path would be too long",
        provoke: |env| {
            let home = env.root().join("d".repeat(120));
            env.cldpd(["sessions", "-q"]).env("CLDPD_HOME", &home).run()
        },
        code: 69,
        stderr: "\
error: the socket's path is too long: ROOT/dddd
hint: set CLDPD_HOME to a shorter path
",
    },
    Case {
        name: "a second daemon",
        provoke: |env| {
            env.start_daemon();
            env.cldpd(["daemon", "run"]).run()
        },
        code: 1,
        stderr: "\
error: a daemon runs already for ROOT/c (pid N)
hint: see `cldpd daemon status`
",
    },
    Case {
        name: "a daemon of another version",
        provoke: |env| {
            let socket = daemon_socket(env);
            let _server = CannedServer::new(&socket, |_| {
                let body = r#"{"code":"session_not_found","message":"not here"}"#;
                answer("200 OK", &[("cldpd-version", "99.1.0")], body)
            });
            let output = env.cldpd(["sessions"]).run();
            std::fs::remove_file(socket).expect("still there");
            output
        },
        code: 69,
        stderr: "\
error: the daemon is version 99.1.0, and this is VERSION
hint: `cldpd daemon restart` (sessions go on)
",
    },
    Case {
        name: "no prompt",
        provoke: |env| {
            env.pod("p").make();
            env.cldpd(["start", "p"]).run()
        },
        code: 2,
        stderr: "\
error: the following required arguments were not provided:
  <--issue <URL>|--prompt <TEXT>|--prompt-file <FILE>>

Usage: cldpd start <--issue <URL>|--prompt <TEXT>|--prompt-file <FILE>> <POD>...

For more information, try '--help'.
",
    },
    Case {
        name: "a prompt's file that is not there",
        provoke: |env| {
            env.pod("p").make();
            env.cldpd(["start", "p", "--prompt-file", "/nowhere/task.md"]).run()
        },
        code: 2,
        stderr: "\
error: cannot read /nowhere/task.md: No such file or directory
",
    },
    Case {
        name: "a live session that is to be removed",
        provoke: |env| {
            let gate = env.gate("hold");
            let pod = env.fake_pod("live").plain().make();
            let id = env.start(&[&pod, "--prompt", &format!("[[print up]]{}", gate.hold())]);
            env.await_line(&id, "up");
            let output = env.cldpd(["rm", &id]).run();
            gate.open();
            env.wait(&id);
            output
        },
        code: 5,
        stderr: "\
error: session live-ID is running
hint: stop it first, or `cldpd rm -f live-ID`
",
    },
];

/// What the table cannot show by one command's standard error.
#[test]
fn a_spool_that_was_tampered_with_is_told_and_ends_its_capture_only() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("forged").plain().make();
    let prompt = format!(
        "[[lines 2000]][[print ready]]{}[[print after]][[exit 3]]",
        gate.hold()
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&id, "ready");
    let healthy = env.start(&[&pod, "--prompt", "[[print well]][[exit 0]]"]);
    env.wait(&healthy);
    env.kill_daemon();
    let ulid = {
        let all = env.session_dirs();
        all.into_iter()
            .find(|dir| {
                let path = env.home().join("sessions").join(dir).join("r0.1/ctl.sock");
                path.exists() && dir.as_str() <= all_min(&env).as_str()
            })
            .expect("the first session's directory")
    };
    let run = env.home().join("sessions").join(&ulid).join("r0.1");
    for spool in spools(&run) {
        let mut bytes = std::fs::read(&spool).expect("a spool");
        let middle = bytes.len() / 2;
        for byte in &mut bytes[64..middle] {
            *byte ^= 0x5a;
        }
        std::fs::write(&spool, bytes).expect("it is ours");
    }
    env.start_daemon();
    gate.open();
    env.wait(&id);
    let events = env.events(&id);
    let note = of_kind(&events, "note")
        .into_iter()
        .find(|e| e["code"] == "spool_damaged")
        .unwrap_or_else(|| panic!("a note in {:?}", of_kind(&events, "note")));
    assert!(
        note["message"].as_str().is_some_and(|m| !m.is_empty()),
        "{note}"
    );
    assert_eq!(of_kind(&events, "run_ended").len(), 1);
    // Whatever it did to itself, others and the daemon are well.
    assert_eq!(
        only(&env.events(&healthy), "run_ended")["outcome"],
        "success"
    );
    let again = env.start(&[&pod, "--prompt", "[[print on]]"]);
    assert_eq!(env.wait(&again), 0);
    assert_eq!(env.said(&again), "on\n");
}

#[test]
fn every_error_names_the_thing_and_the_way_out() {
    let mut wrong = Vec::new();
    for case in TABLE {
        let env = TestEnv::new();
        let output = (case.provoke)(&env);
        let stderr = redact(&env, &output.stderr);
        if output.code != case.code || stderr != case.stderr || !output.stdout.is_empty() {
            wrong.push(format!(
                "{}: {}\n  expected {} and\n{}\n  got {} and\n{}\n  with standard output {:?}\n",
                case.name,
                output.what,
                case.code,
                case.stderr,
                output.code,
                stderr,
                String::from_utf8_lossy(&output.stdout),
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        TABLE.len(),
        wrong.join("\n")
    );
}

fn start(env: &TestEnv, pod: &str) -> Output {
    env.cldpd(["start", "--prompt", "[[exit 0]]", "--", pod])
        .run()
}

/// Where a daemon of this home would listen; none does.
fn daemon_socket(env: &TestEnv) -> PathBuf {
    env.start_daemon();
    let socket = env.daemon()["socket"]
        .as_str()
        .expect("a socket")
        .to_owned();
    env.stop_daemon();
    PathBuf::from(socket)
}

/// The ULID of the session that was dispatched first.
fn all_min(env: &TestEnv) -> String {
    env.session_dirs().into_iter().min().expect("a session")
}

fn spools(run: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run).expect("the run's directory");
    let paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("spool."))
        .map(|e| e.path())
        .collect();
    assert!(!paths.is_empty(), "a spool in {}", run.display());
    paths
}

fn foreign_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "amd64"
    } else {
        "arm64"
    }
}

fn native_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

/// Without what differs from one run of the tests to the next.
fn redact(env: &TestEnv, text: &str) -> String {
    let text = env
        .redact(text)
        .replace(&"d".repeat(120), "dddd")
        .replace(foreign_architecture(), "FOREIGN")
        .replace(native_architecture(), "NATIVE")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        let hex = word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit());
        if hex && out.ends_with('-') && !word.starts_with("0badc0de") {
            out.push_str("ID");
        } else if out.ends_with("pid ") && word.chars().all(|c| c.is_ascii_digit()) {
            out.push('N');
        } else {
            out.push_str(&word);
        }
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}
