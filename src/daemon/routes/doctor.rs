//! `GET /v1/doctor`

use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::api::Check;
use axum::Json;
use axum::extract::State;

pub(super) async fn doctor(State(context): State<Context>) -> Answer<Vec<Check>> {
    Ok(Json(context.handle.doctor().await))
}
