//! The demo's HTTP client: what a user's client does, bounded in time.

use std::net::SocketAddr;
use std::time::Duration;

use lockstep_cu::item::{DataItem, Draft, Wallet};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use url::Url;

use super::workload::Workload;
use crate::devnet::Urls;

/// Longest wait for one answer. A cold module may have to be compiled first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a request has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    /// Another status than 2xx, or no JSON.
    #[error("{url} answers {status}: {body}")]
    Answer {
        /// What was asked.
        url: Url,
        /// The status.
        status: u16,
        /// The answer's beginning.
        body: String,
    },
    /// Tags that no item can have.
    #[error(transparent)]
    Tags(#[from] lockstep_cu::item::TagError),
}

/// The client.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    urls: Urls,
}

/// The URL of a listening server.
pub fn url_of(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}")).expect("a socket address is a URL's host and port")
}

impl Client {
    /// A client of this network.
    ///
    /// # Errors
    /// No HTTP client could be made.
    pub fn new(urls: Urls) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
        Ok(Self { http, urls })
    }

    /// Uploads the module and answers its id.
    ///
    /// # Errors
    /// The bundler does not take it.
    pub async fn publish(&self, user: &Wallet, workload: &Workload) -> Result<String, ClientError> {
        let draft = Draft { tags: workload.module_tags(), data: workload.wasm.to_vec(), ..Draft::default() };
        let module = user.sign(draft)?;
        self.post(&self.urls.bundler, "/tx", &module).await?;
        Ok(module.id_text())
    }

    /// Sends an item through the messenger.
    ///
    /// # Errors
    /// It is not taken.
    pub async fn send(&self, item: &DataItem) -> Result<(), ClientError> {
        self.post(&self.urls.messenger, "/", item).await.map(|_| ())
    }

    /// The result of a message.
    ///
    /// # Errors
    /// The unit does not answer it.
    pub async fn result(&self, unit: &Url, process: &str, message: &str) -> Result<Value, ClientError> {
        self.get(unit, &format!("/result/{message}?process-id={process}")).await
    }

    /// All results of a process, up to `limit`.
    ///
    /// # Errors
    /// The unit does not answer them.
    pub async fn results(&self, unit: &Url, process: &str, limit: usize) -> Result<Value, ClientError> {
        self.get(unit, &format!("/results/{process}?limit={limit}")).await
    }

    /// The unit's metrics, as text.
    ///
    /// # Errors
    /// The unit does not show them.
    pub async fn metrics(&self, unit: &Url) -> Result<String, ClientError> {
        let url = join(unit, "/metrics");
        Ok(self.http.get(url).send().await?.error_for_status()?.text().await?)
    }

    async fn get(&self, base: &Url, path: &str) -> Result<Value, ClientError> {
        answer(self.http.get(join(base, path)).send().await?).await
    }

    async fn post(&self, base: &Url, path: &str, item: &DataItem) -> Result<Value, ClientError> {
        let request = self.http.post(join(base, path)).header(CONTENT_TYPE, "application/octet-stream");
        answer(request.body(item.to_bytes()).send().await?).await
    }
}

fn join(base: &Url, path: &str) -> String {
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}

async fn answer(response: reqwest::Response) -> Result<Value, ClientError> {
    let (url, status) = (response.url().clone(), response.status());
    let body = response.bytes().await?;
    match serde_json::from_slice(&body) {
        Ok(json) if status.is_success() => Ok(json),
        _ => {
            let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            Err(ClientError::Answer { url, status: status.as_u16(), body })
        }
    }
}
