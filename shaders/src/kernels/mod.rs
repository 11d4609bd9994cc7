//! The kernels: for each its host side and its twin, which does on the CPU, block by block of lanes, what the kernel does.

pub mod curve;
pub mod ed25519;
pub mod program;
pub mod rsa_pss;

/// `template` with every `@name@` replaced.
pub(crate) fn fill(template: &str, parts: &[(&str, String)]) -> String {
    parts.iter().fold(template.to_owned(), |text, (name, part)| text.replace(&format!("@{name}@"), part))
}
