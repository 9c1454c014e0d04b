//! `POST /v1/sessions/{session}/exec`

use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Failure, body};
use crate::daemon::server::Context;
use crate::model::api::ExecRequest;
use crate::model::exec::UPGRADE;
use crate::model::{Error, ErrorCode, Result};
use crate::runtime::shim::Channel;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Largest body of the request: the shim takes less.
const BODY_MAX: usize = 1 << 20;
/// What is on its way through the daemon, in each direction.
const BUFFER: usize = 64 * 1024;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/sessions/{session}/exec", "exec", exec)
        .says(
            "Runs a command beside the agent. With `Upgrade: cldpd-exec` the connection is the \
             command's from then on: frames both ways, each a length of four bytes (little-endian), \
             a kind and its payload. Nothing of it is recorded.",
        )
        .takes::<ExecRequest>()
        .upgrades(UPGRADE)
        .fails(&[
            ErrorCode::SessionNotFound,
            ErrorCode::Ambiguous,
            ErrorCode::Refused,
            ErrorCode::CommandNotFound,
            ErrorCode::CommandNotExecutable,
            ErrorCode::ContainerFailed,
            ErrorCode::RuntimeUnavailable,
            ErrorCode::TryLater,
        ])
}

pub(super) async fn exec(
    State(context): State<Context>,
    Path(session): Path<String>,
    mut request: Request,
) -> Result<Response, Failure> {
    let usage = |message: String| Error::new(ErrorCode::Usage, message);
    let asked = request.headers().get(header::UPGRADE);
    let asked =
        asked.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(UPGRADE.as_bytes()));
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let Some(upgrade) = upgrade.filter(|_| asked) else {
        let message = format!("this needs the headers Connection: Upgrade and Upgrade: {UPGRADE}");
        return Err(usage(message).into());
    };
    let bytes = to_bytes(request.into_body(), BODY_MAX)
        .await
        .map_err(|error| usage(format!("the request's body cannot be read: {error}")))?;
    let channel = context.handle.exec(&session, &body(&bytes)?).await?;
    let active = context.activity.begin();
    let leaving = context.streams.clone();
    tokio::spawn(async move {
        let _active = active;
        tokio::select! {
            () = pass_on(upgrade, channel) => {}
            () = leaving.cancelled() => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(UPGRADE));
    Ok(response)
}

/// Passes frames both ways, as they are, until the shim has said its last word
/// or the client is gone.
///
/// Not one copy in both directions: a command that is over takes no more input,
/// and that failure must not cut off what it said.
async fn pass_on(upgrade: OnUpgrade, mut channel: Channel) {
    let Ok(client) = upgrade.await else {
        return;
    };
    let client: TokioIo<Upgraded> = TokioIo::new(client);
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_shim, to_shim) = channel.stream.split();
    if to_client.write_all(&channel.early).await.is_err() {
        return;
    }
    let input = async {
        if pass(from_client, to_shim).await == Stopped::Writing {
            // What the shim still has to say comes all the same.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = pass(from_shim, &mut to_client) => {
            let _ = to_client.shutdown().await;
        }
        () = input => {}
    }
}

/// At which end passing on came to its end.
#[derive(PartialEq, Eq)]
enum Stopped {
    /// Nothing more comes.
    Reading,
    /// Nothing more is taken.
    Writing,
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> Stopped {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Stopped::Reading,
            Ok(read) => read,
        };
        let written = to.write_all(&buffer[..read]).await;
        if written.is_err() || to.flush().await.is_err() {
            return Stopped::Writing;
        }
    }
}
