//! Where a module's messages are sent to one engine or the other.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lockstep_jit::{Error, Evaluation, ModuleFormat, OwnedCall, lanes::HandedBack};
use tokio::sync::oneshot;

use super::{
    EngineChoice, LanesCounts, Live, Program,
    group::{self, End, Offer, Visited},
    rates::{Advice, Group, Rates},
};
use crate::store::Store;

/// After an adapter failed, lanes are compiled again no sooner than after this.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);
/// How often a module that waits for its lanes looks for them.
const OPENING_TICK: Duration = Duration::from_millis(20);
/// Rates are kept on disk no more often than this.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// A group gathers for no longer than this part of the time it will take, or the wait that is set.
const GATHERING_SHARE: f64 = 0.2;

/// What holds for every module.
pub(crate) struct Rules {
    pub engine: EngineChoice,
    /// How long a message waits for others.
    pub wait: Duration,
    /// Threads that evaluate natively.
    pub threads: usize,
    pub store: Arc<Store>,
    pub counts: LanesCounts,
    pub lives: Lives,
}

/// Threads of lanes, so that the unit can wait for their end: a program that ends while a driver is at work may crash.
#[derive(Default)]
pub(crate) struct Lives {
    closing: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Rules {
    /// Has all threads of lanes end with what they are at, and waits for that. Blocking.
    pub(crate) fn close(&self) {
        self.lives.closing.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.lives.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // Whatever it ended with was logged.
            let _ = thread.join();
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lives.closing.load(Ordering::Relaxed)
    }
}

/// A module's gate.
pub(crate) struct Gate {
    /// The module's id.
    module: Arc<str>,
    format: ModuleFormat,
    program: Arc<dyn Program>,
    pub(super) rules: Arc<Rules>,
    /// Messages under way: ready, or being evaluated.
    ready: AtomicUsize,
    known: Mutex<Known>,
}

struct Known {
    rates: Rates,
    /// What the rates of lanes were learnt on, in an earlier run.
    adapter: Option<String>,
    stage: Stage,
    trial: Trial,
    kept: Instant,
}

/// How far lanes are.
enum Stage {
    /// Not wanted so far.
    Idle,
    /// Being compiled.
    Compiling,
    /// There. While they are being compiled again they are paused: they take nothing.
    Ready { offers: mpsc::Sender<Offer>, adapter: String, is_paused: bool },
    /// The module cannot have any.
    Refused,
    /// The adapter failed.
    Failed(Instant),
}

fn set_paused(stage: &mut Stage, now: bool) {
    if let Stage::Ready { is_paused, .. } = stage {
        *is_paused = now;
    }
}

/// Whether a group is being tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    No,
    /// It may be joined.
    Gathering,
    /// It is in the lanes.
    Running,
}

/// A message under way, for as long as this is held.
pub(crate) struct UnderWay<'a>(&'a Gate);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.ready.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(crate) fn new(module: &str, format: ModuleFormat, program: Arc<dyn Program>, rules: Arc<Rules>) -> Arc<Self> {
        let kept = match rules.engine {
            EngineChoice::Native => None,
            _ => rules.store.rates(module, format).unwrap_or_else(|error| {
                tracing::warn!(module, %error, "what was learnt of the engines' rates cannot be read");
                None
            }),
        };
        let (rates, adapter) = kept.and_then(|text| Rates::from_text(&text)).unzip();
        let known = Known {
            rates: rates.unwrap_or_default(),
            adapter,
            stage: Stage::Idle,
            trial: Trial::No,
            kept: Instant::now(),
        };
        let (module, ready, known) = (module.into(), AtomicUsize::new(0), Mutex::new(known));
        let gate = Arc::new(Self { module, format, program, rules, ready, known });
        if gate.rules.engine == EngineChoice::Lanes {
            gate.begin(&mut gate.lock());
        }
        gate
    }

    /// Waits until lanes are there or will not be, where they are what was asked for.
    pub(crate) async fn opened(&self) {
        while matches!(self.lock().stage, Stage::Compiling) && !self.rules.is_closing() {
            tokio::time::sleep(OPENING_TICK).await;
        }
    }

    /// A message is ready.
    pub(crate) fn enter(&self) -> UnderWay<'_> {
        self.ready.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// Messages under way.
    pub(super) fn ready(&self) -> usize {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether a message that is ready should go to the lanes. It is not bound to.
    pub(crate) fn prefers_lanes(self: &Arc<Self>) -> bool {
        let Rules { engine, wait, threads, .. } = *self.rules;
        if engine == EngineChoice::Native {
            return false;
        }
        let (ready, now) = (self.ready(), Instant::now());
        let mut known = self.lock();
        match &known.stage {
            Stage::Ready { is_paused: true, .. } | Stage::Compiling | Stage::Refused => false,
            Stage::Ready { .. } if engine == EngineChoice::Lanes => true,
            Stage::Ready { .. } => match (known.trial, known.rates.advice(ready, threads, wait, now)) {
                (_, Advice::Lanes) | (Trial::Gathering, _) => true,
                (Trial::No, Advice::Try) => {
                    known.trial = Trial::Gathering;
                    true
                }
                _ => false,
            },
            Stage::Failed(since) if since.elapsed() < FAILURE_PAUSE => false,
            Stage::Idle | Stage::Failed(_) => {
                if engine == EngineChoice::Lanes || known.rates.is_worth_compiling(ready, threads, wait, now) {
                    self.begin(&mut known);
                }
                false
            }
        }
    }

    /// Has lanes evaluate a message, together with others. Gives the process back and what came of the message; none: it
    /// has to be evaluated natively. None at all: the process was lost with the thread that had it.
    pub(crate) async fn evaluate(&self, live: Box<dyn Live>, call: OwnedCall) -> Option<Visited> {
        let (reply, visited) = oneshot::channel();
        {
            // Under the lock, so that no offer is made to a thread that has taken its last.
            let known = self.lock();
            let Stage::Ready { offers, is_paused: false, .. } = &known.stage else {
                return Some((live, None));
            };
            if let Err(mpsc::SendError(offer)) = offers.send(Offer { live, call, reply }) {
                return Some((offer.live, None));
            }
        }
        visited.await.ok()
    }

    /// A message was evaluated natively.
    pub(crate) fn learn_native(&self, evaluation: &Evaluation) {
        if self.rules.engine != EngineChoice::Native {
            self.lock().rates.native(evaluation.gas_spent, evaluation.elapsed);
        }
    }

    /// How long a group may go on gathering as long as others come: a part of the time it will take.
    pub(super) fn gathering(&self, messages: usize) -> Duration {
        self.lock().rates.lanes_time(messages).unwrap_or_default().mul_f64(GATHERING_SHARE).max(self.rules.wait)
    }

    /// Whether so many messages should go into the lanes now, and how long they may be there.
    pub(super) fn admits(&self, messages: usize) -> Option<Duration> {
        let Rules { engine, wait, threads, .. } = *self.rules;
        if engine != EngineChoice::Auto {
            return Some(Duration::MAX);
        }
        let mut known = self.lock();
        let is_admitted = known.rates.advice(messages, threads, wait, Instant::now()) != Advice::Native;
        known.trial = if is_admitted { Trial::Running } else { Trial::No };
        is_admitted.then(|| known.rates.patience(messages, threads))
    }

    /// A group is back, and so many of its messages were the same natively.
    pub(super) fn learn_group(&self, group: &Group, compared: u64) {
        self.rules.counts.group(&self.module, group.evaluated, compared, group.took);
        tracing::debug!(module = &*self.module, ?group, "a group of lanes is back");
        let now = Instant::now();
        let mut known = self.lock();
        known.rates.lanes(group, self.rules.threads, now);
        known.trial = Trial::No;
        if known.kept.elapsed() >= KEEP_EVERY {
            known.kept = now;
            self.keep(&known);
        }
    }

    /// Lanes came to something else than the native engine. That outlives a restart.
    pub(super) fn distrust(&self, difference: &str) {
        tracing::error!(
            module = &*self.module,
            difference,
            "lanes came to something else than the native engine, which evaluates all of the module's messages from now on. \
             Results that lanes gave before and that were not compared may be wrong; most likely the fault is the driver's"
        );
        self.rules.counts.wrong(&self.module);
        let mut known = self.lock();
        known.rates.distrust_lanes();
        self.keep(&known);
    }

    pub(super) fn count_handed_back(&self, why: HandedBack) {
        tracing::debug!(module = &*self.module, ?why, "handed back to the native engine");
        self.rules.counts.handed_back(&self.module, why);
    }

    /// Lanes take nothing for a while: they are being compiled again.
    pub(super) fn pause(&self) {
        set_paused(&mut self.lock().stage, true);
    }

    /// Lanes take messages again. If they were compiled, which took so long, nothing is known of their rates any more.
    pub(super) fn go_on(&self, compiled: Result<Duration, Error>, why: &str) {
        let mut known = self.lock();
        match compiled {
            Ok(took) => {
                tracing::info!(module = &*self.module, why, ?took, "module compiled again for lanes, trusting it less");
                self.rules.counts.compiled(&self.module, took);
                known.rates.forget_lanes();
            }
            Err(error) => {
                tracing::info!(module = &*self.module, why, %error, "lanes stay as they are");
            }
        }
        known.trial = Trial::No;
        set_paused(&mut known.stage, false);
    }

    /// Compiles the module for lanes and runs them, on a thread that lives as long as this gate.
    fn begin(self: &Arc<Self>, known: &mut Known) {
        known.stage = Stage::Compiling;
        let (gate, program, module) = (Arc::downgrade(self), Arc::clone(&self.program), Arc::clone(&self.module));
        let begun =
            thread::Builder::new().name("lockstep-lanes".to_owned()).spawn(move || live(&gate, &*program, &module));
        match begun {
            Ok(thread) => {
                let mut threads = self.rules.lives.threads.lock().unwrap_or_else(PoisonError::into_inner);
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(error) => {
                tracing::warn!(module = &*self.module, %error, "no thread for lanes");
                known.stage = Stage::Failed(Instant::now());
            }
        }
    }

    fn keep(&self, known: &Known) {
        let Stage::Ready { adapter, .. } = &known.stage else { return };
        if let Err(error) = self.rules.store.keep_rates(&self.module, self.format, &known.rates.to_text(adapter)) {
            tracing::warn!(module = &*self.module, %error, "what was learnt of the engines' rates cannot be kept");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code that can panic runs under this lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.keep(&self.lock());
    }
}

/// The life of a module's lanes: compiled, used, and given up with the gate or the adapter.
fn live(gate: &Weak<Gate>, program: &dyn Program, module: &Arc<str>) {
    let begun = Instant::now();
    let seating = program.lanes();
    let (give, offers) = mpsc::channel();
    {
        let Some(gate) = gate.upgrade() else { return };
        let mut known = gate.lock();
        let seating = match &seating {
            Ok(seating) => seating,
            Err(Error::Module(why)) => {
                tracing::info!(module = &**module, why, "lanes cannot take the module");
                known.stage = Stage::Refused;
                return;
            }
            Err(error) => {
                tracing::warn!(module = &**module, %error, "no lanes for the module");
                known.stage = Stage::Failed(Instant::now());
                return;
            }
        };
        let (adapter, took) = (seating.adapter().to_owned(), begun.elapsed());
        tracing::info!(module = &**module, adapter, lanes = seating.lanes_max(), ?took, "module compiled for lanes");
        gate.rules.counts.compiled(module, took);
        if known.adapter.take().is_some_and(|other| other != adapter) {
            known.rates.forget_lanes();
        }
        if known.rates.distrusts_lanes() {
            tracing::warn!(module = &**module, adapter, "lanes came to wrong results here before, and stay closed");
            known.stage = Stage::Refused;
            return;
        }
        known.trial = Trial::No;
        known.stage = Stage::Ready { offers: give, adapter, is_paused: false };
    }
    let Ok(seating) = seating else { return };
    let stage = match group::run(gate, seating, &offers) {
        End::Closed => Stage::Refused,
        End::Failed(why) => {
            tracing::warn!(module = &**module, why, "lanes failed; the native engine goes on");
            Stage::Failed(Instant::now())
        }
    };
    if let Some(gate) = gate.upgrade() {
        gate.lock().stage = stage;
    }
    // Now nobody makes offers any more; those that were made go back.
    offers.iter().for_each(group::decline);
}
