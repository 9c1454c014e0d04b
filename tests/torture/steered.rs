//! Sessions whose agent takes messages while it works: each message reaches one agent
//! once, or the record says that it may have been twice.

use super::round::Asked;
use super::script::Script;
use crate::support::Dice;
use crate::support::events::{of_kind, of_run};
use serde_json::Value;
use std::path::Path;

/// What such an agent is told: it notes that it was, works for about `millis`, and says so.
pub fn compose(dice: &mut Dice, token: String, ledgers: &Path, millis: u64) -> Script {
    let ledger = ledgers.join(&token);
    let path = ledger.display();
    let pause = 15 + dice.roll(45);
    let ticks = usize::try_from(millis / pause).expect("small") + 1;
    let prompt = format!(
        "{token} [[append {path} b]][[tally {path} {ticks} {pause}]][[print {token} is done]]"
    );
    Script {
        token,
        prompt,
        out: Vec::new(),
        texts: None,
        err: Vec::new(),
        code: 0,
        stopped: 143,
        ledger,
        ticks,
        fork: false,
        promised: false,
    }
}

/// Holds what is recorded of a message against what agents noted of it.
pub fn message(all: &[Value], run: u64, asked: &Asked, script: &Script, faults: &mut Vec<String>) {
    let events = of_run(all, run);
    let count = |kind: &str| of_kind(&events, kind).len();
    let (deferred, ended) = (count("deferred"), count("run_ended"));
    if ended != 1 || deferred > 1 || count("run_started") > 1 + deferred {
        faults.push(format!(
            "{} starts, {deferred} times deferred, {ended} ends",
            count("run_started")
        ));
    }
    let notes = of_kind(&events, "note");
    let twice = notes.iter().any(|note| note["code"] == "maybe_twice");
    let noted = std::fs::read_to_string(&script.ledger).unwrap_or_default();
    let (told, ticks) = (noted.matches('b').count(), noted.matches('.').count());
    let most = 1 + usize::from(twice);
    if told > most {
        faults.push(format!("told {told} times"));
    }
    // Whose output it is belongs to the run that it went to.
    let done = format!("{} is done", script.token);
    let said = of_kind(all, "agent").into_iter();
    let said = said.filter(|event| event["event"]["type"] == "text");
    let said = said.filter(|event| event["event"]["text"] == done.as_str());
    let said = said.count();
    if said > told {
        faults.push(format!("told {told} times, and answered {said} times"));
    }
    let broken = asked.stopped || asked.dies;
    if !broken && (told == 0 || said == 0 || ticks < script.ticks) {
        faults.push(format!("told {told} times, {ticks} ticks, {said} answers"));
    }
    let success = of_kind(&events, "run_ended")
        .iter()
        .any(|e| e["outcome"] == "success");
    if success && said == 0 {
        faults.push("success without an answer".to_owned());
    }
}
