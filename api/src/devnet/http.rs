//! What the network's parts share over HTTP.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

/// How every part says what it is.
pub const NETWORK: &str = "lockstep development network: in memory, keys are public, nothing here is worth anything";
/// Largest body taken, bytes. Modules are the largest things sent here; the biggest known one has 3 MB.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A JSON answer, status 200. (`application/json` without a charset, as the real units'.)
pub fn json(body: &impl Serialize) -> Response {
    with_status(StatusCode::OK, body)
}

/// A JSON answer of any status.
pub fn with_status(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// `{"error": text}`.
pub fn error(status: StatusCode, text: &str) -> Response {
    with_status(status, &json!({ "error": text }))
}

/// A request's body, if it is not too large.
///
/// # Errors
/// The answer to give instead.
pub async fn body(request: Request) -> Result<Bytes, Response> {
    axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|reason| {
        let too_large = reason.to_string().contains("length limit exceeded");
        let status = if too_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        error(status, &format!("body cannot be read ({reason}); at most {BODY_BYTES_MAX} bytes are taken"))
    })
}

/// Runs what needs milliseconds of CPU on a thread that does no I/O.
pub async fn off_io<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is going away, and whoever waits here with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A URL's query, decoded; the first value of a repeated name counts.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request.
    pub fn of(uri: &Uri) -> Self {
        Self(url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// A value; empty for a name without one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Lets browsers of any origin ask.
pub fn with_cors(router: Router) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request());
    router.layer(cors)
}
