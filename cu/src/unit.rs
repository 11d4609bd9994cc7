//! The face of the compute unit: what the outside may ask of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lockstep_jit::{Engine, EngineSettings, Outcome, RESERVATION_BYTES, gpu::Choice};
use serde_json::{Map, Value};

use crate::{
    Error, UnitSettings,
    dry_run::DryRuns,
    engines::{EngineChoice, Evaluator, Jit},
    message::dry_run_json,
    metrics::{Counted, Metrics},
    process::{
        Fork, Goal, Got, Processes, Verdict, Want,
        in_flight::{Flow, InFlight},
        pool::closing,
        source::Source,
    },
    schedule::Upstream,
    store::{PlacePrefix, Query, Store},
};

/// How often old states are let go and results are put onto the disk itself.
const SWEEP: Duration = Duration::from_secs(1);
/// How long requests in flight may go on after shutdown began, and how long processes may take to finish their turns.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// Either the answer or "still evaluating".
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<T> {
    /// The answer.
    Ready(T),
    /// It was not there in the time given; its evaluation goes on.
    Busy,
}

/// Order of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// A place in a process's order of results: (timestamp, ordinate, cron).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// ms since 1970.
    pub timestamp: u64,
    /// Decimal nonce; none: every ordinate of the timestamp.
    pub ordinate: Option<String>,
    /// Cron id; none: a scheduled message.
    pub cron: Option<String>,
}

/// Bounds of /results and /cron: `from` exclusive (a bare timestamp includes that timestamp's rows), `to` inclusive.
#[derive(Clone, Debug)]
pub struct Range {
    /// After this; none: from the beginning.
    pub from: Option<Cursor>,
    /// Up to this; none: to the end.
    pub to: Option<Cursor>,
    /// Which end to begin at.
    pub sort: Sort,
    /// Results wanted.
    pub limit: u64,
}

/// One result of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Where it stands.
    pub cursor: Cursor,
    /// The result.
    pub outcome: Outcome,
}

/// Results in order. Those with an error are left out, and do not make a page shorter.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The results.
    pub edges: Vec<Edge>,
    /// Whether another result follows that would be shown.
    pub has_next: bool,
}

/// A process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The whole linear memory; none: no evaluation was kept yet.
    pub memory: Option<Vec<u8>>,
    /// Of the last evaluated message, ms since 1970.
    pub last_timestamp: Option<u64>,
    /// Of the last evaluated message.
    pub last_ordinate: Option<String>,
    /// Of the last evaluated message.
    pub last_block_height: Option<u64>,
}

/// A dry run's body, already checked for types; fields as the contract's 1.6, JSON order of 2.4 is made here.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    /// The client's JSON object.
    pub body: Map<String, Value>,
    /// Id of the message after which to run; none: the newest.
    pub to: Option<String>,
    /// How old a state may be; none: the unit's default.
    pub max_age: Option<Duration>,
}

/// The adapter that lanes run on, with those like it. Unlike signatures, which any processor verifies well, they may gain from one that is a
/// program on the processor; it is not opened before a module's messages are known to be long.
fn lanes_adapter(settings: &UnitSettings) -> Choice {
    match (&settings.engine, &settings.gpu.choice) {
        (EngineChoice::Native, _) => Choice::Off,
        (_, Choice::Auto) => Choice::Required,
        (_, choice) => choice.clone(),
    }
}

/// How the unit is doing, at no cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Processes held in memory.
    pub processes_live: usize,
    /// Memory they hold, bytes.
    pub processes_live_bytes: u64,
    /// Threads at work.
    pub evaluations_running: usize,
    /// Messages known to wait for evaluation.
    pub backlog: u64,
    /// Results kept, about.
    pub results_stored: u64,
}

/// A compute unit. Cheap to clone; the last clone to go stops it.
#[derive(Clone)]
pub struct Unit(Arc<Inner>);

struct Inner {
    settings: UnitSettings,
    source: Arc<dyn Source>,
    store: Arc<Store>,
    metrics: Counted,
    processes: Processes,
    results: InFlight<(String, String), Arc<Outcome>>,
    dry_runs: DryRuns,
    closing: AtomicBool,
}

impl Unit {
    /// Opens the store, starts the engine and the threads. Asks nothing of the network.
    ///
    /// # Errors
    /// `Internal`, naming the directory or resource that is not to be had.
    pub async fn open(settings: UnitSettings) -> Result<Self, Error> {
        let source = Arc::new(Upstream::new(&settings)?);
        let engine = Engine::new(EngineSettings {
            artifacts_dir: Some(settings.data_dir.join("compiled")),
            guest_env: settings.guest_env,
            memory_bytes_max: RESERVATION_BYTES,
            boot_time_limit: settings.evaluation_time_limit,
        })
        .map_err(|e| Error::Internal(format!("cannot start the engine: {e}")))?;
        let jit = Jit::new(engine, lanes_adapter(&settings));
        let jit = Arc::new(jit);
        if settings.engine == EngineChoice::Lanes {
            let jit = Arc::clone(&jit);
            let opened = tokio::task::spawn_blocking(move || jit.open_adapters()).await;
            let opened = opened.map_err(|e| Error::Internal(format!("opening the adapters for lanes: {e}")))?;
            opened.map_err(|error| match error {
                lockstep_jit::Error::Module(why) => Error::Internal(format!("--engine lanes: {why}")),
                other => Error::Internal(format!("--engine lanes: {other}")),
            })?;
        }
        Self::start(settings, source, jit).await
    }

    pub(crate) async fn start(
        settings: UnitSettings,
        source: Arc<dyn Source>,
        evaluator: Arc<dyn Evaluator>,
    ) -> Result<Self, Error> {
        let path = settings.data_dir.join("results");
        let store = tokio::task::spawn_blocking(move || Store::open(&path));
        let store = Arc::new(store.await.map_err(|e| Error::Internal(format!("opening the results store: {e}")))??);
        let metrics = Counted::new(Metrics {
            signatures: source.signatures(),
            engines: source.engines(),
            reference_queries: source.graphql_queries(),
            ..Metrics::default()
        });
        let processes =
            Processes::new(&settings, Arc::clone(&source), evaluator, Arc::clone(&store), Arc::clone(&metrics))?;
        let inner = Arc::new(Inner {
            dry_runs: DryRuns::new(&settings, Arc::clone(&metrics))?,
            settings,
            source,
            store,
            metrics,
            processes,
            results: InFlight::new(),
            closing: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(inner) = weak.upgrade() else { break };
                inner.sweep().await;
            }
        });
        Ok(Self(inner))
    }

    /// The result of a message of `process`. `uid` is a message id, an assignment id, the process's own id (its boot)
    /// or a nonce. `busy_after`: give up waiting (evaluation goes on) and answer `Busy`.
    ///
    /// A message that the protocol skips (its content was evaluated before) has the empty result.
    ///
    /// # Errors
    /// `TooEarly`: the process stands beyond the message, and its result is not kept. `Hydrating`: the process is far
    /// behind it, and at work. Others as the scheduler, the gateway, the module or the engine fail.
    pub async fn result(
        &self,
        process: &str,
        uid: &str,
        busy_after: Option<Duration>,
    ) -> Result<Reply<Outcome>, Error> {
        self.0.admit()?;
        self.0.metrics.requests.inc();
        if let Some(known) = self.0.named(process, uid)? {
            return Ok(Reply::Ready(Arc::unwrap_or_clone(known.outcome())));
        }
        let key = (process.to_owned(), uid.to_owned());
        let (flow, shared) = self.0.results.join(key, || {
            let (inner, process, uid) = (Arc::clone(&self.0), process.to_owned(), uid.to_owned());
            async move { inner.find_result(&process, &uid).await }
        });
        if shared {
            self.0.metrics.requests_coalesced.inc();
        }
        wait(flow, busy_after).await
    }

    /// Results that are there; evaluates nothing.
    ///
    /// # Errors
    /// `Invalid`: a cursor that cannot be. `Internal`: the store cannot be read.
    pub async fn results(&self, process: &str, range: Range) -> Result<Page, Error> {
        self.0.admit()?;
        self.0.page(process, range, false).await
    }

    /// Evaluates up to the end of `range` (none: the present), then gives the results of crons in it, oldest first.
    ///
    /// # Errors
    /// As [`Unit::results`], and as evaluation fails.
    pub async fn cron(&self, process: &str, range: Range) -> Result<Page, Error> {
        self.0.admit()?;
        let goal = match &range.to {
            Some(to) => Goal::Until(to.timestamp),
            None => Goal::Latest,
        };
        let done = match goal {
            // Rows are made in order: one beyond the end means that all before it are there.
            Goal::Until(time) => self.0.settings.evaluation_cache && self.0.store.has_after(process, time)?,
            _ => false,
        };
        if !done {
            self.0.processes.bring(process, goal, Want::Arrival).await?;
        }
        self.0.page(process, Range { sort: Sort::Asc, ..range }, true).await
    }

    /// The memory of a process after everything up to `to` (ms since 1970; none or 0: the present).
    ///
    /// # Errors
    /// `TooEarly`: the process stands beyond that. Others as evaluation fails.
    pub async fn state(&self, process: &str, to: Option<u64>) -> Result<State, Error> {
        self.0.admit()?;
        let goal = to.filter(|to| *to > 0).map_or(Goal::Latest, Goal::Until);
        match self.0.processes.bring(process, goal, Want::Memory).await? {
            Got::Memory { memory, last } => Ok(State {
                memory,
                last_timestamp: last.as_ref().map(|last| last.timestamp),
                last_block_height: last.as_ref().map(|last| last.block_height),
                last_ordinate: last.map(|last| last.ordinate),
            }),
            _ => Err(mixed_up()),
        }
    }

    /// What a process would answer. The second member: answered from the cache of dry runs (the rate limiter un-counts
    /// it).
    ///
    /// # Errors
    /// `Invalid`: a body that is no message. `TooMany`: too many dry runs wait. Others as [`Unit::result`].
    pub async fn dry_run(
        &self,
        process: &str,
        run: DryRun,
        busy_after: Option<Duration>,
    ) -> Result<(Reply<Outcome>, bool), Error> {
        self.0.admit()?;
        self.0.metrics.dry_runs.inc();
        let key = DryRuns::key(process, run.to.as_deref(), &run.body);
        if let Some(answer) = self.0.dry_runs.answer(&key) {
            self.0.metrics.dry_runs_from_cache.inc();
            return Ok((Reply::Ready(Arc::unwrap_or_clone(answer)), true));
        }
        // A body that is no message is refused before anything is evaluated for it.
        dry_run_json(process, &run.body, 0, 0)?;
        self.0.dry_runs.admit()?;
        let (flow, shared) = self.0.dry_runs.in_flight.join(key, || {
            let (inner, process) = (Arc::clone(&self.0), process.to_owned());
            async move {
                let fork = inner.fork(&process, run.to.as_deref(), run.max_age).await?;
                inner.dry_runs.run(&process, key, &run.body, fork).await
            }
        });
        if shared {
            self.0.metrics.requests_coalesced.inc();
        }
        Ok((wait(flow, busy_after).await?, false))
    }

    /// How the unit is doing.
    pub fn status(&self) -> Status {
        let (processes_live, processes_live_bytes) = self.0.processes.live();
        let metrics = &self.0.metrics;
        Status {
            processes_live,
            processes_live_bytes,
            evaluations_running: usize::try_from(metrics.evaluations_running.get()).unwrap_or_default(),
            backlog: u64::try_from(metrics.backlog.get()).unwrap_or_default(),
            results_stored: self.0.store.count(),
        }
    }

    /// Puts the unit's metric families into a registry (reference names under `ao_cu_`, ours under `lockstep_`).
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.metrics.register(registry);
    }

    /// Takes no more requests, finishes what is in flight (bounded in time), and puts all results onto the disk.
    pub async fn shutdown(&self) {
        if self.0.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = &self.0;
        let finished = async {
            inner.results.finished().await;
            inner.dry_runs.in_flight.finished().await;
        };
        if tokio::time::timeout(SHUTDOWN_PATIENCE, finished).await.is_err() {
            tracing::warn!("requests were still in flight after {SHUTDOWN_PATIENCE:?}; they are given up");
        }
        inner.processes.stop(SHUTDOWN_PATIENCE).await;
        inner.dry_runs.close();
        inner.sync().await;
        let engines = inner.metrics.engines.clone();
        // A panic in a driver's library has nothing to say here.
        let _ = tokio::task::spawn_blocking(move || engines.close()).await;
    }
}

impl Inner {
    fn admit(&self) -> Result<(), Error> {
        if self.closing.load(Ordering::Acquire) { Err(closing()) } else { Ok(()) }
    }

    /// What is kept under an id that was seen in the schedule before.
    fn named(&self, process: &str, uid: &str) -> Result<Option<Verdict>, Error> {
        if !self.settings.evaluation_cache {
            return Ok(None);
        }
        let known = self.store.named(process, uid)?.map(Verdict::from);
        if known.is_some() {
            self.metrics.results_from_store.inc();
        }
        Ok(known)
    }

    async fn find_result(&self, pid: &str, uid: &str) -> Result<Arc<Outcome>, Error> {
        let process = self.source.process(pid).await?;
        let position = self.source.locate(&process, uid).await?;
        if self.settings.evaluation_cache
            && let Some(known) = self.processes.stored(pid, &position)?
        {
            self.metrics.results_from_store.inc();
            return Ok(known.outcome());
        }
        self.refuse_if_hydrating(pid, position.nonce)?;
        match self.processes.bring(pid, Goal::Message(position), Want::Verdict).await? {
            Got::Verdict(verdict) => Ok(verdict.outcome()),
            _ => Err(mixed_up()),
        }
    }

    /// A copy of the process, at `to` or not older than `max_age`.
    async fn fork(&self, pid: &str, to: Option<&str>, max_age: Option<Duration>) -> Result<Arc<Fork>, Error> {
        let age = max_age.unwrap_or(self.settings.dry_run_default_max_age);
        if let Some(fork) = self.dry_runs.kept_fork(pid, to, age) {
            return Ok(fork);
        }
        let since = Instant::now();
        let goal = match to {
            Some(uid) => {
                let process = self.source.process(pid).await?;
                let position = self.source.locate(&process, uid).await?;
                self.refuse_if_hydrating(pid, position.nonce)?;
                Goal::Message(position)
            }
            None => {
                // Only a process at work can be too far behind, and only then is the scheduler asked how far.
                if self.settings.hydration_nonce_limit > 0 && self.processes.running_at(pid).is_some() {
                    let process = self.source.process(pid).await?;
                    let latest = self.source.latest(&process).await?;
                    self.refuse_if_hydrating(pid, latest.nonce)?;
                }
                Goal::Latest
            }
        };
        match self.processes.bring(pid, goal, Want::Fork).await? {
            Got::Fork(fork) => {
                self.dry_runs.keep_fork(pid, to, &fork, since);
                Ok(fork)
            }
            _ => Err(mixed_up()),
        }
    }

    /// A process that is at work and far from the message asked for: come back later.
    fn refuse_if_hydrating(&self, pid: &str, wanted: Option<u64>) -> Result<(), Error> {
        let limit = self.settings.hydration_nonce_limit;
        let (Some(wanted), Some(at)) = (wanted, self.processes.running_at(pid)) else {
            return Ok(());
        };
        let remaining = wanted.saturating_sub(at);
        if limit == 0 || at < 1 || remaining <= limit {
            return Ok(());
        }
        Err(Error::Hydrating(format!(
            "Nonce limit exceeded: process {pid} is currently hydrating with >{limit} nonces remaining \
             ({remaining} remaining). Please try again later."
        )))
    }

    async fn page(&self, pid: &str, range: Range, only_cron: bool) -> Result<Page, Error> {
        let query = Query {
            from: range.from.map(prefix).transpose()?,
            to: range.to.map(prefix).transpose()?,
            descending: range.sort == Sort::Desc,
            limit: range.limit,
            only_cron,
        };
        let (store, pid) = (Arc::clone(&self.store), pid.to_owned());
        let rows = tokio::task::spawn_blocking(move || store.page(&pid, &query));
        let rows = rows.await.map_err(|e| Error::Internal(format!("reading results: {e}")))??;
        let edge = |row: crate::store::Row| Edge {
            cursor: Cursor {
                timestamp: row.place.timestamp,
                ordinate: Some(row.place.ordinate.to_string()),
                cron: row.place.cron,
            },
            outcome: row.outcome,
        };
        Ok(Page { edges: rows.rows.into_iter().map(edge).collect(), has_next: rows.has_next })
    }

    async fn sweep(&self) {
        self.dry_runs.sweep();
        self.sync().await;
    }

    async fn sync(&self) {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "results could not be put onto the disk"),
            Err(error) => tracing::error!(%error, "results could not be put onto the disk"),
        }
    }
}

fn prefix(cursor: Cursor) -> Result<PlacePrefix, Error> {
    let ordinate = match cursor.ordinate {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Error::Invalid(format!("ordinate `{text}` of a cursor is not a decimal number")))?,
        ),
    };
    Ok(PlacePrefix { timestamp: cursor.timestamp, ordinate, cron: cursor.cron })
}

async fn wait(flow: Flow<Arc<Outcome>>, busy_after: Option<Duration>) -> Result<Reply<Outcome>, Error> {
    let done = match busy_after {
        None => flow.await,
        Some(patience) => match tokio::time::timeout(patience, flow).await {
            Ok(done) => done,
            Err(_) => return Ok(Reply::Busy),
        },
    };
    Ok(Reply::Ready(Arc::unwrap_or_clone(done?)))
}

fn mixed_up() -> Error {
    Error::Internal("a process gave another kind of answer than was asked for".to_owned())
}

#[cfg(test)]
mod tests;
