//! Replaying: a second unit with nothing in its data directory reads the schedules and must come to the same results.
//!
//! This is where a compute unit is measured alone: no signing, no scheduling, no request per message.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use url::Url;

use super::bar;
use super::client::{Client, url_of};
use super::report::Faults;
use super::sign::SignedAll;
use crate::cli::serve::Server;
use crate::settings::Settings;

/// What replaying took.
#[derive(Debug)]
pub struct Replay {
    /// Compiling and booting, until every process had answered its boot.
    pub booting: Duration,
    /// All messages.
    pub replaying: Duration,
    /// Time inside the engine for the messages, seconds, summed over threads.
    pub engine_seconds: f64,
    /// Gas of the messages.
    pub gas: f64,
    /// Compiling the module, seconds.
    pub compile_seconds: f64,
    /// Messages evaluated, as the unit counts them.
    pub evaluated: f64,
    /// Those of them that were evaluated in lanes, and in how many groups.
    pub in_lanes: (f64, f64),
    /// Compiling the module for lanes, seconds.
    pub lanes_compile_seconds: f64,
    /// SHA-256 of all results, process by process and in order, without their places in time: the same for every run of the
    /// same messages.
    pub results_hash: String,
}

/// Starts the second unit, replays, compares with the first, and stops it.
///
/// # Errors
/// The unit cannot be started or does not answer at all. Answers that are missing or differ are faults.
pub async fn run(
    client: &Client,
    settings: &Settings,
    first_unit: &Url,
    signed: &SignedAll,
    faults: &Faults,
) -> Result<Replay, Box<dyn std::error::Error + Send + Sync>> {
    let server = Server::start(settings).await?;
    let unit = url_of(server.address());
    let began = Instant::now();
    // Each of a set of requests, side by side: there are no more of them than processes.
    ask_each(client, &unit, signed, faults, "booting", |one| one.id.clone()).await;
    let booting = began.elapsed();
    let before = Sample::of(&client.metrics(&unit).await?);
    let began = Instant::now();
    ask_each(client, &unit, signed, faults, "replaying", |one| {
        one.messages.last().map_or_else(|| one.id.clone(), |message| message.id_text())
    })
    .await;
    let replaying = began.elapsed();
    let after = Sample::of(&client.metrics(&unit).await?);
    let results_hash = compare(client, first_unit, &unit, signed, faults).await;
    server.stop().await;
    Ok(Replay {
        booting,
        replaying,
        engine_seconds: after.engine_seconds - before.engine_seconds,
        gas: after.gas - before.gas,
        compile_seconds: after.compile_seconds,
        evaluated: after.evaluated - before.evaluated,
        in_lanes: (after.in_lanes.0 - before.in_lanes.0, after.in_lanes.1 - before.in_lanes.1),
        lanes_compile_seconds: after.lanes_compile_seconds,
        results_hash,
    })
}

async fn ask_each(
    client: &Client,
    unit: &Url,
    signed: &SignedAll,
    faults: &Faults,
    what: &'static str,
    message: impl Fn(&super::sign::Signed) -> String,
) {
    let progress = bar(what, signed.processes.len() as u64);
    let mut requests = JoinSet::new();
    for one in &signed.processes {
        let (client, unit, faults, progress) = (client.clone(), unit.clone(), faults.clone(), progress.clone());
        let (process, message) = (one.id.clone(), message(one));
        requests.spawn(async move {
            if let Err(error) = client.result(&unit, &process, &message).await {
                faults.add(format!("{what} process {process}: {error}"));
            }
            progress.inc(1);
        });
    }
    requests.join_all().await;
    progress.finish_and_clear();
}

/// Every process must have a result for itself and for each message, and the same in both units. Gives the hash of all.
async fn compare(client: &Client, first: &Url, second: &Url, signed: &SignedAll, faults: &Faults) -> String {
    let mut hash = Sha256::new();
    for one in &signed.processes {
        let expected = one.messages.len() + 1;
        let pages =
            [client.results(first, &one.id, expected + 1).await, client.results(second, &one.id, expected + 1).await];
        match pages {
            [Ok(first), Ok(second)] => {
                let found = first["edges"].as_array().map_or(0, Vec::len);
                if found != expected {
                    faults.add(format!("process {}: expected {expected} results, found {found}", one.id));
                }
                if first != second {
                    faults.add(format!("process {}: the two units have different results", one.id));
                }
                for edge in first["edges"].as_array().into_iter().flatten() {
                    hash.update(edge["node"].to_string());
                }
            }
            [Err(error), _] | [_, Err(error)] => faults.add(format!("results of process {}: {error}", one.id)),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is read from `/metrics`.
struct Sample {
    engine_seconds: f64,
    evaluated: f64,
    gas: f64,
    compile_seconds: f64,
    in_lanes: (f64, f64),
    lanes_compile_seconds: f64,
}

impl Sample {
    fn of(text: &str) -> Self {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        // Of all modules; there is one.
        let sum = |name: &str| {
            let of_module =
                |line: &str| line.strip_prefix(name)?.strip_prefix('{')?.rsplit(' ').next()?.parse::<f64>().ok();
            text.lines().filter_map(of_module).sum::<f64>()
        };
        Self {
            in_lanes: (sum("lockstep_lanes_messages_total"), sum("lockstep_lanes_groups_total")),
            lanes_compile_seconds: sum("lockstep_lanes_compile_seconds"),
            engine_seconds: value("lockstep_evaluation_seconds_sum"),
            evaluated: value("lockstep_evaluation_seconds_count"),
            gas: value("lockstep_gas_total"),
            compile_seconds: value("lockstep_compile_seconds_sum"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_their_whole_name() {
        let text = "# HELP lockstep_gas Gas\nlockstep_gas_total_other 9\nlockstep_gas_total 7\nlockstep_compile_seconds_sum 0.5\n";
        let text = format!(
            "{text}lockstep_lanes_messages_total{{module=\"a\"}} 5\nlockstep_lanes_messages_total{{module=\"b\"}} 2\n"
        );
        let sample = Sample::of(&text);
        assert_eq!(sample.in_lanes, (7.0, 0.0));
        assert_eq!((sample.gas, sample.compile_seconds, sample.evaluated), (7.0, 0.5, 0.0));
    }
}
