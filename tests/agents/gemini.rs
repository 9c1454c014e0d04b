//! Gemini CLI.

use crate::agent::GEMINI;
use crate::cases;
use serde_json::{Value, json};

#[test]
fn a_prompt_its_tools_and_the_next_one() {
    cases::tools_and_resume(&GEMINI);
}

#[test]
fn a_killed_run_is_gone_on_with() {
    // What a killed run used it never tells.
    let (_, second, _) = cases::killed_and_resumed(&GEMINI);
    second.tells_all();
}

#[test]
fn an_interrupted_run_is_no_success() {
    assert_eq!(
        cases::interrupted(&GEMINI).code,
        0,
        "that is what it exits with"
    );
}

#[test]
fn a_stopped_run_says_no_last_word() {
    cases::stopped(&GEMINI);
}

#[test]
fn an_error_401_is_told() {
    let outcome = json!(["api_error", 401, false]);
    let run = cases::refused(&GEMINI, "error-401", "[[error: 401 no such key]]", outcome);
    assert_eq!(run.code, 401 % 256);
    run.tells_all();
}

#[test]
fn errors_that_it_hardly_gives_up_on_end_with_its_time() {
    cases::refused_for_ever(&GEMINI, "[[error: 429 slower]]");
}

#[test]
fn a_cut_connection_is_told() {
    let outcome = json!(["api_error", null, true]);
    cases::refused(&GEMINI, "cut", "[[drop]]", outcome);
}

#[test]
fn what_it_tries_again_by_itself_is_a_success() {
    cases::retried(&GEMINI, "[[error: 500 x1]]");
}

#[test]
fn an_answer_of_2_mib_is_whole() {
    cases::long_answer(&GEMINI, |lines| {
        let said = lines.iter().filter(|line| line["role"] == "assistant");
        said.filter_map(|line| line["content"].as_str())
            .collect::<Vec<&str>>()
            .concat()
    });
}

#[test]
fn what_it_asks_aside_is_in_its_figures() {
    let world = crate::world::World::new(&GEMINI);
    let (_, run) = world.run("[[say: Hello.]]");
    let run = run.outcome(json!("success")).tells_all();
    let models: Vec<&Value> = run
        .agent_events("usage")
        .iter()
        .map(|e| &e["model"])
        .collect();
    assert_eq!(models.len(), 2, "one to choose the other: {models:?}");
}
