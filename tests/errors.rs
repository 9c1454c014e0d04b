//! Every error that bad input can meet: what is said, and the exit code.
//!
//! One table. Texts stand here as users see them, with `ROOT` for the test's
//! directory and `TAG` for what makes its names unique. To change a text, change
//! the product and copy what the failing test prints.

use crate::support::env::BINARY;
use crate::support::events::{of_kind, only};
use crate::support::http::{CannedServer, answer};
use crate::support::process::{Cmd, Output};
use crate::support::{TestEnv, engine};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The user who owns nothing.
const NOBODY: u32 = 65534;

pub struct Case {
    /// What is wrong, in the issue's words.
    name: &'static str,
    /// Provokes it.
    provoke: fn(&TestEnv) -> Output,
    /// The exit code.
    code: i32,
    /// Standard error.
    pub stderr: &'static str,
}

pub const TABLE: &[Case] = &[
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
error: pod not found: myrpo: there is no ROOT/c/pods/myrpo
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
error: invalid pod: no Dockerfile in ROOT/c/pods/bare
hint: write one there (exactly so named), or name an image in pod.json
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
error: ROOT/c/pods/syntax/pod.json:2:15: not valid JSON: expected `:`
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
error: ROOT/c/pods/kind/pod.json:2:14: \"workdir\" has to be a string, but is a number
hint: put it in quotes
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
error: ROOT/c/pods/mount/pod.json:2:25: mount source ROOT/u/nowhere does not exist
hint: make it, correct the path, or say \"optional\": true to go without it
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
error: the image cldpd-broken-TAG:latest could not be built: failed to compute cache key: \"/nope\" not found: not found
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
error: the image cldpd-it-arch-TAG:latest cannot be used: it is for FOREIGN, and the engine runs NATIVE
hint: build or pull it for linux/NATIVE
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
error: docker is not available: there is no socket unix:///nowhere/docker.sock (the configured docker host says so)
hint: is the docker daemon running?
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
error: docker is not available: the engine at unix://ROOT/old.sock speaks API 1.23, and at least 1.41 is needed (the configured docker host says so)
hint: upgrade it to Docker 20.10 or newer
",
    },
    Case {
        name: "an engine whose socket is another user's",
        provoke: |env| {
            let socket = env.root().join("denied.sock");
            let _server = CannedServer::new(&socket, |_| answer("200 OK", &[], "{}"));
            set_mode(&socket, 0o000);
            env.config(&format!("[docker]\nhost = \"unix://{}\"\n", socket.display()));
            let pod = env.pod("denied").json(json!({"runtime": "docker"})).make();
            as_nobody(env, &["start", "--prompt", "x", &pod])
        },
        code: 69,
        stderr: "\
error: docker is not available: no permission to open unix://ROOT/denied.sock (the configured docker host says so)
hint: may you use docker at all? usually: sudo usermod -aG docker \"$USER\", then log in again
",
    },
    Case {
        name: "an engine that refuses",
        provoke: |env| {
            let socket = env.root().join("refuses.sock");
            let body = r#"{"message":"authorization denied by plugin"}"#;
            let _server = CannedServer::new(&socket, move |_| answer("403 Forbidden", &[], body));
            env.config(&format!("[docker]\nhost = \"unix://{}\"\n", socket.display()));
            let pod = env.pod("refuses").json(json!({"runtime": "docker"})).make();
            start(env, &pod)
        },
        code: 69,
        stderr: "\
error: docker is not available: the engine at unix://ROOT/refuses.sock refuses: authorization denied by plugin (the configured docker host says so)
",
    },
    Case {
        name: "an id that is unknown",
        provoke: |env| env.cldpd(["logs", "myrepo-0badc0de"]).run(),
        code: 3,
        stderr: "\
error: no session \"myrepo-0badc0de\"
hint: `cldpd sessions -a` lists them all
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
error: \"twin-\" fits 2 sessions:
  twin-ID  ended
  twin-ID  ended
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
        name: "a socket whose path is longer than an address is no error",
        provoke: |env| {
            let home = env.root().join("d".repeat(120));
            let output = env.cldpd(["sessions", "-q"]).env("CLDPD_HOME", &home).run();
            env.cldpd(["daemon", "stop"]).env("CLDPD_HOME", &home).run().ok();
            output
        },
        code: 0,
        stderr: "",
    },
    Case {
        name: "a second daemon",
        provoke: |env| {
            env.start_daemon();
            env.cldpd(["daemon", "run"]).run()
        },
        code: 5,
        stderr: "\
error: another daemon (pid N) has the home ROOT/c
hint: `cldpd daemon stop` ends it; sessions go on
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
error: missing the task: --issue <URL>, --prompt <TEXT> or --prompt-file <FILE>
hint: cldpd start myrepo --prompt \"fix the flaky test\"
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
error: cannot read the prompt from /nowhere/task.md: No such file or directory
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
error: live-ID is live
hint: stop it first, or remove it with --force
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
        let provoked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (case.provoke)(&env)));
        // What went wrong before the error was even met was printed by the panic.
        let Ok(output) = provoked else {
            wrong.push(format!("{}: not provoked", case.name));
            continue;
        };
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

/// Runs the command as somebody whom a file's mode binds: as it is, or for root
/// as the user nobody, whose the whole home is then.
fn as_nobody(env: &TestEnv, args: &[&str]) -> Output {
    if !rustix::process::geteuid().is_root() {
        return env.cldpd(args).run();
    }
    let binary = env.root().join("cldpd");
    std::fs::copy(BINARY, &binary).expect("our own directory");
    set_mode(&binary, 0o755);
    own(env.root());
    let program = binary.display().to_string();
    let output = Cmd::new(env, &program, args).uid(NOBODY).run();
    Cmd::new(env, &program, ["daemon", "stop"])
        .uid(NOBODY)
        .run()
        .ok();
    output
}

/// Gives everything beneath `path` to the user nobody.
fn own(path: &Path) {
    let is_dir = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if path.extension().is_some_and(|ext| ext == "sock") {
        return;
    }
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("we are root");
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if is_dir {
            own(&entry.path());
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("it is ours");
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

fn spools(run: &Path) -> Vec<PathBuf> {
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
        if out.ends_with("DONE ") && c == '.' {
            // A duration, up to its unit.
            word = ".".to_owned();
            continue;
        }
        let hex = word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit());
        if hex && out.ends_with('-') && !word.starts_with("0badc0de") {
            out.push_str("ID");
        } else if word.starts_with('.')
            || (out.ends_with("pid ") && word.chars().all(|c| c.is_ascii_digit()))
        {
            out.push('N');
        } else {
            out.push_str(&word);
        }
        word.clear();
        out.push(c);
    }
    out.pop();
    // Of a command that began to stream, the error is the end.
    let error = out.find("error: ").unwrap_or(0);
    out.split_off(error)
}
