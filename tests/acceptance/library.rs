//! 5.15: the same as a library, without the command line.

use crate::support::TestEnv;
use crate::support::engine::block_on;
use crate::support::env::BINARY;
use crate::support::numbered;
use cldpd::model::{ErrorCode, EventKind, Outcome, Stream};
use cldpd::{Dispatch, Dispatcher, Resume, Session};
use std::time::Duration;

/// The names of a session's events, and its standard output.
async fn read(session: &Session) -> (Vec<&'static str>, Vec<u8>) {
    let mut events = session.events().await.expect("it has events");
    let (mut kinds, mut said) = (Vec::new(), Vec::new());
    let mut last = 0;
    while let Some(event) = events.next().await.expect("they can be read") {
        assert_eq!(event.event.seq, last + 1, "none is left out");
        last += 1;
        kinds.push(event.event.kind.name());
        if let EventKind::Output(output) = &event.event.kind
            && output.stream == Stream::Stdout
        {
            said.extend_from_slice(&output.data);
            if !output.continued {
                said.push(b'\n');
            }
        }
    }
    (kinds, said)
}

/// The whole job, whoever does it.
async fn the_job(dispatcher: &Dispatcher, pod: &str) {
    let started = dispatcher
        .start(
            Dispatch::prompt(pod, "[[lines 3000]][[err e]][[env GIVEN]][[exit 7]]")
                .env("GIVEN", "to the agent"),
        )
        .await
        .expect("it is dispatched");
    let [session] = started.as_slice() else {
        panic!("one session");
    };
    let (kinds, said) = read(session).await;
    let end = session.wait().await.expect("it ends");
    assert_eq!(
        (end.outcome, end.code, end.exit_code),
        (Outcome::Failed, Some(7), 7)
    );
    assert_eq!(
        said,
        (numbered(3000) + "GIVEN=[redacted:GIVEN]\n").as_bytes()
    );
    assert_eq!(kinds.first(), Some(&"created"));
    assert_eq!(kinds.last(), Some(&"run_ended"));

    let run = session.resume("[[print again]]").await.expect("it goes on");
    assert_eq!(run, 1);
    let end = session.wait().await.expect("it ends");
    assert_eq!((end.run, end.outcome), (1, Outcome::Success));
    let (_, said) = read(session).await;
    assert!(said.ends_with(b"again\n"));

    let asked = Resume::prompt("[[print 1]][[print 2]][[env GIVEN]]");
    let run = session.resume(asked.env("GIVEN", "to the second")).await;
    assert_eq!(run.expect("it goes on"), 2);
    let end = session.wait().await.expect("it ends");
    assert_eq!((end.run, end.outcome), (2, Outcome::Success));
    let (_, said) = read(session).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.ends_with("1\n2\nGIVEN=[redacted:GIVEN]\n"), "{said}");
    // A program of one's own has no conversation that could be forked.
    let refused = session.resume(Resume::prompt("x").fork()).await;
    assert_eq!(refused.expect_err("a fork").code, ErrorCode::Refused);

    let several = Dispatch::issue(pod, "https://example.org/issues/1").count(3);
    let several = dispatcher
        .start(several)
        .await
        .expect("they are dispatched");
    assert_eq!(several.len(), 3);
    for session in &several {
        assert_eq!(
            session.wait().await.expect("it ends").outcome,
            Outcome::Success
        );
    }

    let long = Dispatch::prompt(pod, "[[ignore TERM]][[print up]][[sleep 600000]]");
    let long = dispatcher
        .start(long)
        .await
        .expect("it is dispatched")
        .remove(0);
    let mut events = long.events().await.expect("it has events");
    while let Some(event) = events.next().await.expect("they can be read") {
        if matches!(event.event.kind, EventKind::Output(_)) {
            break;
        }
    }
    let stopped = long
        .stop(Duration::from_secs(1))
        .await
        .expect("it is stopped");
    assert!(stopped.was_live);
    let end = stopped.ended.expect("it has ended");
    assert_eq!((end.outcome, end.code), (Outcome::Stopped, Some(137)));
    let again = long
        .stop(Duration::from_secs(1))
        .await
        .expect("there is nothing to do");
    assert!(!again.was_live);

    let found = dispatcher
        .session(session.id().as_str())
        .await
        .expect("by its id");
    assert_eq!(found.ulid(), session.ulid());
    let error = dispatcher
        .session("nobody")
        .await
        .err()
        .expect("no such session");
    assert_eq!(error.code, ErrorCode::SessionNotFound);
    let error = dispatcher
        .start(Dispatch::prompt("../x", "y"))
        .await
        .err()
        .expect("no such name");
    assert_eq!(error.code, ErrorCode::InvalidPod);
    let error = dispatcher
        .start(Dispatch::prompt("absent", "y"))
        .await
        .err()
        .expect("no such pod");
    assert_eq!(error.code, ErrorCode::PodNotFound);
}

#[test]
fn a123_the_whole_job_needs_no_command_line() {
    let env = TestEnv::new();
    let pod = env.fake_pod("library").plain().make();
    block_on(async {
        // In this process, with no daemon anywhere.
        let here = Dispatcher::open(env.home())
            .await
            .expect("the home is free");
        the_job(&here, &pod).await;
        let taken = Dispatcher::open(env.home())
            .await
            .err()
            .expect("one at a time");
        assert_eq!(taken.code, ErrorCode::Refused);
        here.close().await;
        // Through the daemon, which is there for it then.
        let daemon = Dispatcher::connect(env.home(), BINARY)
            .await
            .expect("a daemon is started");
        the_job(&daemon, &pod).await;
    });
    let all = env.cldpd(["sessions", "-a", "--json"]).run().json();
    assert_eq!(
        all.as_array().map(Vec::len),
        Some(10),
        "one history for both"
    );
}

#[test]
fn a123_the_same_on_the_real_engine() {
    let env = TestEnv::new();
    let pod = env.docker_pod("library").plain().make();
    block_on(async {
        let here = Dispatcher::open(env.home())
            .await
            .expect("the home is free");
        the_job(&here, &pod).await;
        here.close().await;
    });
}
