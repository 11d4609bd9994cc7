//! The seam between this room and whatever runs guest code.
//!
//! [`lockstep_jit`] is the only implementation in the product; tests put a deterministic stand-in here.

use std::{sync::Arc, time::Duration};

use lockstep_jit::{Call, Evaluation, ModuleFormat};

/// Turns a module's bytes into something that runs. Blocking.
pub trait Evaluator: Send + Sync + 'static {
    /// Validates and compiles.
    fn load(&self, wasm: &[u8], format: ModuleFormat) -> Result<Arc<dyn Program>, lockstep_jit::Error>;
}

/// A compiled module.
pub trait Program: Send + Sync {
    /// A process that has evaluated nothing yet. Blocking.
    fn instance(&self) -> Result<Box<dyn Live>, lockstep_jit::Error>;
    /// Bytes of machine code.
    fn code_bytes(&self) -> u64;
    /// What it cost to load.
    fn compile_time(&self) -> Duration;
}

/// A process's memory and the code that runs on it. Blocking.
pub trait Live: Send {
    /// Evaluates in place. On `Err` nothing changed, unless the process [is broken](Self::is_broken) now.
    fn evaluate(&mut self, call: &Call<'_>) -> Result<Evaluation, lockstep_jit::Error>;
    /// Whether its memory was lost to a failure of the host: it must be made again from its schedule.
    fn is_broken(&self) -> bool;
    /// False until an evaluation was kept.
    fn has_state(&self) -> bool;
    /// A copy of the whole linear memory.
    fn memory(&mut self) -> Vec<u8>;
    /// An independent process with the same state.
    fn fork(&mut self) -> Result<Box<dyn Live>, lockstep_jit::Error>;
    /// Host memory held, bytes.
    fn resident_bytes(&self) -> u64;
}

impl Evaluator for lockstep_jit::Engine {
    fn load(&self, wasm: &[u8], format: ModuleFormat) -> Result<Arc<dyn Program>, lockstep_jit::Error> {
        Ok(Arc::new(Self::load(self, wasm, format)?))
    }
}

impl Program for lockstep_jit::Module {
    fn instance(&self) -> Result<Box<dyn Live>, lockstep_jit::Error> {
        Ok(Box::new(lockstep_jit::Instance::new(self)?))
    }

    fn code_bytes(&self) -> u64 {
        Self::code_bytes(self)
    }

    fn compile_time(&self) -> Duration {
        Self::compile_time(self)
    }
}

impl Live for lockstep_jit::Instance {
    fn evaluate(&mut self, call: &Call<'_>) -> Result<Evaluation, lockstep_jit::Error> {
        Self::evaluate(self, call)
    }

    fn is_broken(&self) -> bool {
        Self::is_broken(self)
    }

    fn has_state(&self) -> bool {
        Self::has_state(self)
    }

    fn memory(&mut self) -> Vec<u8> {
        Self::memory(self).to_vec()
    }

    fn fork(&mut self) -> Result<Box<dyn Live>, lockstep_jit::Error> {
        Ok(Box::new(Self::fork(self)?))
    }

    fn resident_bytes(&self) -> u64 {
        Self::resident_bytes(self)
    }
}
