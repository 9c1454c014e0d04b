//! What is recorded of a session, held against what its agents wrote.

use super::life::daemons;
use super::round::Asked;
use super::script::Script;
use super::steered;
use crate::support::events::{of_kind, of_run, outcome};
use crate::support::{TestEnv, engine, procfs};
use base64::Engine as _;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is on its way out is gone within this.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Waits until everything of the round is over; says all that is not as it has to be.
pub fn all(env: &TestEnv, label: &str, asked: &[Asked], frozen: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let rows = env.cldpd(["sessions", "-a", "--json"]).run().json();
    let (key, value) = label.split_once('=').expect("a label");
    let rows: Vec<&Value> = rows
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["labels"][key] == value)
        .collect();
    let ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    let mut wait = vec!["wait"];
    wait.extend(&ids);
    if !ids.is_empty() && env.cldpd(wait).spawn().try_finish().is_none() {
        let left = env.cldpd(["sessions"]).run().text();
        faults.push(format!("some never end:\n{left}"));
        return faults;
    }
    for asked in asked {
        let named = |row: &&&Value| row["name"] == asked.name.as_str();
        let found: Vec<&&Value> = rows.iter().filter(named).collect();
        match found[..] {
            [row] => {
                let mut own = Vec::new();
                session(env, row, asked, frozen, &mut own);
                let id = &row["id"];
                faults.extend(own.into_iter().map(|fault| format!("{id}: {fault}")));
            }
            [] if asked.removed || !asked.scripts[0].promised => {
                // Whoever was told nothing, or that it is gone, misses nothing.
                if !asked.removed && told(&asked.scripts[0]).is_some() {
                    faults.push(format!("{} worked and is not recorded", asked.name));
                }
            }
            [] => faults.push(format!("{} was promised and is not there", asked.name)),
            _ => faults.push(format!("{} is there {} times", asked.name, found.len())),
        }
    }
    let verified = env.cldpd(["journal", "verify"]).run();
    if verified.code != 0 {
        let said = verified.text();
        faults.push(format!("the journal: {said}{}", verified.stderr));
    }
    left_behind(env, &mut faults);
    faults
}

/// Orphans: processes, and containers that run.
fn left_behind(env: &TestEnv, faults: &mut Vec<String>) {
    let ours = daemons(env);
    for (pid, what) in procfs::processes_of(env.root()) {
        if !ours.contains(&pid) && !procfs::ends_within(pid, LAST_WORD) {
            faults.push(format!("process {pid} is left: {what}"));
        }
    }
    for name in engine::containers_of(env.root()) {
        let state = engine::inspect(&name).state;
        if state.and_then(|state| state.running).unwrap_or_default() {
            faults.push(format!("container {name} runs on"));
        }
    }
}

fn session(env: &TestEnv, row: &Value, asked: &Asked, frozen: bool, faults: &mut Vec<String>) {
    let id = row["id"].as_str().expect("an id");
    let events = env.cldpd(["logs", "--format", "jsonl", id]).run();
    if events.code != 0 {
        faults.push(format!("its events: {}", events.stderr));
        return;
    }
    let events = events.jsonl();
    for (index, event) in events.iter().enumerate() {
        if event["seq"] != index as u64 + 1 {
            faults.push(format!("event {} stands at {}", event["seq"], index + 1));
            return;
        }
    }
    let runs = of_kind(&events, "queued");
    let mut tokens = Vec::new();
    for queued in runs {
        let number = queued["run"].as_u64().expect("a number");
        let prompt = queued["prompt"].as_str().unwrap_or_default();
        let Some(script) = asked.scripts.iter().find(|s| s.prompt == prompt) else {
            faults.push(format!("run {number} has a prompt that nobody gave"));
            continue;
        };
        tokens.push(&script.token);
        let forked = queued["branch"]["branch"] == "fork";
        if forked != script.fork {
            faults.push(format!("run {number} is on a fork: {forked}"));
        }
        let mut own = Vec::new();
        let stopped = asked.stopped.then_some(frozen);
        if asked.steered {
            steered::message(&events, number, asked, script, faults);
            continue;
        }
        let events = of_run(&events, number);
        match asked.dies {
            true => broken_off(&events, script, &mut own),
            false => run(&events, script, stopped, &mut own),
        }
        faults.extend(
            own.into_iter()
                .map(|fault| format!("run {number}: {fault}")),
        );
    }
    for script in &asked.scripts {
        let times = tokens
            .iter()
            .filter(|token| **token == &script.token)
            .count();
        if times > 1 || (times == 0 && script.promised) {
            faults.push(format!("{} is there {times} times", script.token));
        }
        if times == 0 && told(script).is_some() {
            faults.push(format!("{} worked and is not recorded", script.token));
        }
    }
    let dir = env.home().join("sessions");
    let dir = dir.join(row["ulid"].as_str().expect("a ULID"));
    if asked.gone && !goes(env, &dir) {
        faults.push(format!("{} is left", dir.display()));
    }
    if asked.docker && !asked.removed {
        let ulid = row["ulid"].as_str().expect("a ULID");
        let containers = engine::containers_with_label(&format!("cldpd.session={ulid}"));
        // That of a run whose program never began goes with its end.
        let began = of_kind(&events, "container_started").len();
        if containers.len() > 1 || (containers.is_empty() && began > 0) {
            faults.push(format!("{} containers", containers.len()));
        }
    }
}

/// Whether what goes with a session's end is gone: nobody who waits for the end waits
/// for that.
fn goes(env: &TestEnv, dir: &Path) -> bool {
    let begun = Instant::now();
    while dir.exists() {
        if begun.elapsed() > LAST_WORD {
            return false;
        }
        env.cldpd(["daemon", "status"]).run().ok();
    }
    true
}

/// What the agent itself noted: `b` for each time that it was told, `.` for each tick.
fn told(script: &Script) -> Option<String> {
    std::fs::read_to_string(&script.ledger).ok()
}

/// `stopped` is there for a run that may have been, and true if its shim may
/// have been frozen then.
fn run(events: &[Value], script: &Script, stopped: Option<bool>, faults: &mut Vec<String>) {
    let count = |kind: &str| of_kind(events, kind).len();
    let noted = told(script).unwrap_or_default();
    let ticked = noted.matches('.').count();
    if noted.matches('b').count() > 1 {
        faults.push("its prompt was sent twice".to_owned());
    }
    let (started, ended) = (count("run_started"), count("run_ended"));
    if started > 1 || ended != 1 {
        faults.push(format!("{started} starts, {ended} ends"));
        return;
    }
    let last = of_kind(events, "run_ended")[0];
    let outcome = outcome(last);
    let exits: Vec<i64> = of_kind(events, "container_exited")
        .iter()
        .filter_map(|event| event["code"].as_i64())
        .collect();
    let (out, messages) = split(bytes(events, "stdout"), script);
    let err = bytes(events, "stderr");
    let errors: Vec<String> = of_kind(events, "error")
        .iter()
        .map(|event| event["message"].to_string())
        .collect();
    let Some(frozen) = stopped else {
        let expected = if script.code == 0 {
            "success"
        } else {
            "failed"
        };
        if outcome != expected || exits != [i64::from(script.code)] || !errors.is_empty() {
            faults.push(format!(
                "{outcome}, codes {exits:?}, errors {errors:?} instead of {expected}, {}",
                script.code
            ));
        }
        differs("stdout", &out, &script.out, faults);
        agent(events, messages, script, faults);
        differs("stderr", &err, &script.err, faults);
        if ticked != script.ticks {
            faults.push(format!("{ticked} ticks of {}", script.ticks));
        }
        return;
    };
    if started == 0 {
        if !noted.is_empty() {
            faults.push(format!("{outcome}, but it worked"));
        }
        return;
    }
    let known = [script.code, script.stopped, 143, 137].map(i64::from);
    let by_itself = exits == [known[0]];
    let right = match outcome {
        "stopped" => true,
        "success" | "failed" => by_itself,
        _ => false,
    };
    // One that did not hear of its stop was killed with what looked after it.
    let killed = frozen && exits.is_empty() && outcome == "stopped";
    let ended = exits.len() == 1 && known.contains(&exits[0]) && errors.is_empty();
    if !right || !(ended || killed) {
        faults.push(format!("{outcome}, codes {exits:?}, errors {errors:?}"));
    }
    let caught = err
        .strip_suffix(b"caught TERM\n".as_slice())
        .unwrap_or(&err);
    begins("stdout", &out, &script.out, faults);
    begins("stderr", caught, &script.err, faults);
    let said = match script.texts {
        Some(_) => texts(events)
            .filter(|text| text.starts_with("tick "))
            .count(),
        None => String::from_utf8_lossy(&out).matches("tick ").count(),
    };
    if said < ticked || said > ticked + 1 {
        faults.push(format!("it said {ticked} ticks, {said} are recorded"));
    }
}

/// A run whose shim or keeper may have died: what is recorded is the beginning of what was
/// said, nothing of it twice, and nobody is told that it succeeded when it did not.
fn broken_off(events: &[Value], script: &Script, faults: &mut Vec<String>) {
    let count = |kind: &str| of_kind(events, kind).len();
    let noted = told(script).unwrap_or_default();
    if noted.matches('b').count() > 1 {
        faults.push("its prompt was sent twice".to_owned());
    }
    let (started, ended) = (count("run_started"), count("run_ended"));
    if started > 1 || ended != 1 || (started == 0 && !noted.is_empty()) {
        let worked = !noted.is_empty();
        faults.push(format!(
            "{started} starts, {ended} ends, it worked: {worked}"
        ));
        return;
    }
    let (out, _) = split(bytes(events, "stdout"), script);
    let err = bytes(events, "stderr");
    let said: Vec<&str> = texts(events).collect();
    if outcome(of_kind(events, "run_ended")[0]) == "success" {
        if script.code != 0 {
            faults.push("success".to_owned());
        }
        differs("stdout", &out, &script.out, faults);
        differs("stderr", &err, &script.err, faults);
    }
    let caught = err
        .strip_suffix(b"caught TERM\n".as_slice())
        .unwrap_or(&err);
    begins("stdout", &out, &script.out, faults);
    begins("stderr", caught, &script.err, faults);
    let expected = script.texts.as_deref().unwrap_or_default();
    let same = |(said, text): (&&str, &String)| said.chars().take(20).eq(text.chars().take(20));
    if said.len() > expected.len() || !said.iter().zip(expected).all(same) {
        faults.push(format!("{} messages of {}", said.len(), expected.len()));
    }
}

/// Without what is JSON of an agent's that speaks so, and how many lines that is.
fn split(out: Vec<u8>, script: &Script) -> (Vec<u8>, usize) {
    if script.texts.is_none() {
        return (out, 0);
    }
    let lines = out.split_inclusive(|byte| *byte == b'\n');
    let (messages, rest): (Vec<&[u8]>, Vec<&[u8]>) = lines.partition(|line| line[0] == b'{');
    (rest.concat(), messages.len())
}

/// The messages that were understood.
fn texts(events: &[Value]) -> impl Iterator<Item = &str> {
    let agent = of_kind(events, "agent").into_iter();
    agent
        .filter(|event| event["event"]["type"] == "text")
        .filter_map(|event| event["event"]["text"].as_str())
}

/// What was understood of what the agent said: all of it, once, in order.
fn agent(events: &[Value], messages: usize, script: &Script, faults: &mut Vec<String>) {
    let Some(expected) = &script.texts else {
        return;
    };
    let of_type = |name: &str| {
        let agent = of_kind(events, "agent").into_iter();
        agent.filter(|event| event["event"]["type"] == name).count()
    };
    let said: Vec<&str> = texts(events).collect();
    // Long ones are cut.
    let same = |(said, text): (&&str, &String)| said.chars().take(20).eq(text.chars().take(20));
    let alike = said.len() == expected.len() && said.iter().zip(expected).all(same);
    let (inits, results) = (of_type("init"), of_type("result"));
    if !alike || inits != 1 || results != 1 || messages != expected.len() + 2 {
        faults.push(format!(
            "{} messages of {}, {messages} lines, {inits} inits, {results} results",
            said.len(),
            expected.len()
        ));
    }
}

/// All that is recorded of a stream.
fn bytes(events: &[Value], stream: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for event in of_kind(events, "output") {
        if event["stream"] != stream {
            continue;
        }
        match (event["data"].as_str(), event["data_b64"].as_str()) {
            (Some(text), _) => all.extend_from_slice(text.as_bytes()),
            (None, Some(encoded)) => {
                let decoder = base64::engine::general_purpose::STANDARD;
                all.extend(decoder.decode(encoded).expect("base64"));
            }
            (None, None) => {}
        }
        if event["continued"] != true {
            all.push(b'\n');
        }
    }
    all
}

fn differs(what: &str, found: &[u8], expected: &[u8], faults: &mut Vec<String>) {
    if found != expected {
        faults.push(format!("{what}: {}", difference(found, expected)));
    }
}

/// What was broken off has to be the beginning.
fn begins(what: &str, found: &[u8], expected: &[u8], faults: &mut Vec<String>) {
    if !expected.starts_with(found) {
        faults.push(format!(
            "{what}, broken off: {}",
            difference(found, expected)
        ));
    }
}

fn difference(found: &[u8], expected: &[u8]) -> String {
    let same = found
        .iter()
        .zip(expected)
        .take_while(|(a, b)| a == b)
        .count();
    let show = |bytes: &[u8]| {
        let rest = &bytes[same..];
        let part = &rest[..rest.len().min(60)];
        String::from_utf8_lossy(part).escape_debug().to_string()
    };
    format!(
        "{} bytes instead of {}, from {same} on \"{}\" instead of \"{}\"",
        found.len(),
        expected.len(),
        show(found),
        show(expected)
    )
}
