//! `lockstep demo`: a development network and a compute unit together, messages through both, and how fast they are answered.
//!
//! In this order: sign everything (that is the user's work, and shown apart); send it message by message through the
//! messenger, asking the unit for each answer; then let a second unit, which knows nothing, replay the schedules and compare
//! what both say. Everything goes over HTTP, as between real parts of the network.

mod client;
mod live;
mod replay;
mod report;
mod sign;
mod workload;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lockstep_jit::ModuleFormat;
use url::Url;

use super::serve::Server;
use crate::devnet::{self, Devnet, wallets};
use crate::logging;
use crate::settings::Settings;
use client::Client;
use report::{Faults, Report};
use workload::{MINER_NONCES_MAX, Shipped, Workload};

/// Most processes and messages of one demo: all of them are kept in memory.
const PROCESSES_MAX: u64 = 65_536;
const MESSAGES_MAX: u64 = 10_000_000;

/// Arguments of `lockstep demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after the table; else the servers stay up
    #[arg(long)]
    once: bool,
    /// Processes to spawn
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=PROCESSES_MAX))]
    processes: u64,
    /// Messages to send, shared out evenly
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    messages: u64,
    /// Messages under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    clients: u64,
    /// Which of the shipped modules to run
    #[arg(long, value_enum, default_value_t = Shipped::Counter, conflicts_with = "module")]
    shipped: Shipped,
    /// Nonces that the miner tries in each message
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MINER_NONCES_MAX)))]
    nonces: u32,
    /// Any ao module instead, aos included
    #[arg(long, value_name = "FILE", requires = "format")]
    module: Option<PathBuf>,
    /// The module's format, a `Module-Format` of ao
    #[arg(long, value_name = "F", requires = "module")]
    format: Option<ModuleFormat>,
    /// Data of each message to such a module
    #[arg(long, value_name = "TEXT", default_value = "return 1+1", requires = "module")]
    message_data: String,
    /// Value of the `Action` tag of each message to such a module
    #[arg(long, value_name = "TEXT", default_value = "Eval", requires = "module")]
    message_action: String,
    /// Port of the gateway; bundler, messenger and scheduler take the next three, the unit the fourth (0: the system chooses)
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Which engine evaluates, as `lockstep serve` has it
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: String,
    /// The adapter for signatures and lanes, as `lockstep serve` has it
    #[arg(long, value_name = "GPU", default_value = "auto")]
    gpu: String,
    /// What the parts may log
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

impl Args {
    fn workload(&self) -> Result<Workload, String> {
        let (Some(path), Some(format)) = (&self.module, self.format) else {
            return Ok(Workload::shipped(self.shipped, self.nonces));
        };
        let wasm = std::fs::read(path).map_err(|error| format!("module {}: {error}", path.display()))?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Workload::of_module(name, wasm, format, &self.message_action, &self.message_data))
    }

    /// Settings of a unit over `devnet`, with its data in `data`.
    fn unit_settings(&self, devnet: &Devnet, data: &Path, port: u16) -> Result<Settings, String> {
        let data = data.to_str().ok_or_else(|| format!("the temporary directory {} is not UTF-8", data.display()))?;
        let urls = devnet.urls();
        let listen = format!("127.0.0.1:{port}");
        let graphql = format!("{}graphql", urls.gateway);
        Settings::with(&[
            ("listen", &listen),
            ("data", data),
            ("su_url", urls.scheduler.as_str()),
            ("gateway_url", urls.gateway.as_str()),
            ("graphql_url", &graphql),
            // A demo may ask for the last of many messages, and often.
            ("hydration_mode_nonce_limit", "0"),
            ("rate_limit_max_requests", "0"),
            ("default_log_level", &self.log_level),
            ("engine", &self.engine),
            ("gpu", &self.gpu),
        ])
        .map_err(|error| error.to_string())
    }
}

/// Runs `lockstep demo`. It fails if a result is missing or wrong.
pub fn run(args: Args) -> super::Ending {
    let workload = Arc::new(args.workload()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ending = runtime.block_on(demo(&args, workload));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ending
}

/// The parts that run while the demo does.
struct Parts {
    devnet: Devnet,
    unit: Server,
    unit_url: Url,
}

async fn demo(args: &Args, workload: Arc<Workload>) -> super::Ending {
    // Gone with everything in it when the demo ends, however it ends.
    let directory = tempfile::Builder::new().prefix("lockstep-demo-").tempdir()?;
    let parts = start(args, directory.path()).await?;
    println!("{}\n", args.describe(&workload));
    let right = tokio::select! {
        right = measure(args, &parts, &workload, directory.path()) => right?,
        interrupted = super::devnet::interrupted() => {
            interrupted?;
            return Err("interrupted".into());
        }
    };
    if right && !args.once {
        println!("\nThe servers stay up.\n");
        super::devnet::print_addresses(&parts.devnet);
        println!("  unit       {}", parts.unit_url.as_str().trim_end_matches('/'));
        println!("\nPress Ctrl-C to stop.");
        super::devnet::interrupted().await?;
    }
    parts.devnet.stop().await;
    parts.unit.stop().await;
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn start(args: &Args, directory: &Path) -> Result<Parts, Box<dyn std::error::Error + Send + Sync>> {
    let devnet = Devnet::start(devnet::Settings { port: args.port, ..devnet::Settings::default() }).await?;
    let unit_port = match args.port {
        0 => 0,
        port => port.checked_add(4).ok_or("there is no port for the unit above 65535")?,
    };
    let settings = args.unit_settings(&devnet, &directory.join("live"), unit_port)?;
    logging::start(&settings.default_log_level, settings.log_format);
    let unit = Server::start(&settings).await?;
    let unit_url = client::url_of(unit.address());
    devnet.messenger().set_cu(unit_url.clone());
    Ok(Parts { devnet, unit, unit_url })
}

/// Runs all of it and prints the table; answers whether everything was right.
async fn measure(
    args: &Args,
    parts: &Parts,
    workload: &Arc<Workload>,
    directory: &Path,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let Parts { devnet, unit, unit_url } = parts;
    let client = Client::new(devnet.urls().clone())?;
    let user = Arc::new(wallets::user());
    let module = client.publish(&user, workload).await?;
    let scheduler = devnet.scheduler().address();
    let authority = devnet.messenger().address();
    let tags = workload.process_tags(&module, &scheduler, &authority);
    let signed = sign::sign_all(user, workload.clone(), tags, args.processes, args.messages).await?;

    let faults = Faults::default();
    let live = live::run(&client, unit_url, &signed, workload, args.clients, &faults).await?;
    let memory = unit.unit().status();
    let settings = args.unit_settings(devnet, &directory.join("replay"), 0)?;
    let replay = replay::run(&client, &settings, unit_url, &signed, &faults).await?;
    let report = Report { live, replay, memory, signed: &signed, clients: args.clients };
    // Whoever started the demo may not read its table.
    let _ = writeln!(std::io::stdout(), "{report}\n{faults}");
    Ok(faults.is_empty())
}

impl Args {
    fn describe(&self, workload: &Workload) -> String {
        format!(
            "{} messages to {} processes of {} ({}, {} bytes), {} under way at once, {} cores",
            self.messages,
            self.processes.min(self.messages),
            workload.name,
            workload.format,
            workload.wasm.len(),
            self.clients,
            cores()
        )
    }
}

/// Cores this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A bar on standard error; nothing where that is no terminal.
fn bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10} [{bar:40}] {pos}/{len}  {per_sec}  {eta} left");
    let style = style.expect("the template is well-formed; every run of the demo reads it").progress_chars("=> ");
    ProgressBar::new(length).with_style(style).with_prefix(what)
}

/// Puts the shipped counter onto a network; its module's id.
#[cfg(test)]
pub(super) async fn publish_counter(devnet: &Devnet) -> Result<String, client::ClientError> {
    Client::new(devnet.urls().clone())?.publish(&wallets::user(), &Workload::shipped(Shipped::Counter, 0)).await
}

/// The counter's module as its owner signs it.
#[cfg(test)]
pub(super) fn counter_module() -> lockstep_cu::item::DataItem {
    use lockstep_cu::item::Draft;
    let workload = Workload::shipped(Shipped::Counter, 0);
    let draft = Draft { tags: workload.module_tags(), data: workload.wasm.to_vec(), ..Draft::default() };
    wallets::user().sign(draft).expect("the tags fit")
}

/// Tags of a process of that module.
#[cfg(test)]
pub(super) fn counter_tags(module: &str, devnet: &Devnet) -> Vec<lockstep_cu::item::Tag> {
    let (scheduler, authority) = (devnet.scheduler().address(), devnet.messenger().address());
    Workload::shipped(Shipped::Counter, 0).process_tags(module, &scheduler, &authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Result<Args, clap::Error> {
        let line = std::iter::once("demo").chain(line.iter().copied());
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.args)
    }

    #[test]
    fn a_module_needs_a_format_and_bounds_are_kept() {
        assert!(args(&[]).is_ok());
        for line in [
            &["--module", "x"][..],
            &["--format", "wasm32-unknown-emscripten4"],
            &["--module", "x", "--format", "wasm"],
            &["--module", "x", "--format", "wasm32-unknown-emscripten4", "--shipped", "token"],
            &["--processes", "0"],
            &["--messages", "0"],
            &["--messages", "99999999999"],
            &["--nonces", "0"],
            &["--nonces", "4194305"],
        ] {
            assert!(args(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_module_file_that_is_not_there_is_named() {
        let args = args(&["--module", "no-such-file.wasm", "--format", "wasm32-unknown-emscripten4"]).unwrap();
        assert!(args.workload().unwrap_err().contains("no-such-file.wasm"));
    }

    #[test]
    fn small_demos_of_the_shipped_modules_end_well() {
        for shipped in ["counter", "token", "miner", "pricing", "matvec", "nbody"] {
            let args = args(&["--once", "--processes", "3", "--messages", "7", "--shipped", shipped]).unwrap();
            assert_eq!(format!("{:?}", run(args).unwrap()), format!("{:?}", ExitCode::SUCCESS), "{shipped}");
        }
    }

    #[test]
    fn a_demo_whose_answers_are_errors_fails() {
        // The counter knows no action of this name.
        let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/processes/counter.wasm");
        let line = [
            "--once",
            "--processes",
            "1",
            "--messages",
            "2",
            "--module",
            module,
            "--format",
            "wasm32-unknown-emscripten4",
        ];
        let ended = run(args(&line).unwrap()).unwrap();
        assert_eq!(format!("{ended:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
