//! What the tests of kernels share: repeatable random numbers, the adapter, and the comparison.

use std::{fmt::Debug, time::Instant};

use num_bigint::BigUint;
use sha2::{Digest, Sha256};

use crate::limbs::Form;

/// SHA-256 in counter mode: the same numbers in every run.
pub struct Random {
    seed: u64,
    counter: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { seed, counter: 0 }
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(32) {
            self.counter += 1;
            let block =
                Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.counter.to_le_bytes()).finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        bytes
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % bound
    }

    pub fn number(&mut self, bytes: usize) -> BigUint {
        BigUint::from_bytes_le(&(0..bytes).map(|_| self.bytes::<1>()[0]).collect::<Vec<_>>())
    }
}

/// Whether `verify` says of every item what is expected of it. More than an eighth of the items has to be valid, so that
/// refusing them all is no agreement.
pub fn agrees<T: Clone + Debug>(name: &str, items: &[(T, bool)], verify: impl FnOnce(&[T]) -> Vec<bool>) {
    let inputs: Vec<_> = items.iter().map(|(item, _)| item.clone()).collect();
    let begun = Instant::now();
    let valid = verify(&inputs);
    println!("{name}: {} signatures in {:?}", items.len(), begun.elapsed());
    assert_eq!(valid.len(), items.len());
    for (index, ((item, expected), valid)) in items.iter().zip(valid).enumerate() {
        assert_eq!(valid, *expected, "{name}, signature {index}: {item:?}");
    }
    assert!(items.iter().filter(|(_, valid)| *valid).count() > items.len() / 8);
}

/// How many random cases a test tries: `LOCKSTEP_SIGNATURES` if set, else `default`.
pub fn cases(default: usize) -> usize {
    std::env::var("LOCKSTEP_SIGNATURES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The forms that kernels are tested in on an adapter: all that it can run, or, where `LOCKSTEP_SIGNATURES` asks for many
/// cases, the two that adapters choose.
pub fn forms(device: &crate::device::Device) -> Vec<Form> {
    let many = std::env::var_os("LOCKSTEP_SIGNATURES").is_some();
    let wanted = if many { &[Form::THIN, Form::WIDEST][..] } else { &Form::ALL };
    wanted.iter().copied().filter(|form| device.found.int64 || !form.wide).collect()
}

/// Of the forms that adapters choose, the fastest that this one can run.
pub fn quick_form(device: &crate::device::Device) -> Form {
    if device.found.int64 { Form::WIDEST } else { Form::THIN }
}

/// The adapter that tests run on: the one named by `LOCKSTEP_GPU`, else the best, programs on the CPU included. Without
/// any, tests of kernels say so and pass, unless `LOCKSTEP_REQUIRE_GPU` is set.
pub fn device() -> Option<crate::device::Device> {
    let choice = std::env::var("LOCKSTEP_GPU").map_or(crate::device::Choice::Required, crate::device::Choice::Named);
    match crate::device::Device::open(&choice) {
        Ok(device) => device,
        Err(error) if std::env::var_os("LOCKSTEP_REQUIRE_GPU").is_some() => panic!("no GPU to test on: {error}"),
        Err(error) => {
            eprintln!("NOT TESTED: {error}. Install mesa-vulkan-drivers to run kernels on the CPU.");
            None
        }
    }
}
