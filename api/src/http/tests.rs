//! Every status and error shape of the interface, driven through the router over a unit that only pretends.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use lockstep_cu::{
    Error,
    unit::{Cursor, DryRun, Edge, Page, Range, Reply, Sort, State, Status},
};
use lockstep_jit::Outcome;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{compute::Answer, *};

/// What the fake unit answers to a process of this name.
const BUSY: &str = "busy";
const THROWN: &str = "thrown";
const NO_MEMORY: &str = "no-memory";
const PANIC: &str = "panic";

/// Answers by the process's name and keeps what it was asked.
#[derive(Clone, Default)]
struct Fake(Arc<Asked>);

#[derive(Default)]
struct Asked {
    ranges: Mutex<Vec<Range>>,
    states: Mutex<Vec<Option<u64>>>,
    dry_runs: Mutex<Vec<DryRun>>,
    busy_after: Mutex<Vec<Option<Duration>>>,
    calls: AtomicUsize,
}

fn outcome() -> Outcome {
    Outcome { output: Some(json!("done")), gas_used: Some(0), ..Outcome::default() }
}

/// The errors of the ao room, each reached by the process of its variant's name.
fn error(process: &str) -> Option<Error> {
    let text = || format!("text of {process}");
    Some(match process {
        "Invalid" => Error::Invalid(text()),
        "ProcessDenied" => Error::ProcessDenied("P".into()),
        "OwnerDenied" => Error::OwnerDenied("O".into()),
        "NotFound" => Error::NotFound(text()),
        "LimitExceeded" => Error::LimitExceeded(text()),
        "Unprocessable" => Error::Unprocessable(text()),
        "TooEarly" => Error::TooEarly(text()),
        "TooMany" => Error::TooMany(text()),
        "Hydrating" => Error::Hydrating(text()),
        "Upstream" => Error::Upstream(text()),
        "Internal" => Error::Internal(text()),
        _ => return None,
    })
}

impl Fake {
    fn reply(&self, process: &str, busy_after: Option<Duration>) -> Result<Reply<Outcome>, Error> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0.busy_after.lock().unwrap().push(busy_after);
        assert_ne!(process, PANIC, "asked to");
        match process {
            BUSY if busy_after.is_some() => Ok(Reply::Busy),
            THROWN => Ok(Reply::Ready(Outcome { error: Some(json!({})), ..Outcome::default() })),
            _ => error(process).map_or(Ok(Reply::Ready(outcome())), Err),
        }
    }

    fn page(&self, process: &str, range: Range) -> Result<Page, Error> {
        self.0.ranges.lock().unwrap().push(range);
        if let Some(error) = error(process) {
            return Err(error);
        }
        let cursor = Cursor { timestamp: 7, ordinate: Some("1".into()), cron: None };
        Ok(Page { edges: vec![Edge { cursor, outcome: outcome() }], has_next: false })
    }
}

impl Compute for Fake {
    fn result<'a>(
        &'a self,
        process: &'a str,
        _uid: &'a str,
        busy_after: Option<Duration>,
    ) -> Answer<'a, Reply<Outcome>> {
        Box::pin(async move { self.reply(process, busy_after) })
    }

    fn results<'a>(&'a self, process: &'a str, range: Range) -> Answer<'a, Page> {
        Box::pin(async move { self.page(process, range) })
    }

    fn cron<'a>(&'a self, process: &'a str, range: Range) -> Answer<'a, Page> {
        Box::pin(async move { self.page(process, range) })
    }

    fn state<'a>(&'a self, process: &'a str, to: Option<u64>) -> Answer<'a, State> {
        Box::pin(async move {
            self.0.states.lock().unwrap().push(to);
            if let Some(error) = error(process) {
                return Err(error);
            }
            let memory = (process != NO_MEMORY).then(|| vec![0, 255, 1]);
            Ok(State { memory, last_timestamp: Some(9), last_ordinate: Some("3".into()), last_block_height: Some(5) })
        })
    }

    fn dry_run<'a>(
        &'a self,
        process: &'a str,
        run: DryRun,
        busy_after: Option<Duration>,
    ) -> Answer<'a, (Reply<Outcome>, bool)> {
        Box::pin(async move {
            let is_cached = run.to.as_deref() == Some("cached");
            self.0.dry_runs.lock().unwrap().push(run);
            Ok((self.reply(process, busy_after)?, is_cached))
        })
    }

    fn status(&self) -> Status {
        Status {
            processes_live: 2,
            processes_live_bytes: 4096,
            evaluations_running: 1,
            backlog: 12,
            results_stored: 99,
        }
    }

    fn register_metrics(&self, registry: &mut Registry) {
        registry.register(
            "lockstep_fake",
            "A family of the unit",
            prometheus_client::metrics::gauge::Gauge::<i64>::default(),
        );
    }
}

/// The interface over a fake unit.
struct Served {
    router: Router,
    fake: Fake,
}

/// An answer, read whole.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status, type and exact text of a JSON body.
    #[track_caller]
    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status.as_u16(), self.text()), (status, body));
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"));
    }
}

fn served(settings: &[(&'static str, &str)]) -> Served {
    let settings = Settings::with(settings).unwrap();
    let fake = Fake::default();
    Served { router: router(App::new(fake.clone(), &settings, "my address".into())), fake }
}

impl Served {
    async fn send(&self, request: Request<Body>) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Got { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Got {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn dry_run(&self, query: &str, body: &str) -> Got {
        self.post(query, &[("content-type", "application/json")], body).await
    }

    async fn post(&self, query: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let mut request = Request::post(format!("/dry-run{query}")).header("content-length", body.len());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    fn last_range(&self) -> Range {
        self.fake.0.ranges.lock().unwrap().last().unwrap().clone()
    }
}

const DONE: &str = r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":"done","GasUsed":0}"#;
const PAGE: &str = r#"{"pageInfo":{"hasNextPage":false},"edges":[{"node":{"Messages":[],"Assignments":[],"Spawns":[],"Output":"done"},"cursor":"eyJ0aW1lc3RhbXAiOjcsIm9yZGluYXRlIjoiMSIsImNyb24iOm51bGwsInNvcnQiOiJBU0MifQ=="}]}"#;
const MESSAGE: &str = r#"{"Owner":"o","Tags":[]}"#;
const NO_LIMIT: (&str, &str) = ("rate_limit_max_requests", "0");

fn cursor(json: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(json)
}

// --- 200 -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn root_200_address_then_timestamp() {
    let got = served(&[]).get("/").await;
    let body: Value = serde_json::from_str(got.text()).unwrap();
    assert!(got.text().starts_with(r#"{"address":"my address","timestamp":1"#), "{}", got.text());
    assert!(body["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(got.header("content-type"), Some("application/json; charset=utf-8"));
}

#[tokio::test]
async fn result_200_in_the_reference_s_key_order() {
    served(&[]).get("/result/M?process-id=P").await.is(200, DONE);
}

#[tokio::test]
async fn result_200_for_an_evaluation_that_threw() {
    let body = r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":"","Error":{}}"#;
    served(&[]).get("/result/M?process-id=thrown").await.is(200, body);
}

#[tokio::test]
async fn results_200_page_of_25_ascending_by_default() {
    let served = served(&[]);
    served.get("/results/P").await.is(200, PAGE);
    let range = served.last_range();
    assert_eq!((range.sort, range.limit, range.from, range.to), (Sort::Asc, 25, None, None));
}

#[tokio::test]
async fn results_200_sort_of_from_beats_that_of_to_beats_the_query() {
    let served = served(&[]);
    let (asc, desc) = (cursor(r#"{"timestamp":1,"sort":"ASC"}"#), cursor(r#"{"timestamp":2,"sort":"DESC"}"#));
    for (query, sort) in [
        ("sort=DESC".to_owned(), Sort::Desc),
        (format!("sort=ASC&to={desc}"), Sort::Desc),
        (format!("sort=DESC&from={asc}&to={desc}"), Sort::Asc),
    ] {
        assert_eq!(served.get(&format!("/results/P?{query}")).await.status, 200);
        assert_eq!(served.last_range().sort, sort, "{query}");
    }
}

#[tokio::test]
async fn results_200_bounds_are_cursors_or_bare_timestamps_and_may_be_empty() {
    let served = served(&[]);
    let place = cursor(r#"{"timestamp":17,"ordinate":"2","cron":"0-10-minutes","sort":"ASC"}"#);
    served.get(&format!("/results/P?from={place}&to=99&limit=3")).await;
    let range = served.last_range();
    let expected = Cursor { timestamp: 17, ordinate: Some("2".into()), cron: Some("0-10-minutes".into()) };
    assert_eq!(range.from, Some(expected));
    assert_eq!(range.to, Some(Cursor { timestamp: 99, ordinate: None, cron: None }));
    assert_eq!(range.limit, 3);
    served.get(&format!("/results/P?from=&to={}&limit=", cursor("{}"))).await;
    let range = served.last_range();
    assert_eq!((range.from, range.to, range.limit), (None, None, 0));
}

#[tokio::test]
async fn cron_200_page_of_500_always_ascending() {
    let served = served(&[]);
    let place = cursor(r#"{"timestamp":1,"sort":"DESC"}"#);
    served.get(&format!("/cron/P?from={place}&limit=50")).await.is(200, PAGE);
    assert_eq!((served.last_range().sort, served.last_range().limit), (Sort::Asc, 50));
    served.get("/cron/P?to=1750000031460").await.is(200, PAGE);
    assert_eq!(served.last_range().limit, 500);
    assert_eq!(served.last_range().to.unwrap().timestamp, 1_750_000_031_460, "a bare timestamp is allowed");
}

#[tokio::test]
async fn state_200_raw_memory_with_what_was_last() {
    let served = served(&[]);
    let got = served.get("/state/P?to=12").await;
    assert_eq!((got.status.as_u16(), got.body.as_slice()), (200, [0, 255, 1].as_slice()));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(
        (got.header("last-timestamp"), got.header("last-ordinate"), got.header("last-block-height")),
        (Some("9"), Some("3"), Some("5"))
    );
    for query in ["", "?to=", "?to=0"] {
        served.get(&format!("/state/P{query}")).await;
    }
    assert_eq!(*served.fake.0.states.lock().unwrap(), [Some(12), None, None, None]);
}

#[tokio::test]
async fn dry_run_200_and_what_the_unit_is_told() {
    let served = served(&[]);
    let headers = [("content-type", "application/json; charset=utf-8"), ("x-max-age", "250")];
    served.post("?process-id=P&to=M", &headers, r#"{"Tags":[],"Owner":"o","Junk":1}"#).await.is(200, DONE);
    let runs = served.fake.0.dry_runs.lock().unwrap();
    assert_eq!(serde_json::to_string(&runs[0].body).unwrap(), MESSAGE);
    assert_eq!((runs[0].to.as_deref(), runs[0].max_age), (Some("M"), Some(Duration::from_millis(250))));
}

#[tokio::test]
async fn status_200_version_engines_processes_backlog() {
    let got = served(&[]).get("/status").await;
    let body: Value = serde_json::from_str(got.text()).unwrap();
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&body["engines"], &body["processes_live"], &body["backlog"]),
        (&json!(["native"]), &json!(2), &json!(12))
    );
    assert_eq!((&body["unit_mode"], &body["results_stored"]), (&json!("cu"), &json!(99)));
    assert!(body["uptime_seconds"].is_u64());
}

#[tokio::test]
async fn metrics_200_openmetrics_of_requests_process_and_unit() {
    let served = served(&[]);
    served.get("/result/M?process-id=P").await;
    served.get("/result/M?process-id=Upstream").await;
    let got = served.get("/metrics").await;
    assert_eq!(got.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    for part in [
        r#"ao_cu_http_request_duration_seconds_count{method="GET",route="/result/:messageTxId",status="200",statusGroup="2xx"} 1"#,
        r#"ao_cu_http_request_summary_seconds_count{method="GET",route="/result/:messageTxId",status="500",statusGroup="5xx"} 1"#,
        "ao_cuprocess_resident_memory_bytes ",
        "lockstep_fake 0",
    ] {
        assert!(got.text().contains(part), "{part}\n{}", got.text());
    }
}

#[tokio::test]
async fn openapi_200_and_docs_200() {
    let served = served(&[]);
    let document: Value = serde_json::from_str(served.get("/openapi.json").await.text()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let docs = served.get("/docs").await;
    assert_eq!((docs.status.as_u16(), docs.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(docs.text().starts_with("<!doctype html>"));
}

// --- 202 -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn result_202_busy() {
    let served = served(&[("busy_threshold", "100")]);
    let body = r#"{"message":"Evaluation of process \"busy\" to \"M\" is in progress."}"#;
    served.get("/result/M?process-id=busy").await.is(202, body);
    assert_eq!(*served.fake.0.busy_after.lock().unwrap(), [Some(Duration::from_millis(100))]);
}

#[tokio::test]
async fn result_200_never_busy_with_no_busy_or_without_a_threshold() {
    let with_threshold = served(&[("busy_threshold", "100")]);
    for query in ["no-busy=1", "no-busy=", "no-busy"] {
        with_threshold.get(&format!("/result/M?process-id=busy&{query}")).await.is(200, DONE);
    }
    served(&[]).get("/result/M?process-id=busy").await.is(200, DONE);
}

#[tokio::test]
async fn dry_run_202_busy_with_an_empty_body() {
    let got = served(&[("busy_threshold", "100")]).dry_run("?process-id=busy", MESSAGE).await;
    assert_eq!((got.status.as_u16(), got.body.len()), (202, 0));
}

// --- 204 -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn preflight_204_reflects_the_headers_asked_for() {
    for path in ["/dry-run?process-id=P", "/result/M", "/nowhere"] {
        let request = Request::options(path)
            .header("origin", "http://x")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-max-age");
        let got = served(&[]).send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((got.status.as_u16(), got.body.len()), (204, 0), "{path}");
        assert_eq!(got.header("access-control-allow-origin"), Some("*"));
        assert_eq!(got.header("access-control-allow-methods"), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
        assert_eq!(got.header("access-control-allow-headers"), Some("content-type,x-max-age"));
        assert_eq!(got.header("access-control-expose-headers"), None);
    }
}

// --- headers and methods -------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_answer_has_the_cors_and_helmet_headers_and_no_cache_headers() {
    let served = served(&[]);
    for path in ["/", "/result/M?process-id=P", "/result/M", "/nowhere", "/%"] {
        let got = served.get(path).await;
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
        ] {
            assert_eq!(got.header(name), Some(value), "{path} {name}");
        }
        assert!(got.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
        assert!(got.headers.get(header::ETAG).is_none() && got.headers.get(header::CACHE_CONTROL).is_none(), "{path}");
    }
}

#[tokio::test]
async fn head_mirrors_get() {
    let served = served(&[]);
    for path in ["/", "/result/M?process-id=P", "/result/M", "/state/P", "/docs"] {
        let get = served.get(path).await;
        let head = served.send(Request::head(path).body(Body::empty()).unwrap()).await;
        assert_eq!((head.status, head.header("content-type")), (get.status, get.header("content-type")), "{path}");
        assert!(head.body.is_empty(), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

// --- 400 (the reference answers 500 to most of these; the texts are its own) -----------------------------------------

#[tokio::test]
async fn result_400_without_a_usable_process_id() {
    let served = served(&[]);
    served.get("/result/M").await.is(400, r#"{"error":"'processId': Required."}"#);
    let twice = r#"{"error":"'processId': Expected string, received array."}"#;
    served.get("/result/M?process-id=P&process-id=Q").await.is(400, twice);
    let empty = r#"{"error":"'processId': an ao process id is required."}"#;
    served.get("/result/M?process-id=").await.is(400, empty);
    assert_eq!(served.fake.0.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn results_400_for_a_bad_sort_limit_or_bound() {
    let served = served(&[]);
    for (query, error) in [
        ("sort=UP".to_owned(), "'sort': Invalid enum value. Expected 'ASC' | 'DESC', received 'UP'."),
        ("sort=ASC&sort=DESC".to_owned(), "'sort': Expected 'ASC' | 'DESC', received array."),
        ("limit=abc".to_owned(), "'limit': Expected number, received nan."),
        ("limit=2.5".to_owned(), "'limit': Expected integer, received float."),
        ("limit=9007199254740982".to_owned(), "'limit': Number must be less than or equal to 9007199254740981."),
        ("from=yesterday".to_owned(), "Invalid Arguments 'from': Expected number, received nan."),
        ("to=x&to=y".to_owned(), "Invalid Arguments 'to': Expected number, received nan."),
        (format!("from={}", cursor("7")), "Invalid Arguments 'from': Expected object, received number."),
        (format!("to={}", cursor("null")), "Invalid Arguments 'to': Expected object, received null."),
    ] {
        let body = json!({ "error": error }).to_string();
        served.get(&format!("/results/P?{query}")).await.is(400, &body);
    }
    assert_eq!(served.get("/results/P?limit=9007199254740981").await.status, 200);
}

#[tokio::test]
async fn cron_400_for_a_limit_above_1000_or_a_bad_bound() {
    let served = served(&[]);
    let body = r#"{"error":"'limit': Number must be less than or equal to 1000."}"#;
    served.get("/cron/P?limit=1001").await.is(400, body);
    let body = r#"{"error":"Invalid Arguments 'to': Expected number, received nan."}"#;
    served.get("/cron/P?to=soon").await.is(400, body);
}

#[tokio::test]
async fn state_400_for_a_to_that_is_no_number() {
    served(&[]).get("/state/P?to=soon").await.is(400, r#"{"error":"'to': Expected number, received nan."}"#);
}

#[tokio::test]
async fn dry_run_400_for_a_body_of_the_wrong_shape() {
    let served = served(&[]);
    let post = async |query: &str, headers: &[(&str, &str)], body: &str, error: &str| {
        served.post(query, headers, body).await.is(400, &json!({ "error": error }).to_string());
    };
    let json_type = [("content-type", "application/json")];
    post("?process-id=P", &[], "", "'dryRun': Required.").await;
    post("", &json_type, MESSAGE, "'processId': Required.").await;
    post("?process-id=", &json_type, MESSAGE, "'processId': a process-id query parameter is required.").await;
    post("?process-id=P&to=", &json_type, MESSAGE, "'messageTxId': to must be a transaction id.").await;
    post("?process-id=P", &json_type, "{}", "'Owner': Required. | 'From': Required. | 'Tags': Required.").await;
    post("?process-id=P", &[("content-type", "text/plain")], "hi", "'dryRun': Expected object, received string.").await;
    let aged = [("content-type", "application/json"), ("x-max-age", "old")];
    post("?process-id=P", &aged, MESSAGE, "'maxProcessAge': Expected number, received nan.").await;
    assert_eq!(served.fake.0.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn dry_run_400_for_an_empty_json_body() {
    let body = r#"{"statusCode":400,"code":"FST_ERR_CTP_EMPTY_JSON_BODY","error":"Bad Request","message":"Body cannot be empty when content-type is set to 'application/json'"}"#;
    served(&[]).dry_run("?process-id=P", "").await.is(400, body);
}

#[tokio::test]
async fn dry_run_400_for_a_body_that_is_not_json_or_holds_a_prototype() {
    let served = served(&[]);
    let got = served.dry_run("?process-id=P", "{nope").await;
    let start = r#"{"statusCode":400,"error":"Bad Request","message":"The request body is not valid JSON: "#;
    assert!(got.status == 400 && got.text().starts_with(start), "{}", got.text());
    let body = r#"{"statusCode":400,"error":"Bad Request","message":"Object contains forbidden prototype property"}"#;
    served.dry_run("?process-id=P", r#"{"Owner":"o","Tags":[],"Data":{"__proto__":1}}"#).await.is(400, body);
    served.dry_run("?process-id=P", r#"{"a":[{"constructor":{"prototype":1}}]}"#).await.is(400, body);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(served.dry_run("?process-id=P", &deep).await.status, 400);
}

#[tokio::test]
async fn dry_run_200_for_what_only_javascript_takes_for_json() {
    let served = served(&[]);
    let body = "\u{feff}{\"Owner\":\"o\",\"Tags\":[],\"Data\":\"\\ud800\"}";
    served.dry_run("?process-id=P", body).await.is(200, DONE);
    assert_eq!(served.fake.0.dry_runs.lock().unwrap()[0].body["Data"], "\u{fffd}");
}

#[tokio::test]
async fn any_path_400_if_it_is_not_encoded_utf_8() {
    for path in ["/result/%zz?process-id=P", "/nowhere/%", "/state/%ff"] {
        let body = format!(
            r#"{{"error":"Bad Request","code":"FST_ERR_BAD_URL","message":"'{path}' is not a valid url component","statusCode":400}}"#
        );
        served(&[]).get(path).await.is(400, &body);
    }
}

// --- 403 -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_process_route_403_for_a_restricted_process() {
    let served = served(&[("restrict_processes", "bad, worse")]);
    let body = r#"{"error":"Access denied for process bad"}"#;
    for path in ["/result/M?process-id=bad", "/results/bad", "/cron/bad", "/state/bad"] {
        served.get(path).await.is(403, body);
        assert_eq!(served.get(&path.replace("bad", "good")).await.status, 200, "{path}");
    }
    served.dry_run("?process-id=bad", MESSAGE).await.is(403, body);
    assert_eq!(served.get("/").await.status, 200);
}

#[tokio::test]
async fn every_process_route_403_for_a_process_that_is_not_allowed() {
    let served = served(&[("allow_processes", "good,bad"), ("restrict_processes", "bad")]);
    let body = r#"{"error":"Access denied for process other"}"#;
    for path in ["/result/M?process-id=other", "/results/other", "/cron/other", "/state/other"] {
        served.get(path).await.is(403, body);
        assert_eq!(served.get(&path.replace("other", "good")).await.status, 200, "{path}");
        assert_eq!(served.get(&path.replace("other", "bad")).await.status, 403, "{path}");
    }
    served.get("/result/M").await.is(403, r#"{"error":"Access denied for process undefined"}"#);
    served.dry_run("", MESSAGE).await.is(403, r#"{"error":"Access denied for process undefined"}"#);
    let twice = served.get("/result/M?process-id=good&process-id=other").await;
    twice.is(403, body);
}

// --- 404 -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn unknown_route_404_names_method_and_path() {
    let served = served(&[]);
    let shape = |method: &str, path: &str| {
        format!(r#"{{"message":"Route {method}:{path} not found","error":"Not Found","statusCode":404}}"#)
    };
    for path in ["/x", "/x?a=1", "/result", "/results/a/b", "/state/"] {
        served.get(path).await.is(404, &shape("GET", path));
    }
    let posted = served.send(Request::post("/result/M?process-id=P").body(Body::empty()).unwrap()).await;
    posted.is(404, &shape("POST", "/result/M?process-id=P"));
    served.get("/dry-run").await.is(404, &shape("GET", "/dry-run"));
}

#[tokio::test]
async fn path_parameter_404_beyond_100_characters() {
    let served = served(&[]);
    assert_eq!(served.get(&format!("/results/{}", "a".repeat(100))).await.status, 200);
    let path = format!("/results/{}", "a".repeat(101));
    let body = format!(r#"{{"message":"Route GET:{path} not found","error":"Not Found","statusCode":404}}"#);
    served.get(&path).await.is(404, &body);
}

#[tokio::test]
async fn ru_mode_404_text_on_all_but_dry_runs_and_operation() {
    let served = served(&[("unit_mode", "ru")]);
    for path in ["/result/M?process-id=P", "/results/P", "/cron/P", "/state/P"] {
        let got = served.get(path).await;
        assert_eq!((got.status.as_u16(), got.text()), (404, "Not Found"), "{path}");
        assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    for path in ["/", "/metrics", "/status"] {
        assert_eq!(served.get(path).await.status, 200, "{path}");
    }
    served.dry_run("?process-id=P", MESSAGE).await.is(200, DONE);
}

#[tokio::test]
async fn metrics_404_as_any_unknown_route_when_switched_off() {
    let body = r#"{"message":"Route GET:/metrics not found","error":"Not Found","statusCode":404}"#;
    served(&[("enable_metrics_endpoint", "false")]).get("/metrics").await.is(404, body);
}

// --- 413, 415 ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn dry_run_413_beyond_one_mebibyte_and_not_at_it() {
    let served = served(&[NO_LIMIT]);
    let message = |bytes: usize| {
        let empty = r#"{"Owner":"o","Tags":[],"Data":""}"#.len();
        format!(r#"{{"Owner":"o","Tags":[],"Data":"{}"}}"#, "x".repeat(bytes - empty))
    };
    let too_large = r#"{"statusCode":413,"code":"FST_ERR_CTP_BODY_TOO_LARGE","error":"Payload Too Large","message":"Request body is too large"}"#;
    served.dry_run("?process-id=P", &message(1_048_576)).await.is(200, DONE);
    served.dry_run("?process-id=P", &message(1_048_577)).await.is(413, too_large);
    let chunks: Vec<Result<String, std::io::Error>> = vec![Ok(message(1_048_576)), Ok(" ".to_owned())];
    let request = Request::post("/dry-run?process-id=P")
        .header("content-type", "application/json")
        .header("transfer-encoding", "chunked")
        .body(Body::from_stream(futures::stream::iter(chunks)))
        .unwrap();
    served.send(request).await.is(413, too_large);
}

#[tokio::test]
async fn dry_run_415_for_other_types_and_for_a_body_without_one() {
    let served = served(&[]);
    let shape = |what: &str| {
        format!(
            r#"{{"statusCode":415,"code":"FST_ERR_CTP_INVALID_MEDIA_TYPE","error":"Unsupported Media Type","message":"Unsupported Media Type: {what}"}}"#
        )
    };
    served.post("?process-id=P", &[], MESSAGE).await.is(415, &shape("undefined"));
    let html = [("content-type", "text/html")];
    served.post("?process-id=P", &html, MESSAGE).await.is(415, &shape("text/html"));
    let form = [("content-type", "application/jsonx; q=1")];
    served.post("?process-id=P", &form, MESSAGE).await.is(415, &shape("application/jsonx; q=1"));
    let loud = [("content-type", "Application/JSON")];
    served.post("?process-id=P", &loud, MESSAGE).await.is(200, DONE);
}

// --- 413, 422, 425, 429, 503, 500 from the ao room --------------------------------------------------------------------

#[tokio::test]
async fn errors_of_the_ao_room_have_their_status_on_every_route() {
    let served = served(&[NO_LIMIT]);
    for (process, status, text) in [
        ("Invalid", 400, "text of Invalid"),
        ("ProcessDenied", 403, "Access denied for process P"),
        ("OwnerDenied", 403, "Access denied for process owner O"),
        ("NotFound", 404, "text of NotFound"),
        ("LimitExceeded", 413, "text of LimitExceeded"),
        ("Unprocessable", 422, "text of Unprocessable"),
        ("TooEarly", 425, "text of TooEarly"),
        ("TooMany", 429, "text of TooMany"),
        ("Hydrating", 503, "text of Hydrating"),
        ("Upstream", 500, "text of Upstream"),
        ("Internal", 500, "text of Internal"),
    ] {
        let body = json!({ "error": text }).to_string();
        for path in ["/result/M?process-id=PID", "/results/PID", "/cron/PID", "/state/PID"] {
            served.get(&path.replace("PID", process)).await.is(status, &body);
        }
        served.dry_run(&format!("?process-id={process}"), MESSAGE).await.is(status, &body);
    }
}

#[tokio::test]
async fn state_500_for_a_process_without_memory() {
    let got = served(&[]).get("/state/no-memory").await;
    assert!(
        got.status == 500 && got.text().starts_with(r#"{"error":"process no-memory has no memory"#),
        "{}",
        got.text()
    );
}

#[tokio::test]
async fn a_handler_s_panic_is_a_500_and_the_next_request_is_answered() {
    let served = served(&[]);
    served.get("/result/M?process-id=panic").await.is(500, r#"{"error":"internal error"}"#);
    served.get("/result/M?process-id=P").await.is(200, DONE);
}

// --- 429: the rate limit ---------------------------------------------------------------------------------------------

const LIMITED: &str = r#"{"error":"Rate limit exceeded"}"#;

#[tokio::test]
async fn dry_run_429_from_the_seventh_in_a_minute_and_other_routes_are_free() {
    let served = served(&[]);
    for _ in 0..6 {
        served.dry_run("?process-id=P", MESSAGE).await.is(200, DONE);
    }
    served.dry_run("?process-id=P", MESSAGE).await.is(429, LIMITED);
    served.dry_run("", "{}").await.is(429, LIMITED);
    served.get("/result/M?process-id=P").await.is(200, DONE);
}

#[tokio::test]
async fn failed_dry_runs_count_invalid_and_cached_ones_do_not() {
    let served = served(&[("rate_limit_max_requests", "2")]);
    for _ in 0..4 {
        assert_eq!(served.dry_run("?process-id=P", "{}").await.status, 400);
        served.dry_run("?process-id=P&to=cached", MESSAGE).await.is(200, DONE);
    }
    assert_eq!(served.dry_run("?process-id=Upstream", MESSAGE).await.status, 500);
    assert_eq!(served.dry_run("?process-id=Upstream", MESSAGE).await.status, 500);
    served.dry_run("?process-id=P", MESSAGE).await.is(429, LIMITED);
}

#[tokio::test]
async fn clients_are_told_apart_by_forwarded_address_then_real_address() {
    let served = served(&[("rate_limit_max_requests", "1")]);
    let post = async |name: &str, value: &str| {
        let headers = [("content-type", "application/json"), (name, value)];
        served.post("?process-id=P", &headers, MESSAGE).await.status.as_u16()
    };
    assert_eq!(post("x-forwarded-for", "1.1.1.1, 9.9.9.9").await, 200);
    assert_eq!(post("x-forwarded-for", "1.1.1.1").await, 429);
    assert_eq!(post("x-real-ip", "1.1.1.1").await, 429, "both headers name the same clients");
    assert_eq!(post("x-real-ip", "2.2.2.2").await, 200);
    assert_eq!(post("x-other", "1").await, 200, "the connection's own address");
    assert_eq!(post("x-other", "2").await, 429);
}

#[tokio::test]
async fn any_zero_switches_the_rate_limit_off() {
    for name in ["rate_limit_window", "rate_limit_max_requests", "rate_limit_cleanup_interval"] {
        let served = served(&[(name, "0")]);
        for _ in 0..20 {
            served.dry_run("?process-id=P", MESSAGE).await.is(200, DONE);
        }
    }
}
