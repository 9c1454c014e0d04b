//! Claude Code.

use crate::agent::CLAUDE;
use crate::cases;
use crate::ledger::Told;
use crate::recording::record;
use crate::support::events::{of_kind, of_run, only};
use crate::support::process::Proc;
use crate::world::World;
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_prompt_its_tools_and_the_next_one() {
    let [first, _] = cases::tools_and_resume(&CLAUDE);
    assert_eq!(first.agent_events("init")[0]["version"], CLAUDE.version());
    assert_eq!(first.agent_events("thinking")[0]["text"], "Where am I?");
    assert_eq!(first.agent_events("tool_result")[1]["is_error"], true);
}

#[test]
fn a_killed_run_is_gone_on_with() {
    let (first, second, _) = cases::killed_and_resumed(&CLAUDE);
    second.tells_all();
    // What it says of an answer before its end is the first token.
    let (shown, dispensed) = (Told::shown(&first.events), &first.dispensed);
    assert_eq!(
        (shown.input, shown.cache_read, shown.cache_write),
        (dispensed.input, dispensed.cache_read, dispensed.cache_write)
    );
    assert_eq!(shown.output, 2);
}

#[test]
fn an_interrupted_run_is_no_success() {
    let run = cases::interrupted(&CLAUDE);
    assert_eq!(run.code, 0, "that is what it exits with");
    run.tells_all();
}

#[test]
fn a_stopped_run_says_no_last_word() {
    let run = cases::stopped(&CLAUDE);
    assert_eq!(run.code, 143);
}

#[test]
fn an_error_401_is_told() {
    let outcome = json!(["api_error", 401, false]);
    let run = cases::refused(&CLAUDE, "error-401", "[[error: 401 no such key]]", outcome);
    run.tells_figures();
}

#[test]
fn an_error_429_is_told() {
    let outcome = json!(["api_error", 429, true]);
    let run = cases::refused(&CLAUDE, "error-429", "[[error: 429 slower]]", outcome);
    run.tells_figures();
}

#[test]
fn an_error_500_is_told() {
    let outcome = json!(["api_error", 500, true]);
    let run = cases::refused(&CLAUDE, "error-500", "[[error: 500 broken]]", outcome);
    run.tells_figures();
}

#[test]
fn a_cut_connection_is_told() {
    let outcome = json!(["api_error", null, true]);
    cases::refused(&CLAUDE, "cut", "[[drop]]", outcome);
}

#[test]
fn an_answer_that_just_ends_is_no_success() {
    let world = World::new(&CLAUDE);
    let (_, run) = world.run("[[end]]");
    assert_ne!(run.outcome, json!("success"));
    record(&CLAUDE, "ended-early", &[&run]);
}

#[test]
fn what_it_tries_again_by_itself_is_a_success() {
    let run = cases::retried(&CLAUDE, "[[error: 529 x1]] [[error: 500 x1]]");
    let retries = run.agent_events("retry");
    let statuses: Vec<&Value> = retries.iter().map(|event| &event["status"]).collect();
    assert_eq!(statuses, [529, 500]);
}

#[test]
fn turns_run_out() {
    let world = World::with(&CLAUDE, json!({"maxTurns": 1}));
    let (_, run) = world.run("[[bash: echo 1]] [[bash: echo 2]] [[say: never]]");
    let run = run.outcome(json!("max_turns")).tells_all();
    assert_eq!(run.code, 1, "it stops by itself");
    record(&CLAUDE, "max-turns", &[&run]);
}

#[test]
fn a_budget_runs_out() {
    let world = World::with(&CLAUDE, json!({"maxCost": 0.015}));
    let prompt = "[[tokens: 100 50 0 0]] [[bash: echo 1]] \
                  [[tokens: 5000 100 1000 200]] [[bash: echo 2]] [[say: never]]";
    let (_, run) = world.run(prompt);
    // What it reports of tokens is without the last answer, its price is with it.
    let run = run.outcome(json!("budget")).tells_all();
    record(&CLAUDE, "max-budget", &[&run]);
}

#[test]
fn a_budget_is_the_sessions() {
    let world = World::with(&CLAUDE, json!({"maxCost": 0.05}));
    let prompt =
        "[[tokens: 5000 100 1000 200]] [[bash: echo 1]] [[tokens: 10 5 0 0]] [[say: So far.]]";
    let (id, first) = world.run(prompt);
    let first = first.outcome(json!("success")).tells_all();
    // Whatever the agent counts over resumes: what is left is what it gets.
    world.resume(
        &id,
        "[[tokens: 3000 10 0 0]] [[bash: echo 2]] [[tokens: 10 5 0 0]] [[say: Still.]]",
    );
    let second = world.ended(&id, 1).outcome(json!("success")).tells_all();
    world.resume(
        &id,
        "[[tokens: 5000 10 0 0]] [[bash: echo 3]] [[tokens: 10 5 0 0]] [[say: never]]",
    );
    let third = world.ended(&id, 2).outcome(json!("budget")).tells_all();
    let all = Told::sum(&[&first.dispensed, &second.dispensed, &third.dispensed]);
    assert_eq!(Told::summed(&world.env.session(&id)["usage"]), all);
    let refused = world.env.cldpd(["resume", &id, "--prompt", "more"]);
    let refused = refused.run().code(75);
    assert!(
        refused.stderr.contains("may cost $0.05"),
        "{}",
        refused.stderr
    );
}

#[test]
fn what_its_api_did_not_answer_is_tried_again() {
    for (status, done) in [("529", ""), ("500", "[[bash: echo one]]")] {
        let world = World::with(&CLAUDE, json!({"retries": 2}));
        world.env.config("[agents]\nretry_after = \"1s\"\n");
        // It tries three times by itself.
        let prompt = format!("{done} [[error: {status} x3]] [[say: At last.]]");
        let (id, first) = world.run(&prompt);
        let outcome = json!(["api_error", status.parse::<u16>().ok(), true]);
        let first = first.outcome(outcome).tells_figures();
        let second = world.ended(&id, 1).outcome(json!("success")).tells_all();
        assert_eq!(second.result()["text"], "At last.");
        let row = world.env.session(&id);
        assert_eq!(row["runs"], 2);
        let both = Told::sum(&[&first.dispensed, &second.dispensed]);
        assert_eq!(Told::summed(&row["usage"]), both);
    }
}

#[test]
fn a_conversation_that_is_too_long_is_shortened_and_tried_again() {
    let world = World::with(&CLAUDE, json!({"retries": 1}));
    let (id, _) = world.run("[[bash: echo one]] [[say: So far.]]");
    world.resume(
        &id,
        "[[error: 400 prompt is too long: 250000 tokens > 200000 maximum x2]] [[say: Fits.]]",
    );
    world.env.wait(&id);
    let events = world.env.events(&id);
    let queued = events.iter().filter(|event| event["kind"] == "queued");
    let hows: Vec<&Value> = queued.map(|event| &event["how"]).collect();
    let ends = events.iter().filter(|event| event["kind"] == "run_ended");
    let ends: Vec<&Value> = ends.collect();
    assert_eq!(hows, ["new", "next", "retry", "retry"], "{ends:?}");
    let last = world.ended(&id, 3).outcome(json!("success"));
    assert_eq!(last.result()["text"], "Fits.");
}

#[test]
fn a_sub_agent_is_counted_once() {
    let world = World::new(&CLAUDE);
    let task = json!({
        "description": "look around",
        "prompt": "[[bash: echo inner]] [[say: Inside.]]",
        "subagent_type": "general-purpose",
    });
    let (_, run) = world.run(&format!("[[tool: Task {task}]] [[say: Outside.]]"));
    let run = run.outcome(json!("success"));
    assert_eq!(Told::shown(&run.events).figures(), run.dispensed.figures());
    let uses = run.agent_events("tool_use");
    let inside: Vec<bool> = uses.iter().map(|e| e["parent"].is_string()).collect();
    assert_eq!(inside, [false, true]);
    record(&CLAUDE, "sub-agent", &[&run]);
}

#[test]
fn an_answer_of_2_mib_is_whole() {
    cases::long_answer(&CLAUDE, |lines| {
        let mut results = lines.iter().filter(|line| line["type"] == "result");
        let result = results.next().and_then(|line| line["result"].as_str());
        result.unwrap_or_default().to_owned()
    });
}

/// Tells a working agent something, and waits until its command has read that.
#[track_caller]
fn tell(world: &World, id: &str, prompt: &str) -> Proc {
    let args = ["resume", id, "--prompt", prompt];
    let resume = world.env.cldpd(args).spawn();
    let follow = world.env.follow(id);
    // The first such line is its first prompt's.
    for _ in 0..2 {
        follow.line("\"state\":\"queued\"");
    }
    resume
}

#[test]
fn it_is_steered_while_it_works() {
    let world = World::with(&CLAUDE, json!({"steer": true}));
    let gate = world.env.gate("work");
    let work = format!(
        "[[bash: busybox cat {}]] [[say: never]]",
        gate.path().display()
    );
    let id = world.start(&work);
    world.env.await_line(&id, "\"name\":\"Bash\"");
    let resume = tell(&world, &id, "[[bash: echo more]] [[say: steered]]");
    gate.open();
    assert!(resume.finish().code(0).text().contains("steered"));
    let run = world.ended(&id, 0).outcome(json!("success")).tells_all();
    assert_eq!(run.code, 0);
    assert_eq!(run.agent_events("heard").len(), 2, "both prompts");
    assert_eq!(run.result()["text"], "steered");
    let events = world.env.events(&id);
    let message = of_run(&events, 1);
    assert_eq!(only(&message, "run_ended")["outcome"], "success");
    assert!(of_kind(&events, "deferred").is_empty());
    let uses = world.env.session(&id)["usage"]["output"].clone();
    assert_eq!(uses, run.dispensed.output, "counted once");
    record(&CLAUDE, "steered", &[&run]);
}

#[test]
fn what_it_took_up_can_be_interrupted() {
    let world = World::with(&CLAUDE, json!({"steer": true}));
    let gate = world.env.gate("work");
    let work = format!(
        "[[bash: busybox cat {}]] [[say: never]]",
        gate.path().display()
    );
    let id = world.start(&work);
    world.env.await_line(&id, "\"name\":\"Bash\"");
    let resume = tell(&world, &id, "[[with: Then.]] [[hang]]");
    gate.open();
    resume.line("Then.");
    resume.signal(Signal::INT);
    assert_ne!(resume.finish().code, 0);
    let run = world.ended(&id, 0).outcome(json!("interrupted"));
    let message = of_run(&world.env.events(&id), 1);
    assert_eq!(only(&message, "run_ended")["outcome"], "stopped");
    record(&CLAUDE, "steered-interrupted", &[&run]);
}

#[test]
fn what_it_did_not_take_up_is_taken_back() {
    let world = World::with(&CLAUDE, json!({"steer": true}));
    let gate = world.env.gate("work");
    let work = format!(
        "[[bash: busybox cat {}]] [[say: Done.]]",
        gate.path().display()
    );
    let id = world.start(&work);
    world.env.await_line(&id, "\"name\":\"Bash\"");
    let resume = tell(&world, &id, "[[say: never]]");
    resume.signal(Signal::INT);
    resume.finish().code(130);
    gate.open();
    let run = world.ended(&id, 0).outcome(json!("success")).tells_all();
    assert_eq!(run.result()["text"], "Done.");
    let message = of_run(&world.env.events(&id), 1);
    assert_eq!(only(&message, "run_ended")["outcome"], "cancelled");
    record(&CLAUDE, "steered-taken-back", &[&run]);
}

#[test]
fn with_messages_it_ends_as_without() {
    let world = World::with(&CLAUDE, json!({"steer": true}));
    let (id, first) = world.run("[[bash: echo one]] [[say: One.]]");
    first.outcome(json!("success")).tells_all();
    world.resume(&id, "[[say: Two.]]");
    let second = world.ended(&id, 1).outcome(json!("success")).tells_all();
    assert_eq!((second.code, &second.result()["text"]), (0, &json!("Two.")));
    let (_, refused) = world.run("[[error: 401 no such key]]");
    let refused = refused.outcome(json!(["api_error", 401, false]));
    assert_eq!(refused.code, 1);
}

#[test]
fn a_fork_is_counted_by_itself() {
    let world = World::new(&CLAUDE);
    let (id, first) = world.run("[[bash: echo one]] [[say: First.]]");
    let first = first.outcome(json!("success")).tells_all();
    let own = world.env.session(&id)["agent_session"].clone();
    let fork = [
        "resume",
        "-d",
        "--fork",
        &id,
        "--prompt",
        "[[bash: echo two]] [[say: Aside.]]",
    ];
    world.env.cldpd(fork).run().ok();
    let aside = world.ended(&id, 1).outcome(json!("success")).tells_all();
    assert_eq!(world.env.session(&id)["agent_session"], own);
    let forked = world.env.inspect(&id)["record"]["runs"][1]["forked"].clone();
    assert!(forked.is_string() && forked != own, "{forked}");

    // Claude Code counts what a conversation cost in all: the fork is no part of it.
    world.resume(&id, "[[say: On.]]");
    let second = world.ended(&id, 2).outcome(json!("success")).tells_all();
    let again = [
        "resume",
        "-d",
        "--from-fork",
        "1",
        &id,
        "--prompt",
        "[[say: There.]]",
    ];
    world.env.cldpd(again).run().ok();
    let there = world.ended(&id, 3).outcome(json!("success")).tells_all();
    assert_eq!(world.env.session(&id)["agent_session"], forked);
    let runs = [&first, &aside, &second, &there].map(|run| &run.dispensed);
    let summed = Told::summed(&world.env.session(&id)["usage"]);
    assert_eq!(summed, Told::sum(&runs));
}
