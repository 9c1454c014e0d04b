//! Codex.

use crate::agent::CODEX;
use crate::cases;
use crate::ledger::Told;
use crate::world::World;
use serde_json::json;

#[test]
fn a_prompt_its_tools_and_the_next_one() {
    // It counts for the whole thread: the second run's figures are what is new.
    let [first, _] = cases::tools_and_resume(&CODEX);
    assert_eq!(first.agent_events("thinking")[0]["text"], "Where am I?");
    assert_eq!(first.agent_events("tool_result")[1]["is_error"], true);
}

#[test]
fn a_killed_run_is_gone_on_with() {
    let (first, second, sum) = cases::killed_and_resumed(&CODEX);
    // It says nothing of a run that was killed, and all of it with the next one.
    assert_eq!(sum, Told::sum(&[&first.dispensed, &second.dispensed]));
}

#[test]
fn an_interrupted_run_is_no_success() {
    assert_eq!(cases::interrupted(&CODEX).code, 1);
}

#[test]
fn a_stopped_run_says_no_last_word() {
    assert_eq!(cases::stopped(&CODEX).code, 143);
}

#[test]
fn an_error_401_is_told() {
    let outcome = json!(["api_error", 401, false]);
    let run = cases::refused(&CODEX, "error-401", "[[error: 401 no such key]]", outcome);
    assert_eq!(run.code, 1);
}

#[test]
fn an_error_429_is_told() {
    let outcome = json!(["api_error", 429, true]);
    cases::refused(&CODEX, "error-429", "[[error: 429 slower]]", outcome);
}

#[test]
fn an_error_500_is_told() {
    // It does not say which status it was.
    let outcome = json!(["api_error", null, true]);
    cases::refused(&CODEX, "error-500", "[[error: 500 broken]]", outcome);
}

#[test]
fn a_cut_connection_is_told() {
    let outcome = json!(["api_error", null, true]);
    let run = cases::refused(&CODEX, "cut", "[[drop]]", outcome);
    assert_eq!(run.agent_events("retry").len(), 5);
}

#[test]
fn what_it_tries_again_by_itself_is_a_success() {
    let run = cases::retried(&CODEX, "[[error: 500 x1]] [[drop: x1]]");
    assert_eq!(run.agent_events("retry").len(), 1);
}

#[test]
fn an_answer_of_2_mib_is_whole() {
    cases::long_answer(&CODEX, |lines| {
        let mut messages = lines
            .iter()
            .filter(|line| line["item"]["type"] == "agent_message");
        let message = messages
            .next()
            .and_then(|line| line["item"]["text"].as_str());
        message.unwrap_or_default().to_owned()
    });
}

#[test]
fn its_turns_are_counted_for_it() {
    let run = cases::stopped_at_its_turns(&CODEX);
    assert_eq!(run.agent_events("tool_use").len(), 3);
}

#[test]
fn what_its_api_did_not_answer_is_tried_again() {
    let world = World::with(&CODEX, json!({"retries": 1}));
    world.env.config("[agents]\nretry_after = \"1s\"\n");
    let (id, first) = world.run("[[error: 429 x1]] [[say: At last.]]");
    let first = first.outcome(json!(["api_error", 429, true]));
    let second = world
        .ended(&id, 1)
        .outcome(json!("success"))
        .tells_figures();
    assert_eq!(second.result()["text"], "At last.");
    let both = Told::sum(&[&first.dispensed, &second.dispensed]);
    assert_eq!(Told::summed(&world.env.session(&id)["usage"]), both);
}
