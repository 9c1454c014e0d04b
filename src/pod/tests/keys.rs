//! Limits, users, copies, secrets and durations, and what the engine's socket is worth.

use super::*;
use crate::model::spec::{CopyFile, SecretKind, SecretSource, SecretSpec};

#[test]
fn limits_are_read_in_their_units() {
    for (json, memory) in [
        (r#"{"memory": 512}"#, Some(536_870_912)),
        (r#"{"memory": 512.0}"#, Some(536_870_912)),
        (r#"{"memory": "2g"}"#, Some(2 << 30)),
        (r#"{"memory": "512m"}"#, Some(536_870_912)),
        (r#"{"memory": 0}"#, Some(0)),
        ("{}", None),
    ] {
        assert_eq!(Home::with(json).load().spec.memory, memory, "{json}");
    }
    let pod = Home::with(
        r#"{"cpus": 1.5, "pids": 64, "shm": "1g", "user": "node:staff", "timeout": "1h30m"}"#,
    )
    .load();
    assert_eq!(pod.spec.nano_cpus, Some(1_500_000_000));
    assert_eq!(pod.spec.pids, Some(64));
    assert_eq!(pod.spec.shm, Some(1 << 30));
    assert_eq!(pod.spec.user.as_deref(), Some("node:staff"));
    assert_eq!(pod.timeout, Some(5400));
    let pod = Home::with(r#"{"cpus": 0, "pids": 0, "shm": 0, "user": 1000, "timeout": 0}"#).load();
    let spec = &pod.spec;
    assert_eq!(
        (spec.nano_cpus, spec.pids, spec.shm),
        (Some(0), Some(0), Some(0))
    );
    assert_eq!((spec.user.as_deref(), pod.timeout), (Some("1000"), None));
    let pod = Home::with(r#"{"timeout": 90}"#).load();
    assert_eq!(pod.timeout, Some(90));
    let bounds = r#"{"maxTurns": 40, "maxCost": 2.5, "idleTimeout": "20m", "retries": 3}"#;
    let bounds = Home::with(bounds).load().bounds;
    assert_eq!(
        (bounds.max_turns, bounds.idle_timeout),
        (Some(40), Some(1200))
    );
    assert_eq!(bounds.max_cost.map(f64::from), Some(2.5));
    assert_eq!(bounds.retries(), 3);
    let none = r#"{"maxTurns": 0, "maxCost": 0, "idleTimeout": 0}"#;
    let none = Home::with(none).load().bounds;
    assert_eq!(
        (none.turns(), none.cost(), none.silence()),
        (None, None, None)
    );
    assert_eq!(none.idle_timeout, Some(0), "which goes over the settings");
}

#[test]
fn wrong_limits_say_what_was_expected() {
    let home = Home::with(
        r#"{"memory": -1,
"shm": "lots",
"cpus": "two",
"pids": 1.5,
"timeout": "90",
"user": "a b"}"#,
    );
    assert_eq!(
        home.wrong(),
        [
            "pod.json:1:12: \"memory\" has to be a number of MiB such as 512, or a size such as \"2g\", but is -1",
            "pod.json:2:8: \"shm\" has to be a number of MiB such as 512, or a size such as \"2g\", but is \"lots\"",
            "pod.json:3:9: \"cpus\" has to be a number such as 1.5, but is a string",
            "pod.json:4:9: \"pids\" has to be a whole number such as 512, but is 1.5",
            "pod.json:5:12: \"timeout\" has to be a number of seconds such as 90, or a duration such as \"30m\", but is \"90\"",
            "pod.json:6:9: \"user\" has to be a name or number, with a group if need be, such as \"1000:1000\", but is \"a b\"",
        ]
    );
    assert_eq!(
        home.pods().check("p")[0].hint().as_deref(),
        Some("0 is unlimited")
    );
    for (json, part) in [
        (r#"{"memory": "512"}"#, "\"2g\", but is \"512\""),
        (r#"{"memory": 1}"#, "less than 6 MiB"),
        (r#"{"memory": true}"#, "\"2g\", but is a boolean"),
        (r#"{"memory": 1.5}"#, "but is 1.5"),
        (r#"{"memory": 1e300}"#, "but is 1e+300"),
        (r#"{"memory": 9007199254740992}"#, "but is 9007199254740992"),
        (r#"{"cpus": -0.5}"#, "1.5, but is -0.5"),
        (r#"{"cpus": 0.001}"#, "but is 0.001"),
        (r#"{"cpus": 1e9}"#, "but is 1000000000.0"),
        (r#"{"pids": -1}"#, "but is -1"),
        (r#"{"pids": 4294967296}"#, "but is 4294967296"),
        (r#"{"timeout": -1}"#, "\"30m\", but is -1"),
        (r#"{"timeout": []}"#, "\"30m\", but is a list"),
        (r#"{"timeout": "999999w"}"#, "but is \"999999w\""),
        (r#"{"maxTurns": 1.5}"#, "such as 40, but is 1.5"),
        (r#"{"maxTurns": "9"}"#, "such as 40, but is a string"),
        (r#"{"retries": 11}"#, "from 0 to 10, but is 11"),
        (r#"{"retries": "3"}"#, "from 0 to 10, but is a string"),
        (r#"{"maxCost": -1}"#, "such as 2.5, but is -1"),
        (r#"{"maxCost": "5"}"#, "such as 2.5, but is a string"),
        (r#"{"idleTimeout": "soon"}"#, "\"30m\", but is \"soon\""),
        (r#"{"user": ""}"#, "but is \"\""),
        (r#"{"user": "a:b:c"}"#, "but is \"a:b:c\""),
        (r#"{"user": -1}"#, "\"1000:1000\""),
        (r#"{"user": null}"#, "but is null"),
    ] {
        let wrong = Home::with(json).wrong();
        assert_eq!(wrong.len(), 1, "{json}: {wrong:?}");
        assert!(wrong[0].contains(part), "{json}: {wrong:?}");
    }
}

#[test]
fn copies_are_expanded_and_checked() {
    let home = Home::with(
        r#"{"copy": [{"source": "~/.claude.json", "target": "~/.claude.json"},
{"source": "conf", "target": "/etc//agent/./conf"}, {"source": "~/gone", "target": "~/gone", "optional": true}]}"#,
    );
    home.write("user/.claude.json", "{}");
    home.write("pods/p/conf/x", "");
    let pod = home.load();
    let copy = |source: PathBuf, target: &str| CopyFile {
        source,
        target: target.to_owned(),
    };
    assert_eq!(
        pod.spec.copy,
        [
            copy(home.path().join("user/.claude.json"), "~/.claude.json"),
            copy(pod.spec.dir.join("conf"), "/etc/agent/conf"),
        ]
    );

    let home = Home::with(
        r#"{"copy": [{"source": "~bob/x", "target": "/a"},
{"source": "/no/such/thing", "target": "/b"},
{"source": ".", "target": "rel"},
{"source": ".", "target": "~"},
{"source": ".", "target": "~/../x"},
{"source": ".", "target": "/.cldpd/x"},
{"source": ".", "target": "/c"}, {"source": ".", "target": "/c/"},
{"target": "/d", "readOnly": true}]}"#,
    );
    assert_eq!(
        home.wrong(),
        [
            "pod.json:1:22: \"copy[0].source\" is \"~bob/x\": the form ~bob/ is not supported",
            "pod.json:2:12: copy source /no/such/thing does not exist",
            "pod.json:3:27: \"copy[2].target\" has to be an absolute path in the container, or begin with ~/: \"rel\"",
            "pod.json:4:27: \"copy[3].target\" must not be the whole home, but something in it: \"~\"",
            "pod.json:5:27: \"copy[4].target\" must not have .. in it: \"~/../x\"",
            "pod.json:6:27: \"copy[5].target\" must not be at or below /.cldpd, which is cldpd's own: \"/.cldpd/x\"",
            "pod.json:7:60: \"copy[7].target\" is taken by an earlier one: \"/c/\"",
            "pod.json:8:1: copy[8] has no \"source\"",
            "pod.json:8:18: unknown key \"copy[8].readOnly\"",
        ]
    );
}

#[test]
fn secrets_say_where_their_values_are() {
    let home = Home::with(
        r#"{"secrets": [{"name": "NPM_TOKEN"}, {"name": "NPM_TOKEN", "as": "build"},
{"name": "deploy.pem", "file": "~/key", "as": "file"}, {"name": "npm-token", "env": "T", "as": "build"}]}"#,
    );
    home.write("user/key", "hush");
    let secret = |name: &str, source, kind| SecretSpec {
        name: name.to_owned(),
        source,
        kind,
    };
    let env = |name: &str| SecretSource::Env(name.to_owned());
    assert_eq!(
        home.load().spec.secrets,
        [
            secret("NPM_TOKEN", env("NPM_TOKEN"), SecretKind::Env),
            secret("NPM_TOKEN", env("NPM_TOKEN"), SecretKind::Build),
            secret(
                "deploy.pem",
                SecretSource::File(home.path().join("user/key")),
                SecretKind::File
            ),
            secret("npm-token", env("T"), SecretKind::Build),
        ]
    );

    let home = Home::with(
        r#"{"env": {"A": "x"},
"secrets": [{"name": "1-hush"}, {"name": "B", "env": "=hush"},
{"name": "C", "env": "C", "file": "Dockerfile"},
{"name": "D", "file": "gone"}, {"name": "D", "file": "."},
{"name": "a.b", "as": "build"}, {"name": "..", "env": "X", "as": "file"},
{"name": "E"}, {"name": "E", "env": "F"},
{"name": "A"}, {"name": "G", "as": "volume"}, {}]}"#,
    );
    let wrong = home.wrong();
    let dir = home.path().join("pods/p");
    let expected = [
        "pod.json:1:10: \"env.A\" is given by \"secrets\" too".to_owned(),
        "pod.json:2:22: \"secrets[0].name\" is no variable's name: letters, digits and _, as in \"NPM_TOKEN\"".to_owned(),
        "pod.json:2:54: \"secrets[1].env\" is no variable's name: letters, digits and _, as in \"NPM_TOKEN\"".to_owned(),
        "pod.json:3:35: \"secrets[2].file\" cannot be there beside \"env\"".to_owned(),
        format!("pod.json:4:23: secret's file {}/gone does not exist", dir.display()),
        format!("pod.json:4:54: secret's file {} cannot be used: it is no file", dir.display()),
        "pod.json:5:10: \"secrets[5].name\" is no variable's name, and nothing else says where the value is".to_owned(),
        "pod.json:5:42: \"secrets[6].name\" is no file's name: letters, digits and . _ -, as in \"deploy.pem\"".to_owned(),
        "pod.json:6:25: \"secrets[8].name\" is the name of an earlier secret of the same kind".to_owned(),
        "pod.json:7:36: \"secrets[10].as\" has to be \"env\", \"file\" or \"build\", but is \"volume\"".to_owned(),
        "pod.json:7:47: secrets[11] has no \"name\"".to_owned(),
    ];
    let prefix = format!("{}/", dir.display());
    let expected: Vec<String> = expected.map(|text| text.replace(&prefix, "")).into();
    assert_eq!(wrong, expected);
    assert!(!wrong.iter().any(|text| text.contains("hush")), "{wrong:?}");
}

#[test]
fn a_mount_of_the_engines_socket_is_said() {
    let home = Home::with(
        r#"{"mounts": [{"source": "docker.sock", "target": "/var/run/docker.sock"}, {"source": ".", "target": "/p"}]}"#,
    );
    home.write("pods/p/docker.sock", "");
    let pod = home.load();
    let socket = pod.spec.dir.join("docker.sock");
    let expected = format!(
        "pod p mounts the docker socket {}: what runs there controls this machine",
        socket.display()
    );
    assert_eq!(pod.warnings, [expected]);
    assert!(Home::with("{}").load().warnings.is_empty());
}
