//! Reading a request's body: the reference framework's rules for size, type and JSON.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    http::{HeaderMap, header},
};
use futures::StreamExt;
use lockstep_jit::json;
use serde_json::Value;

use super::failure::Failure;

/// Largest body, bytes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// How much of a refused body is read all the same: a connection closed on a client that still sends loses the answer.
const DRAINED_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// How long a refused body is read.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// What the headers say of the body.
struct Head {
    content_type: Option<String>,
    length: Option<u64>,
    is_chunked: bool,
}

impl Head {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self {
            content_type: text(header::CONTENT_TYPE).filter(|text| !text.is_empty()),
            length: text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            is_chunked: headers.contains_key(header::TRANSFER_ENCODING),
        }
    }
}

/// The body of `request`: JSON, text as a JSON string, or `None` if there is none.
pub async fn read(request: Request) -> Result<Option<Value>, Failure> {
    let Head { content_type, length, is_chunked } = Head::of(request.headers());
    let Some(content_type) = content_type else {
        let has_body = is_chunked || length.is_some_and(|length| length > 0);
        return if has_body { Err(Failure::unsupported_media_type(None)) } else { Ok(None) };
    };
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(kind.as_str(), "application/json" | "text/plain") {
        return Err(Failure::unsupported_media_type(Some(&content_type)));
    }
    if length.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        drain(&mut request.into_body().into_data_stream()).await;
        return Err(Failure::body_too_large());
    }
    let bytes = match tokio::time::timeout(BODY_TIME_MAX, collect(request.into_body())).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(Failure::slow_body()),
    };
    if kind == "text/plain" {
        return Ok(Some(Value::String(String::from_utf8_lossy(&bytes).into_owned())));
    }
    if bytes.is_empty() {
        return Err(Failure::empty_json());
    }
    let text = String::from_utf8_lossy(&bytes);
    let value = json::parse(text.strip_prefix('\u{feff}').unwrap_or(&text))
        .map_err(|error| Failure::bad_json(&format!("The request body is not valid JSON: {error}")))?;
    if has_forbidden_key(&value) {
        return Err(Failure::bad_json("Object contains forbidden prototype property"));
    }
    Ok(Some(value))
}

async fn collect(body: Body) -> Result<Vec<u8>, Failure> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Failure::bad_json(&format!("The request body broke off: {error}")))?;
        if bytes.len() + chunk.len() > BODY_BYTES_MAX {
            drain(&mut stream).await;
            return Err(Failure::body_too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads what is left of a refused body, within bounds, and forgets it.
async fn drain(stream: &mut BodyDataStream) {
    let read = async {
        let mut left = DRAINED_BYTES_MAX;
        while let Some(Ok(chunk)) = stream.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Either way the answer is the refusal; a client too slow or too long for this may miss it.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, read).await;
}

/// Keys that would change a JavaScript object's prototype; the reference refuses bodies that hold one.
/// The parser bounds the depth.
fn has_forbidden_key(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let is_prototype = match key.as_str() {
                "__proto__" => true,
                "constructor" => value.get("prototype").is_some(),
                _ => false,
            };
            is_prototype || has_forbidden_key(value)
        }),
        Value::Array(entries) => entries.iter().any(has_forbidden_key),
        _ => false,
    }
}
