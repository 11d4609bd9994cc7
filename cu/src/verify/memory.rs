//! What has been found valid, so that nothing is checked twice.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use lockstep_shaders::signature::Signer;

use crate::item::Checks;

/// Signatures remembered: the newest, at least half as many. 64 bytes each, about.
const REMEMBERED_MAX: usize = 1 << 17;

/// SHA-256 over everything that a check depends on. An item's id would not do: it says nothing about the content.
pub(super) type Mark = [u8; 32];

/// A bounded set of marks: two halves, of which the older goes when the newer is full.
#[derive(Default)]
pub(super) struct Memory {
    newer: HashSet<Mark>,
    older: HashSet<Mark>,
}

impl Memory {
    pub fn has(&self, mark: &Mark) -> bool {
        self.newer.contains(mark) || self.older.contains(mark)
    }

    pub fn add(&mut self, mark: Mark) {
        if self.newer.len() >= REMEMBERED_MAX / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(mark);
    }
}

/// The mark of checks.
pub(super) fn mark(checks: &Checks) -> Mark {
    let mut hash = Sha256::new();
    // A part's length goes before it: no two lists of parts make the same bytes.
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    match checks {
        Checks::RsaPss(item) => {
            add(b"rsa-pss");
            add(&item.modulus);
            add(&item.signature);
            add(&item.digest);
        }
        Checks::Ed25519(items) => {
            add(b"ed25519");
            for item in items {
                add(&item.public_key);
                add(&item.signature);
                add(&item.message);
            }
        }
        Checks::Secp256k1(item) => {
            add(b"secp256k1");
            add(&item.signature);
            add(&item.digest);
            match &item.signer {
                Signer::Key(key) => add(key),
                Signer::Recovered { recovery, key } => {
                    add(&[*recovery]);
                    add(key);
                }
                Signer::Address { recovery, address } => {
                    add(&[*recovery]);
                    add(address);
                }
            }
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_half_is_remembered_and_the_set_is_bounded() {
        let mut memory = Memory::default();
        let mark = |i: usize| -> Mark { Sha256::digest(i.to_le_bytes()).into() };
        for i in 0..2 * REMEMBERED_MAX {
            memory.add(mark(i));
            assert!(memory.has(&mark(i)));
            assert!(memory.newer.len() + memory.older.len() <= REMEMBERED_MAX);
        }
        assert!((3 * REMEMBERED_MAX / 2..2 * REMEMBERED_MAX).all(|i| memory.has(&mark(i))));
        assert!(!memory.has(&mark(0)));
    }
}
