//! `lockstep serve`: the compute unit.

use std::{io::Write, net::SocketAddr, process::ExitCode, time::Duration};

use lockstep_cu::Unit;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::open_files;
use crate::{
    http::{
        self, App,
        server::{Limits, Listening},
    },
    identity, logging,
    settings::{Flags, Settings},
};

/// How long the runtime may take to end its threads after everything that matters has ended.
const RUNTIME_END_MAX: Duration = Duration::from_secs(1);

/// Arguments of `lockstep serve`: every setting is one.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

/// Why a unit could not start. What is named is what to look at.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address to show: wallet or data directory.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The unit refused its settings or its data directory.
    #[error("cannot open the unit: {0}")]
    Unit(#[from] lockstep_cu::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A unit that serves HTTP, until it is told to stop.
pub struct Server {
    unit: Unit,
    listening: Listening,
    grace: Duration,
}

impl Server {
    /// Opens the unit and listens. Nothing is answered before everything is ready.
    ///
    /// # Errors
    /// [`StartError`], naming what is not to be had.
    pub async fn start(settings: &Settings) -> Result<Self, StartError> {
        let address = settings.listen.0;
        let listen_error = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let identity = identity::address(settings)?;
        let unit = Unit::open(settings.unit()).await?;
        let router = http::router(App::new(unit.clone(), settings, identity));
        let listening = Listening::start(listener, router, Limits::default()).map_err(listen_error)?;
        Ok(Self { unit, listening, grace: settings.shutdown_grace })
    }

    /// Where it listens, with the port the system chose if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The unit behind the routes.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Accepts no more, lets requests in flight finish within the grace period, then closes the unit.
    pub async fn stop(self) {
        self.listening.stop(self.grace).await;
        self.unit.shutdown().await;
    }
}

/// Runs `lockstep serve`.
pub fn run(args: Args) -> super::Ending {
    let (settings, remarks) = Settings::load(&args.flags)?;
    logging::start(&settings.default_log_level, settings.log_format);
    open_files::allow_many();
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ending = runtime.block_on(serve(&settings));
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    ending
}

async fn serve(settings: &Settings) -> super::Ending {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(settings).await?;
    let network = settings.su_url.as_ref().or(settings.su_router_url.as_ref()).map_or("GraphQL", |url| url.as_str());
    tracing::info!(
        data = %settings.data.display(),
        schedulers = network,
        gateway = settings.gateway_url.as_str(),
        unit_mode = settings.unit_mode.name(),
        "serving"
    );
    // Whoever started the unit may not read what it says.
    let _ =
        writeln!(std::io::stdout(), "lockstep {} listening on http://{}", env!("CARGO_PKG_VERSION"), server.address());
    let why = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("stopping on {why}; once more to stop at once");
    tokio::select! {
        () = server.stop() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Err("stopped at once".into()),
        _ = interrupt.recv() => Err("stopped at once".into()),
    }
}

#[cfg(test)]
mod signatures;

#[cfg(test)]
mod tests {
    use super::*;

    async fn start_error(listen: &str, data: &str) -> String {
        let settings = Settings::with(&[("listen", listen), ("data", data)]).unwrap();
        match Server::start(&settings).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{listen} and {data} should not do"),
        }
    }

    #[tokio::test]
    async fn a_busy_port_is_an_error_that_names_it() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let error = start_error(&address, dir.path().to_str().unwrap()).await;
        assert!(error.starts_with(&format!("cannot listen on {address}: Address already in use")), "{error}");
    }

    #[tokio::test]
    async fn a_data_directory_that_cannot_be_made_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("data");
        let error = start_error("127.0.0.1:0", path.to_str().unwrap()).await;
        let expected = format!("cannot use data directory {}: Not a directory", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}
