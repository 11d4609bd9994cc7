//! What the network's tests share: a network on ports of the system's choice, a user, and a compute unit that answers by rote.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use lockstep_cu::item::{DataItem, Draft, Id, Tag, Wallet, parse_id, to_base64url};

use super::messenger::MessengerSettings;
use super::{Devnet, Settings, wallets};

/// An id that is nothing in particular.
pub const MODULE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A network with fast retries and polls.
pub async fn network(cu_url: Option<Url>) -> Devnet {
    let messenger =
        MessengerSettings { retry_delay: Duration::from_millis(5), poll_interval: Duration::from_millis(20) };
    Devnet::start(Settings { cu_url, messenger, block_time: Duration::from_millis(50), ..Settings::default() })
        .await
        .unwrap()
}

/// The user's wallet.
pub fn user() -> Wallet {
    wallets::user()
}

/// A tag list.
pub fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
    pairs.iter().map(|(name, value)| Tag::new(*name, *value)).collect()
}

/// A process as clients spawn them.
pub fn process(data: &[u8]) -> DataItem {
    let tags = tags(&[
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", MODULE),
        ("Scheduler", MODULE),
    ]);
    user().sign(Draft { tags, data: data.to_vec(), ..Draft::default() }).unwrap()
}

/// A message as clients send them.
pub fn message(target: &Id, data: &[u8], extra: &[(&str, &str)]) -> DataItem {
    let mut tags = tags(&[("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message")]);
    tags.extend(extra.iter().map(|(name, value)| Tag::new(*name, *value)));
    user().sign(Draft { target: Some(*target), tags, data: data.to_vec(), ..Draft::default() }).unwrap()
}

/// The status, the content type and the body of an answer.
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub text: String,
}

impl Answer {
    /// The body as JSON; null if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// Asks over HTTP.
pub async fn ask(method: &str, base: &Url, path: &str, body: Option<Vec<u8>>) -> Answer {
    let url = format!("{}{path}", base.as_str().trim_end_matches('/'));
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = reqwest::Client::builder().no_proxy().build().unwrap().request(method, url);
    if let Some(body) = body {
        request = request.header("content-type", "application/octet-stream").body(body);
    }
    let response = request.send().await.unwrap();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    Answer { status: response.status().as_u16(), kind, text: response.text().await.unwrap() }
}

/// `GET`
pub async fn get(base: &Url, path: &str) -> Answer {
    ask("GET", base, path, None).await
}

/// `POST` of bytes.
pub async fn post(base: &Url, path: &str, body: Vec<u8>) -> Answer {
    ask("POST", base, path, Some(body)).await
}

/// A tag's value in JSON tags.
pub fn tag<'a>(tags: &'a Value, name: &str) -> Option<&'a str> {
    tags.as_array()?.iter().find(|tag| tag["name"] == name)?["value"].as_str()
}

/// Waits for something, five seconds at most.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within five seconds");
}

/// How a stand-in answers: status and JSON for a path with its query.
type Rote = dyn Fn(&str) -> (u16, Value) + Send + Sync;

/// A compute unit that answers by rote, and remembers what it was asked.
pub struct StandIn {
    pub url: Url,
    asked: Arc<Mutex<Vec<String>>>,
}

struct StandInState {
    rote: Box<Rote>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// Starts one; it ends with its runtime.
    pub async fn start(rote: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let state = Arc::new(StandInState { rote: Box::new(rote), asked: asked.clone() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer).with_state(state)).await });
        Self { url, asked }
    }

    /// Every path and query asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(state): State<Arc<StandInState>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    state.asked.lock().unwrap().push(path.clone());
    let (status, body) = (state.rote)(&path);
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// A result that asks for nothing.
pub fn nothing() -> Value {
    json!({ "Messages": [], "Spawns": [], "Assignments": [], "Output": "", "GasUsed": 0 })
}

/// An id's text.
pub fn text(id: &Id) -> String {
    to_base64url(id)
}

/// An id from JSON.
pub fn id(value: &Value) -> Id {
    parse_id(value.as_str().unwrap()).unwrap()
}
