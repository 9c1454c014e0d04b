//! Answers: JSON, errors with their status, and streams of events.

use super::activity::Active;
use super::server::Context;
use crate::model::{Error, ErrorCode, Result};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::future::Future;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const NDJSON: &str = "application/x-ndjson";
const SSE: &str = "text/event-stream";
/// Batches that wait for a slow client; the reader of the journal waits beyond.
const BATCHES: usize = 2;

/// What a route gives.
pub(super) type Answer<T> = std::result::Result<axum::Json<T>, Failure>;

/// An error on its way to a client.
pub(super) struct Failure(pub(super) Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (status(self.0.code), axum::Json(self.0)).into_response()
    }
}

pub(super) const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Usage | ErrorCode::Ambiguous | ErrorCode::InvalidPod => StatusCode::BAD_REQUEST,
        ErrorCode::PodNotFound | ErrorCode::SessionNotFound | ErrorCode::PathNotFound => {
            StatusCode::NOT_FOUND
        }
        ErrorCode::Refused | ErrorCode::Cancelled | ErrorCode::VersionMismatch => {
            StatusCode::CONFLICT
        }
        ErrorCode::Gone => StatusCode::GONE,
        ErrorCode::TryLater => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Credentials => StatusCode::FORBIDDEN,
        ErrorCode::RuntimeUnavailable | ErrorCode::DaemonUnavailable | ErrorCode::Stopping => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::BuildFailed
        | ErrorCode::ContainerFailed
        | ErrorCode::StopFailed
        | ErrorCode::CopyFailed
        | ErrorCode::CommandNotFound
        | ErrorCode::CommandNotExecutable
        | ErrorCode::JournalFailed
        | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Reads a request's JSON.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(
            ErrorCode::Usage,
            format!("the request's body is not understood: {error}"),
        )
    })
}

/// Whether the client wants server-sent events.
pub(super) fn wants_sse(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains(SSE))
}

/// The id of the last server-sent event that the client has.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
}

/// Where a stream's events come from.
pub(super) trait Source: Send + 'static {
    /// One event.
    type Event: Serialize + Send;
    /// The next events; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<Self::Event>>>> + Send;
    /// Where the stream goes on after this event.
    fn cursor(event: &Self::Event) -> String;
}

/// Streams events until their end, the client's, or the daemon's. The proper
/// end is told by a last line, so that a client knows it from a break.
pub(super) fn stream<S: Source>(
    mut source: S,
    sse: bool,
    context: &Context,
    active: Active,
) -> Response {
    let (leaving, stopped) = (context.streams.clone(), context.stopped.clone());
    let (sender, receiver) = mpsc::channel::<std::result::Result<Bytes, Infallible>>(BATCHES);
    tokio::spawn(async move {
        let _active = active;
        let feed = async {
            loop {
                let (chunk, over) = match source.next().await {
                    Ok(Some(events)) => (render::<S>(&events, sse), false),
                    Ok(None) => (
                        ending("end", &serde_json::json!({ "end": true }), sse),
                        true,
                    ),
                    Err(error) => {
                        let line = serde_json::json!({ "error": error });
                        (ending("error", &line, sse), true)
                    }
                };
                if sender.send(Ok(Bytes::from(chunk))).await.is_err() || over {
                    return;
                }
            }
        };
        tokio::select! {
            () = feed => {}
            () = leaving.cancelled() => {
                if stopped.is_cancelled() {
                    let line = serde_json::json!({ "error": super::stopped() });
                    // Where there is no room for it, the client finds out by itself.
                    let _ = sender.try_send(Ok(Bytes::from(ending("error", &line, sse))));
                }
            }
            () = sender.closed() => {}
        }
    });
    let kind = if sse { SSE } else { NDJSON };
    (
        [(header::CONTENT_TYPE, kind)],
        Body::from_stream(ReceiverStream::new(receiver)),
    )
        .into_response()
}

fn render<S: Source>(events: &[S::Event], sse: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.len() * 192);
    for event in events {
        if sse {
            out.extend_from_slice(format!("id: {}\ndata: ", S::cursor(event)).as_bytes());
        }
        // Nothing that is recorded fails to serialise.
        let _ = serde_json::to_writer(&mut out, event);
        out.extend_from_slice(if sse { b"\n\n" } else { b"\n" });
    }
    out
}

fn ending(name: &str, line: &serde_json::Value, sse: bool) -> Vec<u8> {
    match sse {
        true => format!("event: {name}\ndata: {line}\n\n").into_bytes(),
        false => format!("{line}\n").into_bytes(),
    }
}
