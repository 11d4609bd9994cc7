//! `GET /state/:processId?to=`: a process's memory.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, Uri},
    response::Response,
};

use super::{
    App, PathParam,
    failure::{Failure, with_type},
    number,
    query::Query,
};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const LAST_TIMESTAMP: HeaderName = HeaderName::from_static("last-timestamp");
const LAST_ORDINATE: HeaderName = HeaderName::from_static("last-ordinate");
const LAST_BLOCK_HEIGHT: HeaderName = HeaderName::from_static("last-block-height");

pub async fn state(State(app): State<App>, PathParam(process): PathParam, uri: Uri) -> Result<Response, Failure> {
    app.only_as_cu()?;
    app.0.access.check(&process)?;
    let state = app.0.unit.state(&process, to(&Query::of(&uri))?).await?;
    let Some(memory) = state.memory else {
        // The reference breaks here too, with words of its web framework.
        return Err(Failure::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("process {process} has no memory: none of its messages has been evaluated without an error"),
        ));
    };
    let mut response = with_type(StatusCode::OK, OCTETS, memory);
    let known = [
        (LAST_TIMESTAMP, state.last_timestamp.map(|n| n.to_string())),
        (LAST_ORDINATE, state.last_ordinate),
        (LAST_BLOCK_HEIGHT, state.last_block_height.map(|n| n.to_string())),
    ];
    for (name, text) in known {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// Up to when, in milliseconds; empty and 0 mean the latest message, as in the reference.
fn to(query: &Query) -> Result<Option<u64>, Failure> {
    let Some(text) = query.joined("to") else {
        return Ok(None);
    };
    match number::to_u64(number::from_text(&text)) {
        None => Err(Failure::invalid("'to': Expected number, received nan.")),
        Some(0) => Ok(None),
        to => Ok(to),
    }
}
