//! Signatures verified on the processor, a batch at a time and on as many threads as are given.
//!
//! This is where small batches go, and all of them where there is no GPU. What is valid is decided here: a kernel of the
//! same scheme must give the same answers. Each function takes a batch and gives one `bool` per item, in order; an empty
//! batch gives none. No input makes them panic.

pub mod ed25519;
pub mod rsa_pss;
pub mod secp256k1;

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    thread,
};

/// Threads that this machine runs at once, at least one.
pub fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Checks `items`, `grain` at a time, on up to `threads` threads of which this is one. Each makes itself one `state` and
/// keeps it. A thread that the system does not give is done without.
pub(crate) fn in_parallel<'a, T: Sync, S>(
    items: &'a [T],
    threads: NonZeroUsize,
    grain: usize,
    state: impl Fn() -> S + Sync,
    check: impl Fn(&mut S, &'a [T], &mut [bool]) + Sync,
) -> Vec<bool> {
    let mut verdicts = vec![false; items.len()];
    let work = Mutex::new(items.chunks(grain).zip(verdicts.chunks_mut(grain)));
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let mut state = state();
        while let Some((items, verdicts)) = next() {
            check(&mut state, items, verdicts);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(items.len().div_ceil(grain)) {
            // Whatever it would have done, the others do.
            let _ = thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, run);
        }
        run();
    });
    verdicts
}

/// So many random numbers of 128 bits, which nobody who makes items can foresee; none if the system has none. From the system
/// itself: AWS-LC's generator seeds itself first, by measuring jitter, and that takes as long as many signatures.
fn random_numbers(count: usize) -> Option<Vec<u128>> {
    let mut bytes = vec![0; count * size_of::<u128>()];
    getrandom::fill(&mut bytes).ok()?;
    let (numbers, _) = bytes.as_chunks();
    Some(numbers.iter().map(|bytes| u128::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_answered_in_its_place_for_any_number_of_threads() {
        for count in [0usize, 1, 2, 7, 64, 65, 1000] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [1usize, 2, 5] {
                let threads = NonZeroUsize::new(threads).unwrap();
                let odd = in_parallel(
                    &items,
                    threads,
                    8,
                    || (),
                    |(), items, verdicts| {
                        for (item, verdict) in items.iter().zip(verdicts) {
                            *verdict = item % 2 == 1;
                        }
                    },
                );
                assert_eq!(odd, items.iter().map(|item| item % 2 == 1).collect::<Vec<_>>());
            }
        }
    }
}
