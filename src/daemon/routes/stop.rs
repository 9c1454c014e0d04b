//! `POST /v1/sessions/{session}/stop`

use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::api::StopResponse;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};

pub(super) async fn stop(
    State(context): State<Context>,
    Path(session): Path<String>,
    bytes: Bytes,
) -> Answer<StopResponse> {
    Ok(Json(context.handle.stop(&session, body(&bytes)?).await?))
}
