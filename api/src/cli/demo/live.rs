//! Sending: every message through the messenger, then its answer from the unit. A process's messages go one after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use super::bar;
use super::client::{Client, ClientError};
use super::report::Faults;
use super::sign::SignedAll;
use super::workload::Workload;

/// What sending took.
#[derive(Debug)]
pub struct Live {
    /// All processes, until each had answered its boot.
    pub spawning: Duration,
    /// All messages, until each was answered.
    pub sending: Duration,
    /// Of each message: from its sending to its answer. Sorted.
    pub latencies: Vec<Duration>,
}

/// Spawns the processes, then sends their messages, `clients` at a time.
///
/// # Errors
/// A process cannot be spawned. What goes wrong with a message is a fault of that message.
pub async fn run(
    client: &Client,
    unit: &Url,
    signed: &SignedAll,
    workload: &Arc<Workload>,
    clients: u64,
    faults: &Faults,
) -> Result<Live, ClientError> {
    let turns = Arc::new(Semaphore::new(usize::try_from(clients).unwrap_or(1)));
    let began = Instant::now();
    let progress = bar("spawning", signed.processes.len() as u64);
    let mut spawns = JoinSet::new();
    for one in &signed.processes {
        let (client, unit, one, turns, progress) =
            (client.clone(), unit.clone(), one.clone(), turns.clone(), progress.clone());
        spawns.spawn(async move {
            let _turn = turns.acquire().await;
            client.send(&one.process).await?;
            let booted = client.result(&unit, &one.id, &one.id).await;
            progress.inc(1);
            booted.map(|_| ())
        });
    }
    while let Some(spawned) = spawns.join_next().await {
        spawned.expect("spawning does not panic")?;
    }
    progress.finish_and_clear();
    let spawning = began.elapsed();

    let began = Instant::now();
    let progress = bar("messages", signed.messages);
    let mut senders = JoinSet::new();
    for one in &signed.processes {
        let (client, unit, one, turns) = (client.clone(), unit.clone(), one.clone(), turns.clone());
        let (workload, faults, progress) = (workload.clone(), faults.clone(), progress.clone());
        senders.spawn(async move {
            let mut latencies = Vec::with_capacity(one.messages.len());
            for (nth, message) in (1..).zip(&one.messages) {
                let _turn = turns.acquire().await;
                let began = Instant::now();
                let answered = async {
                    client.send(message).await.map_err(|error| error.to_string())?;
                    let answer = client.result(&unit, &one.id, &message.id_text()).await;
                    workload.check(nth, message, &answer.map_err(|error| error.to_string())?)
                };
                match answered.await {
                    Ok(()) => latencies.push(began.elapsed()),
                    Err(why) => faults.add(format!("message {} of process {}: {why}", message.id_text(), one.id)),
                }
                progress.inc(1);
            }
            latencies
        });
    }
    let mut latencies = Vec::new();
    while let Some(sent) = senders.join_next().await {
        latencies.extend(sent.expect("sending does not panic"));
    }
    progress.finish_and_clear();
    let sending = began.elapsed();
    latencies.sort_unstable();
    Ok(Live { spawning, sending, latencies })
}
