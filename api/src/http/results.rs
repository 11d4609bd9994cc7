//! `GET /results/:processId` and `GET /cron/:processId`: pages of results.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use lockstep_cu::unit::{Cursor, Range, Sort};

use super::{
    App, PathParam,
    failure::{Failure, json_response},
    number::MAX_SAFE_INTEGER,
    query::{Param, Query},
};
use crate::wire;

/// Results on a page of `/results`, and the most that may be asked for (the reference adds one and wants no overflow).
const RESULTS_DEFAULT: u64 = 25;
const RESULTS_MAX: f64 = MAX_SAFE_INTEGER - 10.0;

/// Results on a page of `/cron`, and the most that may be asked for.
const CRON_DEFAULT: u64 = 500;
const CRON_MAX: f64 = 1000.0;

/// Results already evaluated, in either order.
pub async fn results(State(app): State<App>, PathParam(process): PathParam, uri: Uri) -> Result<Response, Failure> {
    app.only_as_cu()?;
    app.0.access.check(&process)?;
    let query = Query::of(&uri);
    let asked = sort(&query)?;
    let limit = query.count("limit", RESULTS_MAX, RESULTS_DEFAULT)?;
    let (from, from_sort) = bound(&query, "from")?;
    let (to, to_sort) = bound(&query, "to")?;
    // A cursor goes on in the order of the page it came from, whatever the query says.
    let sort = from_sort.or(to_sort).unwrap_or(asked);
    let page = app.0.unit.results(&process, Range { from, to, sort, limit }).await?;
    Ok(json_response(StatusCode::OK, wire::page(&page, sort)))
}

/// Results of cron messages, after evaluating up to `to`; always in ascending order.
pub async fn cron(State(app): State<App>, PathParam(process): PathParam, uri: Uri) -> Result<Response, Failure> {
    app.only_as_cu()?;
    app.0.access.check(&process)?;
    let query = Query::of(&uri);
    let limit = query.count("limit", CRON_MAX, CRON_DEFAULT)?;
    let (from, _) = bound(&query, "from")?;
    let (to, _) = bound(&query, "to")?;
    let sort = Sort::Asc;
    let page = app.0.unit.cron(&process, Range { from, to, sort, limit }).await?;
    Ok(json_response(StatusCode::OK, wire::page(&page, sort)))
}

fn bound(query: &Query, name: &str) -> Result<(Option<Cursor>, Option<Sort>), Failure> {
    let Some(text) = query.joined(name).filter(|text| !text.is_empty()) else {
        return Ok((None, None));
    };
    let bound =
        wire::decode_bound(&text).map_err(|why| Failure::invalid(format!("Invalid Arguments '{name}': {why}.")))?;
    Ok((bound.cursor, bound.sort))
}

fn sort(query: &Query) -> Result<Sort, Failure> {
    match query.param("sort") {
        Param::Absent => Ok(Sort::Asc),
        Param::One(text) => wire::parse_sort(text).ok_or_else(|| {
            Failure::invalid(format!("'sort': Invalid enum value. Expected 'ASC' | 'DESC', received '{text}'."))
        }),
        Param::Many(_) => Err(Failure::invalid("'sort': Expected 'ASC' | 'DESC', received array.")),
    }
}
