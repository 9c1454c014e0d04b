//! `GET /v1/sessions/{session}/events`

use super::sessions::misunderstood;
use crate::actors::Follow;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Failure, Source, last_event_id, stream, wants_sse};
use crate::daemon::server::Context;
use crate::model::api::EventsQuery;
use crate::model::{ErrorCode, Result, SessionEvent};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/sessions/{session}/events", "events", logs)
        .says(
            "A session's events: what is recorded, and with `follow` what comes, until it is over.",
        )
        .query::<EventsQuery>()
        .streams::<SessionEvent>()
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::Gone,
        ])
}

pub(super) async fn logs(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Query(mut query) = query.map_err(misunderstood)?;
    if let Some(seq) = last_event_id(&headers).and_then(|id| id.parse().ok()) {
        query.after = Some(seq);
        query.tail = None;
    }
    let follow = context.handle.events(&session, query).await?;
    let active = context.activity.begin();
    Ok(stream(follow, wants_sse(&headers), &context, active))
}

impl Source for Follow {
    type Event = SessionEvent;

    async fn next(&mut self) -> Result<Option<Vec<SessionEvent>>> {
        Self::next(self).await
    }

    fn cursor(event: &SessionEvent) -> String {
        event.event.seq.to_string()
    }
}
