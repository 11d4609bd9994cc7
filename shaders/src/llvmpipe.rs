//! How wide the vectors are of llvmpipe, Mesa's driver that is a program on the processor (to Vulkan it is lavapipe).
//!
//! Unless told otherwise it takes 256 bits, eight lanes, on processors with AVX-512 as well; kernels that live in registers
//! are faster there with 512. It is told by the environment, which it reads when it is loaded.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
};

/// How many bits a vector has, for llvmpipe.
const VECTOR_WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";
/// A list of what its code generator should do otherwise. Some versions of Mesa (22.3) know what they compiled before by this
/// list and not by the width, and would take kernels of one width from the cache on disk where those of another are meant.
const PERFORMANCE_FLAGS: &str = "GALLIVM_PERF";
/// The flag that tells apart what is compiled for wide vectors. It says how textures are sampled, and kernels here have none.
const DISTINGUISHING_FLAG: &str = "no_aos_sampling";

/// Has llvmpipe use all of the processor's vectors, where these have 512 bits and nothing in the environment says how wide
/// they should be. For the beginning of `main`: it does nothing once the process has a second thread. Whether it set anything.
pub fn widen_vectors() -> bool {
    let wanted =
        variables(has_avx512(), env::var_os(VECTOR_WIDTH).as_deref(), env::var_os(PERFORMANCE_FLAGS).as_deref());
    set_if_alone(&wanted)
}

/// What to set, with the environment as it is.
fn variables(
    has_avx512: bool,
    vector_width: Option<&OsStr>,
    performance_flags: Option<&OsStr>,
) -> Vec<(&'static str, OsString)> {
    if !has_avx512 || vector_width.is_some() {
        return Vec::new();
    }
    let mut flags = performance_flags.unwrap_or_default().to_owned();
    if !has_flag(&flags) {
        if !flags.is_empty() {
            flags.push(",");
        }
        flags.push(DISTINGUISHING_FLAG);
    }
    vec![(VECTOR_WIDTH, "512".into()), (PERFORMANCE_FLAGS, flags)]
}

/// Whether the flag is in a list, as Mesa reads it: names between other characters, or `all` alone.
fn has_flag(flags: &OsStr) -> bool {
    let flags = flags.to_string_lossy();
    let mut names = flags.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    flags == "all" || names.any(|name| name == DISTINGUISHING_FLAG)
}

/// The parts of AVX-512 that integers and masks of kernels need.
fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Sets variables, if this is the process's only thread; whether it did, and there were any.
fn set_if_alone(variables: &[(&str, OsString)]) -> bool {
    if variables.is_empty() || !is_alone() {
        return false;
    }
    for (name, value) in variables {
        // SAFETY: The environment may be changed while no other thread can read or change it. There is none, as the system
        // has just said, and only this one could begin one.
        #[allow(unsafe_code)]
        unsafe {
            env::set_var(name, value);
        }
    }
    true
}

/// Whether this is the process's only thread; false where nobody says.
fn is_alone() -> bool {
    let threads = fs::read_dir("/proc/self/task").and_then(Iterator::collect::<io::Result<Vec<_>>>);
    threads.is_ok_and(|threads| threads.len() == 1)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    fn set(has_avx512: bool, vector_width: Option<&str>, performance_flags: Option<&str>) -> Vec<String> {
        let variables = variables(has_avx512, vector_width.map(OsStr::new), performance_flags.map(OsStr::new));
        variables.into_iter().map(|(name, value)| format!("{name}={}", value.display())).collect()
    }

    const WIDE: &str = "LP_NATIVE_VECTOR_WIDTH=512";

    #[test]
    fn vectors_of_512_bits_and_a_flag_for_the_cache_where_the_processor_has_them() {
        assert_eq!(set(true, None, None), [WIDE, "GALLIVM_PERF=no_aos_sampling"]);
    }

    #[test]
    fn nothing_is_set_where_the_processor_has_no_such_vectors_or_a_width_is_given() {
        assert!(set(false, None, None).is_empty());
        assert!(set(false, Some("128"), Some("nopt")).is_empty());
        for width in ["128", "256", "512", ""] {
            assert!(set(true, Some(width), None).is_empty(), "{width:?}");
            assert!(set(true, Some(width), Some("brilinear")).is_empty(), "{width:?}");
        }
    }

    #[test]
    fn flags_that_are_given_stay() {
        for (given, becomes) in [
            ("", "no_aos_sampling"),
            ("brilinear", "brilinear,no_aos_sampling"),
            ("rho_approx,brilinear", "rho_approx,brilinear,no_aos_sampling"),
            ("no_aos_sampling_", "no_aos_sampling_,no_aos_sampling"),
            // Mesa takes the word alone for every flag, and in a list for none.
            ("all", "all"),
            ("all,brilinear", "all,brilinear,no_aos_sampling"),
            ("no_aos_sampling", "no_aos_sampling"),
            ("brilinear no_aos_sampling", "brilinear no_aos_sampling"),
        ] {
            assert_eq!(set(true, None, Some(given)), [WIDE.to_owned(), format!("GALLIVM_PERF={becomes}")], "{given:?}");
        }
    }

    #[test]
    fn nothing_is_set_beside_another_thread() {
        const NAME: &str = "LOCKSTEP_SET_BESIDE_A_THREAD";
        let (end, ends) = mpsc::channel::<()>();
        let other = thread::spawn(move || ends.recv());
        assert!(!is_alone());
        assert!(!set_if_alone(&[(NAME, "1".into())]));
        assert!(env::var_os(NAME).is_none());
        assert!(!widen_vectors());
        drop(end);
        assert!(other.join().expect("it only waits").is_err());
    }
}
