//! `GET /v1/sessions/{session}/wait`

use super::sessions::misunderstood;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, Failure};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::WaitResponse;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/sessions/{session}/wait", "wait", wait)
        .says("Answered when the run (without one: all runs) is over, however long that takes.")
        .query::<WaitQuery>()
        .gives::<WaitResponse>()
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::Ambiguous])
}

/// Which run.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WaitQuery {
    /// This one; all of the session's without it.
    #[serde(default)]
    run: Option<u32>,
}

pub(super) async fn wait(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Answer<WaitResponse> {
    let Query(query) = query.map_err(misunderstood)?;
    tokio::select! {
        ended = context.handle.wait(&session, query.run) => Ok(Json(ended?)),
        () = context.streams.cancelled() => Err(Failure(match context.stopped.is_cancelled() {
            true => crate::daemon::stopped(),
            false => crate::daemon::leaving(),
        })),
    }
}
