//! `lockstep devnet`: a development network to point clients and a compute unit at.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use url::Url;

use crate::devnet::messenger::MessengerSettings;
use crate::devnet::{Devnet, Settings, http::NETWORK, wallets};
use crate::logging;
use crate::settings::{LogFilter, LogFormat, Value as _};
use lockstep_cu::item::to_base64url;

/// Arguments of `lockstep devnet`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    listen: IpAddr,
    /// Port of the gateway; bundler, messenger and scheduler take the next three (0: the system chooses)
    #[arg(long, value_name = "PORT", default_value_t = 4000)]
    port: u16,
    /// Compute unit whose results are pushed; without it messages are scheduled and nothing is pushed
    #[arg(long, value_name = "URL")]
    cu_url: Option<Url>,
    /// Milliseconds between two blocks
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    block_time_ms: u64,
    /// Milliseconds between two polls of a monitored process
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    poll_ms: u64,
    /// Lowest level logged, as in `serve`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// Wallet of the messenger, a JWK file; else one that ships with Lockstep and is public
    #[arg(long, value_name = "FILE")]
    wallet: Option<PathBuf>,
    /// Wallet of the scheduler, a JWK file; else one that ships with Lockstep and is public
    #[arg(long, value_name = "FILE")]
    scheduler_wallet: Option<PathBuf>,
}

impl Args {
    fn settings(&self) -> Result<Settings, String> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(read_wallet).transpose();
        Ok(Settings {
            host: self.listen,
            port: self.port,
            cu_url: self.cu_url.clone(),
            block_time: Duration::from_millis(self.block_time_ms),
            messenger: MessengerSettings {
                poll_interval: Duration::from_millis(self.poll_ms.max(1)),
                ..MessengerSettings::default()
            },
            messenger_wallet: read(&self.wallet)?,
            scheduler_wallet: read(&self.scheduler_wallet)?,
        })
    }
}

fn read_wallet(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("wallet {}: {error}", path.display()))
}

/// Runs until it is interrupted.
pub fn run(args: Args) -> super::Ending {
    let settings = args.settings()?;
    let log =
        LogFilter::parse(&args.log_level).ok_or_else(|| format!("--log-level {:?} is no level", args.log_level))?;
    logging::start(&log, LogFormat::Text);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let devnet = Devnet::start(settings).await?;
        print_addresses(&devnet);
        if args.cu_url.is_none() {
            println!("\nWithout --cu-url results are not pushed.");
        }
        println!("\nPress Ctrl-C to stop.");
        interrupted().await?;
        devnet.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Waits for the operator, or for whoever stops services.
pub(super) async fn interrupted() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt,
            _ = terminated.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// What to point clients at.
pub(super) fn print_addresses(devnet: &Devnet) {
    let urls = devnet.urls();
    let bare = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
    println!("This is a {NETWORK}.\n");
    println!("  gateway    {}    (GraphQL at /graphql)", bare(&urls.gateway));
    println!("  bundler    {}", bare(&urls.bundler));
    println!(
        "  messenger  {}    address {} (the Authority of processes)",
        bare(&urls.messenger),
        devnet.messenger().address()
    );
    println!("  scheduler  {}    address {}", bare(&urls.scheduler), devnet.scheduler().address());
    println!("  a user's wallet: address {}", to_base64url(wallets::user().address()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        let line = std::iter::once("devnet").chain(line.iter().copied());
        <Line as clap::Parser>::try_parse_from(line).unwrap().args
    }

    #[test]
    fn what_cannot_be_used_is_named_before_anything_starts() {
        for (line, part) in [
            (&["--wallet", "no-such-wallet.json"][..], "no-such-wallet.json"),
            (&["--log-level", "loud"], "loud"),
            (&["--port", "65534"], "65535"),
        ] {
            let error = run(args(line)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let error = run(args(&["--port", &port])).unwrap_err().to_string();
        assert!(error.starts_with("gateway cannot listen on 127.0.0.1:"), "{error}");
    }

    #[test]
    fn a_wallet_that_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wallet.json");
        std::fs::write(&path, "{}").unwrap();
        let error = run(args(&["--scheduler-wallet", path.to_str().unwrap()])).unwrap_err().to_string();
        assert!(error.starts_with("scheduler: wallet is not a JSON Web Key"), "{error}");
    }
}
