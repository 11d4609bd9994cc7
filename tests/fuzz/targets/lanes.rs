//! Random modules on both engines: results, traps, gas, memory and globals must be the same.
//!
//! ```text
//! cargo fuzz run --fuzz-dir tests/fuzz lanes
//! ```
//!
//! It takes the best adapter there is; `VK_DRIVER_FILES` chooses a driver.
#![no_main]
#![allow(missing_docs)] // The entry point is the macro's.

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use lockstep_jit::{
    gpu::{Choice, Device},
    lanes::differential::random_calls,
};

static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    let device =
        Device::open(&Choice::Required).expect("the fuzzer needs an adapter, a program on the processor at least");
    device.expect("an adapter was required")
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // The first byte chooses what modules may have, and how integers are computed.
    let Some((seed, bytes)) = bytes.split_first() else { return Corpus::Reject };
    match random_calls(&DEVICE, u64::from(*seed), bytes) {
        // Kernels that are refused are as good as any.
        Some(_) => Corpus::Keep,
        None => Corpus::Reject,
    }
});
