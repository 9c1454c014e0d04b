//! Moments that are too short to be met by chance, held open by fail points.

use crate::support::events::{assert_dense, of_kind, only};
use crate::support::{TestEnv, numbered, procfs};

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
