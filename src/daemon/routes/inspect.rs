//! `GET /v1/sessions/{session}`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::Inspection;
use axum::Json;
use axum::extract::{Path, State};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/sessions/{session}", "session", inspect)
        .says("Everything known of a session; never a secret's value.")
        .gives::<Inspection>()
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::Ambiguous])
}

pub(super) async fn inspect(
    State(context): State<Context>,
    Path(session): Path<String>,
) -> Answer<Inspection> {
    Ok(Json(context.handle.inspect(&session).await?))
}
