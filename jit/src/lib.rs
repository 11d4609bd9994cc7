//! The WebAssembly room: validate, classify and meter modules; run them natively through Cranelift; speak the ao
//! guest ABI (`handle`, Emscripten's host functions); keep live instances and their memory.
//!
//! This room knows nothing of schedulers, storage or HTTP.

pub mod format;
pub mod guest;
pub mod outcome;

mod face;

pub use face::*;
pub use format::{ModuleFormat, UnknownFormat};
pub use outcome::{Evaluation, Outcome};
