//! `POST /v1/sessions/{session}/runs`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::{ResumeRequest, ResumeResponse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/sessions/{session}/runs", "resume", resume)
        .says("A further prompt to the same conversation. Answered when the intent is durable.")
        .takes::<ResumeRequest>()
        .gives::<ResumeResponse>()
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::Refused,
            ErrorCode::RuntimeUnavailable,
            ErrorCode::TryLater,
            ErrorCode::Budget,
            ErrorCode::Credentials,
            ErrorCode::InvalidPod,
            ErrorCode::Usage,
        ])
}

pub(super) async fn resume(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<ResumeResponse> {
    Ok(Json(context.handle.resume(&session, body(&bytes)?).await?))
}
