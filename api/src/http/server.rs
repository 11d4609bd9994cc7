//! The server under the routes: accepts connections, bounds what a silent or hostile client can hold, ends gracefully.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};
use tower::ServiceExt;

use super::stall::Stalling;

/// How long to wait before accepting again after the system refused (no more files, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What a client may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// How long a connection may take to send a request's head, and stay idle between requests.
    pub head_time: Duration,
    /// How long a client may read nothing of an answer.
    pub stall_time: Duration,
}

impl Default for Limits {
    /// Idle connections live a little longer than the 72 s after which the reference closes them, so that clients'
    /// pools behave as they do there.
    fn default() -> Self {
        Self { connections: 4096, head_time: Duration::from_secs(75), stall_time: Duration::from_secs(60) }
    }
}

/// A router being served.
pub struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Serves `router` on `listener` until [`Listening::stop`].
    ///
    /// # Errors
    /// The system's, if it does not know the listener's address.
    pub fn start(listener: TcpListener, router: Router, limits: Limits) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, router, limits, stopped));
        Ok(Self { address, stop, task })
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, closes idle connections, and lets requests in flight go on for `grace` at most.
    pub async fn stop(mut self, grace: Duration) {
        // An error only says that serving has ended already.
        let _ = self.stop.send(true);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            tracing::warn!(grace_ms = grace.as_millis() as u64, "requests in flight are cut off");
            self.task.abort();
        }
    }
}

async fn accept(listener: TcpListener, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits.connections));
    // Dropping the set, which aborting this task does, ends every connection.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = until(&mut stopped) => break,
            accepted = next(&listener, &places) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, client, place)) => {
                let connection = serve(stream, client, router.clone(), limits, stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is a place for it.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, client) = listener.accept().await?;
    Ok((stream, client, place))
}

async fn until(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is to stop as well.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
}

async fn serve(
    stream: TcpStream,
    client: SocketAddr,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(client));
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .serve_connection(TokioIo::new(Stalling::new(stream, limits.stall_time)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%client, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn listening(limits: Limits) -> Listening {
        let slow = async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "slept"
        };
        let who = async |ConnectInfo(client): ConnectInfo<SocketAddr>| client.ip().to_string();
        let big = async || vec![0; 64 << 20];
        let router = Router::new().route("/slow", get(slow)).route("/who", get(who)).route("/big", get(big));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Listening::start(listener, router, limits).unwrap()
    }

    async fn connected(server: &Listening, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Everything until the server closes.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the server closes");
        // A connection may also end with a reset.
        let _ = read;
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn requests_know_the_client_s_address() {
        let server = listening(Limits::default()).await;
        let mut stream = connected(&server, "GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(rest(&mut stream).await.ends_with("\r\n\r\n127.0.0.1"));
    }

    #[tokio::test]
    async fn stopping_lets_a_request_in_flight_finish_and_closes_idle_connections() {
        let server = listening(Limits::default()).await;
        let address = server.address();
        let mut idle = connected(&server, "GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut busy = connected(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.stop(PATIENCE).await;
        assert!(rest(&mut busy).await.ends_with("slept"));
        assert!(rest(&mut idle).await.ends_with("127.0.0.1"));
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn stopping_cuts_off_what_outlives_the_grace_period() {
        let server = listening(Limits::default()).await;
        let mut busy = connected(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stop(Duration::from_millis(20)).await;
        assert_eq!(rest(&mut busy).await, "");
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_s_head_is_cut_off() {
        let server = listening(Limits { head_time: Duration::from_millis(100), ..Limits::default() }).await;
        let started = Instant::now();
        let mut stream = connected(&server, "GET /who HTTP/1.1\r\nhost:").await;
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(started.elapsed() >= Duration::from_millis(90));
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_its_answer_is_cut_off() {
        let server = listening(Limits { stall_time: Duration::from_millis(200), ..Limits::default() }).await;
        let mut stream = connected(&server, "GET /big HTTP/1.1\r\nhost: x\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let length = rest(&mut stream).await.len();
        assert!((1..64 << 20).contains(&length), "{length} bytes of 64 MiB");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_a_place() {
        let server = listening(Limits { connections: 1, ..Limits::default() }).await;
        let first = connected(&server, "GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut second = connected(&server, "GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(150), second.read(&mut byte)).await;
        assert!(early.is_err(), "the second is not answered while the first is there");
        drop(first);
        assert!(rest(&mut second).await.ends_with("127.0.0.1"));
    }
}
