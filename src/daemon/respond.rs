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
        ErrorCode::Budget => StatusCode::PAYMENT_REQUIRED,
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
        | ErrorCode::JournalDamaged
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

/// A body that is made piece by piece.
pub(super) trait Pieces: Send + 'static {
    /// Its type.
    fn kind(&self) -> &'static str;
    /// The next piece; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;
    /// The last piece: what tells the proper end, or an error, from a break.
    fn ending(&self, error: Option<&Error>) -> Vec<u8>;
}

/// Streams events until their end, the client's, or the daemon's. The proper
/// end is told by a last line, so that a client knows it from a break.
pub(super) fn stream<S: Source>(
    source: S,
    sse: bool,
    context: &Context,
    active: Active,
) -> Response {
    send(Lines { source, sse }, context, active)
}

/// Sends a body until its end, the client's, or the daemon's.
pub(super) fn send<P: Pieces>(mut pieces: P, context: &Context, active: Active) -> Response {
    let (leaving, stopped) = (context.streams.clone(), context.stopped.clone());
    let (sender, receiver) = mpsc::channel::<std::result::Result<Bytes, Infallible>>(BATCHES);
    let kind = pieces.kind();
    tokio::spawn(async move {
        let _active = active;
        let feed = async {
            loop {
                let (piece, over) = match pieces.next().await {
                    Ok(Some(piece)) => (piece, false),
                    Ok(None) => (pieces.ending(None), true),
                    Err(error) => (pieces.ending(Some(&error)), true),
                };
                if sender.send(Ok(Bytes::from(piece))).await.is_err() || over {
                    return;
                }
            }
        };
        let left = tokio::select! {
            () = feed => false,
            () = leaving.cancelled() => true,
            () = sender.closed() => false,
        };
        if left && stopped.is_cancelled() {
            let last = pieces.ending(Some(&super::stopped()));
            // Where there is no room for it, the client finds out by itself.
            let _ = sender.try_send(Ok(Bytes::from(last)));
        }
    });
    (
        [(header::CONTENT_TYPE, kind)],
        Body::from_stream(ReceiverStream::new(receiver)),
    )
        .into_response()
}

/// Events as lines of JSON or as server-sent events.
struct Lines<S> {
    source: S,
    sse: bool,
}

impl<S: Source> Pieces for Lines<S> {
    fn kind(&self) -> &'static str {
        if self.sse { SSE } else { NDJSON }
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let events = self.source.next().await?;
        Ok(events.map(|events| render::<S>(&events, self.sse)))
    }

    fn ending(&self, error: Option<&Error>) -> Vec<u8> {
        let (name, line) = match error {
            None => ("end", serde_json::json!({ "end": true })),
            Some(error) => ("error", serde_json::json!({ "error": error })),
        };
        match self.sse {
            true => format!("event: {name}\ndata: {line}\n\n").into_bytes(),
            false => format!("{line}\n").into_bytes(),
        }
    }
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
