//! `GET /v1/events`

use super::sessions::Filters;
use crate::actors::Firehose;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Failure, Source, last_event_id, stream, wants_sse};
use crate::daemon::server::Context;
use crate::model::Result;
use crate::model::api::{FirehoseEvent, FirehoseQuery};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/events", "firehose", events)
        .says("Events of all sessions, in the order in which they became durable.")
        .query::<FirehoseQuery>()
        .streams::<FirehoseEvent>()
}

pub(super) async fn events(
    State(context): State<Context>,
    Filters(mut query): Filters<FirehoseQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if let Some(cursor) = last_event_id(&headers) {
        query.from = Some(cursor.to_owned());
    }
    let firehose = context.handle.firehose(query)?;
    let active = context.activity.begin();
    Ok(stream(firehose, wants_sse(&headers), &context, active))
}

impl Source for Firehose {
    type Event = FirehoseEvent;

    async fn next(&mut self) -> Result<Option<Vec<FirehoseEvent>>> {
        Self::next(self).await
    }

    fn cursor(event: &FirehoseEvent) -> String {
        event.cursor.clone()
    }
}
