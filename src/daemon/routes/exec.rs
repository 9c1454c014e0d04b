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
use tokio::io::{AsyncWriteExt as _, copy_bidirectional_with_sizes};

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

/// Passes frames both ways, as they are, until either side has enough.
async fn pass_on(upgrade: OnUpgrade, mut channel: Channel) {
    let Ok(client) = upgrade.await else {
        return;
    };
    let mut client: TokioIo<Upgraded> = TokioIo::new(client);
    if client.write_all(&channel.early).await.is_err() {
        return;
    }
    let shim = &mut channel.stream;
    // A side that breaks off has said so by that.
    let _ = copy_bidirectional_with_sizes(&mut client, shim, BUFFER, BUFFER).await;
}
