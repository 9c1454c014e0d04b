//! `POST /v1/sessions/{session}/runs`

use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::api::ResumeResponse;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) async fn resume(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<ResumeResponse> {
    Ok(Json(context.handle.resume(&session, body(&bytes)?).await?))
}
