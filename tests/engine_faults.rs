//! What an engine can do to us, each done to a real one: it dies, hangs, has no
//! room, cannot be reached; and somebody else lays hands on our containers.

use crate::support::events::{assert_dense, of_kind, only, outcome};
use crate::support::own_engine::OwnEngine;
use crate::support::{TestEnv, engine, ticks};
use bollard::Docker;
use bollard::query_parameters::RenameContainerOptionsBuilder;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// Lines of a session that was broken off: those before, in order, and no other.
#[track_caller]
fn assert_broken_off(env: &TestEnv, id: &str, at_least: usize) {
    let said = env.said(id);
    let lines = said.lines().count();
    assert!(lines >= at_least, "{lines} lines");
    assert_eq!(said, ticks(lines));
    assert_dense(&env.events(id));
}

#[test]
fn an_engine_that_dies_takes_only_what_runs_on_it() {
    let env = TestEnv::new();
    let own = OwnEngine::start("");
    env.config(&own.config());
    let pod = env.pod("mortal").on_docker().plain().make();
    let id = env.start(&[&pod, "--prompt", "[[tick 1000000 5]]"]);
    env.await_line(&id, "tick 20");
    own.kill();
    // What is said does not go through the engine.
    let said = env.said(&id).lines().count();
    env.await_line(&id, &format!("tick {}", said + 50));
    assert_eq!(env.session(&id)["state"], "running");
    let refused = env.cldpd(["start", "-d", &pod, "--prompt", "more"]).run();
    let refused = refused.code(69);
    assert!(
        refused.stderr.contains("docker is not available"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        env.cldpd(["sessions", "-a", "-q"]).run().ok(),
        format!("{id}\n")
    );
    // Started again, it ends what is left of its former life.
    own.run();
    let code = env.wait(&id);
    assert!(code == 143 || code == 137, "{code}");
    assert_eq!(outcome(only(&env.events(&id), "run_ended")), "killed");
    assert_broken_off(&env, &id, said + 50);
    let again = env.cldpd(["resume", &id, "--prompt", "[[print on]]"]).run();
    assert!(again.ok().contains("on\n"));
}

#[test]
fn sessions_outlive_an_engine_that_lets_them() {
    let env = TestEnv::new();
    let own = OwnEngine::start("--live-restore");
    env.config(&own.config());
    let pod = env.pod("spared").on_docker().plain().make();
    let gate = env.gate("hold");
    let ends = format!("[[print up]]{}[[print down]][[exit 7]]", gate.hold());
    let ends = env.start(&[&pod, "--prompt", &ends]);
    let stopped = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    let second = env.gate("second");
    let lives = format!("[[tick 300 5]]{}[[exit 3]]", second.hold());
    let lives = env.start(&[&pod, "--prompt", &lives]);
    env.await_line(&ends, "up");
    env.await_line(&stopped, "up");
    env.await_line(&lives, "tick 5");

    own.kill();
    // Ends, and is ended, while there is no engine.
    gate.open();
    assert_eq!(env.wait(&ends), 7);
    env.cldpd(["stop", &stopped]).run().ok();
    assert_eq!(env.wait(&stopped), 143);
    // A daemon that comes now finds its sessions all the same.
    env.kill_daemon();
    env.start_daemon();
    env.await_line(&lives, "tick 300");
    own.run();
    second.open();
    assert_eq!(env.wait(&lives), 3);

    assert_eq!(env.said(&ends), "up\ndown\n");
    assert_eq!(env.said(&lives), ticks(300));
    for (id, end) in [(&ends, "failed"), (&stopped, "stopped"), (&lives, "failed")] {
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(of_kind(&events, "run_started").len(), 1);
        assert_eq!(outcome(only(&events, "run_ended")), end);
    }
    let state = own.inspect(&format!("cldpd-{lives}-r0")).state;
    assert_eq!(state.and_then(|state| state.exit_code), Some(3));
    let again = env
        .cldpd(["resume", &ends, "--prompt", "[[print on]]"])
        .run();
    assert!(again.ok().contains("on\n"));
}

#[test]
fn an_engine_that_hangs_holds_up_nothing_that_does_not_need_it() {
    let env = TestEnv::new();
    let own = OwnEngine::start("");
    env.config(&own.config());
    let pod = env.pod("waiting").on_docker().plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    env.await_line(&id, "up");
    own.freeze();
    assert_eq!(env.said(&id), "up\n");
    assert_eq!(env.session(&id)["state"], "running");
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(env.daemon()["adopted"], 1);
    let doctor = env.cldpd(["doctor"]).run();
    assert_ne!(doctor.code, 0);
    assert!(
        doctor.text().contains("failed   docker"),
        "{}",
        doctor.text()
    );
    env.cldpd(["stop", &id]).run().ok();
    assert_eq!(env.wait(&id), 143);
    own.thaw();
    let next = env.start(&[&pod, "--prompt", "[[print next]][[exit 4]]"]);
    assert_eq!(env.wait(&next), 4);
    assert_eq!(env.said(&next), "next\n");
}

#[test]
fn an_engine_without_room_is_told_and_costs_no_history() {
    let env = TestEnv::new();
    let own = OwnEngine::with_disk(64);
    env.config(&own.config());
    let small = env.pod("small").on_docker().plain().make();
    let live = env.start(&[&small, "--prompt", "[[tick 1000000 5]]"]);
    env.await_line(&live, "tick 3");
    let large = env.pod("large").on_docker().plain();
    let dir = large.dir();
    let large = large.make();
    let file = std::fs::File::create(dir.join("tmp/large")).expect("the home is ours");
    file.set_len(200 << 20).expect("a hole takes no room");
    let refused = env
        .cldpd(["start", &large, "--prompt", "x"])
        .run()
        .code(125);
    assert!(
        refused.stderr.contains("no space left on device"),
        "{}",
        refused.stderr
    );
    // What it had before is still there, and goes on.
    let lines = env.said(&live).lines().count();
    env.await_line(&live, &format!("tick {}", lines + 20));
    env.cldpd(["stop", &live]).run().ok();
    assert_broken_off(&env, &live, lines + 20);
    let failed = env
        .cldpd(["sessions", "-a", "--pod", &large, "--json"])
        .run()
        .json();
    assert_eq!(outcome(&failed[0]), "build_failed", "{failed}");
    // With more room, and less to put there, it goes on.
    own.resize_disk(512);
    std::fs::remove_file(dir.join("tmp/large")).expect("it is ours");
    env.cldpd(["start", &large, "--prompt", "[[print fits]]"])
        .run()
        .ok();
}

#[test]
fn a_container_that_somebody_removes_ends_as_killed() {
    let env = TestEnv::new();
    let pod = env.docker_pod("taken").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[tick 1000000 5]]"]);
    env.await_line(&id, "tick 30");
    let container = format!("cldpd-{id}-r0");
    engine::remove_container(&container);
    assert_eq!(env.wait(&id), 137);
    assert_eq!(outcome(only(&env.events(&id), "run_ended")), "killed");
    assert_broken_off(&env, &id, 30);
    // The next daemon is of the same opinion, and what cannot go on says so.
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(env.wait(&id), 137);
    let refused = env.cldpd(["resume", &id, "--prompt", "on"]).run();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains(&id), "{}", refused.stderr);
    env.cldpd(["rm", &id]).run().ok();
}

#[test]
fn a_container_that_somebody_pauses_goes_on_where_it_was() {
    let env = TestEnv::new();
    let pod = env.docker_pod("paused").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[tick 200 5]][[exit 5]]"]);
    env.await_line(&id, "tick 20");
    let container = format!("cldpd-{id}-r0");
    let docker = Docker::connect_with_defaults().expect("the machine's engine");
    engine::block_on(docker.pause_container(&container)).expect("it runs");
    // Nobody takes it for dead, neither this daemon nor the next.
    assert_eq!(env.session(&id)["state"], "running");
    env.kill_daemon();
    env.start_daemon();
    assert_eq!(env.session(&id)["state"], "running");
    engine::block_on(docker.unpause_container(&container)).expect("it is paused");
    assert_eq!(env.wait(&id), 5);
    assert_eq!(env.said(&id), ticks(200));
    assert_eq!(of_kind(&env.events(&id), "run_started").len(), 1);
}

#[test]
fn a_container_that_somebody_renames_is_the_same() {
    let env = TestEnv::new();
    let pod = env.docker_pod("renamed").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[tick 20 5]][[sleep 600000]]"]);
    env.await_line(&id, "tick 20");
    let name = format!("strange-{}", env.tag());
    let docker = Docker::connect_with_defaults().expect("the machine's engine");
    let options = RenameContainerOptionsBuilder::new().name(&name).build();
    let container = format!("cldpd-{id}-r0");
    engine::block_on(docker.rename_container(&container, options)).expect("it runs");
    env.owns_container(&name);
    env.kill_daemon();
    env.start_daemon();
    let beside = env.cldpd(["exec", &id, "--", "/bin/claude", "x"]);
    assert_eq!(beside.stdin("").run().code, 0);
    env.cldpd(["stop", &id]).run().ok();
    assert_eq!(env.wait(&id), 143);
    assert_eq!(env.said(&id), ticks(20));
    let again = env.cldpd(["resume", &id, "--prompt", "[[print on]]"]).run();
    assert!(again.ok().contains("on\n"));
    env.cldpd(["rm", &id]).run().ok();
    assert!(!engine::container_exists(&name), "it went with its session");
}

/// A port in front of the machine's engine, which can be cut off.
struct Door {
    address: SocketAddr,
    /// Connections that are open; none while it is shut.
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Door {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let shared = Arc::clone(&open);
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                let mut open = shared.lock().expect("nobody panics with it");
                // Whoever comes while it is shut is hung up on.
                if let Some(open) = &mut *open {
                    open.push(guest.try_clone().expect("a descriptor"));
                    std::thread::spawn(move || carry(guest));
                }
            }
        });
        Self { address, open }
    }

    fn shut(&self) {
        let open = self.open.lock().expect("nobody panics with it").take();
        for guest in open.into_iter().flatten() {
            let _ = guest.shutdown(Shutdown::Both);
        }
    }

    fn open(&self) {
        *self.open.lock().expect("nobody panics with it") = Some(Vec::new());
    }
}

fn carry(guest: TcpStream) {
    let Ok(engine) = UnixStream::connect(crate::docker::support::engine_socket()) else {
        return;
    };
    let (mut from_guest, mut to_engine) = (
        guest.try_clone().expect("a descriptor"),
        engine.try_clone().expect("a descriptor"),
    );
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_guest, &mut to_engine);
        let _ = to_engine.shutdown(Shutdown::Write);
    });
    let (mut from_engine, mut to_guest) = (engine, guest);
    let _ = io::copy(&mut from_engine, &mut to_guest);
    let _ = to_guest.shutdown(Shutdown::Write);
}

#[test]
fn an_engine_that_cannot_be_reached_holds_up_no_session() {
    let env = TestEnv::new();
    let door = Door::new();
    env.config(&format!("[docker]\nhost = \"tcp://{}\"\n", door.address));
    let gate = env.gate("hold");
    let pod = env.docker_pod("far").plain().make();
    let prompt = format!("[[tick 50 5]]{}[[print end]][[exit 8]]", gate.hold());
    let ends = env.start(&[&pod, "--prompt", &prompt]);
    let lives = env.start(&[&pod, "--prompt", "[[print up]][[sleep 600000]]"]);
    env.await_line(&ends, "tick 5");
    env.await_line(&lives, "up");
    door.shut();
    let refused = env
        .cldpd(["start", "-d", &pod, "--prompt", "x"])
        .run()
        .code(69);
    assert!(
        refused.stderr.contains("docker is not available"),
        "{}",
        refused.stderr
    );
    gate.open();
    assert_eq!(env.wait(&ends), 8);
    assert_eq!(env.said(&ends), format!("{}end\n", ticks(50)));
    assert_eq!(env.session(&lives)["state"], "running");
    door.open();
    env.cldpd(["start", &pod, "--prompt", "[[print back]]"])
        .run()
        .ok();
    env.cldpd(["stop", &lives]).run().ok();
    assert_eq!(env.wait(&lives), 143);
}
