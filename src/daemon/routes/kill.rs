//! `POST /v1/sessions/{session}/kill`

use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::api::StopResponse;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) async fn kill(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<StopResponse> {
    Ok(Json(context.handle.kill(&session, body(&bytes)?).await?))
}
