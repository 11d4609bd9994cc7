//! `GET /result/:messageTxId?process-id=&no-busy=`: one message's result.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use lockstep_cu::unit::Reply;
use serde_json::json;

use super::{
    App, PathParam,
    failure::{Failure, json_response},
    query::Query,
};
use crate::wire;

pub async fn result(State(app): State<App>, PathParam(message): PathParam, uri: Uri) -> Result<Response, Failure> {
    app.only_as_cu()?;
    let query = Query::of(&uri);
    app.0.access.check_query(&query)?;
    let process = query.required("process-id", "processId", "an ao process id is required")?;
    // Messengers ask with `no-busy`: a body without `Messages` would make them lose the message.
    let busy_after = if query.has("no-busy") { None } else { app.0.busy_after };
    match app.0.unit.result(process, &message, busy_after).await? {
        Reply::Ready(outcome) => Ok(json_response(StatusCode::OK, wire::result(&outcome))),
        Reply::Busy => {
            let text = format!("Evaluation of process \"{process}\" to \"{message}\" is in progress.");
            Ok(json_response(StatusCode::ACCEPTED, json!({ "message": text }).to_string()))
        }
    }
}
