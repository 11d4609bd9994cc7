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

mod answers;
mod rate_limit;
mod refusals;

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
