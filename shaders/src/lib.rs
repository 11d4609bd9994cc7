//! The GPU room: devices, kernels in WGSL, and for every kernel a CPU twin of the same name.
//!
//! This room knows nothing of WebAssembly, ao or HTTP. It holds no kernel yet; the first to move in are the
//! signature kernels.
#![forbid(unsafe_code)]

pub mod cpu;
pub mod signature;
