//! `stats`: what agents used, added up.

use crate::support::TestEnv;
use serde_json::{Value, json};

fn rows(env: &TestEnv, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["stats", "--json"];
    all.extend(args);
    let rows = env.cldpd(all).run().json();
    rows.as_array().expect("a list").clone()
}

/// The given fields of a row.
fn fields(row: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| row[*name].clone()).collect()
}

#[test]
fn what_agents_used_is_added_up() {
    let env = TestEnv::new();
    let one = env.local_pod("one").make();
    let two = env.local_pod("two").make();
    let plain = env.local_pod("plain").plain().make();
    let none = rows(&env, &[]);
    assert_eq!(
        fields(&none[0], &["key", "runs", "input"]),
        json!(["total", 0, 0])
    );
    for pod in [&one, &two, &two] {
        env.cldpd(["start", pod, "-l", "team=web", "--prompt", "[[print x]]"])
            .run()
            .ok();
    }
    let failed = env.cldpd(["start", &plain, "--prompt", "[[exit 3]]"]).run();
    failed.code(3);
    let numbers = [
        "sessions",
        "runs",
        "succeeded",
        "live",
        "input",
        "output",
        "cost_usd",
    ];
    let total = rows(&env, &[]);
    assert_eq!(total.len(), 1);
    assert_eq!(
        fields(&total[0], &numbers),
        json!([4, 4, 3, 0, 30, 15, 0.03])
    );

    let pods = rows(&env, &["--by", "pod"]);
    let found: Vec<Value> = pods
        .iter()
        .map(|row| fields(row, &["key", "runs", "cost_usd"]))
        .collect();
    assert_eq!(
        found,
        [
            json!(["one", 1, 0.01]),
            json!(["plain", 1, null]),
            json!(["two", 2, 0.02]),
        ]
    );
    let agents = rows(&env, &["--by", "agent"]);
    let found: Vec<Value> = agents
        .iter()
        .map(|row| fields(row, &["key", "runs", "input"]))
        .collect();
    assert_eq!(found, [json!(["claude", 3, 30]), json!(["command", 1, 0])]);
    let models = rows(&env, &["--by", "model"]);
    assert_eq!(
        fields(&models[0], &["key", "runs"]),
        json!(["", 1]),
        "it said nothing"
    );
    assert_eq!(fields(&models[1], &["runs", "input"]), json!([3, 30]));
    let newest = env.cldpd(["sessions", "-aq", "--limit", "1"]).run().ok();
    let today = env.session(newest.trim());
    let days = rows(&env, &["--by", "day"]);
    let last = days.last().expect("a day");
    assert_eq!(
        last["key"],
        today["created"].as_str().expect("a time")[..10]
    );

    assert_eq!(rows(&env, &["-l", "team=web"])[0]["runs"], 3);
    assert_eq!(rows(&env, &["--pod", &two])[0]["runs"], 2);
    assert_eq!(
        rows(&env, &["--since", "2200-01-01T00:00:00Z"])[0]["runs"],
        0
    );
    assert_eq!(
        rows(&env, &["--until", "2020-01-01T00:00:00Z", "--by", "pod"]).len(),
        0
    );

    let table = env.cldpd(["stats", "--by", "pod"]).run().ok();
    let words: Vec<&str> = table
        .lines()
        .last()
        .expect("a line")
        .split_whitespace()
        .collect();
    assert_eq!(
        words[..7],
        ["two", "2", "2", "2", "2", "20", "10"],
        "{table}"
    );
    assert_eq!(words[9], "$0.02", "{table}");
    let listed = env.cldpd(["sessions", "-a", "--pod", &one]).run().ok();
    assert!(
        listed.contains("$0.01") && listed.contains(" 15 "),
        "{listed}"
    );
    // What is history counts on; what is gone does not.
    env.cldpd(["rm", "--history", "--pod", &two, "--yes"])
        .run()
        .ok();
    assert_eq!(rows(&env, &[])[0]["runs"], 2);
}
