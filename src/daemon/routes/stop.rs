//! `POST /v1/sessions/{session}/stop`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::{StopRequest, StopResponse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/sessions/{session}/stop", "stop", stop)
        .says("SIGTERM, then SIGKILL after the grace. A session that is over is left as it is.")
        .takes::<StopRequest>()
        .gives::<StopResponse>()
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::StopFailed,
        ])
}

pub(super) async fn stop(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<StopResponse> {
    Ok(Json(context.handle.stop(&session, body(&bytes)?).await?))
}
