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
