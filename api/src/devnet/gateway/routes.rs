//! The gateway's and the bundler's routes. GET routes answer HEAD too.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use lockstep_cu::item::{DataItem, address_of, parse_id, to_base64url};

use super::graphql;
use crate::devnet::clock::{FIRST_HEIGHT, now_ms};
use crate::devnet::http;
use crate::devnet::layer1;
use crate::devnet::ledger::{Content, Ledger, Transaction};

/// The gateway's routes.
pub fn gateway(ledger: Arc<Ledger>) -> Router {
    Router::new().fallback(read_or_write).with_state(ledger)
}

/// The bundler's routes.
pub fn bundler(ledger: Arc<Ledger>) -> Router {
    Router::new().fallback(bundle).with_state(ledger)
}

async fn read_or_write(State(ledger): State<Arc<Ledger>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match (request.method(), segments.as_slice()) {
        (&Method::POST, ["graphql"]) => graphql(ledger, request).await,
        (&Method::POST, ["tx"]) => post(ledger, request).await,
        (&Method::GET | &Method::HEAD, path) => get(&ledger, path),
        _ => not_found(),
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Not Found").into_response()
}

fn get(ledger: &Ledger, path: &[&str]) -> Response {
    let find = |id: &str| parse_id(id).and_then(|id| ledger.get(&id));
    let clock = ledger.clock();
    match *path {
        [] | ["info"] => {
            let height = clock.height();
            http::json(&json!({
                "network": "lockstep.devnet", "version": 5, "release": 0, "height": height,
                "current": clock.block(height).map(|block| block.id), "blocks": height - FIRST_HEIGHT + 1, "peers": 0,
                "queue_length": 0, "node_state_latency": 0, "note": http::NETWORK, "unit": "gateway"
            }))
        }
        ["graphql"] => (StatusCode::METHOD_NOT_ALLOWED, "GraphQL queries are posted").into_response(),
        // Anything 64 characters long will do: nothing here expires.
        ["tx_anchor"] => clock.block(clock.height()).map(|block| block.id).unwrap_or_default().into_response(),
        ["price", ..] => "0".into_response(),
        ["wallet", _, "balance"] => "0".into_response(),
        ["block", "height", height] => match height.parse().ok().and_then(|height| clock.block(height)) {
            Some(block) => http::json(&json!({
                "height": block.height, "indep_hash": block.id, "previous_block": block.previous, "timestamp": block.timestamp
            })),
            None => not_found(),
        },
        ["tx", id] => find(id).map_or_else(not_found, |found| http::json(&describe(&found))),
        ["tx", id, "status"] => find(id).map_or_else(not_found, |found| {
            http::json(&json!({
                "block_height": found.height, "block_indep_hash": clock.block(found.height).map(|block| block.id),
                "number_of_confirmations": clock.height().saturating_sub(found.height)
            }))
        }),
        ["raw", id] | [id] => find(id).map_or_else(not_found, |found| data(&found)),
        _ => not_found(),
    }
}

fn data(found: &Transaction) -> Response {
    let kind = found.tag("Content-Type").and_then(|kind| HeaderValue::from_str(kind).ok());
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    ([(header::CONTENT_TYPE, kind)], found.data().to_vec()).into_response()
}

/// A transaction as nodes show it; of an item, what a transaction would have.
fn describe(found: &Transaction) -> Json {
    let tag = |text: &str| to_base64url(text.as_bytes());
    let (quantity, reward) = match &found.content {
        Content::Item(_) => ("0", "0"),
        Content::Layer1(layer1) => (layer1.quantity.as_str(), layer1.reward.as_str()),
    };
    json!({
        "format": 2, "id": to_base64url(&found.id), "last_tx": to_base64url(found.anchor()),
        "owner": to_base64url(found.owner()),
        "tags": found.tags().iter().map(|t| json!({ "name": tag(&t.name), "value": tag(&t.value) })).collect::<Vec<_>>(),
        "target": to_base64url(found.recipient()), "quantity": quantity, "data": "",
        "data_size": found.data().len().to_string(), "data_root": "", "reward": reward,
        "signature": to_base64url(found.signature())
    })
}

async fn graphql(ledger: Arc<Ledger>, request: Request) -> Response {
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let refusal =
        |text: String| http::with_status(StatusCode::BAD_REQUEST, &json!({ "errors": [{ "message": text }] }));
    let request: Json = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refusal(format!("the body is not JSON: {error}")),
    };
    // Filtering a long ledger is work.
    match http::off_io(move || graphql::answer(&ledger, &request)).await {
        Ok(answer) => http::json(&answer),
        Err(error) => refusal(error.to_string()),
    }
}

/// `POST /tx` of the gateway: a base-layer transaction in JSON, or (as bytes) a data item.
async fn post(ledger: Arc<Ledger>, request: Request) -> Response {
    let is_bytes = is_bytes(&request);
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    if is_bytes {
        return store(ledger, body).await;
    }
    match http::off_io(move || layer1::parse(&body).map(|transaction| ledger.insert_layer1(transaction))).await {
        Ok(()) => "OK".into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

fn is_bytes(request: &Request) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/octet-stream")
}

async fn bundle(State(ledger): State<Arc<Ledger>>, request: Request) -> Response {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "" | "/info") => http::json(&json!({ "network": http::NETWORK, "unit": "bundler" })),
        (&Method::POST, "/tx" | "/tx/arweave") => match http::body(request).await {
            Ok(body) => store(ledger, body).await,
            Err(refused) => refused,
        },
        _ => not_found(),
    }
}

/// Checks and stores a data item; answers as bundling services do.
async fn store(ledger: Arc<Ledger>, body: Bytes) -> Response {
    let stored = http::off_io(move || {
        let item = DataItem::parse(&body).map_err(|error| error.to_string())?;
        item.verify().map_err(|error| error.to_string())?;
        let item = Arc::new(item);
        ledger.insert_item(item.clone());
        Ok::<_, String>((item, ledger.clock().height()))
    });
    match stored.await {
        Ok((item, height)) => http::json(&json!({
            "id": item.id_text(), "timestamp": now_ms(), "version": "1.0.0", "deadlineHeight": height + 200, "block": height,
            "owner": to_base64url(&address_of(item.owner())), "winc": "0", "dataCaches": [], "fastFinalityIndexes": [],
            "public": "", "signature": ""
        })),
        Err(text) => http::error(StatusCode::BAD_REQUEST, &text),
    }
}
