//! A development network in one process: scheduler, messenger, gateway and bundler on loopback, everything in memory.
//!
//! It is real where a compute unit or a client looks (signatures, hash chains, pages, what is pushed and how) and a toy
//! everywhere else: its keys are in this repository, and all is gone when it stops.

pub mod clock;
pub mod gateway;
pub mod http;
pub mod layer1;
pub mod ledger;
pub mod messenger;
pub mod scheduler;
pub mod wallets;

#[cfg(test)]
pub(crate) mod testkit;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

use lockstep_cu::item::{Draft, Tag, Wallet};

use crate::http::server::{Limits, Listening};

use clock::Clock;
use ledger::Ledger;
use messenger::{Messenger, MessengerSettings};
use scheduler::Scheduler;

/// Time given to requests under way when the network stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to one part at once. Each may hold a body of [`http::BODY_BYTES_MAX`].
const CONNECTIONS_MAX: usize = 256;

/// What can be said about a network before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on; loopback unless somebody means it.
    pub host: IpAddr,
    /// The gateway's port; the bundler, the messenger and the scheduler take the next three. 0: the system chooses all four.
    pub port: u16,
    /// The compute unit, if it is known already.
    pub cu_url: Option<Url>,
    /// Time between two blocks.
    pub block_time: Duration,
    /// See [`MessengerSettings`].
    pub messenger: MessengerSettings,
    /// The messenger's wallet file's text, if not the shipped one.
    pub messenger_wallet: Option<String>,
    /// The scheduler's wallet file's text, if not the shipped one.
    pub scheduler_wallet: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            cu_url: None,
            block_time: Duration::from_secs(30),
            messenger: MessengerSettings::default(),
            messenger_wallet: None,
            scheduler_wallet: None,
        }
    }
}

/// Why a network does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be had.
    #[error("{unit} cannot listen on {address}: {source}")]
    Listen {
        /// Which part.
        unit: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Four ports from this one on there are not.
    #[error("ports {0} and the next three: there is no port above 65535")]
    Port(u16),
    /// A wallet that cannot be used.
    #[error("{unit}: {source}")]
    Wallet {
        /// Whose.
        unit: &'static str,
        /// Why.
        source: lockstep_cu::item::WalletError,
    },
    /// No HTTP client.
    #[error("messenger cannot make requests: {0}")]
    Client(#[from] reqwest::Error),
}

/// Where the parts of a network are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// Gateway: GraphQL, data, `POST /tx`.
    pub gateway: Url,
    /// Bundler.
    pub bundler: Url,
    /// Messenger.
    pub messenger: Url,
    /// Scheduler.
    pub scheduler: Url,
}

/// A running network. It ends with [`Devnet::stop`], or with its runtime.
pub struct Devnet {
    urls: Urls,
    scheduler: Arc<Scheduler>,
    messenger: Arc<Messenger>,
    stop: watch::Sender<bool>,
    servers: Vec<Listening>,
}

impl Devnet {
    /// Starts a network.
    ///
    /// # Errors
    /// Any [`StartError`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let wallet = |unit, text: &Option<String>, shipped: fn() -> Wallet| match text {
            Some(text) => Wallet::from_jwk(text).map_err(|source| StartError::Wallet { unit, source }),
            None => Ok(shipped()),
        };
        let scheduler_wallet = Arc::new(wallet("scheduler", &settings.scheduler_wallet, wallets::scheduler)?);
        let messenger_wallet = Arc::new(wallet("messenger", &settings.messenger_wallet, wallets::messenger)?);

        const UNITS: [&str; 4] = ["gateway", "bundler", "messenger", "scheduler"];
        if settings.port.checked_add(UNITS.len() as u16 - 1).is_none() {
            return Err(StartError::Port(settings.port));
        }
        let mut listeners = Vec::with_capacity(UNITS.len());
        for (unit, offset) in UNITS.into_iter().zip(0..) {
            let port = match settings.port {
                0 => 0,
                first => first + offset,
            };
            let address = SocketAddr::new(settings.host, port);
            let listen = |source| StartError::Listen { unit, address, source };
            let listener = TcpListener::bind(address).await.map_err(listen)?;
            let bound = listener.local_addr().map_err(listen)?;
            listeners.push((listener, bound));
        }
        let urls = Urls {
            gateway: url_of(listeners[0].1),
            bundler: url_of(listeners[1].1),
            messenger: url_of(listeners[2].1),
            scheduler: url_of(listeners[3].1),
        };

        let (stop, stopped) = watch::channel(false);
        let ledger = Arc::new(Ledger::new(Clock::start(settings.block_time)));
        publish_location(&ledger, &scheduler_wallet, &urls.scheduler);
        let scheduler = Arc::new(Scheduler::new(scheduler_wallet, ledger.clone()));
        let messenger = Arc::new(Messenger::new(
            messenger_wallet,
            scheduler.clone(),
            settings.messenger,
            settings.cu_url,
            stopped.clone(),
        )?);
        let routers = [
            gateway::routes::gateway(ledger.clone()),
            gateway::routes::bundler(ledger),
            messenger::routes::router(messenger.clone()),
            scheduler::routes::router(scheduler.clone()),
        ];
        let limits = Limits { connections: CONNECTIONS_MAX, ..Limits::default() };
        let mut servers = Vec::with_capacity(UNITS.len());
        for ((unit, (listener, address)), router) in UNITS.into_iter().zip(listeners).zip(routers) {
            let listen = |source| StartError::Listen { unit, address, source };
            servers.push(Listening::start(listener, http::with_cors(router), limits).map_err(listen)?);
        }
        Ok(Self { urls, scheduler, messenger, stop, servers })
    }

    /// Where the parts are.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Arc<Scheduler> {
        &self.scheduler
    }

    /// The messenger.
    pub fn messenger(&self) -> &Arc<Messenger> {
        &self.messenger
    }

    /// Stops serving; requests under way get some seconds to end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        futures::future::join_all(self.servers.into_iter().map(|server| server.stop(STOP_TIMEOUT))).await;
    }
}

/// Where to reach what listens on an address; who listens on all of them is reached on loopback.
fn url_of(mut address: SocketAddr) -> Url {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Url::parse(&format!("http://{address}")).expect("a socket address is a URL's host and port")
}

/// Says on the gateway where the scheduler is, as schedulers do.
fn publish_location(ledger: &Ledger, scheduler: &Wallet, url: &Url) {
    let tags = vec![
        Tag::new("Data-Protocol", "ao"),
        Tag::new("Variant", "ao.TN.1"),
        Tag::new("Type", "Scheduler-Location"),
        Tag::new("Url", url.as_str().trim_end_matches('/')),
        Tag::new("Time-To-Live", "3600000"),
    ];
    let item = scheduler.sign(Draft { tags, ..Draft::default() }).expect("five short tags are within every bound");
    ledger.insert_item(Arc::new(item));
}
