//! `GET /v1/sessions/{session}/wait`

use super::sessions::misunderstood;
use crate::daemon::respond::{Answer, Failure};
use crate::daemon::server::Context;
use crate::model::api::WaitResponse;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct WaitQuery {
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
        () = context.streams.cancelled() => Err(Failure(crate::daemon::leaving())),
    }
}
