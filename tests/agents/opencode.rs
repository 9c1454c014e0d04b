//! opencode.

use crate::agent::OPENCODE;
use crate::cases;
use crate::ledger::Told;
use crate::world::World;
use serde_json::json;

#[test]
fn a_prompt_its_tools_and_the_next_one() {
    cases::tools_and_resume(&OPENCODE);
}

#[test]
fn a_killed_run_is_gone_on_with() {
    let (first, second, sum) = cases::killed_and_resumed(&OPENCODE);
    // It tells with each answer what that cost.
    assert_eq!(sum, Told::sum(&[&first.dispensed, &second.dispensed]));
}

#[test]
fn an_interrupted_run_is_no_success() {
    // It tells a text only when that has ended.
    cases::interrupted(&OPENCODE).tells_figures();
}

#[test]
fn a_stopped_run_says_no_last_word() {
    assert_eq!(cases::stopped(&OPENCODE).code, 143);
}

#[test]
fn an_error_401_is_told() {
    let outcome = json!(["api_error", 401, false]);
    let run = cases::refused(
        &OPENCODE,
        "error-401",
        "[[error: 401 no such key]]",
        outcome,
    );
    run.tells_all();
}

#[test]
fn errors_that_it_never_gives_up_on_end_with_its_time() {
    cases::refused_for_ever(&OPENCODE, "[[error: 500 broken]]");
}

#[test]
fn a_cut_connection_ends_with_its_time() {
    cases::refused_for_ever(&OPENCODE, "[[drop]]");
}

#[test]
fn what_it_tries_again_by_itself_is_a_success() {
    cases::retried(&OPENCODE, "[[error: 429 x1]] [[error: 500 x1]]");
}

#[test]
fn an_answer_of_2_mib_is_whole() {
    cases::long_answer(&OPENCODE, |lines| {
        let mut texts = lines.iter().filter(|line| line["type"] == "text");
        let text = texts.next().and_then(|line| line["part"]["text"].as_str());
        text.unwrap_or_default().to_owned()
    });
}

#[test]
fn its_turns_are_counted_for_it() {
    let run = cases::stopped_at_its_turns(&OPENCODE);
    assert_eq!(run.agent_events("tool_use").len(), 2);
}

#[test]
fn its_prices_are_counted_for_it() {
    // An answer of 3000 tokens costs nine thousandths of a dollar there.
    let world = World::with(&OPENCODE, json!({"maxCost": 0.01}));
    let prompt = "[[tokens: 3000 1 0 0]] [[bash: echo one]] \
                  [[tokens: 3000 1 0 0]] [[bash: echo two]] [[hang]]";
    let (id, run) = world.run(prompt);
    let run = run.outcome(json!("budget"));
    assert_eq!(run.agent_events("usage").len(), 2);
    assert_eq!(world.env.wait(&id), 75);
}
