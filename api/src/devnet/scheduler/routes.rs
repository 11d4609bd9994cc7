//! The scheduler over HTTP. Dispatched by hand: the real one answers 404 to HEAD and to every method it does not know.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use lockstep_cu::item::{parse_id, to_base64url};

use super::wire::{Edge, Node, Page, PageInfo, Process};
use super::{AssignOptions, PageQuery, Refusal, Scheduler};
use crate::devnet::clock::now_ms;
use crate::devnet::http::{self, Query};

/// The scheduler's routes.
pub fn router(scheduler: Arc<Scheduler>) -> Router {
    Router::new().fallback(dispatch).with_state(scheduler)
}

async fn dispatch(State(scheduler): State<Arc<Scheduler>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let query = Query::of(request.uri());
    match (request.method(), segments.as_slice()) {
        (&Method::GET, []) => root(&scheduler),
        (&Method::POST, []) => post(scheduler, query, request).await,
        (&Method::GET, ["health"]) => StatusCode::OK.into_response(),
        (&Method::GET, ["timestamp"]) => timestamp(&scheduler),
        (&Method::GET, ["processes", id]) => answer(process(&scheduler, id)),
        (&Method::GET, [id, "latest"]) => answer(latest(&scheduler, id)),
        (&Method::GET, [id]) => match PageQuery::read(&query) {
            Ok(query) => answer(query.and_then(|query| read(&scheduler, id, &query))),
            Err(malformed) => malformed.into_response(),
        },
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A query the real scheduler's framework refuses before the scheduler sees it: plain text.
struct Malformed(String);

impl IntoResponse for Malformed {
    fn into_response(self) -> Response {
        let text = format!("Query deserialize error: {}", self.0);
        (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
    }
}

impl PageQuery {
    fn read(query: &Query) -> Result<Result<Self, Refusal>, Malformed> {
        if query.get("process-id").is_none() {
            return Err(Malformed("missing field `process-id`".into()));
        }
        let limit =
            query.get("limit").map(str::parse::<i32>).transpose().map_err(|error| Malformed(error.to_string()))?;
        let read = || {
            Ok(Self {
                from: bound(query, "from")?,
                to: bound(query, "to")?,
                from_nonce: bound(query, "from-nonce")?,
                to_nonce: bound(query, "to-nonce")?,
                limit: limit.map(i64::from),
                show_anchor: query.get("show-anchor").is_some(),
            })
        };
        Ok(read())
    }
}

fn bound(query: &Query, name: &str) -> Result<Option<i64>, Refusal> {
    let parse =
        |text: &str| text.parse().map_err(|error| Refusal(format!("IntError(\"data store int error: {error}\")")));
    query.get(name).map(parse).transpose()
}

fn answer(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|Refusal(text)| http::error(StatusCode::BAD_REQUEST, &text))
}

fn root(scheduler: &Scheduler) -> Response {
    // The real one has `address` and `timestamp` only.
    http::json(&json!({
        "address": scheduler.address(), "timestamp": now_ms().to_string(), "network": http::NETWORK, "unit": "scheduler"
    }))
}

fn timestamp(scheduler: &Scheduler) -> Response {
    http::json(&json!({ "block_height": scheduler.height_text(), "timestamp": now_ms().to_string() }))
}

fn process(scheduler: &Scheduler, id: &str) -> Result<Response, Refusal> {
    let birth = parse_id(id).and_then(|id| scheduler.process(&id)).ok_or("NotFound(\"Process not found\")")?;
    Ok(http::json(&Process::of_birth(&birth)))
}

fn latest(scheduler: &Scheduler, id: &str) -> Result<Response, Refusal> {
    let entry = parse_id(id).and_then(|id| scheduler.latest(&id)).ok_or("Latest message not available")?;
    Ok(http::json(&Node::of_entry(&entry, false)))
}

/// A message or assignment by its id, or a page of a process. `process-id` must be there and is not looked at.
fn read(scheduler: &Scheduler, id: &str, query: &PageQuery) -> Result<Response, Refusal> {
    let unknown = "Message or Process not found";
    let id = parse_id(id).ok_or(unknown)?;
    if let Some(entry) = scheduler.find(&id) {
        return Ok(http::json(&Node::of_entry(&entry, false)));
    }
    let process = scheduler.process_of(&id).ok_or(unknown)?;
    let found = scheduler.page(&process, query)?;
    let cursor = |nonce: u64, timestamp: u64| if found.by_nonce { nonce } else { timestamp }.to_string();
    let mut edges = Vec::with_capacity(found.entries.len() + 1);
    if let Some(birth) = &found.birth {
        edges.push(Edge {
            node: Node::of_birth(birth, query.show_anchor),
            cursor: cursor(birth.nonce, birth.timestamp),
        });
    }
    edges.extend(found.entries.iter().map(|entry| Edge {
        node: Node::of_entry(entry, query.show_anchor),
        cursor: cursor(entry.nonce, entry.timestamp),
    }));
    Ok(http::json(&Page { page_info: PageInfo { has_next_page: found.has_next }, edges }))
}

async fn post(scheduler: Arc<Scheduler>, query: Query, request: Request) -> Response {
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let posted = http::off_io(move || match (query.get("process-id"), query.get("assign")) {
        (Some(process), Some(message)) => {
            let exclude = query.get("exclude").map(str::to_owned);
            let options = AssignOptions { base_layer: query.get("base-layer").is_some(), exclude };
            scheduler.assign(process, message, &options)
        }
        (None, None) => scheduler.post(&body),
        _ => Err("If sending assign or process-id, you must send both.".into()),
    });
    answer(
        posted.await.map(|scheduled| {
            http::json(&json!({ "id": to_base64url(&scheduled.id), "timestamp": scheduled.timestamp }))
        }),
    )
}
