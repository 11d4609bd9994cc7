//! The guest's `/dev/random` and `/dev/urandom`.
//!
//! The reference hands guests the host's randomness there; two honest units would then disagree. Here the bytes are
//! BLAKE3's extendable output over the message's id: unpredictable to whoever wrote the guest, the same on every
//! machine.

use std::fmt;

/// An endless stream of bytes that depends on its seed alone.
#[derive(Clone)]
pub struct Random(blake3::OutputReader);

impl Random {
    /// The stream of `seed` (a message's id), from its beginning.
    pub fn new(seed: &str) -> Self {
        Self(blake3::Hasher::new().update(seed.as_bytes()).finalize_xof())
    }

    /// Fills `bytes` with the next part of the stream.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Random(at byte {})", self.0.position())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take<const N: usize>(random: &mut Random) -> [u8; N] {
        let mut bytes = [0; N];
        random.fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_stream_is_blake3_of_the_seed() {
        assert_eq!(take::<32>(&mut Random::new("abc")), *blake3::hash(b"abc").as_bytes());
    }

    #[test]
    fn reading_in_parts_gives_the_same_bytes_as_reading_at_once() {
        let mut parts = Random::new("m");
        let (first, second) = (take::<5>(&mut parts), take::<95>(&mut parts));
        let whole = take::<100>(&mut Random::new("m"));
        assert_eq!([&first[..], &second[..]].concat(), whole);
    }

    #[test]
    fn different_messages_get_different_bytes() {
        assert_ne!(take::<16>(&mut Random::new("m")), take::<16>(&mut Random::new("n")));
    }
}
