//! Runs that are ended: by their time limit, and while they wait or are built.

use crate::support::events::{of_kind, only, outcome};
use crate::support::process::Proc;
use crate::support::{TestEnv, engine, procfs};
use rustix::process::Signal;
use serde_json::{Value, json};

/// What never ends by itself, and leaves children.
const BUSY: &str = "[[orphan 600000 setsid]][[print ready]][[sleep 600000]]";

/// The namespace of process ids of a session's container, with all that is in it.
fn namespace(id: &str) -> procfs::PidNamespace {
    let state = engine::inspect_json(&format!("cldpd-{id}-r0"))["State"].clone();
    let namespace = procfs::pid_namespace(state["Pid"].as_i64().expect("a process id"));
    let inside = procfs::processes_in(&namespace);
    assert!(inside.len() >= 3, "shim, agent and orphan: {inside:?}");
    namespace
}

fn time<'a>(event: &'a Value, key: &str) -> &'a str {
    event[key].as_str().expect("a time")
}

#[test]
fn a062_a_timeout_or_a_cancel_stops_it_for_good() {
    let env = TestEnv::new();
    let pod = env.docker_pod("limit").plain().make();
    let start = |limit: &str, prompt: &str| {
        let id = env.start(&[&pod, "--timeout", limit, "--prompt", prompt]);
        env.await_line(&id, "ready");
        let namespace = namespace(&id);
        (id, namespace)
    };
    let (stubborn, its) = start("3s", &format!("[[ignore TERM]]{BUSY}"));
    let (timed, his) = start("3s", BUSY);
    let (cancelled, hers) = start("0", BUSY);
    let failed = env.start(&[&pod, "--timeout", "1h", "--prompt", "[[exit 1]]"]);
    env.cldpd(["stop", "-t", "2", &cancelled]).run().ok();

    for (id, namespace, exit, code, ended) in [
        (&timed, &his, 124, 143, "timeout"),
        (&stubborn, &its, 124, 137, "timeout"),
        (&cancelled, &hers, 143, 143, "stopped"),
    ] {
        assert_eq!(env.wait(id), exit, "{ended}");
        assert_eq!(outcome(&env.session(id)), ended);
        let events = env.events(id);
        assert_eq!(only(&events, "run_ended")["outcome"], ended);
        let exited = only(&events, "container_exited");
        assert_eq!(exited["code"], code);
        let stopping = only(&events, "stopping");
        let by = if ended == "timeout" {
            "timeout"
        } else {
            "user"
        };
        assert_eq!(
            (&stopping["by"], &stopping["signal"]),
            (&json!(by), &json!("SIGTERM"))
        );
        if code == 143 {
            assert!(time(exited, "finished") < time(stopping, "deadline"));
        }
        engine::await_exit(&format!("cldpd-{id}-r0"));
        let left = procfs::processes_in(namespace);
        assert!(left.is_empty(), "{ended}: {left:?}");
    }
    assert_eq!(env.wait(&failed), 1);
    assert_eq!(outcome(&env.session(&failed)), "failed");
    assert!(row(&env, &timed).contains("timeout (143)"));
}

fn row(env: &TestEnv, id: &str) -> String {
    let table = env.cldpd(["sessions", "-a"]).run().ok();
    let found = table.lines().find(|line| line.starts_with(id));
    found.expect("a row").to_owned()
}

#[test]
fn a_deadline_that_passed_without_a_daemon_is_kept_when_there_is_one() {
    let env = TestEnv::new();
    let (late, ended) = (env.gate("late"), env.gate("ended"));
    let mark = format!("ends-{}", env.tag());
    let marked = json!({"entrypoint": ["claude", mark]});
    let late_pod = env.fake_pod("late").plain().make();
    let ended_pod = env.fake_pod("ended").plain().json(marked).make();
    let start = |pod: &str, rest: &str| {
        let prompt = format!("[[print ready]][[sleep 8500]]{rest}");
        let id = env.start(&[pod, "--timeout", "8s", "--prompt", &prompt]);
        env.await_line(&id, "ready");
        id
    };
    let runs_on = start(&late_pod, &format!("{}[[sleep 600000]]", late.hold()));
    let has_ended = start(&ended_pod, &format!("{}[[exit 3]]", ended.hold()));
    let queued = env
        .fake_pod("one")
        .plain()
        .json(json!({"maxParallel": 1}))
        .make();
    let hold = env.gate("hold");
    let first = env.start(&[&queued, "--prompt", &hold.hold()]);
    let waited = env.start(&[&queued, "--timeout", "8s", "--prompt", "[[print done]]"]);
    env.kill_daemon();
    late.open();
    let [agent] = procfs::processes_with(&mark)[..] else {
        panic!("one agent that will end by itself");
    };
    ended.open();
    procfs::await_death(agent);
    env.start_daemon();
    assert_eq!(env.wait(&runs_on), 124);
    assert_eq!(outcome(&env.session(&runs_on)), "timeout");
    assert_eq!(only(&env.events(&runs_on), "stopping")["by"], "timeout");
    // It took longer too, but ended by itself: nobody stopped it.
    assert_eq!(env.wait(&has_ended), 3);
    assert_eq!(outcome(&env.session(&has_ended)), "failed");
    // Time in the queue does not count.
    hold.open();
    assert_eq!(env.wait(&first), 0);
    assert_eq!(env.wait(&waited), 0);
}

#[test]
fn who_stopped_it_first_is_why_it_ended() {
    let env = TestEnv::new();
    let pod = env.fake_pod("first").plain().make();
    let stubborn = "[[ignore TERM]][[print ready]][[sleep 600000]]";
    let id = env.start(&[&pod, "--timeout", "1s", "--prompt", stubborn]);
    env.await_event(&id, "stopping");
    // A user who is in a hurry does not change what it was.
    env.cldpd(["stop", "-t", "0", &id]).run().ok();
    assert_eq!(env.wait(&id), 124);
    assert_eq!(outcome(&env.session(&id)), "timeout");
    // The pod's limit, unless the command says otherwise.
    let pod = env
        .fake_pod("short")
        .plain()
        .json(json!({"timeout": "1s"}))
        .make();
    let prompt = "[[sleep 2000]][[print done]]";
    let (short, long) = (
        env.start(&[&pod, "--prompt", prompt]),
        env.start(&[&pod, "--timeout", "0", "--prompt", prompt]),
    );
    assert_eq!((env.wait(&short), env.wait(&long)), (124, 0));
    let wrong = ["start", "-d", &pod, "--timeout", "soon", "--prompt", "x"];
    let wrong = env.cldpd(wrong).run().code(2);
    assert!(wrong.stderr.contains("'soon'"), "{}", wrong.stderr);
}

/// A session in the foreground of which such an event is recorded, and its id.
fn watched(env: &TestEnv, pod: &str, kind: &str) -> (Proc, String) {
    let events = env
        .cldpd(["events", "-f", "--since", "1h", "--pod", pod, "--json"])
        .spawn();
    let start = env.cldpd(["start", pod, "--prompt", "x"]).spawn();
    let line = events.line(&format!("\"kind\":\"{kind}\""));
    let event: Value = serde_json::from_str(&line).expect("an event is JSON");
    (start, event["session"].as_str().expect("an id").to_owned())
}

#[test]
fn what_waits_can_be_taken_back_with_ctrl_c() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env
        .fake_pod("one")
        .plain()
        .json(json!({"maxParallel": 1}))
        .make();
    let prompt = format!("[[print ready]]{}", gate.hold());
    let first = env.start(&[&pod, "--prompt", &prompt]);
    env.await_line(&first, "ready");
    let second = env.start(&[&pod, "--name", "second", "--prompt", "x"]);
    let start = env.cldpd(["start", &pod, "--prompt", "x", "--after", "second"]);
    let start = start.spawn();
    let third = env.cldpd(["events", "-f", "--since", "1h", "--kind", "queued"]);
    let third = third.spawn();
    let line = third.line("after ");
    start.signal(Signal::INT);
    let output = start.finish().code(130);
    assert!(output.stderr.contains("taken back"), "{}", output.stderr);
    assert!(line.contains(&second), "{line}");
    gate.open();
    assert_eq!(env.wait(&second), 0);
    let rows = env.cldpd(["sessions", "-a", "--state", "cancelled", "-q"]);
    assert_eq!(rows.run().ok().lines().count(), 1);
}

#[test]
fn what_is_built_can_be_taken_back() {
    let env = TestEnv::new();
    let gate = env.gate("build");
    let pod = env
        .fake_pod("slow")
        .plain()
        .fake(json!({"build": {"steps": ["step one", {"gate": gate.path()}, "step two"]}}))
        .make();
    // Ctrl+C of whoever watches.
    let (start, id) = watched(&env, &pod, "build_output");
    start.signal(Signal::INT);
    let output = start.finish().code(130);
    assert!(output.stderr.contains("taken back"), "{}", output.stderr);
    // A stop, of one of two that wait for the build.
    let (second, third) = (
        env.start(&[&pod, "--prompt", "x"]),
        env.start(&[&pod, "--prompt", "[[print built]]"]),
    );
    env.await_event(&second, "build_output");
    env.cldpd(["stop", &second]).run().ok();
    env.await_event(&third, "build_output");
    gate.open();
    assert_eq!(env.wait(&third), 0);
    for id in [&id, &second] {
        assert_eq!(env.wait(id), 130);
        let events = env.events(id);
        assert_eq!(only(&events, "run_ended")["outcome"], "cancelled");
        assert!(of_kind(&events, "creating").is_empty());
    }
    let created = env.fake_log(&pod);
    let created = created.iter().filter(|call| call.starts_with("create"));
    assert_eq!(created.count(), 1, "only for the third");
}

#[test]
fn a_build_by_the_engine_goes_with_the_last_who_waits_for_it() {
    let env = TestEnv::new();
    let tag = format!("building-{}", env.tag());
    let pod = env
        .docker_pod("building")
        .plain()
        .dockerfile(&format!(
            "FROM scratch\nCOPY claude /bin/claude\nCOPY tmp /tmp\nWORKDIR /tmp\n\
             ENV CLDPD_SCRIPT=\"[[print begun]][[sleep 600000]]\"\n\
             RUN [\"/bin/claude\", \"{tag}\"]\n"
        ))
        .make();
    let first = env.start(&[&pod, "--prompt", "x"]);
    let follow = env
        .cldpd(["logs", "-f", "--format", "jsonl", &first])
        .spawn();
    follow.line("begun");
    let second = env.start(&[&pod, "--prompt", "x"]);
    let follow = env
        .cldpd(["logs", "-f", "--format", "jsonl", &second])
        .spawn();
    follow.line("begun");
    let builders = || procfs::processes_with(&tag);
    let [builder] = builders()[..] else {
        panic!("one build for both: {:?}", builders());
    };
    env.cldpd(["stop", &first]).run().ok();
    assert_eq!(builders(), [builder], "the other waits for it");
    env.cldpd(["stop", &second]).run().ok();
    procfs::await_death(builder);
    for id in [&first, &second] {
        assert_eq!(env.wait(id), 130);
        assert_eq!(outcome(&env.session(id)), "cancelled");
        let label = format!(
            "cldpd.session={}",
            env.session(id)["ulid"].as_str().unwrap()
        );
        assert!(engine::containers_with_label(&label).is_empty());
    }
    assert!(!engine::image_exists(&format!("cldpd-{pod}")));
}
