//! The kernels: for each its host side and its twin, which does on the CPU, block by block of lanes, what the kernel does.

pub mod curve;
pub mod ed25519;
pub mod program;
pub mod rsa_pss;
pub mod rsa_rows;
pub mod rsa_tiles;
pub mod secp256k1;

use std::num::NonZeroUsize;
use std::thread;

/// Items that are worth a thread: the host's side of one takes about a microsecond.
const WORTH_A_THREAD: usize = 256;

/// What `f` makes of `items`, a run of them at a time, on up to `threads` threads of which this is one; in order.
pub(crate) fn in_runs<T: Sync, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    f: impl Fn(&[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    let share = items.len().div_ceil(threads.get()).max(WORTH_A_THREAD);
    let Some((own, others)) = items.split_at_checked(share).filter(|(_, others)| !others.is_empty()) else {
        return f(items);
    };
    let f = &f;
    thread::scope(|scope| {
        let others: Vec<_> = others
            .chunks(share)
            .map(|run| (run, thread::Builder::new().name("gpu-host".into()).spawn_scoped(scope, move || f(run)).ok()))
            .collect();
        let mut made = f(own);
        for (run, thread) in others {
            made.extend(match thread {
                Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // The system gave no thread for it.
                None => f(run),
            });
        }
        made
    })
}

/// `template` with every `@name@` replaced.
pub(crate) fn fill(template: &str, parts: &[(&str, String)]) -> String {
    parts.iter().fold(template.to_owned(), |text, (name, part)| text.replace(&format!("@{name}@"), part))
}

#[cfg(test)]
mod tests {
    use naga::back::{hlsl, msl, spv};
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::*;
    use crate::limbs::Form;
    use crate::limbs::field::Field;
    use crate::limbs::rows::Rows;
    use crate::limbs::tile::Tiles;

    fn kernels(form: Form) -> [(&'static str, String); 6] {
        [
            ("RSA-2048, one lane", rsa_tiles::wgsl(Tiles::new(form, 2048))),
            ("RSA-4096, one lane", rsa_tiles::wgsl(Tiles::new(form, 4096))),
            ("RSA-2048, several lanes", rsa_rows::wgsl(Rows::new(form, 2048))),
            ("RSA-4096, several lanes", rsa_rows::wgsl(Rows::new(form, 4096))),
            ("2^255 - 19", curve::wgsl(&Field::curve25519(form))),
            ("secp256k1", curve::wgsl(&Field::secp256k1(form))),
        ]
    }

    #[test]
    fn runs_are_put_together_in_order_for_any_number_of_threads() {
        for count in [0, 1, WORTH_A_THREAD, WORTH_A_THREAD + 1, 10 * WORTH_A_THREAD + 7] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [1, 2, 3, 50] {
                let made = in_runs(&items, NonZeroUsize::new(threads).unwrap(), |run| {
                    run.iter().filter(|item| *item % 3 != 0).map(|item| 2 * item).collect()
                });
                assert_eq!(made, (0..count).filter(|item| item % 3 != 0).map(|item| 2 * item).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_kernel_is_valid_for_vulkan_metal_and_direct3d() {
        for form in Form::ALL {
            for (name, wgsl) in kernels(form) {
                let module = naga::front::wgsl::parse_str(&wgsl).unwrap_or_else(|error| panic!("{name}: {error}"));
                let capabilities = if form.wide { Capabilities::SHADER_INT64 } else { Capabilities::empty() };
                let info = Validator::new(ValidationFlags::all(), capabilities)
                    .validate(&module)
                    .unwrap_or_else(|error| panic!("{name} {form:?}: {error:?}"));

                let spirv = spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap();
                // SPIR-V's magic number (specification, section 2.3).
                assert_eq!(spirv[0], 0x0723_0203);

                let options = msl::Options { lang_version: (2, 3), fake_missing_bindings: true, ..Default::default() };
                let (metal, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).unwrap();
                assert!(metal.contains("kernel void main_("));

                let mut direct3d = String::new();
                let options = hlsl::Options {
                    shader_model: if form.wide { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 },
                    ..Default::default()
                };
                hlsl::Writer::new(&mut direct3d, &options, &hlsl::PipelineOptions::default())
                    .write(&module, &info, None)
                    .unwrap_or_else(|error| panic!("{name} {form:?}: {error}"));
                assert!(direct3d.contains("[numthreads(64, 1, 1)]"));
            }
        }
    }
}
