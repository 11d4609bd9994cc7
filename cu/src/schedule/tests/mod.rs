//! A stand-in for schedulers and gateways, on loopback, with each quirk that real ones have; and what it shows.

mod crons;
mod entries;
mod faults;
mod gateways;
mod locating;
mod paging;
mod recorded;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use lockstep_jit::{GuestEnv, ModuleFormat};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Checkpoint, End, Entry, Process, Start, Upstream, hash_chain};
use crate::{Error, UnitSettings, ids};

/// A made-up id: 32 bytes from a name.
pub fn id(name: &str) -> String {
    ids::encode(&Sha256::digest(name))
}

pub fn tags(tags: &[(&str, &str)]) -> Value {
    tags.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// One request as it came.
pub struct Asked {
    pub path: String,
    pub query: HashMap<String, String>,
    pub body: Value,
}

impl Asked {
    fn number(&self, name: &str) -> Option<i64> {
        self.query.get(name).and_then(|text| text.parse().ok())
    }
}

/// One answer.
pub enum Answer {
    Json(u16, Value),
    Bytes(u16, Vec<u8>),
    Redirect(u16, String),
    /// Never answers.
    Hang,
    /// Promises a body, sends a part of it, breaks off.
    Broken(Vec<u8>),
    /// Sends zeros for ever.
    Endless,
}

/// How a scheduler behaves.
#[derive(Clone, Copy)]
pub struct Quirks {
    /// Knows `from-nonce` and `to-nonce`, and with one of them present ignores `from` and `to`.
    pub nonces: bool,
    /// Says that more follows whenever a page is full.
    pub full_means_more: bool,
    /// Says that nothing follows a first page of one.
    pub one_means_end: bool,
    /// Never gives more than this.
    pub most: usize,
}

/// The scheduler with the local store.
pub const ROCKS: Quirks = Quirks { nonces: true, full_means_more: true, one_means_end: true, most: usize::MAX };
/// The scheduler with PostgreSQL.
pub const POSTGRES: Quirks = Quirks { nonces: true, full_means_more: false, one_means_end: false, most: usize::MAX };
/// A scheduler that pages by time only.
pub const BY_TIME: Quirks = Quirks { nonces: false, full_means_more: false, one_means_end: false, most: usize::MAX };
/// The same, saying that more follows whenever a page is full.
pub const BY_TIME_FULL: Quirks = Quirks { full_means_more: true, ..BY_TIME };

/// A schedule.
#[derive(Clone, Default)]
pub struct Schedule {
    pub process: Value,
    /// `{message, assignment}`
    pub nodes: Vec<Value>,
}

impl Schedule {
    /// A process born at `timestamp` (ms) and `block`, without any element.
    pub fn new(name: &str, timestamp: u64, block: u64, more_tags: &[(&str, &str)]) -> Self {
        let mut all = vec![("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Process"), ("Name", name)];
        let (module, scheduler) = (id("module"), id("scheduler"));
        all.extend([("Module", module.as_str()), ("Scheduler", scheduler.as_str())]);
        all.extend(more_tags);
        let process = json!({
            "process_id": id(name), "block": format!("{block:012}"), "owner": {"address": id("boss"), "key": "AQAB"},
            "tags": tags(&all), "timestamp": timestamp, "data": "boot", "anchor": null, "signature": "sig", "target": null,
        });
        Self { process, nodes: Vec::new() }
    }

    pub fn id(&self) -> String {
        self.process["process_id"].as_str().unwrap().to_owned()
    }

    /// The process as its own first element.
    pub fn assigned(mut self) -> Self {
        let (timestamp, block) = (self.process["timestamp"].as_u64().unwrap(), self.process["block"].clone());
        let message = json!({
            "id": self.id(), "owner": self.process["owner"], "data": "boot", "tags": self.process["tags"],
            "signature": "sig", "anchor": null, "target": null,
        });
        self.push(timestamp, block.as_str().unwrap().parse().unwrap(), Some(message), &[]);
        self
    }

    /// A message.
    pub fn message(self, timestamp: u64, block: u64) -> Self {
        let name = format!("{}:{}", self.id(), self.nodes.len());
        self.message_with(&name, timestamp, block, &[("Action", "Eval")])
    }

    pub fn message_with(mut self, name: &str, timestamp: u64, block: u64, with: &[(&str, &str)]) -> Self {
        let message = json!({
            "id": id(name), "owner": {"address": id("alice"), "key": "AQAB"}, "data": format!("data of {name}"),
            "tags": tags(with), "signature": "sig", "anchor": null, "target": self.id(),
        });
        self.push(timestamp, block, Some(message), &[("Message", &id(name))]);
        self
    }

    /// An assignment of an existing item.
    pub fn assignment(mut self, name: &str, timestamp: u64, block: u64, exclude: &[&str]) -> Self {
        let item = id(name);
        let mut more = vec![("Message", item.as_str())];
        more.extend(exclude.iter().map(|part| ("Exclude", *part)));
        self.push(timestamp, block, None, &more);
        self
    }

    /// Messages with these timestamps, all at block 1,690,000.
    pub fn messages(self, timestamps: impl IntoIterator<Item = u64>) -> Self {
        timestamps.into_iter().fold(self, |schedule, timestamp| schedule.message(timestamp, 1_690_000))
    }

    fn push(&mut self, timestamp: u64, block: u64, message: Option<Value>, more: &[(&str, &str)]) {
        let nonce = self.nodes.len();
        let chain = match self.nodes.last() {
            None => ids::encode(&Sha256::digest(ids::decode_leniently(&self.id()))),
            Some(last) => hash_chain::link(text(last, "/assignment/id"), tag(last, "Hash-Chain").unwrap()),
        };
        let pid = self.id();
        let (nonce, block, timestamp) = (nonce.to_string(), format!("{block:012}"), timestamp.to_string());
        let mut all = vec![
            ("Process", pid.as_str()),
            ("Epoch", "0"),
            ("Nonce", &nonce),
            ("Hash-Chain", &chain),
            ("Block-Height", &block),
            ("Timestamp", &timestamp),
        ];
        all.extend([("Data-Protocol", "ao"), ("Type", "Assignment"), ("Variant", "ao.TN.1")]);
        all.extend(more);
        let assignment = json!({
            "id": id(&format!("assignment {pid} {nonce}")), "owner": {"address": id("scheduler"), "key": "AQAB"},
            "tags": tags(&all), "signature": "sig", "anchor": null, "target": "",
        });
        self.nodes.push(json!({"message": message, "assignment": assignment}));
    }

    /// Replaces an assignment's tag.
    pub fn retag(mut self, nonce: usize, name: &str, value: &str) -> Self {
        let tags = self.nodes[nonce]["assignment"]["tags"].as_array_mut().unwrap();
        tags.iter_mut().find(|tag| tag["name"] == name).unwrap()["value"] = json!(value);
        self
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap()
}

fn tag<'a>(node: &'a Value, name: &str) -> Option<&'a str> {
    let tags = node["assignment"]["tags"].as_array()?;
    tags.iter().find(|tag| tag["name"] == name)?["value"].as_str()
}

fn number(node: &Value, name: &str) -> i64 {
    tag(node, name).unwrap().parse().unwrap()
}

type Special = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

/// What the stand-in serves.
#[derive(Default)]
pub struct World {
    pub quirks: Mutex<Option<Quirks>>,
    pub schedules: Mutex<HashMap<String, Schedule>>,
    /// GraphQL nodes by id.
    pub transactions: Mutex<HashMap<String, Value>>,
    pub data: Mutex<HashMap<String, Vec<u8>>>,
    /// (height, seconds)
    pub blocks: Mutex<Vec<(u64, u64)>>,
    /// (ms, height)
    pub clock: Mutex<(u64, u64)>,
    /// Looked at first.
    pub special: Mutex<Option<Special>>,
    /// `path?query` of every request, in order.
    pub log: Mutex<Vec<String>>,
}

/// A running stand-in: the scheduler at `/su`, the gateway at `/gw`.
pub struct Net {
    pub world: Arc<World>,
    pub url: Url,
    home: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Net {
    pub async fn start(quirks: Quirks, schedules: impl IntoIterator<Item = Schedule>) -> Self {
        let world = Arc::new(World::default());
        *world.quirks.lock().unwrap() = Some(quirks);
        *world.clock.lock().unwrap() = (1_750_000_100_000, 1_690_000);
        for schedule in schedules {
            world.schedules.lock().unwrap().insert(schedule.id(), schedule);
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(serve).with_state(world.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { world, url, home: tempfile::tempdir().unwrap(), server }
    }

    pub fn settings(&self) -> UnitSettings {
        let at = |path: &str| self.url.join(path).unwrap();
        UnitSettings {
            verify: crate::verify::Policy::Report,
            gpu: crate::verify::GpuSettings::OFF,
            engine: crate::settings::EngineChoice::Native,
            lane_wait: Duration::from_millis(20),
            su_url: Some(at("/su")),
            su_router_url: None,
            arweave_url: at("/gw"),
            graphql_url: at("/gw/graphql"),
            block_graphql_urls: vec![at("/gw/graphql")],
            data_dir: self.home.path().to_owned(),
            guest_env: GuestEnv::default(),
            formats: ModuleFormat::ALL.to_vec(),
            extensions: vec![],
            memory_max_limit: 1 << 30,
            compute_max_limit: 9_000_000_000_000,
            evaluation_threads: 1,
            dry_run_threads: 1,
            dry_run_queue_max: 1,
            process_memory_budget: 1,
            process_memory_ttl: Duration::from_secs(1),
            evaluation_time_limit: Duration::from_secs(1),
            hydration_nonce_limit: 0,
            page_size: 1000,
            dry_run_default_max_age: Duration::ZERO,
            dry_run_process_cache_ttl: Duration::ZERO,
            dry_run_result_max_age: Duration::ZERO,
            allow_owners: vec![],
            upstream_json_max_bytes: 4 << 20,
            upstream_data_max_bytes: 4 << 20,
            upstream_timeout: Duration::from_secs(5),
            evaluation_cache: true,
            memory_reset: false,
        }
    }

    pub fn upstream(&self) -> Upstream {
        Upstream::new(&self.settings()).unwrap()
    }

    pub fn paged(&self, page_size: u32) -> Upstream {
        Upstream::new(&UnitSettings { page_size, ..self.settings() }).unwrap()
    }

    /// Looks at every request first.
    pub fn special(&self, special: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) {
        *self.world.special.lock().unwrap() = Some(Box::new(special));
    }

    pub fn asked(&self, path: &str) -> usize {
        self.world.log.lock().unwrap().iter().filter(|asked| asked.starts_with(path)).count()
    }
}

/// All entries, and the error that ended them.
pub async fn all(up: &Upstream, process: &Arc<Process>, start: Start, end: End) -> (Vec<Entry>, Option<Error>) {
    let mut stream = up.entries(process.clone(), start, end);
    let mut entries = Vec::new();
    while let Some(next) = stream.next().await {
        match next {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                assert!(stream.next().await.is_none(), "nothing after an error");
                return (entries, Some(error));
            }
        }
    }
    (entries, None)
}

/// All entries of a schedule without faults.
pub async fn every(up: &Upstream, pid: &str, start: Start, end: End) -> Vec<Entry> {
    let process = up.process(pid).await.unwrap();
    let (entries, error) = all(up, &process, start, end).await;
    assert!(error.is_none(), "{error:?}");
    entries
}

pub fn after(checkpoint: &Checkpoint) -> Start {
    Start::After(checkpoint.clone())
}

pub fn nonces(entries: &[Entry]) -> Vec<Option<u64>> {
    entries.iter().map(|entry| entry.nonce).collect()
}

async fn serve(State(world): State<Arc<World>>, _: Method, uri: Uri, body: Bytes) -> Response {
    let query = uri.query().unwrap_or_default();
    let asked = Asked {
        path: uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    world.log.lock().unwrap().push(format!("{}?{query}", asked.path));
    let special = world.special.lock().unwrap().as_ref().and_then(|special| special(&asked));
    let answer = special.unwrap_or_else(|| match asked.path.strip_prefix("/su") {
        Some(path) => world.scheduler(path, &asked),
        None => world.gateway(asked.path.strip_prefix("/gw").unwrap_or_default(), &asked),
    });
    let status = |status| StatusCode::from_u16(status).unwrap();
    match answer {
        Answer::Json(code, value) => {
            (status(code), [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
        }
        Answer::Bytes(code, bytes) => (status(code), bytes).into_response(),
        Answer::Redirect(code, to) => (status(code), [(header::LOCATION, to)]).into_response(),
        Answer::Hang => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            status(200).into_response()
        }
        Answer::Broken(part) => {
            let parts = futures::stream::iter([Ok(part), Err(std::io::Error::other("broken off"))]);
            Body::from_stream(parts).into_response()
        }
        Answer::Endless => {
            let zeros = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'0'; 1 << 16]));
            Body::from_stream(zeros).into_response()
        }
    }
}

impl World {
    fn refuse(why: &str) -> Answer {
        Answer::Json(400, json!({"error": why}))
    }

    /// A scheduler: `process-id` is ignored, every error is 400.
    fn scheduler(&self, path: &str, asked: &Asked) -> Answer {
        let schedules = self.schedules.lock().unwrap();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments[..] {
            [] => Answer::Json(200, json!({"Unit": "Scheduler"})),
            ["timestamp"] => {
                let (now, height) = *self.clock.lock().unwrap();
                Answer::Json(200, json!({"timestamp": now.to_string(), "block_height": format!("{height:012}")}))
            }
            ["processes", pid] => match schedules.get(pid) {
                Some(schedule) => Answer::Json(200, schedule.process.clone()),
                None => Self::refuse("NotFound(\"Process not found\")"),
            },
            [pid, "latest"] => {
                let nodes = schedules.get(pid).map(|schedule| &schedule.nodes[..]).unwrap_or_default();
                match nodes.iter().rev().find(|node| text_of(node, "/message/id") != Some(pid)) {
                    Some(node) => Answer::Json(200, node.clone()),
                    None => Self::refuse("Latest message not available"),
                }
            }
            [uid] => {
                let first_of = |schedule: &&Schedule| {
                    schedule.nodes.first().is_some_and(|node| {
                        text_of(node, "/message/id") == Some(&*schedule.id())
                            && text_of(node, "/assignment/id") == Some(uid)
                    })
                };
                if let Some(schedule) = schedules.get(uid).or_else(|| schedules.values().find(first_of)) {
                    return self.page(schedule, asked);
                }
                let fits = |node: &&Value| {
                    [text_of(node, "/message/id"), text_of(node, "/assignment/id")].contains(&Some(uid))
                };
                match schedules.values().flat_map(|schedule| &schedule.nodes).find(fits) {
                    Some(node) => Answer::Json(200, node.clone()),
                    None => Self::refuse("Message or Process not found"),
                }
            }
            _ => Answer::Bytes(404, vec![]),
        }
    }

    fn page(&self, schedule: &Schedule, asked: &Asked) -> Answer {
        let quirks = self.quirks.lock().unwrap().unwrap();
        let (from_nonce, to_nonce) = (asked.number("from-nonce"), asked.number("to-nonce"));
        let by_nonce = quirks.nonces && (from_nonce.is_some() || to_nonce.is_some());
        let (name, from, to) = match by_nonce {
            true => ("Nonce", from_nonce.or(Some(-1)), to_nonce),
            false => ("Timestamp", asked.number("from"), asked.number("to")),
        };
        let is_process = |node: &Value| text_of(node, "/message/id") == Some(&schedule.id());
        let fits = |node: &&Value| {
            let at = number(node, name);
            match is_process(node) {
                true => from.is_none_or(|from| by_nonce && from < 0),
                false => from.is_none_or(|from| at > from) && to.is_none_or(|to| at <= to),
            }
        };
        let wanted = asked.number("limit").unwrap_or(100) as usize;
        let limit = wanted.min(quirks.most);
        let all: Vec<&Value> = schedule.nodes.iter().filter(fits).collect();
        let given: Vec<&Value> = all.iter().take(limit).copied().collect();
        let mut more = if quirks.full_means_more { given.len() == limit } else { all.len() > given.len() };
        if quirks.one_means_end && wanted == 1 && from.is_none_or(|from| from < 0) {
            more = false;
        }
        let edges: Vec<Value> =
            given.into_iter().map(|node| json!({"node": node, "cursor": number(node, name).to_string()})).collect();
        Answer::Json(200, json!({"page_info": {"has_next_page": more}, "edges": edges}))
    }

    fn gateway(&self, path: &str, asked: &Asked) -> Answer {
        if let Some(id) = path.strip_prefix("/raw/") {
            return match self.data.lock().unwrap().get(id) {
                Some(data) => Answer::Bytes(200, data.clone()),
                None => Answer::Bytes(404, b"Not Found".to_vec()),
            };
        }
        if path != "/graphql" {
            return Answer::Bytes(404, vec![]);
        }
        let (query, variables) = (asked.body["query"].as_str().unwrap_or_default(), &asked.body["variables"]);
        if query.contains("blocks(") {
            let min = variables["min"].as_u64().unwrap();
            let limit = variables["limit"].as_u64().unwrap() as usize;
            let blocks = self.blocks.lock().unwrap();
            let fits = blocks.iter().filter(|(height, _)| *height >= min).take(limit);
            let edges: Vec<Value> =
                fits.map(|(height, seconds)| json!({"node": {"height": height, "timestamp": seconds}})).collect();
            return Answer::Json(
                200,
                json!({"data": {"blocks": {"pageInfo": {"hasNextPage": false}, "edges": edges}}}),
            );
        }
        let transactions = self.transactions.lock().unwrap();
        let found = match query.contains("Scheduler-Location") {
            true => transactions.get(&format!("location of {}", variables["owner"].as_str().unwrap())),
            false => transactions.get(variables["ids"][0].as_str().unwrap()),
        };
        let edges: Vec<Value> = found.map(|node| json!({"node": node})).into_iter().collect();
        Answer::Json(200, json!({"data": {"transactions": {"edges": edges}}}))
    }

    /// Puts a transaction on the gateway.
    pub fn put(&self, name: &str, data: &[u8], with: &[(&str, &str)]) -> String {
        let id = id(name);
        let node = json!({
            "id": id, "signature": "sig", "anchor": "anchor", "recipient": "recipient", "tags": tags(with),
            "owner": {"address": "carol", "key": "AQAB"},
        });
        self.transactions.lock().unwrap().insert(id.clone(), node);
        self.data.lock().unwrap().insert(id.clone(), data.to_vec());
        id
    }
}

fn text_of<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}
