//! Agents that fall silent: told, and stopped where that is settled.

use crate::support::TestEnv;
use crate::support::events::{of_kind, only, outcome};
use serde_json::Value;

fn coded<'e>(events: &'e [Value], code: &str) -> Vec<&'e Value> {
    let notes = of_kind(events, "note").into_iter();
    notes.filter(|note| note["code"] == code).collect()
}

#[test]
fn a_silence_is_noted_once_each_time_and_changes_nothing() {
    let env = TestEnv::new();
    env.config("[agents]\nsilent_after = \"150ms\"\n");
    let pod = env.local_pod("silent").plain().make();
    let gates = [env.gate("first"), env.gate("second")];
    let prompt = format!(
        "[[print one]]{}[[print two]]{}[[print three]][[exit 5]]",
        gates[0].hold(),
        gates[1].hold()
    );
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    for gate in &gates {
        follow.line("\"code\":\"silent\"");
        gate.open();
    }
    assert_eq!(env.wait(&id), 5);
    assert_eq!(env.said(&id), "one\ntwo\nthree\n");
    // Once for each silence: something was said between any two.
    let events = env.events(&id);
    let told = events.iter().filter_map(|event| match &event["kind"] {
        kind if kind == "output" => Some(false),
        _ => (event["code"] == "silent").then_some(true),
    });
    let told: Vec<bool> = told.collect();
    assert!(
        !told.windows(2).any(|pair| pair == [true, true]),
        "{told:?}"
    );
    assert_eq!(outcome(&env.session(&id)), "failed");
}

#[test]
fn an_agent_that_lingers_after_its_result_is_noted_as_that() {
    let env = TestEnv::new();
    env.config("[agents]\nlinger_after = \"150ms\"\n");
    let gate = env.gate("hold");
    let pod = env.local_pod("lingers").make();
    let prompt = format!("[[print done]][[done]]{}", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let follow = env.cldpd(["logs", "-f", "--format", "jsonl", &id]).spawn();
    follow.line("\"code\":\"lingers\"");
    gate.open();
    assert_eq!(env.wait(&id), 0);
    assert_eq!(outcome(&env.session(&id)), "success");
}

#[test]
fn a_silent_agent_is_stopped_where_that_is_settled() {
    let env = TestEnv::new();
    env.config("[agents]\nsilent_after = \"2s\"\non_silence = \"stop\"\n");
    let pod = env.local_pod("stopped").plain().make();
    let prompt = "[[print up]][[sleep 600000]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    assert_ne!(env.wait(&id), 0);
    assert_eq!(outcome(&env.session(&id)), "idle");
    let events = env.events(&id);
    assert_eq!(only(&events, "stopping")["by"], "silence");
    assert_eq!(coded(&events, "silent").len(), 1);
    assert_eq!(env.said(&id), "up\n");
}

#[test]
fn an_agent_that_lingers_is_told_to_go_and_its_result_counts() {
    let env = TestEnv::new();
    env.config(
        "[agents]\nsilent_after = \"never\"\nlinger_after = \"150ms\"\non_silence = \"stop\"\n",
    );
    let pod = env.local_pod("told-to-go").make();
    let prompt = "[[print done]][[done]][[sleep 600000]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    assert_eq!(env.wait(&id), 0);
    assert_eq!(outcome(&env.session(&id)), "success");
    let events = env.events(&id);
    assert_eq!(only(&events, "stopping")["by"], "lingering");
    assert_eq!(coded(&events, "lingers").len(), 1);
}

#[test]
fn an_agent_that_works_on_after_a_result_does_not_linger() {
    let env = TestEnv::new();
    env.config(
        "[agents]\nsilent_after = \"2s\"\nlinger_after = \"100ms\"\non_silence = \"stop\"\n",
    );
    let pod = env.local_pod("works-on").make();
    let prompt = "[[print done]][[turn]][[print more]][[sleep 600000]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    assert_ne!(env.wait(&id), 0);
    // Its first result says nothing of how its second turn went.
    assert_eq!(outcome(&env.session(&id)), "idle");
    assert_eq!(coded(&env.events(&id), "lingers").len(), 0);
}
