//! The native engine: Cranelift machine code through wasmtime, one live instance per process.

mod artifacts;
mod engine;
mod instance;
mod live;
mod memory;
mod pagemap;
mod stack;
mod stop;
#[cfg(test)]
mod tests;

pub use engine::{Engine, EngineSettings, Module};
pub use instance::{Call, Instance, OwnedCall};
pub(crate) use live::Names;
pub use memory::RESERVATION_BYTES;
pub use stack::{STACK_BYTES, spawn_evaluator};
