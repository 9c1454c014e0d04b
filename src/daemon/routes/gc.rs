//! `GET /v1/gc` and `POST /v1/gc`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::api::GcReport;
use axum::Json;
use axum::extract::State;

pub(super) fn plan() -> Endpoint {
    Endpoint::get("/v1/gc", "gc_plan", look)
        .says("What nobody needs any more, and `POST` would remove. Removes nothing.")
        .gives::<GcReport>()
}

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/gc", "gc", remove)
        .says("Removes what nobody needs any more; what could not be has the reason. It goes on if the caller leaves.")
        .gives::<GcReport>()
}

async fn look(State(context): State<Context>) -> Answer<GcReport> {
    Ok(Json(context.handle.gc_plan().await?))
}

async fn remove(State(context): State<Context>) -> Answer<GcReport> {
    Ok(Json(context.handle.gc().await?))
}
