//! 5.15: what fails inside the daemon costs nobody anything but that.

use crate::support::events::{assert_dense, of_kind, only, outcome};
use crate::support::{TestEnv, engine, numbered, procfs, ticks};
use serde_json::Value;

/// Starts the daemon with fail points that are armed.
fn armed(env: &TestEnv, points: &str) {
    let start = env.cldpd(["daemon", "start"]);
    start.env("CLDPD_FAILPOINTS", points).run().ok();
}

fn notes<'e>(events: &'e [Value], code: &str) -> Vec<&'e Value> {
    let notes = of_kind(events, "note").into_iter();
    notes.filter(|note| note["code"] == code).collect()
}

#[test]
fn a124_a_panic_costs_one_session_at_most() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let steady = env.local_pod("steady").plain().make();
    let shaky = env.local_pod("shaky").plain().make();
    let broken = env.docker_pod("broken").plain().make();
    // One panics in its actor and in its driver, and one whenever it is to read
    // what its agent says.
    armed(
        &env,
        &format!(
            "session.append/{shaky}=panic@4;driver.step/{shaky}=panic@3;driver.step/{broken}=panic@2+"
        ),
    );
    let prompt = "[[linesflush 300]][[tick 60 25]][[exit 7]]";
    let others = env.start_many(&[&steady, "--count", "20", "--prompt", prompt]);
    let twice = env.start(&[&shaky, "--prompt", prompt]);
    let never = format!("[[print up]]{}[[print down]]", gate.hold());
    let never = env.start(&[&broken, "--prompt", &never]);

    // It is given up after some tries, and that is recorded.
    assert_ne!(env.wait(&never), 0);
    let row = env.session(&never);
    assert_eq!(
        (outcome(&row), &row["state"]),
        ("failed", &Value::from("ended"))
    );
    let events = env.events(&never);
    assert_dense(&events);
    let error = only(&events, "error");
    assert_eq!(error["code"], "internal");
    let container = format!("cldpd-{never}-r0");
    let message = error["message"].as_str().expect("words");
    assert!(message.contains(&container), "{message}");
    // Its container is untouched: the agent still stands at the gate.
    let state = engine::inspect(&container).state.expect("a state");
    assert_eq!(state.running, Some(true));
    gate.open();
    engine::await_exit(&container);
    env.cldpd(["rm", &never]).run().ok();
    assert!(!engine::container_exists(&container));

    // The other one goes on from what is durable, and its agent never knew.
    assert_eq!(env.wait(&twice), 7);
    let events = env.events(&twice);
    assert_dense(&events);
    assert_eq!(env.said(&twice), numbered(300) + &ticks(60));
    assert_eq!(of_kind(&events, "run_started").len(), 1);
    assert_eq!(of_kind(&events, "error").len(), 0);
    let noted = notes(&events, "adopted");
    assert!(!noted.is_empty(), "it says that it was taken up again");
    for note in noted {
        let message = note["message"].as_str().expect("words");
        assert!(message.contains("failed"), "{message}");
    }

    for id in &others {
        assert_eq!(env.wait(id), 7);
        assert_eq!(env.said(id), numbered(300) + &ticks(60));
        let events = env.events(id);
        assert_dense(&events);
        assert!(notes(&events, "adopted").is_empty(), "{id} was not touched");
    }
}

#[test]
fn a_panic_where_all_depend_on_it_ends_the_daemon_and_the_next_one_goes_on() {
    let env = TestEnv::new();
    let pod = env.local_pod("adopted").plain().make();
    let prompt = "[[linesflush 500]][[tick 40 25]][[exit 3]]";
    armed(&env, "journal.commit=panic@40");
    let pid = env.daemon_pid();
    let ids = env.start_many(&[&pod, "--count", "5", "--prompt", prompt]);
    procfs::await_death(pid);
    env.start_daemon();
    for id in &ids {
        assert_eq!(env.wait(id), 3);
        assert_eq!(env.said(id), numbered(500) + &ticks(40));
        assert_eq!(of_kind(&env.events(id), "run_started").len(), 1);
    }
}
