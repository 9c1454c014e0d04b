//! `POST /v1/sessions`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::{StartRequest, StartResponse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/sessions", "start", start)
        .says("Dispatches sessions: all of them or, on an error, none. Answered when the intent is durable.")
        .takes::<StartRequest>()
        .gives::<StartResponse>()
        .fails(&[
            ErrorCode::PodNotFound,
            ErrorCode::InvalidPod,
            ErrorCode::Refused,
            ErrorCode::RuntimeUnavailable,
            ErrorCode::TryLater,
        ])
}

pub(super) async fn start(State(context): State<Context>, bytes: Bytes) -> Answer<StartResponse> {
    Ok(Json(context.handle.start(body(&bytes)?).await?))
}
