//! The engines, and which of them evaluates a message.
//!
//! The traits are the seam between this room and whatever runs guest code: [`lockstep_jit`] is the only implementation in
//! the product ([`Jit`]); tests put a deterministic stand-in here. A module's [`Gate`] sends its messages to one or the other
//! engine, by what [`Rates`](rates::Rates) it has learnt of both.

mod counts;
mod doubts;
mod gate;
mod group;
mod jit;
mod rates;
mod seated;
mod spread;
mod witness;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lockstep_jit::{
    Call, Evaluation, ModuleFormat,
    gpu::Lost,
    lanes::{Came, Change, Stamp, Visit},
};

pub use counts::LanesCounts;
pub(crate) use gate::{Gate, Lives, Rules};
pub(crate) use group::Given;
pub(crate) use jit::Jit;

/// Which engine evaluates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// Lanes for messages with which they were measured to be faster, the native engine for all others.
    #[default]
    Auto,
    /// The native engine.
    Native,
    /// Lanes for every module that they can take, faster or not.
    Lanes,
}

impl EngineChoice {
    /// All of them, by name.
    pub const ALL: [(&'static str, EngineChoice); 3] =
        [("auto", EngineChoice::Auto), ("native", EngineChoice::Native), ("lanes", EngineChoice::Lanes)];
}

/// Turns a module's bytes into something that runs. Blocking.
pub trait Evaluator: Send + Sync + 'static {
    /// Validates and compiles.
    fn load(&self, wasm: &[u8], format: ModuleFormat) -> Result<Arc<dyn Program>, lockstep_jit::Error>;
}

/// A compiled module.
pub trait Program: Send + Sync {
    /// A process that has evaluated nothing yet. Blocking.
    fn instance(&self) -> Result<Box<dyn Live>, lockstep_jit::Error>;
    /// The module compiled for lanes. Blocking, for seconds. `Error::Module`: lanes cannot take it, or there is
    /// nothing that they could run on.
    fn lanes(&self) -> Result<Box<dyn Seating>, lockstep_jit::Error>;
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
    /// The whole linear memory.
    fn memory(&mut self) -> &[u8];
    /// What the memory is, where lanes know it by name.
    fn stamp(&self) -> Option<Stamp>;
    /// Makes what a lane made of a message the state. On `Err` the process is broken.
    fn take_over(&mut self, change: &Change) -> Result<(), lockstep_jit::Error>;
    /// An independent process with the same state.
    fn fork(&mut self) -> Result<Box<dyn Live>, lockstep_jit::Error>;
    /// Host memory held, bytes.
    fn resident_bytes(&self) -> u64;
}

/// A module's lanes. Blocking; used by one thread.
pub trait Seating: Send {
    /// Processes that one dispatch takes at most.
    fn lanes_max(&self) -> usize;
    /// What they run on: what was learnt of lanes holds for as long as that is the same.
    fn adapter(&self) -> &str;
    /// Evaluates messages of different processes at once; those not over by the deadline come back.
    fn evaluate(&mut self, visits: &[Visit<'_>], deadline: Instant) -> Result<Vec<Came>, Lost>;
    /// Why another kernel would do better, judging by what came back.
    fn complaint(&self) -> Option<&'static str>;
    /// Compiles that kernel, which takes as long as the first. On `Err` the one there is stays.
    fn compile_again(&mut self) -> Result<(), lockstep_jit::Error>;
}
