//! The WebAssembly room: validate, rewrite and meter modules; run them natively through Cranelift; speak the ao guest ABI
//! (`handle`, Emscripten's host functions); keep live instances and their memory.
//!
//! This room knows nothing of schedulers, storage or HTTP. Three nouns: an [`Engine`] compiles a [`Module`], and an
//! [`Instance`] is one process of it, alive.
#![warn(missing_docs)]

mod error;
pub mod format;
pub mod gas;
mod guest;
pub mod inspect;
pub mod instrument;
pub mod json;
pub mod lanes;
mod native;
pub mod outcome;

pub use error::Error;
pub use format::{ModuleFormat, UnknownFormat};
pub use guest::environ::GuestEnv;
pub use inspect::{ImportInfo, Inspection, MemoryInfo, inspect};
/// The GPU room, for whoever brings a device.
pub use lockstep_shaders::device as gpu;
pub use native::{
    Call, Engine, EngineSettings, Instance, Module, OwnedCall, RESERVATION_BYTES, STACK_BYTES, spawn_evaluator,
};
pub use outcome::{Evaluation, Outcome};
