//! The HTTP client: time-outs, bounds, retries, and errors that say where, what was expected and what was found.

use std::{fmt, sync::Arc, time::Duration};

use dashmap::DashMap;
use reqwest::{Client, Method, Response, redirect::Policy};
use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};
use url::Url;

use crate::Error;

/// Waits before each retry of a request that failed in passing (no connection, a status of 5xx, 408 or 429).
const RETRY_DELAYS: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800), Duration::from_millis(1600)];

/// How much of an error's body is shown, bytes.
const SHOWN_BYTES: usize = 1024;

/// How much longer than a JSON answer data may take in all, as a factor. (Between two reads they may take the same.)
const DATA_TIMEOUT_FACTOR: u32 = 20;

/// Requests to one server at once; more wait their turn. Servers bound their connections, and what is beyond that would wait
/// there, until its time ran out.
const REQUESTS_MAX: usize = 128;

/// Bodies from this size on are parsed off the threads that wait for sockets.
const PARSE_ASIDE_BYTES: usize = 64 << 10;

/// Why a request gave nothing.
#[derive(Clone, Debug)]
pub enum Failure {
    /// An answer with another status than 2xx, and the beginning of its body.
    Status(u16, String),
    /// No whole answer: no connection, or it broke, or time ran out.
    Unreachable(String),
    /// An answer that is not what it should be.
    Malformed(String),
    /// An answer beyond its bound.
    TooLarge(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, body) => write!(f, "{status}: {body}"),
            Self::Unreachable(why) | Self::Malformed(why) | Self::TooLarge(why) => f.write_str(why),
        }
    }
}

impl Failure {
    /// Whether asking again may help.
    fn is_passing(&self) -> bool {
        match self {
            Self::Status(status, _) => *status >= 500 || matches!(status, 408 | 429),
            Self::Unreachable(_) => true,
            Self::Malformed(_) | Self::TooLarge(_) => false,
        }
    }

    /// Whether the other side says that it does not have what was asked for. (Schedulers say 400 to everything.)
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status(400..=499, _)) && !self.is_passing()
    }
}

/// One client for all schedulers and gateways.
pub struct Http {
    client: Client,
    /// Never follows a redirect.
    direct: Client,
    /// By server, the requests that may be sent now.
    turns: DashMap<String, Arc<Semaphore>>,
    timeout: Duration,
    json_max: u64,
}

/// What a server answers to a request whose redirects are not followed.
pub struct Probe {
    /// The status.
    pub status: u16,
    /// The `Location` header, resolved against the request's URL.
    pub location: Option<Url>,
}

struct Ask {
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    /// Largest body accepted, bytes.
    max: u64,
    timeout: Duration,
}

impl Http {
    /// `timeout`: of one JSON request, and of one read of anything. `json_max`: largest JSON body, bytes.
    pub fn new(timeout: Duration, json_max: u64) -> Result<Self, Error> {
        let client = |redirects| {
            Client::builder()
                .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(timeout.min(Duration::from_secs(10)))
                .read_timeout(timeout)
                .pool_max_idle_per_host(REQUESTS_MAX)
                .redirect(redirects)
                .build()
                .map_err(|e| Error::Internal(format!("HTTP client: {}", causes(&e))))
        };
        let (client, direct) = (client(Policy::limited(5))?, client(Policy::none())?);
        Ok(Self { client, direct, turns: DashMap::new(), timeout, json_max })
    }

    /// GET, JSON.
    pub async fn get_json(&self, url: Url) -> Result<Value, Failure> {
        self.get(url, read_json).await
    }

    /// GET, with a body of JSON's size that `read` makes something of, or says what is wrong with it.
    pub async fn get<T: Send + 'static>(&self, url: Url, read: Read<T>) -> Result<T, Failure> {
        let ask = Ask { method: Method::GET, url, body: None, max: self.json_max, timeout: self.timeout };
        self.read(ask, read).await
    }

    /// POST of JSON, JSON back.
    pub async fn post_json(&self, url: Url, body: &Value) -> Result<Value, Failure> {
        let body = Some(body.to_string().into_bytes());
        let ask = Ask { method: Method::POST, url, body, max: self.json_max, timeout: self.timeout };
        self.read(ask, read_json).await
    }

    /// GET, bytes, at most `max` of them.
    pub async fn get_bytes(&self, url: Url, max: u64) -> Result<Vec<u8>, Failure> {
        let timeout = self.timeout.saturating_mul(DATA_TIMEOUT_FACTOR);
        self.retried(&Ask { method: Method::GET, url, body: None, max, timeout }).await
    }

    /// GET once, without following redirects or reading the body, within `timeout` (and that of any request).
    pub async fn probe(&self, url: Url, timeout: Duration) -> Result<Probe, Failure> {
        let timeout = timeout.min(self.timeout);
        let answer = self.direct.get(url.clone()).timeout(timeout).send().await;
        let answer = answer.map_err(|e| unreachable(&url, &e, timeout))?;
        let location = answer.headers().get(reqwest::header::LOCATION);
        let location = location.and_then(|location| url.join(location.to_str().ok()?).ok());
        Ok(Probe { status: answer.status().as_u16(), location })
    }

    async fn read<T: Send + 'static>(&self, ask: Ask, read: Read<T>) -> Result<T, Failure> {
        let body = self.retried(&ask).await?;
        let read = match body.len() < PARSE_ASIDE_BYTES {
            true => read(&body),
            false => {
                let aside = tokio::task::spawn_blocking(move || read(&body)).await;
                aside.unwrap_or_else(|e| Err(format!("reading it stopped: {e}")))
            }
        };
        read.map_err(|wrong| Failure::Malformed(format!("{}: {wrong}", ask.url.path())))
    }

    /// Asks again where that may help, within the time of one request.
    async fn retried(&self, ask: &Ask) -> Result<Vec<u8>, Failure> {
        let begun = Instant::now();
        for delay in RETRY_DELAYS {
            match self.once(ask).await {
                Err(failure) if failure.is_passing() && begun.elapsed() + delay < self.timeout => {
                    tracing::debug!(path = ask.url.path(), %failure, "asking again");
                    tokio::time::sleep(delay).await;
                }
                settled => return settled,
            }
        }
        self.once(ask).await
    }

    /// Asks once, when it is this request's turn.
    async fn once(&self, ask: &Ask) -> Result<Vec<u8>, Failure> {
        let server = ask.url.authority().to_owned();
        let turns =
            Arc::clone(&self.turns.entry(server.clone()).or_insert_with(|| Semaphore::new(REQUESTS_MAX).into()));
        let answer = {
            // Nobody closes it.
            let _turn = turns.acquire().await;
            self.ask(ask).await
        };
        drop(turns);
        self.turns.remove_if(&server, |_, turns| Arc::strong_count(turns) == 1);
        answer
    }

    async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, Failure> {
        let mut request = self.client.request(ask.method.clone(), ask.url.clone()).timeout(ask.timeout);
        if let Some(body) = &ask.body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let answer = request.send().await.map_err(|e| unreachable(&ask.url, &e, self.timeout))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Failure::Status(status.as_u16(), self.beginning(answer).await));
        }
        self.whole(ask, answer).await
    }

    /// The whole body, never holding more than its bound.
    async fn whole(&self, ask: &Ask, mut answer: Response) -> Result<Vec<u8>, Failure> {
        let too_large = |found: String| {
            Failure::TooLarge(format!("{}: expected at most {} bytes, found {found}", ask.url.path(), ask.max))
        };
        if let Some(announced) = answer.content_length().filter(|announced| *announced > ask.max) {
            return Err(too_large(announced.to_string()));
        }
        let mut body = Vec::with_capacity(answer.content_length().unwrap_or(0).min(1 << 20) as usize);
        while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable(&ask.url, &e, self.timeout))? {
            if (body.len() + chunk.len()) as u64 > ask.max {
                return Err(too_large("more".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The beginning of a body that is only going to be shown.
    async fn beginning(&self, mut answer: Response) -> String {
        let mut body = Vec::new();
        while body.len() < SHOWN_BYTES {
            match answer.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                _ => break,
            }
        }
        body.truncate(SHOWN_BYTES);
        String::from_utf8_lossy(&body).into_owned()
    }
}

/// Makes something of a body, or says what was expected and what was found.
type Read<T> = fn(&[u8]) -> Result<T, String>;

/// Reads JSON.
pub fn read_json(body: &[u8]) -> Result<Value, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_err(|e| {
        let shown = String::from_utf8_lossy(&body[..body.len().min(48)]);
        format!("expected JSON, found {shown:?} ({} bytes; {e})", body.len())
    })
}

fn unreachable(url: &Url, error: &reqwest::Error, timeout: Duration) -> Failure {
    let path = url.path();
    if error.is_timeout() {
        // Asking again would hang again: this must not look like a passing failure.
        return Failure::Malformed(format!("{path}: no answer within {timeout:?}"));
    }
    if error.is_redirect() || error.is_builder() {
        return Failure::Malformed(format!("{path}: {}", causes(error)));
    }
    Failure::Unreachable(format!("{path}: {}", causes(error)))
}

/// An error and everything behind it; `reqwest` alone says only "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// `base` with path segments appended (each percent-encoded) after its own path, trailing slashes aside.
pub fn join(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    let trimmed = url.path().trim_end_matches('/').to_owned();
    url.set_path(&trimmed);
    url.set_query(None);
    url.set_fragment(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// A URL that this client can ask: http or https, with a host.
pub fn check_url(what: &str, url: &Url) -> Result<(), Error> {
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        return Ok(());
    }
    Err(Error::Invalid(format!("{what}: expected a URL that begins with http:// or https://, found {url}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_beyond_what_a_server_takes_wait_their_turn() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, highest) = (now.clone(), most.clone());
        let route = axum::routing::get(move || {
            let (now, most) = (counted.clone(), highest.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                "1"
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/n", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/n", route)).await });
        let http = Arc::new(Http::new(Duration::from_secs(10), 1000).unwrap());
        let asked: Vec<_> = (0..3 * REQUESTS_MAX)
            .map(|_| {
                let (http, url) = (http.clone(), url.clone());
                tokio::spawn(async move { http.get_json(url).await.unwrap() })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), 1);
        }
        let most = most.load(Ordering::SeqCst);
        assert!((2..=REQUESTS_MAX).contains(&most), "{most} at once");
        assert!(http.turns.is_empty());
    }

    #[test]
    fn paths_are_joined_below_the_base() {
        for (base, want) in [
            ("http://h", "http://h/a/b"),
            ("http://h/", "http://h/a/b"),
            ("http://h/x//", "http://h/x/a/b"),
            ("http://h/x?y=1#z", "http://h/x/a/b"),
        ] {
            assert_eq!(join(&Url::parse(base).unwrap(), &["a", "b"]).as_str(), want);
        }
        assert_eq!(join(&Url::parse("http://h").unwrap(), &["a/../b"]).as_str(), "http://h/a%2F..%2Fb");
    }

    #[test]
    fn only_web_urls_are_asked() {
        assert!(check_url("su", &Url::parse("http://127.0.0.1:1").unwrap()).is_ok());
        for bad in ["file:///etc/passwd", "mailto:a@b", "ftp://h/"] {
            assert!(check_url("su", &Url::parse(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
