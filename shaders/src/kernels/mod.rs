//! The kernels: for each its host side and its twin, which does on the CPU, block by block of lanes, what the kernel does.

pub mod curve;
pub mod ed25519;
pub mod program;
pub mod rsa_pss;
pub mod secp256k1;

/// `template` with every `@name@` replaced.
pub(crate) fn fill(template: &str, parts: &[(&str, String)]) -> String {
    parts.iter().fold(template.to_owned(), |text, (name, part)| text.replace(&format!("@{name}@"), part))
}

#[cfg(test)]
mod tests {
    use naga::back::{hlsl, msl, spv};
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::{curve, rsa_pss};
    use crate::limbs::Form;
    use crate::limbs::field::Field;
    use crate::limbs::tile::Tiles;

    fn kernels(form: Form) -> [(&'static str, String); 4] {
        [
            ("RSA-2048", rsa_pss::wgsl(Tiles::new(form, 2048))),
            ("RSA-4096", rsa_pss::wgsl(Tiles::new(form, 4096))),
            ("2^255 - 19", curve::wgsl(&Field::curve25519(form))),
            ("secp256k1", curve::wgsl(&Field::secp256k1(form))),
        ]
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
