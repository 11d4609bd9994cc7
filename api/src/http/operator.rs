//! What operators look at: `/`, `/status`, `/metrics`, `/openapi.json`, `/docs`. None of them asks another machine.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    extract::State,
    http::{HeaderValue, Method, StatusCode, Uri},
    response::Response,
};
use serde_json::json;

use super::{
    App,
    failure::{Failure, json_response, with_type},
};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// `GET /`: who and when.
pub async fn root(State(app): State<App>) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let body = json!({ "address": app.0.address, "timestamp": now.as_millis() as u64 });
    json_response(StatusCode::OK, body.to_string())
}

/// `GET /status`: how this unit is doing.
pub async fn status(State(app): State<App>) -> Response {
    let status = app.0.unit.status();
    let body = json!({
        "name": "lockstep",
        "version": env!("CARGO_PKG_VERSION"),
        "unit_mode": app.0.unit_mode.name(),
        "engines": ["native"],
        "uptime_seconds": app.0.started.elapsed().as_secs(),
        "processes_live": status.processes_live,
        "processes_live_bytes": status.processes_live_bytes,
        "evaluations_running": status.evaluations_running,
        "backlog": status.backlog,
        "results_stored": status.results_stored,
    });
    json_response(StatusCode::OK, body.to_string())
}

/// `GET /metrics`, unless switched off: then there is no such route.
pub async fn metrics(State(app): State<App>, method: Method, uri: Uri) -> Result<Response, Failure> {
    if !app.0.is_metrics_served {
        return Err(Failure::no_route(&method, &uri));
    }
    let text = app
        .0
        .metrics
        .encode()
        .map_err(|error| Failure::error(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}")))?;
    Ok(with_type(StatusCode::OK, OPENMETRICS, text))
}

/// `GET /openapi.json`.
pub async fn openapi(State(app): State<App>) -> Response {
    json_response(StatusCode::OK, app.0.openapi.clone())
}

/// `GET /docs`: the same, for people.
pub async fn docs(State(app): State<App>) -> Response {
    with_type(StatusCode::OK, HTML, app.0.docs.clone())
}
