//! `GET /v1/pods` and `GET /v1/pods/{name}`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::PodView;
use axum::Json;
use axum::extract::{Path, State};

pub(super) fn all() -> Endpoint {
    Endpoint::get("/v1/pods", "pods", pods)
        .says("The pods, with what is wrong with each.")
        .gives::<Vec<PodView>>()
}

pub(super) fn one() -> Endpoint {
    Endpoint::get("/v1/pods/{name}", "pod", pod)
        .says("One pod.")
        .gives::<PodView>()
        .fails(&[ErrorCode::PodNotFound, ErrorCode::InvalidPod])
}

pub(super) async fn pods(State(context): State<Context>) -> Answer<Vec<PodView>> {
    Ok(Json(context.handle.pods().await?))
}

pub(super) async fn pod(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Answer<PodView> {
    Ok(Json(context.handle.pod(&name).await?))
}
