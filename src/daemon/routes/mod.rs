//! The routes, one file a verb. The table of them is in [`crate::model::api`].

mod daemon;
mod doctor;
mod events;
mod inspect;
mod kill;
mod logs;
mod pods;
mod resume;
mod rm;
mod sessions;
mod start;
mod stop;
mod wait;

use super::respond::Failure;
use super::server::Context;
use crate::model::{Error, ErrorCode};
use axum::Router;
use axum::http::Uri;
use axum::routing::{get, post};

/// All routes.
pub(super) fn router() -> Router<Context> {
    Router::new()
        .route("/v1/sessions", post(start::start).get(sessions::sessions))
        .route(
            "/v1/sessions/{session}",
            get(inspect::inspect).delete(rm::rm),
        )
        .route("/v1/sessions/{session}/runs", post(resume::resume))
        .route("/v1/sessions/{session}/stop", post(stop::stop))
        .route("/v1/sessions/{session}/kill", post(kill::kill))
        .route("/v1/sessions/{session}/wait", get(wait::wait))
        .route("/v1/sessions/{session}/events", get(logs::logs))
        .route("/v1/events", get(events::events))
        .route("/v1/pods", get(pods::pods))
        .route("/v1/pods/{name}", get(pods::pod))
        .route("/v1/daemon", get(daemon::status))
        .route("/v1/daemon/stop", post(daemon::stop))
        .route("/v1/doctor", get(doctor::doctor))
        .fallback(unknown)
}

async fn unknown(uri: Uri) -> Failure {
    let message = format!("there is no {} in the API", uri.path().escape_debug());
    Failure(Error::new(ErrorCode::Usage, message))
}
