//! `POST /v1/sessions/{session}/kill`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::{KillRequest, StopResponse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/sessions/{session}/kill", "kill", kill)
        .says("Sends one signal to the program of the current run.")
        .takes::<KillRequest>()
        .gives::<StopResponse>()
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::Refused,
        ])
}

pub(super) async fn kill(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<StopResponse> {
    Ok(Json(context.handle.kill(&session, body(&bytes)?).await?))
}
