//! `POST /v1/sessions`

use crate::daemon::respond::{Answer, body};
use crate::daemon::server::Context;
use crate::model::api::StartResponse;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;

pub(super) async fn start(State(context): State<Context>, bytes: Bytes) -> Answer<StartResponse> {
    Ok(Json(context.handle.start(body(&bytes)?).await?))
}
