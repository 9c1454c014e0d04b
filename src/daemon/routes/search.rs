//! `GET /v1/search`

use super::sessions::Filters;
use crate::actors::Search;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Failure, Source, stream, wants_sse};
use crate::daemon::server::Context;
use crate::model::api::{SearchItem, SearchQuery};
use crate::model::{ErrorCode, Result};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/search", "search", search)
        .says(
            "Lines that match a pattern, through all that is recorded: the session that was \
             dispatched last first, and in each session the line that was written last. Ends \
             with whoever asked for it.",
        )
        .query::<SearchQuery>()
        .streams::<SearchItem>()
        .fails(&[ErrorCode::TryLater])
}

pub(super) async fn search(
    State(context): State<Context>,
    Filters(query): Filters<SearchQuery>,
    headers: HeaderMap,
) -> std::result::Result<Response, Failure> {
    let search = context.handle.search(query).await?;
    let active = context.activity.begin();
    Ok(stream(search, wants_sse(&headers), &context, active))
}

impl Source for Search {
    type Event = SearchItem;

    async fn next(&mut self) -> Result<Option<Vec<SearchItem>>> {
        Self::next(self).await
    }

    /// A search has no place to go on from.
    fn cursor(_: &SearchItem) -> String {
        String::new()
    }
}
