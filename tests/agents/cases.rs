//! What every agent has to show.

use crate::agent::Agent;
use crate::ledger::Told;
use crate::recording::record;
use crate::world::{Ended, World};
use serde_json::{Value, json};

/// A first prompt with tools, and another one after its end. The second run's figures
/// are its own, whatever the agent counts in.
#[track_caller]
pub fn tools_and_resume(agent: &'static Agent) -> [Ended; 2] {
    let world = World::new(agent);
    let prompt = "Look. [[think: Where am I?]] [[with: Let me look.]] \
                  [[bash: pwd; echo kept > file]] [[bash: cat missing]] [[say: I have looked.]]";
    let (id, first) = world.run(prompt);
    let first = first.outcome(json!("success")).tells_all();
    assert_eq!(first.code, 0);
    assert_eq!(first.result()["text"], "I have looked.");
    let results = first.agent_events("tool_result");
    assert_eq!(results.len(), 2);
    assert_eq!(results[0]["is_error"], false, "{results:?}");
    let conversation = world.env.session(&id)["agent_session"].clone();
    assert!(conversation.is_string());

    world.resume(&id, "[[bash: cat file]] [[say: Still here.]]");
    let second = world.ended(&id, 1).outcome(json!("success")).tells_all();
    assert_eq!(second.result()["text"], "Still here.");
    let row = world.env.session(&id);
    assert_eq!(row["agent_session"], conversation);
    let both = Told::sum(&[&first.dispensed, &second.dispensed]);
    assert_eq!(Told::summed(&row["usage"]), both);
    // The same sum wherever it is told: at the runs' ends, in all ways to add them up.
    for run in [&first, &second] {
        assert_eq!(
            Told::summed(&run.event("run_ended")["usage"]),
            run.dispensed.figures()
        );
    }
    for by in [None, Some("day"), Some("pod"), Some("agent"), Some("model")] {
        let mut args = vec!["stats", "--json"];
        args.extend(by.into_iter().flat_map(|by| ["--by", by]));
        let rows = world.env.cldpd(args).run().json();
        let rows: Vec<Told> = rows
            .as_array()
            .expect("a list")
            .iter()
            .map(Told::summed)
            .collect();
        let rows: Vec<&Told> = rows.iter().collect();
        assert_eq!(Told::sum(&rows), both, "by {by:?}");
    }
    record(agent, "tools-and-resume", &[&first, &second]);
    [first, second]
}

/// A run that is killed in the middle of an answer, and gone on with. Both runs, and
/// the figures of the session.
#[track_caller]
pub fn killed_and_resumed(agent: &'static Agent) -> (Ended, Ended, Told) {
    let world = World::new(agent);
    let id = world.hang("[[bash: echo kept > file]]");
    world.env.cldpd(["kill", &id]).run().ok();
    let first = world.ended(&id, 0).outcome(json!("killed"));
    assert_eq!(first.code, 137);
    assert!(first.agent_events("result").is_empty());
    world.resume(&id, "[[bash: cat file]] [[say: Back.]]");
    let second = world.ended(&id, 1).outcome(json!("success"));
    assert_eq!(second.result()["text"], "Back.");
    let said = String::from_utf8_lossy(&second.raw);
    assert!(
        said.contains("kept"),
        "what was done is still there: {said}"
    );
    record(agent, "killed-and-resumed", &[&first, &second]);
    let usage = world.env.session(&id)["usage"].clone();
    (first, second, Told::summed(&usage))
}

/// A run that somebody interrupts.
#[track_caller]
pub fn interrupted(agent: &'static Agent) -> Ended {
    let world = World::new(agent);
    let id = world.hang("[[bash: echo one]]");
    world.env.cldpd(["kill", "-s", "INT", &id]).run().ok();
    let run = world.ended(&id, 0).outcome(json!("interrupted"));
    record(agent, "interrupted", &[&run]);
    run
}

/// A run that is stopped.
#[track_caller]
pub fn stopped(agent: &'static Agent) -> Ended {
    let world = World::new(agent);
    let id = world.hang("[[bash: echo one]]");
    world.env.cldpd(["stop", &id]).run().ok();
    let run = world.ended(&id, 0).outcome(json!("stopped"));
    assert!(run.agent_events("result").is_empty());
    record(agent, "stopped", &[&run]);
    run
}

/// A run whose API refuses what it asks after the first tool.
#[track_caller]
pub fn refused(agent: &'static Agent, case: &str, directive: &str, outcome: Value) -> Ended {
    let world = World::new(agent);
    let (_, run) = world.run(&format!("[[bash: echo one]] {directive}"));
    let run = run.outcome(outcome);
    record(agent, case, &[&run]);
    run
}

/// One that tries again and again, until its time is over.
#[track_caller]
pub fn refused_for_ever(agent: &'static Agent, directive: &str) {
    let world = World::with(agent, json!({"timeout": 15}));
    let (_, run) = world.run(&format!("[[bash: echo one]] {directive}"));
    run.outcome(json!("timeout"));
}

/// A request that fails first, which the agent sees to itself.
#[track_caller]
pub fn retried(agent: &'static Agent, directive: &str) -> Ended {
    let world = World::new(agent);
    let (_, run) = world.run(&format!("{directive} [[say: At last.]]"));
    let run = run.outcome(json!("success")).tells_all();
    record(agent, "retried", &[&run]);
    run
}

/// An answer of 2 MiB, of which not a byte is lost: `find` finds it in the lines.
#[track_caller]
pub fn long_answer(agent: &'static Agent, find: fn(&[Value]) -> String) {
    let world = World::new(agent);
    let (id, run) = world.run("[[say-bytes: 2097152]]");
    let run = run.outcome(json!("success"));
    let lines = String::from_utf8(run.raw.clone()).expect("JSON is UTF-8");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let answer = find(&lines);
    let begin: String = answer.chars().take(80).collect();
    assert_eq!(answer.len(), 2 * 1024 * 1024, "{begin}");
    for (number, word) in answer
        .trim_end_matches('.')
        .split("word ")
        .skip(1)
        .enumerate()
    {
        // The last one is cut.
        assert!(
            number.to_string().starts_with(word.trim()),
            "{number}: {word}"
        );
    }
    let row = world.env.session(&id);
    assert_eq!(Told::summed(&row["usage"]), run.dispensed.figures());
}

/// A run that would take more turns than it may, which the agent knows nothing of.
#[track_caller]
pub fn stopped_at_its_turns(agent: &'static Agent) -> Ended {
    let world = World::with(agent, json!({"maxTurns": 2}));
    let prompt = "[[bash: echo one]] [[bash: echo two]] [[bash: echo three]] [[hang]]";
    let (_, run) = world.run(prompt);
    let run = run.outcome(json!("max_turns"));
    let stops = run
        .events
        .iter()
        .filter(|event| event["kind"] == "stopping");
    let by: Vec<&Value> = stops.map(|event| &event["by"]).collect();
    assert_eq!(by, ["max_turns"]);
    assert!(run.agent_events("result").is_empty());
    run
}
