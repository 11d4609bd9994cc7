//! `POST /dry-run?process-id=&to=`: what a message would do.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use lockstep_cu::unit::{DryRun, Reply};

use super::{
    App, body, dry_run_body,
    failure::{Failure, json_response},
    number,
    query::Query,
};
use crate::wire;

pub async fn dry_run(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let client = client(&request);
    let query = Query::of(request.uri());
    let max_age = max_age(request.headers());
    let body = body::read(request).await?;
    app.0.access.check_query(&query)?;
    // Counted before anything is validated, so that a flood is refused whatever it holds; counted here and not after
    // the answer, so that simultaneous requests cannot all pass.
    let counted = match &app.0.dry_run_limit {
        None => None,
        Some(limit) => Some((limit, limit.count(&client, Instant::now()).ok_or_else(Failure::rate_limited)?)),
    };
    let forgive = || {
        if let Some((limit, counted)) = counted {
            limit.forgive(counted);
        }
    };
    let (process, run) = match parse(&query, max_age, body) {
        Ok(parsed) => parsed,
        Err(failure) => {
            forgive();
            return Err(failure);
        }
    };
    let (reply, was_cached) = app.0.unit.dry_run(process, run, app.0.busy_after).await?;
    if was_cached {
        forgive();
    }
    match reply {
        Reply::Ready(outcome) => Ok(json_response(StatusCode::OK, wire::result(&outcome))),
        Reply::Busy => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

fn parse(
    query: &Query,
    max_age: Result<Option<Duration>, Failure>,
    body: Option<serde_json::Value>,
) -> Result<(&str, DryRun), Failure> {
    let process = query.required("process-id", "processId", "a process-id query parameter is required")?;
    let to = query.text("to", "messageTxId", "to must be a transaction id")?.map(str::to_owned);
    let body = dry_run_body::checked(body.as_ref()).map_err(Failure::invalid)?;
    Ok((process, DryRun { body, to, max_age: max_age? }))
}

/// The header `x-max-age`, milliseconds.
fn max_age(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("x-max-age") else {
        return Ok(None);
    };
    let millis = value.to_str().ok().and_then(|text| number::to_u64(number::from_text(text)));
    match millis {
        Some(millis) => Ok(Some(Duration::from_millis(millis))),
        None => Err(Failure::invalid("'maxProcessAge': Expected number, received nan.")),
    }
}

/// Who asks: the first forwarded address, else the proxy's word, else the connection's address.
fn client(request: &Request) -> String {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(forwarded) = header("x-forwarded-for").filter(|text| !text.is_empty()) {
        return forwarded.split(',').next().unwrap_or_default().trim().to_owned();
    }
    if let Some(real) = header("x-real-ip").filter(|text| !text.is_empty()) {
        return real.to_owned();
    }
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    connection.map_or_else(|| "unknown".to_owned(), |ConnectInfo(address)| address.ip().to_string())
}
