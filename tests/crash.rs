//! Whatever dies at whatever moment: each session's record is what its agent
//! wrote, every line once and in order, told once, with its own end.

use crate::support::engine::block_on;
use crate::support::events::{assert_dense, of_kind, only};
use crate::support::{Dice, TestEnv, numbered, procfs, ticks};
use cldpd::model::api::EventsQuery;
use cldpd::model::{EventKind, Outcome, Ulid};
use cldpd::runtime::session_dir::{RunDir, SessionDir};
use cldpd::runtime::shim::{Peer, Shim};
use cldpd::{Dispatch, Dispatcher, Session};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// What a session was told, what it has to have said, and its code.
struct Told {
    id: String,
    said: String,
    code: i32,
}

fn tell(env: &TestEnv, pod: &str, dice: &mut Dice) -> Told {
    let lines = usize::try_from(dice.roll(3000)).expect("small") + 1;
    let code = i32::try_from(dice.roll(100)).expect("small");
    let prompt = format!("[[linesflush {lines}]][[tick 40 5]][[errlines 20]][[exit {code}]]");
    Told {
        id: env.start(&[pod, "--prompt", &prompt]),
        said: numbered(lines) + &ticks(40),
        code,
    }
}

#[test]
fn a_daemon_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let env = TestEnv::new();
    let pod = env.local_pod("killed").plain().make();
    let mut dice = Dice::new(0);
    let mut all: Vec<Told> = Vec::new();
    for round in 0..8 {
        all.push(tell(&env, &pod, &mut dice));
        all.push(tell(&env, &pod, &mut dice));
        match round % 4 {
            // At once: anywhere between the intent and the first line.
            0 => {}
            1 => drop(env.await_event(&all[all.len() - 1].id, "creating")),
            2 => drop(env.await_event(&all[all.len() - 2].id, "run_started")),
            _ => {
                let tick = dice.roll(35) + 1;
                env.await_line(&all[all.len() - 1].id, &format!("tick {tick}"));
            }
        }
        env.kill_daemon();
        env.start_daemon();
    }
    for told in &all {
        assert_eq!(env.wait(&told.id), told.code, "{}", told.id);
        assert_eq!(env.said(&told.id), told.said, "{}", told.id);
        let events = env.events(&told.id);
        assert_dense(&events);
        assert_eq!(only(&events, "run_started")["run"], 0);
        assert_eq!(only(&events, "container_exited")["code"], told.code);
        assert_eq!(of_kind(&events, "error").len(), 0);
        assert_eq!(events.last().expect("events")["kind"], "run_ended");
        let errors = of_kind(&events, "output");
        let errors = errors.iter().filter(|e| e["stream"] == "stderr");
        let errors: Vec<&str> = errors.filter_map(|e| e["data"].as_str()).collect();
        let expected: Vec<String> = (1..=20).map(|n| format!("err {n:07}")).collect();
        assert_eq!(errors, expected, "{}", told.id);
    }
}

/// Where the only attempt of a session's first run lies.
fn place(env: &TestEnv, session: &Session) -> RunDir {
    SessionDir::new(&env.home().join("sessions"), session.ulid()).run(0, 1)
}

fn shim(dir: &RunDir) -> Pid {
    let text = std::fs::read_to_string(dir.path().join("pid")).expect("a shim leaves its pid");
    let pid = text.split_ascii_whitespace().next().expect("a pid");
    Pid::from_raw(pid.parse().expect("a pid")).expect("a pid")
}

/// Reads events until one fits.
async fn until(session: &Session, fits: impl Fn(&EventKind) -> bool) {
    let mut events = session.events().await.expect("it has events");
    while let Some(event) = events.next().await.expect("they can be read") {
        if fits(&event.event.kind) {
            return;
        }
    }
    panic!("the session is over");
}

fn says(kind: &EventKind, line: &str) -> bool {
    matches!(kind, EventKind::Output(output) if output.data == line.as_bytes())
}

async fn output(session: &Session) -> String {
    let all = EventsQuery::default();
    let mut events = session.events_of(all).await.expect("it has events");
    let mut said = String::new();
    while let Some(event) = events.next().await.expect("they can be read") {
        if let EventKind::Output(output) = &event.event.kind {
            said.push_str(&String::from_utf8_lossy(&output.data));
            said.push('\n');
        }
    }
    said
}

#[test]
fn actors_that_are_dropped_at_any_line_lose_and_double_nothing() {
    let env = TestEnv::new();
    let pod = env.local_pod("dropped").plain().make();
    let mut dice = Dice::new(7);
    block_on(async {
        let mut here = Dispatcher::open(env.home()).await.expect("it is free");
        let prompt = "[[linesflush 2000]][[tick 60 5]][[exit 3]]";
        let started = here.start(Dispatch::prompt(&pod, prompt).count(5)).await;
        let ulids: Vec<_> = started
            .expect("dispatched")
            .iter()
            .map(Session::ulid)
            .collect();
        for round in 0..6 {
            let which = usize::try_from(dice.roll(5)).expect("small");
            let session = here
                .session(&ulids[which].to_string())
                .await
                .expect("there");
            let line = match round {
                0 => format!("line {:07}", dice.roll(2000) + 1),
                later => format!("tick {}", later * 9),
            };
            until(&session, |kind| says(kind, &line)).await;
            drop(session);
            here.close().await;
            here = Dispatcher::open(env.home())
                .await
                .expect("it is free again");
        }
        for ulid in ulids {
            let session = here.session(&ulid.to_string()).await.expect("there");
            let end = session.wait().await.expect("it ends");
            assert_eq!((end.outcome, end.code), (Outcome::Failed, Some(3)));
            assert_eq!(output(&session).await, numbered(2000) + &ticks(60));
        }
        here.close().await;
    });
}

#[test]
fn resumes_at_once_each_have_their_own_values() {
    let env = TestEnv::new();
    let pod = env.local_pod("at-once").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[print first]]"]);
    assert_eq!(env.wait(&id), 0);
    let resumes: Vec<_> = (0..12)
        .map(|n| {
            let (value, prompt) = (format!("WHO=n{n}"), format!("[[print n{n}]][[env WHO]]"));
            let args = ["resume", "-d", &id, "--env", &value, "--prompt", &prompt];
            env.cldpd(args).spawn()
        })
        .collect();
    for resume in resumes {
        resume.finish().ok();
    }
    assert_eq!(env.wait(&id), 0);
    let said = env.said(&id);
    let (mut lines, mut seen) = (said.lines().skip(1), Vec::new());
    while let (Some(who), Some(value)) = (lines.next(), lines.next()) {
        assert_eq!(value, format!("WHO={who}"), "{said}");
        seen.push(who);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 12, "{said}");
}

/// A session whose shim was frozen before another daemon came.
async fn frozen(env: &TestEnv, pod: &str) -> (Dispatcher, Session, Pid) {
    let here = Dispatcher::open(env.home()).await.expect("it is free");
    let prompt = "[[print up]][[sleep 600000]]";
    let started = here.start(Dispatch::prompt(pod, prompt)).await;
    let session = started.expect("dispatched").remove(0);
    until(&session, |kind| says(kind, "up")).await;
    let (ulid, shim) = (session.ulid(), shim(&place(env, &session)));
    drop(session);
    here.close().await;
    kill_process(shim, Signal::STOP).expect("it runs");
    let here = Dispatcher::open(env.home())
        .await
        .expect("it is free again");
    let session = here.session(&ulid.to_string()).await.expect("there");
    (here, session, shim)
}

#[test]
fn a_shim_that_was_frozen_is_met_again_and_takes_its_stop() {
    let env = TestEnv::new();
    let pod = env.local_pod("frozen").plain().make();
    block_on(async {
        let (here, session, shim) = frozen(&env, &pod).await;
        until(
            &session,
            |kind| matches!(kind, EventKind::Note { code, .. } if code == "adopted"),
        )
        .await;
        kill_process(shim, Signal::CONT).expect("it is there");
        let stopped = session
            .stop(Duration::from_secs(30))
            .await
            .expect("it stops");
        assert_eq!(stopped.ended.expect("it is over").outcome, Outcome::Stopped);
        here.close().await;
    });
}

#[test]
fn a_shim_that_does_not_come_back_is_killed_when_its_stop_is_overdue() {
    let env = TestEnv::new();
    let pod = env.local_pod("stuck").plain().make();
    block_on(async {
        let (here, session, shim) = frozen(&env, &pod).await;
        let stopped = session.stop(Duration::ZERO).await.expect("it stops");
        assert_eq!(stopped.ended.expect("it is over").outcome, Outcome::Stopped);
        procfs::await_death(shim.as_raw_nonzero().get());
        here.close().await;
    });
}

#[test]
fn a_shim_that_somebody_took_over_does_not_leave_the_session_without_an_end() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("taken").plain().make();
    block_on(async {
        let here = Dispatcher::open(env.home()).await.expect("it is free");
        let prompt = format!("[[print up]]{}[[print down]][[exit 4]]", gate.hold());
        let started = here.start(Dispatch::prompt(&pod, prompt)).await;
        let session = started.expect("dispatched").remove(0);
        until(&session, |kind| says(kind, "up")).await;
        let dir = place(&env, &session);
        let taken = Shim::connect(&dir, Peer::Local, u64::MAX, Duration::ZERO).await;
        gate.open();
        let end = session.wait().await.expect("it ends");
        assert_eq!((end.outcome, end.code), (Outcome::Failed, Some(4)));
        assert_eq!(output(&session).await, "up\ndown\n");
        drop(taken);
        here.close().await;
    });
}

#[test]
fn a_signal_that_was_recorded_and_not_sent_is_sent_by_the_next_daemon() {
    let env = TestEnv::new();
    let pod = env.local_pod("signal").plain().make();
    let prompt = "[[on USR2 exit 5]][[print up]][[sleep 600000]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    env.await_line(&id, "up");
    let ulid = env.session(&id)["ulid"].clone();
    let ulid: Ulid = serde_json::from_value(ulid).expect("a ULID");
    let session = SessionDir::new(&env.home().join("sessions"), ulid);
    let shim = shim(&session.run(0, 1));
    env.kill_daemon();
    kill_process(shim, Signal::STOP).expect("it runs");
    // This daemon cannot tell the shim anything, and records what it is asked.
    env.start_daemon();
    env.cldpd(["kill", "-s", "USR2", &id]).run().ok();
    env.kill_daemon();
    kill_process(shim, Signal::CONT).expect("it is there");
    env.start_daemon();
    assert_eq!(env.wait(&id), 5);
    assert_eq!(
        env.inspect(&id)["record"]["runs"][0]["signals"][0]["signal"],
        "SIGUSR2"
    );
}
