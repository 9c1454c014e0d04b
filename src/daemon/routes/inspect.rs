//! `GET /v1/sessions/{session}`

use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::api::Inspection;
use axum::Json;
use axum::extract::{Path, State};

pub(super) async fn inspect(
    State(context): State<Context>,
    Path(session): Path<String>,
) -> Answer<Inspection> {
    Ok(Json(context.handle.inspect(&session).await?))
}
