//! The routes, one file a verb. [`table`] has all of them, with what is to be
//! known of each; `docs/openapi.json` is made of it.

mod build;
mod cp;
pub(super) mod daemon;
mod doctor;
mod events;
mod exec;
mod gc;
mod inspect;
mod journal;
mod kill;
mod logs;
mod pods;
mod resume;
mod rm;
mod search;
mod sessions;
mod start;
mod stats;
mod stop;
mod wait;

use super::endpoint::Endpoint;
use super::respond::Failure;
use super::server::Context;
use super::{metrics, openapi};
use crate::model::{Error, ErrorCode};
use axum::Router;
use axum::http::{Method, Uri};

/// All endpoints there are: the router is made of them, and so is `docs/openapi.json`.
pub(super) fn table() -> Vec<Endpoint> {
    vec![
        start::endpoint(),
        sessions::endpoint(),
        inspect::endpoint(),
        rm::endpoint(),
        resume::endpoint(),
        stop::endpoint(),
        kill::endpoint(),
        exec::endpoint(),
        wait::endpoint(),
        logs::endpoint(),
        logs::blocks(),
        cp::read(),
        cp::write(),
        cp::stat(),
        events::endpoint(),
        search::endpoint(),
        stats::endpoint(),
        pods::all(),
        pods::one(),
        build::endpoint(),
        daemon::show(),
        daemon::end(),
        doctor::endpoint(),
        gc::plan(),
        gc::endpoint(),
        journal::verify(),
        journal::export(),
        journal::import(),
        journal::stats(),
        journal::compact(),
        openapi::endpoint(),
        metrics::endpoint(),
    ]
}

/// All routes.
pub(super) fn router() -> Router<Context> {
    table()
        .into_iter()
        .fold(Router::new(), |router, endpoint| endpoint.route(router))
        .fallback(unknown)
        .method_not_allowed_fallback(not_so)
}

async fn unknown(uri: Uri) -> Failure {
    let message = format!("there is no {} in the API", uri.path().escape_debug());
    Failure(Error::new(ErrorCode::Usage, message).hint("GET /v1/openapi.json says what there is"))
}

async fn not_so(method: Method, uri: Uri) -> Failure {
    let path = uri.path().escape_debug();
    let message = format!("{path} in the API has no {method}");
    Failure(Error::new(ErrorCode::Usage, message).hint("GET /v1/openapi.json says what there is"))
}
