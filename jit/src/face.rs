//! SKELETON of the public face; bodies arrive with the engine. (placeholder, being replaced)
#![allow(missing_docs)]
use crate::*;
use std::{path::PathBuf, str::FromStr, time::Duration};

/// What `environ` a guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GuestEnv {
    #[default]
    Reference,
    Empty,
}
impl FromStr for GuestEnv {
    type Err = String;
    fn from_str(_s: &str) -> Result<Self, String> {
        todo!()
    }
}

/// Every way this crate fails that is not a result of the guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The module cannot be run (bad wasm, unknown import, missing export, refused feature, too large): deterministic.
    #[error("module {0}")]
    Module(String),
    /// The wall-clock bound passed. State is unchanged; nothing may be stored as a result.
    #[error("evaluation stopped after {0:?}: the wall-clock bound of this unit")]
    Timeout(Duration),
    /// The host could not provide memory, a file, a mapping. State is unchanged.
    #[error("{0}")]
    Host(String),
}

#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Where compiled code is kept; none: not kept.
    pub artifacts_dir: Option<PathBuf>,
    pub guest_env: GuestEnv,
    /// Upper bound on one guest's linear memory, bytes.
    pub memory_bytes_max: u64,
}

/// Compiles modules; cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Engine(());
impl Engine {
    pub fn new(_s: EngineSettings) -> Result<Self, Error> {
        todo!()
    }
    /// Validates, rewrites, compiles (or takes from the disk cache). Blocking: 1 to 3 s for aos when cold.
    pub fn load(&self, _wasm: &[u8], _format: ModuleFormat) -> Result<Module, Error> {
        todo!()
    }
}

/// A compiled module; cheap to clone.
#[derive(Clone)]
pub struct Module(());
impl Module {
    pub fn format(&self) -> ModuleFormat {
        todo!()
    }
    /// BLAKE3 of the wasm bytes.
    pub fn hash(&self) -> [u8; 32] {
        todo!()
    }
    pub fn compile_time(&self) -> Duration {
        todo!()
    }
    /// True if machine code came from the disk cache.
    pub fn from_cache(&self) -> bool {
        todo!()
    }
    pub fn code_bytes(&self) -> u64 {
        todo!()
    }
}

/// One evaluation's inputs. `message` and `environment` are the exact JSON bytes the guest gets.
pub struct Call<'a> {
    pub message: &'a str,
    pub environment: &'a str,
    /// Seeds the guest's `/dev/urandom` (the message's id; anything stable).
    pub seed: &'a str,
    /// Compute-Limit; the reference's default is 9e15.
    pub gas_limit: u64,
    /// Wall clock bound.
    pub time_limit: Duration,
    /// `Block-Height` etc. are inside `message`; nothing else reaches the guest.
    pub _p: (),
}

/// A live process: module + memory. `Send`, not `Sync`; blocking calls, run on the evaluation pool.
pub struct Instance(());
impl Instance {
    /// A process that has evaluated nothing yet.
    pub fn new(_module: &Module) -> Result<Self, Error> {
        todo!()
    }
    /// Evaluates one message in place. Guest failures are `Ok` with `outcome.error` and `kept == false`, and memory is
    /// as before. `Err` = infrastructure: memory is as before as well, and the instance stays usable.
    pub fn evaluate(&mut self, _c: &Call<'_>) -> Result<Evaluation, Error> {
        todo!()
    }
    /// False until an evaluation was kept (the reference's `Memory` is still null: `/state` has no bytes).
    pub fn has_state(&self) -> bool {
        todo!()
    }
    /// Size of the linear memory, bytes.
    pub fn memory_bytes(&self) -> u64 {
        todo!()
    }
    /// A copy of the whole linear memory.
    pub fn memory(&mut self) -> Vec<u8> {
        todo!()
    }
    /// An independent process with the same state (dry runs). Costs the non-zero pages.
    pub fn fork(&mut self) -> Result<Self, Error> {
        todo!()
    }
    /// Host memory this process holds now, bytes (written pages; for the memory budget).
    pub fn resident_bytes(&self) -> u64 {
        todo!()
    }
    pub fn module(&self) -> &Module {
        todo!()
    }
}
