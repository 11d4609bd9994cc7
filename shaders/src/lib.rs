//! The GPU room: devices, kernels in WGSL, and for every kernel a CPU twin of the same name.
//!
//! This room knows nothing of WebAssembly, ao or HTTP.
#![deny(unsafe_code)]

mod adapters;
pub mod batch;
pub mod buffers;
pub mod compute;
pub mod cpu;
pub mod device;
pub mod gpu;
pub mod kernels;
pub mod limbs;
pub mod llvmpipe;
mod pipeline_cache;
pub mod self_test;
pub mod signature;
#[cfg(test)]
mod test_numbers;
pub mod variants;
