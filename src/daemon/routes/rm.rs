//! `DELETE /v1/sessions/{session}`

use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::api::RemoveResponse;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) async fn rm(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<RemoveResponse> {
    Ok(Json(context.handle.remove(&session, body(&bytes)?).await?))
}
