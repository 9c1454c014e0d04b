//! `GET /v1/sessions/{session}/events`, and the same as blocks

use super::sessions::misunderstood;
use crate::actors::Follow;
use crate::block::CONTENT_TYPE;
use crate::block::stream::control;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Failure, Pieces, Source, last_event_id, send, stream, wants_sse};
use crate::daemon::server::Context;
use crate::model::api::EventsQuery;
use crate::model::{Error, ErrorCode, Result, SessionEvent};
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

pub(super) fn blocks() -> Endpoint {
    Endpoint::get("/v1/sessions/{session}/blocks", "blocks", stored)
        .says(
            "A session's events as blocks of the journal, compressed: the fastest way to all of \
             them. Blocks are sent whole, also where not all of their events were asked for. What \
             stands in the body says `src/block/stream.rs`.",
        )
        .query::<EventsQuery>()
        .gives_bytes(CONTENT_TYPE)
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::Gone,
        ])
}

async fn stored(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(misunderstood)?;
    let follow = context.handle.events(&session, query).await?;
    let active = context.activity.begin();
    let begun = false;
    Ok(send(Blocks { follow, begun }, &context, active))
}

/// Blocks, between a control that says where they begin and one that says how they end.
struct Blocks {
    follow: Follow,
    begun: bool,
}

impl Pieces for Blocks {
    fn kind(&self) -> &'static str {
        CONTENT_TYPE
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if !std::mem::replace(&mut self.begun, true) {
            let mut begin = serde_json::json!({
                "session": self.follow.record().ulid,
                "after": self.follow.at(),
            });
            if let Some(last) = self.follow.end() {
                begin["last"] = last.into();
            }
            return Ok(Some(control(&begin)));
        }
        self.follow.next_blocks().await
    }

    fn ending(&self, error: Option<&Error>) -> Vec<u8> {
        control(&match error {
            None => serde_json::json!({ "end": true }),
            Some(error) => serde_json::json!({ "error": error }),
        })
    }
}

async fn logs(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Query(mut query) = query.map_err(misunderstood)?;
    if let Some(seq) = last_event_id(&headers).and_then(|id| id.parse().ok()) {
        query.after = Some(seq);
        // What the last ones are was settled when it was asked first.
        (query.tail, query.last) = (None, None);
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
