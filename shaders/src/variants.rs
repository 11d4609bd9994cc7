//! Which variants of the kernels an adapter runs: the form of each scheme's arithmetic, and how RSA is shared among lanes.
//! What is fastest differs from adapter to adapter, so it is measured when one is opened.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::device::{Device, Lost, OpenError};
use crate::gpu::Scheme;
use crate::kernels::ed25519::{Ed25519Kernel, Rule};
use crate::kernels::rsa_pss::{Mapping, RsaKernel};
use crate::kernels::secp256k1::Secp256k1Kernel;
use crate::limbs::Form;
use crate::signature::{Ed25519, RsaPss, Secp256k1};

/// The variants of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variants {
    /// Of RSA-PSS.
    pub rsa_pss: Form,
    /// Batches of so many RSA signatures and fewer are shared by several lanes a signature; larger ones take one lane each.
    pub rsa_lanes_up_to: usize,
    /// Of Ed25519.
    pub ed25519: Form,
    /// Of secp256k1.
    pub secp256k1: Form,
}

impl fmt::Display for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Variants { rsa_pss, rsa_lanes_up_to, ed25519, secp256k1 } = self;
        write!(f, "RSA-PSS {rsa_pss}, ")?;
        match rsa_lanes_up_to {
            0 => write!(f, "one lane a signature")?,
            up_to => write!(f, "several lanes a signature for batches of up to {up_to}")?,
        }
        write!(f, "; Ed25519 {ed25519}; secp256k1 {secp256k1}")
    }
}

impl Variants {
    /// One form for all.
    pub fn all(form: Form) -> Variants {
        Variants { rsa_pss: form, rsa_lanes_up_to: 0, ed25519: form, secp256k1: form }
    }

    /// Measures what is fastest on a device.
    pub(crate) fn measure(device: &Device, rule: Rule, threads: NonZeroUsize) -> Result<Variants, OpenError> {
        let rsa_pss = fastest(
            device,
            |form| RsaKernel::new(device, form, 512, threads),
            |kernel, items: &[RsaPss]| kernel.verify(device, items),
        )?;
        let ed25519 = fastest(
            device,
            |form| Ed25519Kernel::new(device, form, rule, threads),
            |kernel, items: &[Ed25519]| kernel.verify(device, items),
        )?;
        let secp256k1 = fastest(
            device,
            |form| Secp256k1Kernel::new(device, form, threads),
            |kernel, items: &[Secp256k1]| kernel.verify(device, items),
        )?;
        let mut kernel = RsaKernel::new(device, rsa_pss, 512, threads)?;
        // A program on the processor has no lanes to fill.
        let sizes: &[usize] = if device.found.software { &[8, 64] } else { &[16, 128, 1024, 8192] };
        let rsa_lanes_up_to = faster_up_to(sizes, |mapping, signatures| {
            let items = vec![RsaPss::sample(); signatures];
            timed(|| kernel.verify_by(mapping, device, &items))
        })?;
        Ok(Variants { rsa_pss, rsa_lanes_up_to, ed25519, secp256k1 })
    }
}

/// The form in which a batch is done first.
fn fastest<S: Scheme + Clone, K>(
    device: &Device,
    compile: impl Fn(Form) -> Result<K, OpenError>,
    verify: impl Fn(&mut K, &[S]) -> Result<Vec<bool>, Lost>,
) -> Result<Form, OpenError> {
    let items = vec![S::sample(); if device.found.software { 64 } else { 8192 }];
    let mut fastest = (Duration::MAX, Form::THIN);
    for form in Form::ALL.into_iter().filter(|form| device.found.int64 || !form.wide) {
        let mut kernel = compile(form)?;
        let taken = timed(|| verify(&mut kernel, &items))?;
        if taken < fastest.0 {
            fastest = (taken, form);
        }
    }
    Ok(fastest.1)
}

/// How long a run takes after one that includes what a driver puts off until then.
fn timed(mut run: impl FnMut() -> Result<Vec<bool>, Lost>) -> Result<Duration, Lost> {
    run()?;
    let begun = Instant::now();
    run()?;
    Ok(begun.elapsed())
}

/// The largest of `sizes` up to which several lanes a signature are faster; 0 if they never are.
fn faster_up_to(
    sizes: &[usize],
    mut time: impl FnMut(Mapping, usize) -> Result<Duration, Lost>,
) -> Result<usize, Lost> {
    let mut up_to = 0;
    for signatures in sizes {
        if time(Mapping::Lanes, *signatures)? >= time(Mapping::Lane, *signatures)? {
            break;
        }
        up_to = *signatures;
    }
    Ok(up_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lanes_are_taken_for_batches_with_which_they_are_faster() {
        let micros = |lane: [u64; 3], lanes: [u64; 3]| {
            faster_up_to(&[16, 128, 1024], |mapping, size| {
                let at = size.ilog2() as usize / 3 - 1;
                Ok(Duration::from_micros(if mapping == Mapping::Lane { lane[at] } else { lanes[at] }))
            })
        };
        assert_eq!(micros([900, 900, 900], [100, 400, 2000]), Ok(128));
        assert_eq!(micros([900, 900, 900], [100, 400, 800]), Ok(1024));
        assert_eq!(micros([900, 900, 900], [900, 400, 800]), Ok(0));
        let lost = Lost { reason: "a test".into() };
        assert_eq!(faster_up_to(&[1], |_, _| Err(lost.clone())), Err(lost.clone()));
    }
}
