//! Shims that die at named points (`shim/failpoint.rs`): what is known stays known,
//! nothing is recorded twice, nobody is left behind, and nothing is told to an agent
//! a second time.

use crate::support::events::{assert_dense, of_kind, outcome};
use crate::support::{TestEnv, numbered, procfs};
use std::path::Path;

/// What a session comes to when its shim dies there: locally, and in a container, where
/// the engine has a code. Nothing of a run is known to have happened before it began.
const POINTS: [(&str, &str, &str); 21] = [
    ("shim.born=kill", "failed", "failed"),
    ("shim.spooled=kill", "failed", "failed"),
    ("shim.listens=kill", "failed", "failed"),
    ("run.asked=kill", "failed", "failed"),
    ("run.accepted=kill", "lost", "failed"),
    ("run.begun=kill", "lost", "failed"),
    ("run.executed=kill", "lost", "failed"),
    ("run.started=kill", "lost", "killed"),
    ("spool.half=kill@3", "lost", "killed"),
    ("spool.half=kill@20", "lost", "killed"),
    ("spool.written=kill@4", "lost", "killed"),
    ("spool.written=kill@30", "lost", "killed"),
    ("spool.segment=kill", "lost", "killed"),
    ("spool.trimmed=kill", "lost", "killed"),
    ("run.ended=kill", "lost", "killed"),
    ("run.drained=kill", "lost", "killed"),
    ("run.exited=kill", "success", "success"),
    ("shim.finished=kill", "success", "success"),
    ("keeper.begun=kill", "killed", "killed"),
    ("keeper.started=kill", "killed", "killed"),
    ("keeper.ended=kill", "killed", "killed"),
];

/// More than a segment.
const LONG: usize = 9_000_000;

fn check(env: &TestEnv, id: &str, point: &str, expected: &str, ledger: &Path, said: &str) {
    let how = env.session(id);
    let events = env.events(id);
    assert_eq!(outcome(&how), expected, "{point}");
    assert_dense(&events);
    let told = std::fs::read_to_string(ledger).unwrap_or_default();
    assert!(told.len() <= 1, "{point}: told {} times", told.len());
    let recorded = env.said(id);
    assert!(
        said.starts_with(&recorded),
        "{point}: {} bytes",
        recorded.len()
    );
    assert!(expected != "success" || recorded == said, "{point}");
    let began = of_kind(&events, "run_started").len();
    assert!(began <= 1, "{point}");
    if !told.is_empty() || began > 0 {
        assert_eq!(of_kind(&events, "creating").len(), 1, "{point}");
    }
    assert!(of_kind(&events, "creating").len() <= 3, "{point}");
}

fn all_points(env: &TestEnv, pod: &str, container: bool) {
    let armed: Vec<String> = POINTS
        .iter()
        .enumerate()
        .map(|(number, (point, _, _))| format!("p{number}/{point}"))
        .collect();
    let start = env.cldpd(["daemon", "start"]);
    start
        .env("CLDPD_SHIM_FAILPOINTS", armed.join(";"))
        .run()
        .ok();
    let daemon = env.daemon_pid();
    let mut sessions = Vec::new();
    for (number, (point, locally, contained)) in POINTS.iter().enumerate() {
        let ledger = env.shared().join(format!("ledger-{number}"));
        // It is trimmed a while later.
        let wait = match point.starts_with("spool.trimmed") {
            true => "[[sleep 600000]]",
            false => "",
        };
        let prompt = format!(
            "[[append {} b]][[linesflush 200]][[long {LONG}]]{wait}[[print down]]",
            ledger.display()
        );
        let name = format!("p{number}");
        let id = env.start(&[pod, "--name", &name, "--prompt", &prompt]);
        let expected = if container { contained } else { locally };
        sessions.push((id, point, expected, ledger));
    }
    let long: String = ('a'..='z').cycle().take(LONG).collect();
    let said = format!("{}{long}\ndown\n", numbered(200));
    for (id, point, expected, ledger) in &sessions {
        env.wait(id);
        check(env, id, point, expected, ledger, &said);
    }
    assert_eq!(env.daemon_pid(), daemon);
    // What is recorded is what the next daemon finds.
    env.kill_daemon();
    env.start_daemon();
    for (id, point, expected, ledger) in &sessions {
        check(env, id, point, expected, ledger, &said);
    }
    assert!(procfs::processes_of(&env.home().join("sessions")).is_empty());
}

#[test]
fn local_shims_that_die_anywhere_cost_their_own_sessions_alone() {
    let env = TestEnv::new();
    let pod = env.local_pod("dies").plain().make();
    all_points(&env, &pod, false);
}

#[test]
fn containers_shims_that_die_anywhere_cost_their_own_sessions_alone() {
    let env = TestEnv::new();
    let pod = env.docker_pod("dies").plain().make();
    all_points(&env, &pod, true);
}
