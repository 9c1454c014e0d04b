//! `GET /v1/doctor`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::api::Check;
use axum::Json;
use axum::extract::State;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/doctor", "doctor", doctor)
        .says("What the daemon looked at, and how it stands.")
        .gives::<Vec<Check>>()
}

pub(super) async fn doctor(State(context): State<Context>) -> Answer<Vec<Check>> {
    Ok(Json(context.handle.doctor().await))
}
