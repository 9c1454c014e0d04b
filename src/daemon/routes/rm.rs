//! `DELETE /v1/sessions/{session}`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::{RemoveRequest, RemoveResponse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::delete("/v1/sessions/{session}", "remove", rm)
        .says("Removes what a session has; its history stays unless asked for.")
        .takes::<RemoveRequest>()
        .gives::<RemoveResponse>()
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::Refused,
            ErrorCode::StopFailed,
        ])
}

pub(super) async fn rm(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<RemoveResponse> {
    Ok(Json(context.handle.remove(&session, body(&bytes)?).await?))
}
