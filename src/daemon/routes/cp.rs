//! `GET` and `PUT /v1/sessions/{session}/archive`, and what is at a path there.

use super::sessions::misunderstood;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Answer, Failure};
use crate::daemon::server::Context;
use crate::model::ErrorCode;
use crate::model::api::{PathQuery, PathStat, UploadQuery};
use crate::runtime::{Chunks, Upload};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use std::io;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces of an archive on their way.
const UNDERWAY: usize = 4;
const FAILS: [ErrorCode; 7] = [
    ErrorCode::SessionNotFound,
    ErrorCode::Ambiguous,
    ErrorCode::PathNotFound,
    ErrorCode::Refused,
    ErrorCode::Gone,
    ErrorCode::CopyFailed,
    ErrorCode::RuntimeUnavailable,
];

pub(super) fn read() -> Endpoint {
    Endpoint::get("/v1/sessions/{session}/archive", "read_archive", get)
        .says("A tar archive of a file or directory of a session, live or ended.")
        .query::<PathQuery>()
        .gives_archive()
        .fails(&FAILS)
}

pub(super) fn write() -> Endpoint {
    Endpoint::put("/v1/sessions/{session}/archive", "write_archive", put)
        .says("Takes a tar archive apart in a directory of a session, live or ended.")
        .query::<UploadQuery>()
        .takes_archive()
        .gives::<PathStat>()
        .fails(&FAILS)
}

pub(super) fn stat() -> Endpoint {
    Endpoint::get("/v1/sessions/{session}/archive/stat", "path_stat", look)
        .says("What is at a path of a session; a link is not followed.")
        .query::<PathQuery>()
        .gives::<PathStat>()
        .fails(&FAILS)
}

async fn look(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<PathQuery>, QueryRejection>,
) -> Answer<PathStat> {
    let Query(query) = query.map_err(misunderstood)?;
    let stat = context.handle.path_stat(&session, &query.path).await?;
    Ok(Json(stat))
}

async fn get(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<PathQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query.map_err(misunderstood)?;
    let chunks = context.handle.read_archive(&session, &query.path).await?;
    let active = context.activity.begin();
    let leaving = context.streams.clone().cancelled_owned();
    let chunks = chunks.take_until(leaving).inspect(move |chunk| {
        let _held = &active;
        if let Err(error) = chunk {
            tracing::warn!(session, path = query.path, %error, "an archive broke off");
        }
    });
    let body = Body::from_stream(chunks);
    Ok(([(CONTENT_TYPE, "application/x-tar")], body).into_response())
}

async fn put(
    State(context): State<Context>,
    Path(session): Path<String>,
    query: Result<Query<UploadQuery>, QueryRejection>,
    body: Body,
) -> Answer<PathStat> {
    let Query(query) = query.map_err(misunderstood)?;
    let (sender, receiver) = mpsc::channel(UNDERWAY);
    let reading = tokio::spawn(pass_on(body, sender));
    let upload = Upload {
        chunks: ReceiverStream::new(receiver).boxed(),
        keep_owners: query.keep_owners,
    };
    let done = context
        .handle
        .write_archive(&session, &query.path, upload)
        .await;
    // Whoever still writes would not hear an answer: all is read first.
    let _ = reading.await;
    Ok(Json(done?))
}

/// Reads a body to its end, also when nobody wants it any more.
async fn pass_on(body: Body, sender: mpsc::Sender<<Chunks as futures::Stream>::Item>) {
    let mut chunks = body.into_data_stream();
    let mut wanted = true;
    while let Some(chunk) = chunks.next().await {
        let broken = chunk.is_err();
        if wanted {
            wanted = sender.send(chunk.map_err(io::Error::other)).await.is_ok();
        }
        if broken {
            return;
        }
    }
}
