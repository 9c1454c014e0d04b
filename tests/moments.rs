//! Moments that are too short to be met by chance, held open by fail points.

use crate::support::events::{assert_dense, of_kind, only};
use crate::support::{TestEnv, WATCHDOG, numbered, procfs};
use std::fs::File;
use std::time::Instant;

#[test]
fn a_run_that_ends_between_two_looks_of_the_next_daemon_is_read() {
    let env = TestEnv::new();
    let (hold, looked) = (env.gate("hold"), env.gate("looked"));
    let pod = env.local_pod("short").plain().make();
    let daemon = |points: &str| {
        let start = env.cldpd(["daemon", "start"]);
        start.env("CLDPD_FAILPOINTS", points).run().ok();
    };
    // Its shim has the run, which no daemon knows.
    daemon("launch.accepted=kill");
    let pid = env.daemon_pid();
    let prompt = format!("[[lines 300]]{}[[print down]][[exit 5]]", hold.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    procfs::await_death(pid);

    daemon(&format!("launch.looked=hold:{}", looked.path().display()));
    let met = looked.meet();
    let ulid = env.session(&id)["ulid"]
        .as_str()
        .expect("a ULID")
        .to_owned();
    let place = env.home().join("sessions").join(ulid).join("r0.1");
    let shim = std::fs::read_to_string(place.join("pid")).expect("a shim keeps it");
    let shim = shim.split_ascii_whitespace().next().expect("a pid");
    hold.open();
    procfs::await_death(shim.parse().expect("a pid"));
    drop(met);

    assert_eq!(env.wait(&id), 5);
    assert_eq!(env.said(&id), numbered(300) + "down\n");
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(of_kind(&events, "run_started").len(), 1);
    assert_eq!(of_kind(&events, "creating").len(), 1);
    assert_eq!(only(&events, "container_exited")["code"], 5);
}

#[test]
fn a_shim_that_was_born_for_nobody_costs_an_attempt_and_not_the_run() {
    let env = TestEnv::new();
    let pod = env.docker_pod("twice").plain().make();
    let start = env.cldpd(["daemon", "start"]);
    start
        .env("CLDPD_FAILPOINTS", "launch.created=kill")
        .run()
        .ok();
    let pid = env.daemon_pid();
    let id = env.start(&[&pod, "--prompt", "[[lines 300]][[exit 5]]"]);
    procfs::await_death(pid);
    // What is left where the engine gave up a start that the dead daemon had asked for:
    // a container that did not run, as far as the engine says, and a shim that was there.
    let journaled = env.home().join("sessions");
    let session = std::fs::read_dir(journaled).expect("there is one").next();
    let place = session
        .expect("there is one")
        .expect("it is ours")
        .path()
        .join("r0.1");
    std::fs::write(place.join("born"), "").expect("our own directory");

    env.start_daemon();
    assert_eq!(env.wait(&id), 5);
    assert_eq!(env.said(&id), numbered(300));
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(of_kind(&events, "run_started").len(), 1);
    let attempts: Vec<u64> = of_kind(&events, "creating")
        .iter()
        .filter_map(|event| event["attempt"].as_u64())
        .collect();
    assert_eq!(attempts, [1, 2]);
}

#[test]
fn a_shim_that_comes_late_for_a_dead_daemon_serves_the_next() {
    let env = TestEnv::new();
    let late = env.gate("late");
    let pod = env.local_pod("late").plain().make();
    let of_shims = format!("late/shim.begun=tell:{}", late.path().display());
    let start = env.cldpd(["daemon", "start"]);
    start.env("CLDPD_SHIM_FAILPOINTS", &of_shims).run().ok();
    let prompt = "[[lines 300]][[exit 5]]";
    let id = env.start(&[&pod, "--name", "late", "--prompt", prompt]);
    let ulid = env.session(&id)["ulid"].as_str().expect("one").to_owned();
    let shims = || procfs::processes_of(&env.home().join("sessions").join(&ulid));
    let shims_are = |count: usize| {
        let begun = Instant::now();
        while shims().len() < count {
            assert!(begun.elapsed() < WATCHDOG, "{:?}", shims());
        }
    };
    shims_are(1);
    env.kill_daemon();
    env.start_daemon();
    // Another one is on its way for the next daemon: one of them is the first.
    shims_are(2);
    // Open at both ends, it keeps nobody waiting from here on.
    let both = File::options().read(true).write(true).open(late.path());
    let _open = both.expect("our own FIFO");
    assert_eq!(env.wait(&id), 5);
    assert_eq!(env.said(&id), numbered(300));
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(of_kind(&events, "run_started").len(), 1);
}

#[test]
fn a_shim_that_answers_late_is_asked_once_more_before_its_run_is_given_up() {
    let env = TestEnv::new();
    let (late, unanswered) = (env.gate("late"), env.gate("unanswered"));
    let pod = env.local_pod("late").plain().make();
    let points = format!("launch.unanswered=hold:{}", unanswered.path().display());
    let of_shim = format!("late/shim.greeted=tell:{}", late.path().display());
    let start = env.cldpd(["daemon", "start"]);
    let start = start.env("CLDPD_FAILPOINTS", points);
    start.env("CLDPD_SHIM_FAILPOINTS", of_shim).run().ok();
    let prompt = "[[lines 300]][[exit 5]]";
    let id = env.start(&[&pod, "--name", "late", "--prompt", prompt]);
    let met = unanswered.meet();
    // As when everything was stopped just then, and goes on.
    std::fs::read(late.path()).expect("our own FIFO");
    drop(met);
    assert_eq!(env.wait(&id), 5);
    assert_eq!(env.said(&id), numbered(300));
    let events = env.events(&id);
    assert_dense(&events);
    assert_eq!(of_kind(&events, "run_started").len(), 1);
    assert_eq!(of_kind(&events, "creating").len(), 1);
}

/// More than a spool of that bound and a pipe have room for.
const LONG: usize = 5_000_000;

#[test]
fn an_agent_waits_while_its_spool_is_full_and_nobody_reads_it() {
    let env = TestEnv::new();
    let (hold, full) = (env.gate("hold"), env.gate("full"));
    let armed = format!(
        "full/spool.max=400000;full/spool.bound=tell:{}",
        full.path().display()
    );
    for pod in [
        env.local_pod("full").plain().make(),
        env.docker_pod("full").plain().make(),
    ] {
        let done = env.shared().join(format!("done-{pod}"));
        let prompt = format!(
            "[[print up]]{}[[long {LONG}]][[touch {}]][[exit 8]]",
            hold.hold(),
            done.display()
        );
        let start = env.cldpd(["daemon", "start"]);
        start.env("CLDPD_SHIM_FAILPOINTS", &armed).run().ok();
        let id = env.start(&[&pod, "--name", "full", "--prompt", &prompt]);
        env.await_line(&id, "up");
        env.kill_daemon();
        hold.open();
        // Its shim says that the bound is reached, and goes on.
        std::fs::read(full.path()).expect("our own FIFO");
        assert!(!done.exists(), "more was written than there is room for");
        env.start_daemon();
        assert_eq!(env.wait(&id), 8);
        assert!(done.exists());
        let long: String = ('a'..='z').cycle().take(LONG).collect();
        assert!(env.said(&id) == format!("up\n{long}\n"), "not what it said");
        assert_dense(&env.events(&id));
        env.cldpd(["rm", &id]).run().ok();
        env.stop_daemon();
    }
}
