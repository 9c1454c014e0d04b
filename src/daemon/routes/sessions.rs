//! `GET /v1/sessions`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, Failure};
use crate::daemon::server::Context;
use crate::model::api::SEPARATOR;
use crate::model::api::{ListQuery, SessionView};
use crate::model::{Error, ErrorCode};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/sessions", "sessions", sessions)
        .says("Sessions, newest first: the live ones, or all.")
        .query::<ListQuery>()
        .gives::<Vec<SessionView>>()
}

pub(super) async fn sessions(
    State(context): State<Context>,
    Filters(query): Filters<ListQuery>,
) -> Answer<Vec<SessionView>> {
    Ok(Json(context.handle.list(query).await?))
}

/// The query part of an address whose fields may be given several times.
pub(super) struct Filters<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Filters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let joined = joined(parts.uri.query().unwrap_or_default());
        // What came out of an address goes into one again.
        let uri = Uri::try_from(format!("/?{joined}")).unwrap_or_default();
        let Query(query) = Query::try_from_uri(&uri).map_err(misunderstood)?;
        Ok(Self(query))
    }
}

/// A query part with one text for each field, of all that were given for it.
fn joined(query: &str) -> String {
    let mut fields: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.entry(key).or_default().push(value);
    }
    let separator = format!("%{:02X}", u32::from(SEPARATOR));
    let pairs = fields
        .into_iter()
        .map(|(key, values)| format!("{key}={}", values.join(&separator)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A query that cannot be read.
pub(super) fn misunderstood(rejection: QueryRejection) -> Failure {
    let message = format!("the query is not understood: {}", rejection.body_text());
    Failure(Error::new(ErrorCode::Usage, message))
}
