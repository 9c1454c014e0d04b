//! `GET /v1/daemon` and `POST /v1/daemon/stop`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, Failure, body};
use crate::daemon::server::{Context, VERSION};
use crate::model::Error;
use crate::model::api::{DaemonStatus, DaemonStopRequest};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use std::time::Duration;

pub(super) fn show() -> Endpoint {
    Endpoint::get("/v1/daemon", "status", status)
        .says("How the daemon stands. Answered to clients of any version.")
        .gives::<DaemonStatus>()
}

pub(super) fn end() -> Endpoint {
    Endpoint::post("/v1/daemon/stop", "shutdown", stop)
        .says("Ends the daemon. Sessions go on without it. Answered to clients of any version.")
        .may_take::<DaemonStopRequest>()
        .gives::<DaemonStatus>()
}

/// Grace of sessions that are stopped with the daemon.
const GRACE: Duration = Duration::from_secs(10);

pub(super) async fn status(State(context): State<Context>) -> Answer<DaemonStatus> {
    Ok(Json(describe(&context).await?))
}

pub(super) async fn stop(State(context): State<Context>, bytes: Bytes) -> Answer<DaemonStatus> {
    let request: DaemonStopRequest = if bytes.is_empty() {
        DaemonStopRequest::default()
    } else {
        body(&bytes)?
    };
    if request.stop_sessions {
        context.handle.stop_all(GRACE).await?;
    }
    let status = describe(&context).await?;
    if !request.restart {
        context.stopped.cancel();
    }
    context.asked.cancel();
    Ok(Json(status))
}

pub(in crate::daemon) async fn describe(context: &Context) -> Result<DaemonStatus, Failure> {
    let load = context.handle.queue().await;
    let load = load.map_err(|error: Error| Failure(error))?;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(DaemonStatus {
        pid: std::process::id(),
        version: VERSION.to_owned(),
        socket: context.home.socket().display().to_string(),
        home: context.home.root().display().to_string(),
        since: context.since,
        live: count(load.running),
        queued: count(load.waiting),
        adopted: context.handle.adopted(),
        max_parallel: context.max_parallel,
        memory: load.memory,
        memory_claimed: load.claimed,
        engine: context.handle.engine_address(),
        log: context.log.as_ref().map(|path| path.display().to_string()),
        commits: context.handle.commits(),
        problems: context.handle.problems(),
    })
}
