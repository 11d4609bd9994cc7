//! Every answer that is not a success, in one place: statuses and the two error shapes of the reference.
//!
//! Handlers answer `{"error": text}`. What goes wrong before a handler runs (no such route, a body that cannot be read)
//! has the shapes of the reference's web framework, which some clients know: their members and their order differ from
//! case to case, and so they do here.

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use lockstep_cu::Error;
use serde_json::{Map, Value, json};

/// The content type of every JSON body.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// The content type of plain text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A request that failed, ready to be answered.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    body: String,
    content_type: HeaderValue,
}

/// A response with a JSON body.
pub fn json_response(status: StatusCode, body: String) -> Response {
    with_type(status, JSON, body)
}

/// A response with a body of the given type.
pub fn with_type(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body.into()).into_response()
}

impl Failure {
    /// A handler's error: `{"error": text}`.
    pub fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self::shaped(status, json!({ "error": text.into() }))
    }

    /// An argument that means nothing (the reference answers 500 here).
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, text)
    }

    /// A process this unit may not serve.
    pub fn denied(process: &str) -> Self {
        Error::ProcessDenied(process.to_owned()).into()
    }

    /// The client has used up its dry runs.
    pub fn rate_limited() -> Self {
        Self::error(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded")
    }

    /// A route this unit's mode does not have: text.
    pub fn other_mode() -> Self {
        Self { status: StatusCode::NOT_FOUND, body: "Not Found".to_owned(), content_type: TEXT }
    }

    /// No such route, or no such method of it.
    pub fn no_route(method: &Method, uri: &Uri) -> Self {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Self::shaped(
            StatusCode::NOT_FOUND,
            json!({ "message": format!("Route {method}:{path} not found"), "error": "Not Found", "statusCode": 404 }),
        )
    }

    /// A path whose percent-encoding is not UTF-8, or not one.
    pub fn bad_url(uri: &Uri) -> Self {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Self::shaped(
            StatusCode::BAD_REQUEST,
            json!({
                "error": "Bad Request",
                "code": "FST_ERR_BAD_URL",
                "message": format!("'{path}' is not a valid url component"),
                "statusCode": 400,
            }),
        )
    }

    /// A body larger than the limit.
    pub fn body_too_large() -> Self {
        Self::coded(
            StatusCode::PAYLOAD_TOO_LARGE,
            "FST_ERR_CTP_BODY_TOO_LARGE",
            "Payload Too Large",
            "Request body is too large",
        )
    }

    /// A body of a type no route reads; `None`: it has a body but names no type.
    pub fn unsupported_media_type(content_type: Option<&str>) -> Self {
        Self::coded(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "FST_ERR_CTP_INVALID_MEDIA_TYPE",
            "Unsupported Media Type",
            &format!("Unsupported Media Type: {}", content_type.unwrap_or("undefined")),
        )
    }

    /// A body that says it is JSON and is empty.
    pub fn empty_json() -> Self {
        Self::coded(
            StatusCode::BAD_REQUEST,
            "FST_ERR_CTP_EMPTY_JSON_BODY",
            "Bad Request",
            "Body cannot be empty when content-type is set to 'application/json'",
        )
    }

    /// A body that says it is JSON and is not, or holds a forbidden key.
    pub fn bad_json(message: &str) -> Self {
        Self::shaped(StatusCode::BAD_REQUEST, json!({ "statusCode": 400, "error": "Bad Request", "message": message }))
    }

    /// A body that did not arrive in time.
    pub fn slow_body() -> Self {
        Self::shaped(
            StatusCode::REQUEST_TIMEOUT,
            json!({ "statusCode": 408, "error": "Request Timeout", "message": "The request body did not arrive in time" }),
        )
    }

    fn coded(status: StatusCode, code: &str, error: &str, message: &str) -> Self {
        let mut body = Map::new();
        body.insert("statusCode".into(), status.as_u16().into());
        body.insert("code".into(), code.into());
        body.insert("error".into(), error.into());
        body.insert("message".into(), message.into());
        Self::shaped(status, Value::Object(body))
    }

    fn shaped(status: StatusCode, body: Value) -> Self {
        Self { status, body: body.to_string(), content_type: JSON }
    }
}

/// The status of every error of the ao room.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::ProcessDenied(_) | Error::OwnerDenied(_) => StatusCode::FORBIDDEN,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::LimitExceeded(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::TooEarly(_) => StatusCode::TOO_EARLY,
        Error::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        Error::Hydrating(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Upstream(_) | Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = status(&error);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(%error, "request failed");
        }
        Self::error(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        with_type(self.status, self.content_type, self.body)
    }
}
