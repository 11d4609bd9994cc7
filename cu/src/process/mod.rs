//! Processes: one actor each, the threads and the memory they share.

mod actor;
mod budget;
mod capture;
mod evaluate;
mod goal;
pub(crate) mod in_flight;
pub(crate) mod pool;
mod programs;
mod progress;
pub(crate) mod source;
mod stuck;
mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use lockstep_jit::Outcome;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{
    Error, UnitSettings,
    engines::{Evaluator, Lives, Rules},
    metrics::Counted,
    schedule::Position,
    store::{Known, Store},
};
use actor::{Actor, MAILBOX_MAX, Mail};
use budget::Budget;
use evaluate::Keeper;
pub(crate) use evaluate::{Verdict, engine_error};
use goal::Waiter;
pub(crate) use goal::{Fork, Goal, Got, Want};
use pool::{Pool, closing};
use programs::Programs;
use source::Source;
use view::View;

/// What all actors share.
struct Shared {
    source: Arc<dyn Source>,
    programs: Programs,
    pool: Pool,
    keeper: Keeper,
    budget: Budget,
    limits: Limits,
    stopping: watch::Sender<bool>,
}

struct Limits {
    /// How long a process stays in memory without being asked for.
    idle_ttl: Duration,
    /// Whether owners may reset their process.
    memory_reset: bool,
}

/// All processes of a unit.
pub(crate) struct Processes {
    shared: Arc<Shared>,
    actors: Arc<DashMap<String, Handle>>,
    births: AtomicU64,
    alive: watch::Sender<usize>,
}

#[derive(Clone)]
struct Handle {
    birth: u64,
    mail: mpsc::Sender<Mail>,
    view: Arc<View>,
}

/// An actor may end while a request is on its way to it; the request then finds the next one.
const DELIVERIES_MAX: usize = 4;

impl Verdict {
    /// What a client is told. A skipped duplicate says nothing: repeating the outbox of another message would have a
    /// messenger push it twice.
    pub(crate) fn outcome(&self) -> Arc<Outcome> {
        match self {
            Self::Evaluated(outcome) => Arc::clone(outcome),
            Self::Skipped => Arc::new(Outcome {
                messages: Some(Value::Array(Vec::new())),
                assignments: Some(Value::Array(Vec::new())),
                spawns: Some(Value::Array(Vec::new())),
                output: Some(Value::String(String::new())),
                ..Outcome::default()
            }),
        }
    }
}

impl From<Known> for Verdict {
    fn from(known: Known) -> Self {
        actor::verdict(known)
    }
}

impl Processes {
    pub(crate) fn new(
        settings: &UnitSettings,
        source: Arc<dyn Source>,
        evaluator: Arc<dyn Evaluator>,
        store: Arc<Store>,
        metrics: Counted,
    ) -> Result<Self, Error> {
        // Each process has at most one piece of work in the queue, which bounds it.
        let pool = Pool::start("lockstep-eval", settings.evaluation_threads, usize::MAX, &metrics)?;
        metrics.worker_total.inc_by(i64::try_from(settings.evaluation_threads.max(1)).unwrap_or(i64::MAX));
        let rules = Rules {
            engine: settings.engine,
            wait: settings.lane_wait,
            threads: settings.evaluation_threads.max(1),
            store: Arc::clone(&store),
            counts: metrics.lanes.clone(),
            lives: Lives::default(),
        };
        let shared = Shared {
            programs: Programs::new(Arc::clone(&source), evaluator, rules, Arc::clone(&metrics))?,
            source,
            pool,
            budget: Budget::new(settings.process_memory_budget, Arc::clone(&metrics)),
            keeper: Keeper {
                store,
                metrics,
                time_limit: settings.evaluation_time_limit,
                keep_results: settings.evaluation_cache,
            },
            limits: Limits { idle_ttl: settings.process_memory_ttl, memory_reset: settings.memory_reset },
            stopping: watch::Sender::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            actors: Arc::default(),
            births: AtomicU64::new(0),
            alive: watch::Sender::new(0),
        })
    }

    /// Brings a process to `goal` and gives what is wanted there.
    pub(crate) async fn bring(&self, pid: &str, goal: Goal, want: Want) -> Result<Got, Error> {
        for _ in 0..DELIVERIES_MAX {
            if *self.shared.stopping.borrow() {
                return Err(closing());
            }
            let handle = self.handle(pid);
            let (waiter, answer) = Waiter::new(goal.clone(), want);
            match handle.mail.try_send(Mail::Bring(waiter)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.actors.remove_if(pid, |_, known| known.birth == handle.birth);
                    continue;
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return Err(Error::TooMany(format!("process {pid} has {MAILBOX_MAX} requests waiting")));
                }
            }
            if let Ok(answer) = answer.await {
                return answer;
            }
        }
        Err(Error::Internal(format!("the actor of process {pid} ended without an answer")))
    }

    /// What the store says about a message whose place is known.
    pub(crate) fn stored(&self, pid: &str, position: &Position) -> Result<Option<Verdict>, Error> {
        actor::stored(&self.shared, pid, position)
    }

    /// Nonce that a running stream of the process has reached, if one runs and has reached any.
    pub(crate) fn running_at(&self, pid: &str) -> Option<u64> {
        self.actors.get(pid).and_then(|handle| handle.view.running_at())
    }

    /// Processes in memory, and the bytes they hold.
    pub(crate) fn live(&self) -> (usize, u64) {
        (self.shared.budget.processes(), self.shared.budget.bytes())
    }

    /// Tells every actor to finish its turn and end, and waits for that, up to `patience`.
    pub(crate) async fn stop(&self, patience: Duration) {
        self.shared.stopping.send_replace(true);
        let mut alive = self.alive.subscribe();
        if tokio::time::timeout(patience, alive.wait_for(|alive| *alive == 0)).await.is_err() {
            tracing::warn!(actors = *self.alive.borrow(), "some processes did not finish their turn in time");
        }
        self.shared.pool.close();
        self.shared.programs.close().await;
    }

    fn handle(&self, pid: &str) -> Handle {
        let entry = self.actors.entry(pid.to_owned());
        entry.or_insert_with(|| self.begin(pid)).clone()
    }

    fn begin(&self, pid: &str) -> Handle {
        let birth = self.births.fetch_add(1, Ordering::Relaxed);
        let (mail, mailbox) = mpsc::channel(MAILBOX_MAX);
        let view = Arc::new(View::default());
        let actor = Actor::new(pid, Arc::clone(&self.shared), mailbox, mail.downgrade(), Arc::clone(&view));
        let (actors, pid) = (Arc::clone(&self.actors), pid.to_owned());
        let alive = Alive::begin(&self.alive);
        tokio::spawn(async move {
            let _alive = alive;
            actor.run(move || drop(actors.remove_if(&pid, |_, known| known.birth == birth))).await;
        });
        Handle { birth, mail, view }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
    }
}

/// Counts an actor for as long as its task exists, however it ends.
struct Alive(watch::Sender<usize>);

impl Alive {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|alive| *alive += 1);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|alive| *alive -= 1);
    }
}

#[cfg(test)]
pub(crate) mod fake;
