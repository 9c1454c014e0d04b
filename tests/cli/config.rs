//! `cldpd config`, and the variables that go over the file.

use crate::support::TestEnv;
use crate::support::events::outcome;
use serde_json::Value;

/// A setting's value and origin.
fn setting(rows: &Value, key: &str) -> (Value, String) {
    let rows = rows.as_array().expect("a list of settings");
    let row = rows
        .iter()
        .find(|row| row["key"] == key)
        .expect("a setting");
    let origin = row["origin"].as_str().expect("text").to_owned();
    (row["value"].clone(), origin)
}

#[test]
fn every_value_says_where_it_came_from() {
    let env = TestEnv::new();
    env.config("# ours\n[limits]\nmax_parallel = 3\n\n[daemon]\nidle_exit = \"2h\"\n");
    let file = env.home().join("config.toml");
    let rows = env
        .cldpd(["config", "--json", "--docker-host", "unix:///flag.sock"])
        .env("CLDPD_MAX_PARALLEL", "5")
        .run()
        .json();
    assert_eq!(
        setting(&rows, "limits.max_parallel"),
        (5.into(), "CLDPD_MAX_PARALLEL".to_owned())
    );
    assert_eq!(
        setting(&rows, "daemon.idle_exit"),
        ("2h".into(), format!("{}:6", file.display()))
    );
    assert_eq!(
        setting(&rows, "docker.host"),
        ("unix:///flag.sock".into(), "--docker-host".to_owned())
    );
    assert_eq!(
        setting(&rows, "runtime"),
        ("docker".into(), "default".to_owned())
    );
    assert_eq!(setting(&rows, "home").1, "CLDPD_HOME");
    assert!(!env.home().join("run").exists(), "no daemon is needed");

    let table = env.cldpd(["config", "show"]).run().ok();
    assert!(table.starts_with("KEY "), "{table}");
    let wrong = env
        .cldpd(["config"])
        .env("CLDPD_IDLE_EXIT", "soon")
        .run()
        .code(2);
    assert!(
        wrong
            .stderr
            .starts_with("error: CLDPD_IDLE_EXIT = \"soon\" is no duration"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn variables_hold_for_whom_they_are_meant() {
    let env = TestEnv::new();
    env.config("[limits]\nmax_parallel = 3\n");
    let limit = |env: &TestEnv| env.daemon()["max_parallel"].clone();
    env.cldpd(["daemon", "start"])
        .env("CLDPD_MAX_PARALLEL", "2")
        .env("CLDPD_RUNTIME", "local")
        .run()
        .ok();
    assert_eq!(limit(&env), 2);
    let other = env.cldpd(["config"]).run().code(0);
    assert!(other.stderr.contains("daemon restart"), "{}", other.stderr);

    // The daemon took the number, not what commands decide for themselves.
    let pod = env.fake_pod("where").make();
    let id = env.start(&[&pod, "--prompt", "[[print x]]"]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(env.session(&id)["runtime"], "fake");
    let id = env
        .cldpd(["start", "-d", &pod, "--prompt", "[[print x]]"])
        .env("CLDPD_RUNTIME", "local")
        .run()
        .ok();
    let id = id.trim();
    assert_eq!(env.wait(id), 0);
    let row = env.session(id);
    assert_eq!(
        (&row["runtime"], outcome(&row)),
        (&"local".into(), "success")
    );

    env.stop_daemon();
    env.start_daemon();
    assert_eq!(limit(&env), 3);
}
