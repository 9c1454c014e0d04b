use super::super::context::{Settings, Silence};
use super::super::handle::Handle;
use super::super::space::Retention;
use super::super::system::System;
use super::*;
use crate::actors::admission::Demand;
use crate::model::api::{StartRequest, StopRequest};
use crate::model::{PodName, RuntimeName, Timestamp};
use std::path::Path;

fn settings(home: &Path) -> Settings {
    Settings {
        home: home.to_owned(),
        user_home: None,
        max_parallel: 1,
        memory: 0,
        max_queued: 10,
        session_memory: 0,
        session_pids: 0,
        runtime: RuntimeName::Local,
        docker_host: None,
        session_dir: None,
        retention: Retention::default(),
        min_free: Some(0),
        silence: Silence::default(),
        retry_after: Duration::ZERO,
    }
}

/// Dispatches `count` sessions, whose commit fails; returns how that was told.
async fn start_in_vain(handle: &Handle, count: u32, written: bool) -> Error {
    let request = serde_json::json!({
        "request": Ulid::generate(),
        "pods": ["p"],
        "count": count,
        "task": {"issue": "https://github.com/o/r/issues/1"},
    });
    let request: StartRequest = serde_json::from_value(request).unwrap();
    handle.shared.journal.fail_once(written).await;
    handle.start(request).await.unwrap_err()
}

async fn waiting(handle: &Handle) -> Vec<Ulid> {
    let waits = handle.ask(LookAtQueue(None)).await.unwrap();
    waits.into_keys().collect()
}

/// Somebody has the only place, so that what is dispatched waits.
async fn opened(home: &Path) -> System {
    let pod = home.join("pods/p");
    std::fs::create_dir_all(&pod).unwrap();
    std::fs::write(pod.join("Dockerfile"), "FROM scratch\n").unwrap();
    let system = System::open(settings(home)).await.unwrap();
    system.handle().ask(Occupy(demand(1))).await.unwrap();
    system
}

fn demand(session: u128) -> Demand {
    Demand {
        session: Ulid(session),
        asked: Timestamp::now(),
        priority: 0,
        pod: PodName::new("other").unwrap(),
        pod_max: None,
        memory: 0,
        after: Vec::new(),
    }
}

#[test]
fn what_a_failed_commit_left_keeps_its_place() {
    let home = tempfile::tempdir().unwrap();
    let work = async {
        let system = opened(home.path()).await;
        let handle = system.handle();
        let error = start_in_vain(&handle, 2, true).await;
        assert_eq!(error.code, ErrorCode::JournalFailed);
        let sessions = waiting(&handle).await;
        assert_eq!(sessions.len(), 2);
        for session in &sessions {
            // It is asked for already; it is there when the journal is.
            let child = handle.ask(Child(*session)).await.unwrap();
            assert!(child.unwrap().connected());
            let record = handle.shared.reader.session(*session).unwrap().unwrap();
            assert!(record.is_live());
        }
        let load = handle.ask(CountRuns).await.unwrap();
        assert_eq!((load.running, load.waiting), (1, 2));
        // It is known by its id, and can be told to go.
        for session in sessions {
            let record = handle.shared.reader.session(session).unwrap().unwrap();
            let stop = StopRequest {
                request: Ulid::generate(),
                grace: 1,
                run: None,
                wait: true,
            };
            let stopped = handle.stop(record.id.as_str(), stop).await.unwrap();
            assert!(stopped.was_live && stopped.ended.is_some());
        }
        // Nobody keeps a place from those that come later.
        handle.ask(Enqueue(demand(2))).await.unwrap();
        handle.ask(Release(Ulid(1), None)).await.unwrap();
        let verdict = handle.ask(Acquire(Ulid(2))).await.unwrap().0;
        assert_eq!(verdict.await, Ok(Verdict::Go));
        system.leave().await;
    };
    System::block_on(work).unwrap();
}

#[test]
fn what_a_failed_commit_did_not_leave_gives_up_its_place() {
    let home = tempfile::tempdir().unwrap();
    let work = async {
        let system = opened(home.path()).await;
        let handle = system.handle();
        let error = start_in_vain(&handle, 2, false).await;
        assert_eq!(error.code, ErrorCode::JournalFailed);
        // Those that have not given it up yet do so when the journal is open.
        for session in waiting(&handle).await {
            let child = handle.ask(Child(session)).await.unwrap();
            assert!(child.is_err_and(|error| error.code == ErrorCode::SessionNotFound));
        }
        let load = handle.ask(CountRuns).await.unwrap();
        assert_eq!((load.running, load.waiting), (1, 0));
        assert_eq!(handle.shared.reader.sessions().count(), 0);
        system.leave().await;
    };
    System::block_on(work).unwrap();
}
