//! The engine, shared by all processes, and the modules it has compiled.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use wasmtime::{Config, InstancePre, Linker, Strategy, Val};

use super::{
    artifacts::Artifacts,
    live::{Live, Resting},
    memory::{Creator, RESERVATION_BYTES},
    pagemap::Pagemap,
    stack::{GUEST_STACK_BYTES, STACK_BYTES, with_room},
    stop::WallClock,
};
use crate::{
    Error, GuestEnv, ModuleFormat,
    guest::{host::Host, link},
    instrument::{self, Metering, instrument},
};

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Where compiled code is kept; none: it is not.
    pub artifacts_dir: Option<PathBuf>,
    /// The environment that guests find.
    pub guest_env: GuestEnv,
    /// Upper bound of one guest's linear memory, bytes.
    pub memory_bytes_max: u64,
    /// Wall-clock bound of a module's own start-up code, which runs once for each module.
    pub boot_time_limit: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            artifacts_dir: None,
            guest_env: GuestEnv::default(),
            memory_bytes_max: RESERVATION_BYTES,
            boot_time_limit: Duration::from_secs(60),
        }
    }
}

/// Compiles modules. Cheap to clone; shared by all threads.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

struct EngineInner {
    wasmtime: wasmtime::Engine,
    settings: EngineSettings,
    artifacts: Option<Artifacts>,
    pagemap: Arc<Pagemap>,
    wall_clock: Arc<WallClock>,
}

impl Engine {
    /// Sets up code generation and the clock that bounds evaluations.
    ///
    /// # Errors
    /// [`Error::Host`] if the directory cannot be used or no thread can be started.
    pub fn new(settings: EngineSettings) -> Result<Self, Error> {
        let mut config = Config::new();
        config
            .strategy(Strategy::Cranelift)
            .wasm_memory64(true)
            // Not the guest's features, which are checked before: what the rewriting itself uses.
            .wasm_multi_memory(true)
            .wasm_threads(true)
            .wasm_tail_call(false)
            .wasm_relaxed_simd(false)
            .wasm_branch_hinting(true)
            .async_stack_size(STACK_BYTES)
            .max_wasm_stack(GUEST_STACK_BYTES)
            .wasm_backtrace_max_frames(None)
            .memory_reservation(RESERVATION_BYTES)
            .memory_may_move(false)
            .memory_init_cow(false)
            .with_host_memory(Arc::new(Creator { bytes_max: settings.memory_bytes_max }));
        let wasmtime = wasmtime::Engine::new(&config).map_err(|e| Error::host("cannot set up code generation", e))?;
        let artifacts = settings.artifacts_dir.as_deref().map(Artifacts::open).transpose()?;
        let wall_clock = WallClock::start()?;
        let pagemap = Arc::new(Pagemap::new());
        tracing::debug!(written_pages = pagemap.name(), "native engine is up");
        Ok(Self(Arc::new(EngineInner { wasmtime, settings, artifacts, pagemap, wall_clock })))
    }

    /// How written pages are found on this host: a name for logs and metrics.
    pub fn page_tracking(&self) -> &'static str {
        self.0.pagemap.name()
    }

    pub(super) fn pagemap(&self) -> Arc<Pagemap> {
        self.0.pagemap.clone()
    }

    pub(super) fn wall_clock(&self) -> &Arc<WallClock> {
        &self.0.wall_clock
    }

    pub(super) fn boot_time_limit(&self) -> Duration {
        self.0.settings.boot_time_limit
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// Validates, rewrites and compiles a module, or takes its code from disk. Blocks: a second or more for aos when
    /// nothing is cached.
    ///
    /// # Errors
    /// [`Error::Module`] for a module that can never run.
    pub fn load(&self, wasm: &[u8], format: ModuleFormat) -> Result<Module, Error> {
        let started = Instant::now();
        let hash = *blake3::hash(wasm).as_bytes();
        let instrumented = instrument(wasm, format.is_metered())?;
        let name =
            Artifacts::name(blake3::hash(&instrumented.wasm).as_bytes(), format.is_metered(), self.compatibility());
        let cached = self.0.artifacts.as_ref().and_then(|artifacts| artifacts.get(&name)).and_then(|code| {
            // SAFETY: the entry's MAC says that this unit wrote it, as the output of `precompile_module`, and that it is
            // whole. wasmtime checks version and settings itself.
            let module = unsafe { wasmtime::Module::deserialize(&self.0.wasmtime, code) };
            module.inspect_err(|error| tracing::warn!(%error, "compiled code does not fit; compiling again")).ok()
        });
        let from_cache = cached.is_some();
        let module = match cached {
            Some(module) => module,
            None => {
                let module = wasmtime::Module::new(&self.0.wasmtime, &instrumented.wasm)
                    .map_err(|e| Error::Module(format!("cannot be compiled: {e:#}")))?;
                if let Some(artifacts) = &self.0.artifacts {
                    match module.serialize() {
                        Ok(code) => artifacts.put(&name, &code),
                        Err(error) => tracing::warn!(%error, "compiled code is not kept"),
                    }
                }
                module
            }
        };
        let mut linker = Linker::<Host>::new(&self.0.wasmtime);
        link::link(&mut linker, &module, format)?;
        let pre = linker.instantiate_pre(&module).map_err(|e| Error::Module(format!("{e:#}")))?;
        Ok(Module(Arc::new(ModuleInner {
            engine: self.clone(),
            code_bytes: module.image_range().end as u64 - module.image_range().start as u64,
            pre,
            format,
            metering: instrumented.metering,
            globals: instrumented.globals,
            has_hidden_state: instrumented.has_hidden_state,
            hash,
            from_cache,
            compile_time: started.elapsed(),
            resting: OnceLock::new(),
        })))
    }

    /// What of version and settings compiled code depends on.
    fn compatibility(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }
}

/// A compiled module. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<ModuleInner>);

struct ModuleInner {
    engine: Engine,
    pre: InstancePre<Host>,
    format: ModuleFormat,
    metering: Metering,
    globals: Vec<String>,
    has_hidden_state: bool,
    hash: [u8; 32],
    from_cache: bool,
    compile_time: Duration,
    code_bytes: u64,
    /// The state every process begins with, made when the first does.
    resting: OnceLock<Resting>,
}

/// What a process begins with.
pub(crate) struct Begins {
    /// Its linear memory.
    pub memory: Vec<u8>,
    /// Its mutable globals, by index: their bits.
    pub globals: Vec<(usize, u64)>,
}

impl Module {
    /// The format it was loaded as.
    pub fn format(&self) -> ModuleFormat {
        self.0.format
    }

    /// BLAKE3 of the wasm bytes.
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash
    }

    /// Time that loading took: validation, rewriting, and compilation or reading from disk.
    pub fn compile_time(&self) -> Duration {
        self.0.compile_time
    }

    /// Whether machine code came from disk.
    pub fn from_cache(&self) -> bool {
        self.0.from_cache
    }

    /// Size of the machine code, bytes.
    pub fn code_bytes(&self) -> u64 {
        self.0.code_bytes
    }

    /// Whether evaluations report gas.
    pub fn is_metered(&self) -> bool {
        self.0.metering != Metering::None
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(super) fn pre(&self) -> &InstancePre<Host> {
        &self.0.pre
    }

    pub(super) fn env(&self) -> GuestEnv {
        self.0.engine.0.settings.guest_env
    }

    pub(super) fn globals(&self) -> &[String] {
        &self.0.globals
    }

    pub(super) fn has_hidden_state(&self) -> bool {
        self.0.has_hidden_state
    }

    /// What every process of this module begins with, for other engines.
    ///
    /// # Errors
    /// As [`Instance::new`](super::Instance::new).
    pub(crate) fn begins(&self) -> Result<Begins, Error> {
        let begins = || {
            let resting = self.resting()?;
            let indices = self.globals().iter().map(|name| instrument::global_index(name));
            let bits = |value: &Val| match value {
                Val::I32(v) => u64::from(*v as u32),
                Val::I64(v) => *v as u64,
                Val::F32(v) => u64::from(*v),
                Val::F64(v) => *v,
                _ => 0,
            };
            let globals = indices.zip(resting.globals.iter().map(bits)).collect();
            Ok(Begins { memory: resting.image.bytes()?, globals })
        };
        with_room(begins).map_err(|e| Error::host("cannot start a thread", e))?
    }

    /// The state that every process of this module begins with.
    pub(super) fn resting(&self) -> Result<&Resting, Error> {
        if let Some(resting) = self.0.resting.get() {
            return Ok(resting);
        }
        let made = Live::boot(self)?;
        Ok(self.0.resting.get_or_init(|| made))
    }
}
