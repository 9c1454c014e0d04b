//! `POST /v1/pods/{name}/build`

use crate::actors::PodBuild;
use crate::daemon::endpoint::Endpoint;
use crate::daemon::respond::{Failure, Source, body, stream, wants_sse};
use crate::daemon::server::Context;
use crate::model::api::{PodBuildEvent, PodBuildRequest};
use crate::model::{ErrorCode, Result};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/pods/{name}/build", "build_pod", build)
        .says("Builds a pod's image, or finds it unchanged; whoever leaves cancels it.")
        .may_take::<PodBuildRequest>()
        .streams::<PodBuildEvent>()
        .fails(&[
            ErrorCode::PodNotFound,
            ErrorCode::InvalidPod,
            ErrorCode::Credentials,
            ErrorCode::RuntimeUnavailable,
        ])
}

pub(super) async fn build(
    State(context): State<Context>,
    Path(name): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let request: PodBuildRequest = match bytes.is_empty() {
        true => PodBuildRequest::default(),
        false => body(&bytes)?,
    };
    let active = context.activity.begin();
    let build = context.handle.build_pod(&name, request).await?;
    Ok(stream(build, wants_sse(&headers), &context, active))
}

impl Source for PodBuild {
    type Event = PodBuildEvent;

    async fn next(&mut self) -> Result<Option<Vec<PodBuildEvent>>> {
        Ok(Self::next(self).await)
    }

    /// A build does not go on where it was left.
    fn cursor(_: &PodBuildEvent) -> String {
        String::new()
    }
}
