//! Compiled modules: loaded once however many ask, kept while they are used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use lockstep_jit::ModuleFormat;

use super::{
    evaluate::engine_error,
    pool::{Pool, Refused, closing},
    source::Source,
};
use crate::{
    Error,
    engines::{Evaluator, Gate, Program, Rules},
    metrics::Counted,
    module::ModuleInfo,
};

/// Modules kept, at most. Live processes keep theirs by themselves.
const MODULES_MAX: usize = 64;
/// Machine code of kept modules, at most, bytes.
const CODE_BYTES_MAX: u64 = 1 << 30;
/// How long a module that cannot run is remembered, instead of being fetched, compiled and started for every request.
const REFUSAL_TTL: Duration = Duration::from_secs(60);
/// Modules compiled, and started for the first time, at once. Compilations use several threads by themselves; but a module
/// that is slow to start up must not hold up the others.
const COMPILERS: usize = 4;
/// How long lanes may take to end with what they are at.
const LANES_PATIENCE: Duration = Duration::from_secs(30);
/// Compilations that may wait.
const COMPILE_QUEUE_MAX: usize = 1024;

/// A compiled module, and who evaluates its messages.
#[derive(Clone)]
pub(super) struct Loaded {
    pub program: Arc<dyn Program>,
    pub gate: Arc<Gate>,
}

type Loading = Shared<BoxFuture<'static, Result<Loaded, Error>>>;

/// The module cache.
pub(super) struct Programs {
    source: Arc<dyn Source>,
    evaluator: Arc<dyn Evaluator>,
    compilers: Arc<Pool>,
    metrics: Counted,
    rules: Arc<Rules>,
    kept: Mutex<HashMap<(String, ModuleFormat), Slot>>,
}

struct Slot {
    loading: Loading,
    used: Instant,
    /// When a request first learnt that it cannot run.
    refused: Option<Instant>,
}

impl Programs {
    pub(super) fn new(
        source: Arc<dyn Source>,
        evaluator: Arc<dyn Evaluator>,
        rules: Rules,
        metrics: Counted,
    ) -> Result<Self, Error> {
        // Compiling is not evaluating: it has gauges of its own that nobody reads.
        let compilers = Pool::start("lockstep-compile", COMPILERS, COMPILE_QUEUE_MAX, &Counted::default())?;
        let (compilers, rules) = (Arc::new(compilers), Arc::new(rules));
        Ok(Self { source, evaluator, compilers, metrics, rules, kept: Mutex::default() })
    }

    /// The module, compiled. `module` says under which format it is to run.
    pub(super) async fn load(&self, module: &ModuleInfo) -> Result<Loaded, Error> {
        let key = (module.id.clone(), module.format);
        let loading = {
            let mut kept = self.lock();
            kept.retain(|_, slot| !slot.is_spent());
            let slot = kept.entry(key.clone()).or_insert_with(|| Slot {
                loading: self.begin(module.id.clone(), module.format),
                used: Instant::now(),
                refused: None,
            });
            slot.used = Instant::now();
            slot.loading.clone()
        };
        let loaded = loading.clone().await;
        let mut kept = self.lock();
        if let (Err(error), Some(slot)) = (&loaded, kept.get_mut(&key))
            && slot.loading.ptr_eq(&loading)
        {
            // A failure that may pass is forgotten at once; what the module itself is to blame for, later.
            if matches!(error, Error::Unprocessable(_)) {
                slot.refused.get_or_insert_with(Instant::now);
            } else {
                kept.remove(&key);
            }
        }
        trim(&mut kept);
        self.metrics.module_code_bytes.set(kept.values().map(Slot::code_bytes).sum());
        loaded
    }

    /// Ends the threads that compile and those of lanes, and waits for the latter.
    pub(super) async fn close(&self) {
        self.compilers.close();
        let rules = Arc::clone(&self.rules);
        let closed = tokio::task::spawn_blocking(move || rules.close());
        if tokio::time::timeout(LANES_PATIENCE, closed).await.is_err() {
            tracing::warn!("lanes did not end in time");
        }
    }

    fn begin(&self, id: String, format: ModuleFormat) -> Loading {
        let (source, evaluator) = (Arc::clone(&self.source), Arc::clone(&self.evaluator));
        let (compilers, metrics) = (Arc::clone(&self.compilers), Arc::clone(&self.metrics));
        let rules = Arc::clone(&self.rules);
        let load = async move {
            let wasm = source.module_bytes(&id).await?;
            let compile = move || {
                let program = evaluator.load(&wasm, format)?;
                // Its first start runs its constructors. Here, once, a module that fails or dawdles in them keeps nobody
                // waiting but those who asked for it.
                drop(program.instance()?);
                Ok(program)
            };
            let compile = compilers.run(compile).map_err(|refused| match refused {
                Refused::Full => Error::TooMany("too many modules wait to be compiled".to_owned()),
                Refused::Closed => closing(),
            })?;
            let what = format!("module {id}");
            let program = compile.await.map_err(|lost| lost.into_error(&what))?;
            let program: Arc<dyn Program> = program.map_err(|error: lockstep_jit::Error| {
                tracing::warn!(module = id, %error, "module cannot run");
                match engine_error(error, &what) {
                    Error::Unprocessable(text) => Error::Unprocessable(format!("{text} (module {id})")),
                    other => other,
                }
            })?;
            metrics.modules_loaded.inc();
            metrics.compile_seconds.observe(program.compile_time().as_secs_f64());
            tracing::info!(module = id, %format, seconds = program.compile_time().as_secs_f64(), "module loaded");
            let gate = Gate::new(&id, format, Arc::clone(&program), rules);
            gate.opened().await;
            Ok(Loaded { program, gate })
        };
        // A task of its own: a request that goes away must not stop what others wait for.
        let task = tokio::spawn(load);
        async move { task.await.unwrap_or_else(|_| Err(closing())) }.boxed().shared()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, ModuleFormat), Slot>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_spent(&self) -> bool {
        self.refused.is_some_and(|since| since.elapsed() >= REFUSAL_TTL)
    }

    fn code_bytes(&self) -> u64 {
        match self.loading.peek() {
            Some(Ok(loaded)) => loaded.program.code_bytes(),
            _ => 0,
        }
    }
}

fn trim(kept: &mut HashMap<(String, ModuleFormat), Slot>) {
    while kept.len() > MODULES_MAX || kept.values().map(Slot::code_bytes).sum::<u64>() > CODE_BYTES_MAX {
        let done = kept.iter().filter(|(_, slot)| slot.loading.peek().is_some());
        let Some(oldest) = done.min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone()) else {
            break;
        };
        // The one that was just asked for stays, however large.
        if kept.len() == 1 {
            break;
        }
        kept.remove(&oldest);
    }
}
