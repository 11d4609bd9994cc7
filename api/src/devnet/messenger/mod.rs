//! The messenger: hands items to the scheduler, asks the compute unit for their results, and sends on what these say.

pub mod monitor;
pub mod outbox;
pub mod push;
pub mod routes;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use url::Url;

use lockstep_cu::item::{Id, Wallet, to_base64url};

use super::scheduler::Scheduler;

/// Errands under way at once (waiting ones included); what comes on top is dropped, and said.
const ERRANDS_MAX: usize = 65_536;
/// Requests to the compute unit at once.
const REQUESTS_MAX: usize = 256;
/// Times a failed request is repeated, the pause doubling each time.
const RETRIES_MAX: u32 = 10;
/// Longest wait for one answer of the compute unit. (Five minutes, after which the real messenger's client gives up too.)
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest answer taken from the compute unit, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How the messenger behaves.
#[derive(Debug, Clone)]
pub struct MessengerSettings {
    /// Pause before the first repetition of a failed request.
    pub retry_delay: Duration,
    /// Pause between two polls of a monitored process's crons.
    pub poll_interval: Duration,
}

impl Default for MessengerSettings {
    fn default() -> Self {
        Self { retry_delay: Duration::from_secs(1), poll_interval: Duration::from_secs(10) }
    }
}

/// Why there is no usable answer of the compute unit.
#[derive(Debug, thiserror::Error)]
pub enum CuError {
    /// No answer.
    #[error("compute unit at {url}: {source}")]
    Unreachable {
        /// What was asked.
        url: Url,
        /// Why.
        source: reqwest::Error,
    },
    /// An answer of another status than 2xx.
    #[error("compute unit answers {status} to {url}: {body}")]
    Status {
        /// What was asked.
        url: Url,
        /// The status.
        status: u16,
        /// The answer's beginning.
        body: String,
    },
    /// An answer that is not usable.
    #[error("compute unit's answer to {url}: {why}")]
    Answer {
        /// What was asked.
        url: Url,
        /// What is wrong with it.
        why: String,
    },
}

impl CuError {
    /// Whether asking again may help. What was answered with 2xx stays answered.
    fn is_worth_a_retry(&self) -> bool {
        !matches!(self, Self::Answer { .. })
    }
}

/// The messenger.
#[derive(Debug)]
pub struct Messenger {
    wallet: Arc<Wallet>,
    scheduler: Arc<Scheduler>,
    settings: MessengerSettings,
    client: reqwest::Client,
    cu: watch::Sender<Option<Url>>,
    requests: Semaphore,
    errands: AtomicUsize,
    monitors: DashMap<Id, monitor::Monitor>,
    stop: watch::Receiver<bool>,
}

impl Messenger {
    /// A messenger that ends its work when `stop` turns true.
    ///
    /// # Errors
    /// No HTTP client could be made.
    pub fn new(
        wallet: Arc<Wallet>,
        scheduler: Arc<Scheduler>,
        settings: MessengerSettings,
        cu: Option<Url>,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, reqwest::Error> {
        // Everything asked is on loopback or named by the operator: an environment's proxy has no business here.
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
        Ok(Self {
            wallet,
            scheduler,
            settings,
            client,
            cu: watch::Sender::new(cu),
            requests: Semaphore::new(REQUESTS_MAX),
            errands: AtomicUsize::new(0),
            monitors: DashMap::new(),
            stop,
        })
    }

    /// Its address, as it is written: the authority processes must trust to take pushed messages.
    pub fn address(&self) -> String {
        to_base64url(self.wallet.address())
    }

    /// Names the compute unit. Errands that were waiting for one go on.
    pub fn set_cu(&self, url: Url) {
        self.cu.send_replace(Some(url));
    }

    /// Errands under way.
    pub fn errands(&self) -> usize {
        self.errands.load(Ordering::Acquire)
    }

    /// Runs an errand beside everything else, unless there are too many.
    fn spawn(self: &Arc<Self>, what: &'static str, errand: impl Future<Output = ()> + Send + 'static) {
        if self.errands.fetch_add(1, Ordering::AcqRel) >= ERRANDS_MAX {
            self.errands.fetch_sub(1, Ordering::AcqRel);
            tracing::error!(what, "dropped: {ERRANDS_MAX} errands are under way");
            return;
        }
        let messenger = self.clone();
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = errand => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            messenger.errands.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// The compute unit's address, as soon as there is one.
    async fn cu(&self) -> Option<Url> {
        let mut cu = self.cu.subscribe();
        let found = cu.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }

    /// Asks the compute unit, again and again if it fails, and reads its JSON. `path` begins after the unit's address.
    async fn ask(&self, path: &str, retries_max: u32) -> Result<Value, CuError> {
        let Some(base) = self.cu().await else {
            return std::future::pending().await;
        };
        // By hand: joining would re-encode cursors, which the real messenger sends as they are.
        let text = format!("{}{path}", base.as_str().trim_end_matches('/'));
        let url = Url::parse(&text).map_err(|error| CuError::Answer { url: base, why: format!("{text}: {error}") })?;
        let mut delay = self.settings.retry_delay;
        for retry in 0.. {
            match self.ask_once(&url).await {
                Err(error) if error.is_worth_a_retry() && retry < retries_max => {
                    tracing::debug!(%error, retry, "asking the compute unit again");
                    tokio::time::sleep(delay).await;
                    delay = delay.saturating_mul(2);
                }
                outcome => return outcome,
            }
        }
        unreachable!("the last retry returns")
    }

    async fn ask_once(&self, url: &Url) -> Result<Value, CuError> {
        let unreachable = |source| CuError::Unreachable { url: url.clone(), source };
        let answer = |why: String| CuError::Answer { url: url.clone(), why };
        let _permit = self.requests.acquire().await.map_err(|closed| answer(closed.to_string()))?;
        let mut response = self.client.get(url.clone()).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(answer(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            return Err(CuError::Status { url: url.clone(), status: status.as_u16(), body });
        }
        serde_json::from_slice(&body).map_err(|error| answer(format!("it is not JSON: {error}")))
    }
}
