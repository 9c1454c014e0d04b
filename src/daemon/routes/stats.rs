//! `GET /v1/stats`

use super::sessions::Filters;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::Answer;
use crate::daemon::server::Context;
use crate::model::api::{StatsQuery, StatsRow};
use axum::Json;
use axum::extract::State;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/stats", "stats", stats)
        .says("What agents used: tokens, money, turns and time of runs, added up.")
        .query::<StatsQuery>()
        .gives::<Vec<StatsRow>>()
}

pub(super) async fn stats(
    State(context): State<Context>,
    Filters(query): Filters<StatsQuery>,
) -> Answer<Vec<StatsRow>> {
    Ok(Json(context.handle.stats(query).await?))
}
