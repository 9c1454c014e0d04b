//! `/v1/journal`: looking after the journal while work goes on.

use crate::actors::Verification;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::offline::scratch;
use crate::daemon::respond::{Answer, Failure, Source, stream, wants_sse};
use crate::daemon::routes::sessions::Filters;
use crate::daemon::server::Context;
use crate::model::api::{
    CompactResponse, ExportQuery, Imported, JournalQuery, JournalStats, VerifyEvent,
};
use crate::model::{Error, ErrorCode, Result};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use std::io;
use tokio::io::AsyncWriteExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// What exports are.
const NDJSON: &str = "application/x-ndjson";

pub(super) fn verify() -> Endpoint {
    Endpoint::get("/v1/journal/verify", "verify_journal", look)
        .says("Looks through the whole journal; the last line says how much was looked at.")
        .streams::<VerifyEvent>()
        .fails(&[ErrorCode::TryLater])
}

pub(super) fn export() -> Endpoint {
    Endpoint::get("/v1/journal/export", "export_journal", write)
        .says("Sessions as lines of JSON; the last line says that there are no more.")
        .query::<ExportQuery>()
        .text(NDJSON)
        .fails(&[ErrorCode::SessionNotFound, ErrorCode::Ambiguous])
}

pub(super) fn import() -> Endpoint {
    Endpoint::post("/v1/journal/import", "import_journal", read)
        .says("Takes in the sessions of an export; nothing, if anything in it is wrong.")
        .takes_text(NDJSON)
        .gives::<Imported>()
        .fails(&[ErrorCode::JournalDamaged, ErrorCode::Refused])
}

async fn write(
    State(context): State<Context>,
    Filters(query): Filters<ExportQuery>,
) -> Result<Response, Failure> {
    let chunks = context.handle.export_journal(&query.session)?;
    let active = context.activity.begin();
    let leaving = context.streams.clone().cancelled_owned();
    let chunks = ReceiverStream::new(chunks)
        .take_until(leaving)
        .inspect(move |_| {
            let _held = &active;
        });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(chunks)).into_response())
}

async fn read(State(context): State<Context>, body: Body) -> Answer<Imported> {
    let _active = context.activity.begin();
    let unusable = |error: io::Error| {
        let message = format!("the export cannot be kept while it is looked at: {error}");
        Error::new(ErrorCode::CopyFailed, message)
    };
    let file = scratch(context.home.root()).map_err(unusable)?;
    let mut file = tokio::fs::File::from_std(file);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| unusable(io::Error::other(error)))?;
        file.write_all(&chunk).await.map_err(unusable)?;
    }
    file.flush().await.map_err(unusable)?;
    let imported = context.handle.import_journal(file.into_std().await).await?;
    Ok(Json(imported))
}

pub(super) fn stats() -> Endpoint {
    Endpoint::get("/v1/journal", "journal_stats", count)
        .says("The journal in numbers, and what retention would remove. Scans nothing.")
        .query::<JournalQuery>()
        .gives::<JournalStats>()
}

pub(super) fn compact() -> Endpoint {
    Endpoint::post("/v1/journal/compact", "compact_journal", shrink)
        .says("Copies what counts to a new database and removes the old one; answered when that is done. It goes on if the caller leaves, and so does all work.")
        .gives::<CompactResponse>()
        .fails(&[ErrorCode::Refused, ErrorCode::TryLater])
}

async fn count(
    State(context): State<Context>,
    Filters(query): Filters<JournalQuery>,
) -> Answer<JournalStats> {
    Ok(Json(context.handle.journal_stats(query).await?))
}

async fn shrink(State(context): State<Context>) -> Answer<CompactResponse> {
    Ok(Json(context.handle.compact_journal().await?))
}

async fn look(State(context): State<Context>, headers: HeaderMap) -> Result<Response, Failure> {
    let active = context.activity.begin();
    let verification = context.handle.verify_journal()?;
    Ok(stream(verification, wants_sse(&headers), &context, active))
}

impl Source for Verification {
    type Event = VerifyEvent;

    async fn next(&mut self) -> Result<Option<Vec<VerifyEvent>>> {
        Ok(Self::next(self).await?.map(|event| vec![event]))
    }

    /// It does not go on where it was left.
    fn cursor(_: &VerifyEvent) -> String {
        String::new()
    }
}
