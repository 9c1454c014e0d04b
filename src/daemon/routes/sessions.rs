//! `GET /v1/sessions`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, Failure};
use crate::daemon::server::Context;
use crate::model::api::{ListQuery, SessionView};
use crate::model::{Error, ErrorCode};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/sessions", "sessions", sessions)
        .says("Sessions, newest first: the live ones, or all.")
        .query::<ListQuery>()
        .gives::<Vec<SessionView>>()
}

pub(super) async fn sessions(
    State(context): State<Context>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<SessionView>> {
    let Query(query) = query.map_err(misunderstood)?;
    Ok(Json(context.handle.list(query).await?))
}

/// A query that cannot be read.
pub(super) fn misunderstood(rejection: QueryRejection) -> Failure {
    let message = format!("the query is not understood: {}", rejection.body_text());
    Failure(Error::new(ErrorCode::Usage, message))
}
