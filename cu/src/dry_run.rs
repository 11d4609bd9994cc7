//! Dry runs: what a process would answer, on a copy of it and on threads of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lockstep_jit::{Call, Outcome};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    Error, UnitSettings,
    message::dry_run_json,
    metrics::Counted,
    process::{
        Fork, engine_error,
        in_flight::InFlight,
        pool::{Pool, Refused, closing},
    },
};

/// Bytes of answers kept for equal dry runs.
const ANSWERS_BYTES_MAX: usize = 64 << 20;
/// Processes kept as they were, for the next dry run.
const FORKS_MAX: usize = 64;
/// What those may hold together: one part in this many of the memory budget of live processes.
const FORKS_BUDGET_DIVISOR: u64 = 4;

/// What makes two dry runs equal: process, state and body.
pub(crate) type Key = [u8; 32];

/// Everything about dry runs that outlives one of them.
pub(crate) struct DryRuns {
    pub(crate) in_flight: InFlight<Key, Arc<Outcome>>,
    pool: Pool,
    metrics: Counted,
    time_limit: Duration,
    fork_ttl: Duration,
    fork_bytes_max: u64,
    answer_ttl: Duration,
    forks: Mutex<Forks>,
    answers: Mutex<Answers>,
}

/// By process, and by the message they were asked for at.
type Forks = HashMap<(String, Option<String>), Kept<Arc<Fork>>>;

struct Kept<T> {
    value: T,
    since: Instant,
}

#[derive(Default)]
struct Answers {
    by_key: HashMap<Key, Kept<(Arc<Outcome>, usize)>>,
    bytes: usize,
}

impl DryRuns {
    pub(crate) fn new(settings: &UnitSettings, metrics: Counted) -> Result<Self, Error> {
        let pool = Pool::start("lockstep-dry", settings.dry_run_threads, settings.dry_run_queue_max, &metrics)?;
        metrics.worker_total.inc_by(i64::try_from(settings.dry_run_threads.max(1)).unwrap_or(i64::MAX));
        Ok(Self {
            in_flight: InFlight::new(),
            pool,
            metrics,
            time_limit: settings.evaluation_time_limit,
            fork_ttl: settings.dry_run_process_cache_ttl,
            fork_bytes_max: settings.process_memory_budget / FORKS_BUDGET_DIVISOR,
            answer_ttl: settings.dry_run_result_max_age,
            forks: Mutex::default(),
            answers: Mutex::default(),
        })
    }

    /// What this dry run is equal to.
    pub(crate) fn key(pid: &str, to: Option<&str>, body: &Map<String, Value>) -> Key {
        let mut hash = Sha256::new();
        for part in [pid, to.unwrap_or_default()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(serde_json::to_vec(body).expect("a JSON value with text keys always serialises"));
        hash.finalize().into()
    }

    /// The answer that an equal dry run got a short while ago.
    pub(crate) fn answer(&self, key: &Key) -> Option<Arc<Outcome>> {
        let answers = lock(&self.answers);
        let kept = answers.by_key.get(key).filter(|kept| kept.since.elapsed() <= self.answer_ttl)?;
        Some(Arc::clone(&kept.value.0))
    }

    /// A copy of the process that is no older than `age`. At a given message a state never ages.
    pub(crate) fn kept_fork(&self, pid: &str, to: Option<&str>, age: Duration) -> Option<Arc<Fork>> {
        let forks = lock(&self.forks);
        let kept = forks.get(&(pid.to_owned(), to.map(str::to_owned)))?;
        let allowed = if to.is_some() { self.fork_ttl } else { age.min(self.fork_ttl) };
        (kept.since.elapsed() <= allowed).then(|| Arc::clone(&kept.value))
    }

    /// Keeps a copy of the process for the next dry runs. `since`: when it was asked for.
    pub(crate) fn keep_fork(&self, pid: &str, to: Option<&str>, fork: &Arc<Fork>, since: Instant) {
        let mut forks = lock(&self.forks);
        forks.insert((pid.to_owned(), to.map(str::to_owned)), Kept { value: Arc::clone(fork), since });
        while forks.len() > 1
            && (forks.len() > FORKS_MAX || forks.values().map(|k| k.value.bytes).sum::<u64>() > self.fork_bytes_max)
        {
            let oldest = forks.iter().min_by_key(|(_, kept)| kept.since).map(|(key, _)| key.clone());
            oldest.and_then(|key| forks.remove(&key));
        }
    }

    /// Refuses early what would be refused after bringing a whole process to its state.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        if self.pool.is_full() { Err(queue_full()) } else { Ok(()) }
    }

    /// Runs the message on a copy of `fork`, which itself stays as it is.
    pub(crate) async fn run(
        &self,
        pid: &str,
        key: Key,
        body: &Map<String, Value>,
        fork: Arc<Fork>,
    ) -> Result<Arc<Outcome>, Error> {
        let (timestamp, height) = fork.last.as_ref().map_or((0, 0), |last| (last.timestamp, last.block_height));
        let message = dry_run_json(pid, body, timestamp, height)?;
        let what = format!("dry run of process {pid}");
        let seed = key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let time_limit = self.time_limit;
        let work = move || {
            let copy = match fork.instance.lock() {
                Ok(mut instance) => instance.fork(),
                Err(_) => Err(lockstep_jit::Error::Host("the copied state was damaged by a fault of this unit".into())),
            };
            copy?.evaluate(&Call {
                message: &message,
                environment: &fork.environment,
                seed: &seed,
                gas_limit: fork.gas_limit,
                time_limit,
            })
        };
        let done = self.pool.run(work).map_err(|refused| match refused {
            Refused::Full => queue_full(),
            Refused::Closed => closing(),
        })?;
        let evaluation = done.await.map_err(|lost| lost.into_error(&what))?;
        let outcome = Arc::new(evaluation.map_err(|e| engine_error(e, &what))?.outcome);
        self.metrics.count_dry_run(&outcome);
        self.keep_answer(key, &outcome);
        Ok(outcome)
    }

    /// Lets go of what is too old to be used.
    pub(crate) fn sweep(&self) {
        let old: Vec<_> = lock(&self.forks).extract_if(|_, kept| kept.since.elapsed() > self.fork_ttl).collect();
        lock(&self.answers).drop_older_than(self.answer_ttl);
        if !old.is_empty() {
            // Giving memory back takes a while: not on a thread of the runtime. If the pool is full it happens here.
            let _ = self.pool.run(move || drop(old)).map(|done| tokio::spawn(done));
        }
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }

    fn keep_answer(&self, key: Key, outcome: &Arc<Outcome>) {
        if self.answer_ttl.is_zero() {
            return;
        }
        let bytes = size_of_outcome(outcome);
        let mut answers = lock(&self.answers);
        if answers.bytes + bytes > ANSWERS_BYTES_MAX {
            answers.drop_older_than(self.answer_ttl / 2);
        }
        if answers.bytes + bytes > ANSWERS_BYTES_MAX {
            return;
        }
        answers.bytes += bytes;
        let kept = Kept { value: (Arc::clone(outcome), bytes), since: Instant::now() };
        if let Some(before) = answers.by_key.insert(key, kept) {
            answers.bytes -= before.value.1;
        }
    }
}

impl Answers {
    fn drop_older_than(&mut self, age: Duration) {
        let bytes = &mut self.bytes;
        self.by_key.retain(|_, kept| {
            let keep = kept.since.elapsed() <= age;
            if !keep {
                *bytes -= kept.value.1;
            }
            keep
        });
    }
}

fn queue_full() -> Error {
    Error::TooMany("Dry-Run enqueue limit exceeded".to_owned())
}

/// About what an answer holds, bytes.
fn size_of_outcome(outcome: &Outcome) -> usize {
    const OVERHEAD_BYTES: usize = 512;
    let members =
        [&outcome.messages, &outcome.assignments, &outcome.spawns, &outcome.output, &outcome.patches, &outcome.error];
    let text = |value: &Value| serde_json::to_vec(value).map_or(0, |text| text.len());
    OVERHEAD_BYTES + members.into_iter().flatten().map(text).sum::<usize>()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
