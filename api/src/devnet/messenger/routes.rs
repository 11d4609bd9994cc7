//! The messenger over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use lockstep_cu::item::{DataItem, Id, parse_id, to_base64url};

use super::Messenger;
use super::push::Origin;
use crate::devnet::http::{self, NETWORK, Query};
use crate::devnet::scheduler::{AssignOptions, Refusal};

/// The messenger's routes.
pub fn router(messenger: Arc<Messenger>) -> Router {
    Router::new().fallback(dispatch).with_state(messenger)
}

async fn dispatch(State(messenger): State<Arc<Messenger>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let query = Query::of(request.uri());
    match (request.method(), segments.as_slice()) {
        (&Method::GET | &Method::HEAD, []) => {
            http::json(&json!({ "address": messenger.address(), "network": NETWORK, "unit": "messenger" }))
        }
        (&Method::POST, []) => match (query.get("process-id"), query.get("assign")) {
            (None, None) => send(messenger, request).await,
            (Some(process), Some(message)) => assign(messenger, process, message, &query).await,
            _ => refuse("You must set both process-id and assign to send an assignment, not just one"),
        },
        (method @ (&Method::POST | &Method::DELETE), ["monitor", process]) => {
            let start = method == Method::POST;
            monitor(messenger, process, start, request).await
        }
        _ => http::error(StatusCode::NOT_FOUND, "no such route"),
    }
}

fn refuse(text: &str) -> Response {
    http::error(StatusCode::BAD_REQUEST, text)
}

/// Schedules an item, answers, and pushes its result.
async fn send(messenger: Arc<Messenger>, request: Request) -> Response {
    let body = match http::body(request).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let scheduler = messenger.scheduler.clone();
    let posted = http::off_io(move || {
        let item = Arc::new(checked(&body)?);
        let target = item.target().copied();
        let scheduled = scheduler.post_verified(item).map_err(|Refusal(text)| text)?;
        // A process is asked about as itself: that is its boot.
        let is_process = scheduler.process(&scheduled.id).is_some();
        let process = target.filter(|_| !is_process).unwrap_or(scheduled.id);
        Ok::<_, String>((to_base64url(&scheduled.id), to_base64url(&process)))
    });
    match posted.await {
        Ok((id, process)) => {
            messenger.push(Origin { process, id: id.clone(), pushed_for: Some(id.clone()) });
            http::with_status(StatusCode::ACCEPTED, &json!({ "message": "Processing DataItem", "id": id }))
        }
        Err(text) => refuse(&text),
    }
}

fn checked(bytes: &[u8]) -> Result<DataItem, String> {
    let item = DataItem::parse(bytes).map_err(|error| error.to_string());
    item.and_then(|item| item.verify().map(|()| item).map_err(|error| error.to_string()))
        .map_err(|why| format!("A valid and signed data item must be provided as the body: {why}"))
}

async fn assign(messenger: Arc<Messenger>, process: &str, message: &str, query: &Query) -> Response {
    let options = AssignOptions {
        base_layer: query.get("base-layer").is_some(),
        exclude: query.get("exclude").filter(|parts| !parts.is_empty()).map(str::to_owned),
    };
    let (scheduler, to, what) = (messenger.scheduler.clone(), process.to_owned(), message.to_owned());
    match http::off_io(move || scheduler.assign(&to, &what, &options)).await {
        Ok(scheduled) => {
            let id = to_base64url(&scheduled.id);
            messenger.push(Origin { process: process.to_owned(), id: id.clone(), pushed_for: Some(id.clone()) });
            http::with_status(StatusCode::ACCEPTED, &json!({ "message": "Processing Assignment", "id": id }))
        }
        Err(Refusal(text)) => refuse(&text),
    }
}

/// Starts or ends monitoring. The body is a signed item for the process, as a proof that somebody meant it.
async fn monitor(messenger: Arc<Messenger>, process: &str, start: bool, request: Request) -> Response {
    let Some(process) = parse_id(process) else {
        return refuse("the path does not end in a process id");
    };
    let body = match http::body(request).await {
        Ok(body) if body.is_empty() => {
            return (StatusCode::BAD_REQUEST, "Signed data item is required").into_response();
        }
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let target: Result<Option<Id>, String> =
        http::off_io(move || checked(&body).map(|item| item.target().copied())).await;
    match target {
        Ok(target) if target == Some(process) => {}
        Ok(_) => {
            return refuse("the signed data item has another target than the process to monitor");
        }
        Err(text) => return refuse(&text),
    }
    let done = if start { messenger.monitor(process) } else { messenger.unmonitor(&process) };
    match done {
        Ok(()) if start => "Monitoring process".into_response(),
        Ok(()) => "Process deleted".into_response(),
        Err(error) => refuse(&error.to_string()),
    }
}
