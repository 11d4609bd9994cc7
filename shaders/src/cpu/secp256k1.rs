//! ECDSA on secp256k1, by libsecp256k1.
//!
//! # The rule
//!
//! SEC 1, sections 4.1.4 and 4.1.6, and nothing more: r and s from 1 to n - 1, each read as it stands (never reduced);
//! either half of s; a key is a point of the curve with both coordinates below p. A recovery number of 2 or 3 means that
//! the x of R is r + n. Whoever wants low s only, or other rules about how a signature is written, checks that before.

use std::num::NonZeroUsize;

use secp256k1::{
    Message, PublicKey,
    ecdsa::{RecoverableSignature, RecoveryId, Signature},
};
use sha3::{Digest, Keccak256};

use crate::signature::{Secp256k1, Signer};

/// Items that a thread takes at a time: half a millisecond of work.
const GRAIN: usize = 16;

/// Verifies each item.
pub fn verify(items: &[Secp256k1], threads: NonZeroUsize) -> Vec<bool> {
    super::in_parallel(
        items,
        threads,
        GRAIN,
        || (),
        |(), items, verdicts| {
            for (item, verdict) in items.iter().zip(verdicts) {
                *verdict = is_valid(item);
            }
        },
    )
}

/// Verifies one item.
pub fn is_valid(item: &Secp256k1) -> bool {
    match &item.signer {
        Signer::Key(key) => is_by_key(item, key),
        Signer::Address { recovery, address } => {
            recover(item, *recovery).is_some_and(|key| address_of(&key) == *address)
        }
    }
}

/// The Ethereum address of a public key (x, then y).
pub fn address_of(key: &[u8; 64]) -> [u8; 20] {
    let mut address = [0; 20];
    address.copy_from_slice(&Keccak256::digest(key)[12..]);
    address
}

fn is_by_key(item: &Secp256k1, key: &[u8; 64]) -> bool {
    let mut encoded = [4; 65];
    encoded[1..].copy_from_slice(key);
    let (Ok(key), Ok(mut signature)) = (PublicKey::from_slice(&encoded), Signature::from_compact(&item.signature))
    else {
        return false;
    };
    // The library takes low s only; (r, n - s) is the same statement.
    signature.normalize_s();
    signature.verify(Message::from_digest(item.digest), &key).is_ok()
}

/// The key that a signature recovers to (x, then y).
fn recover(item: &Secp256k1, recovery: u8) -> Option<[u8; 64]> {
    let recovery = RecoveryId::try_from(i32::from(recovery)).ok()?;
    let signature = RecoverableSignature::from_compact(&item.signature, recovery).ok()?;
    let key = signature.recover(Message::from_digest(item.digest)).ok()?;
    let mut coordinates = [0; 64];
    coordinates.copy_from_slice(&key.serialize_uncompressed()[1..]);
    Some(coordinates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secp256k1::SecretKey;

    use super::*;

    /// n - s.
    fn other_half(signature: &mut [u8; 64]) {
        let s: [u8; 32] = signature[32..].try_into().unwrap();
        let minus = SecretKey::from_secret_bytes(s).unwrap().negate();
        signature[32..].copy_from_slice(&minus.to_secret_bytes());
    }

    /// By key, and by address.
    fn signed(secret: u8, digest: [u8; 32]) -> [Secp256k1; 2] {
        let secret = SecretKey::from_secret_bytes([secret; 32]).unwrap();
        let mut key = [0; 64];
        key.copy_from_slice(&PublicKey::from_secret_key(&secret).serialize_uncompressed()[1..]);
        let recoverable = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &secret);
        let (recovery, signature) = recoverable.serialize_compact();
        let recovery = recovery.to_u8();
        [Signer::Key(key), Signer::Address { recovery, address: address_of(&key) }].map(|signer| Secp256k1 {
            digest,
            signature,
            signer,
        })
    }

    #[test]
    fn both_halves_of_s_are_signatures() {
        let [mut by_key, mut by_address] = signed(5, [3; 32]);
        assert!(is_valid(&by_key) && is_valid(&by_address));
        other_half(&mut by_key.signature);
        other_half(&mut by_address.signature);
        assert!(is_valid(&by_key));
        assert!(!is_valid(&by_address), "the other half belongs to the other recovery number");
        let Signer::Address { recovery, .. } = &mut by_address.signer else { unreachable!() };
        *recovery ^= 1;
        assert!(is_valid(&by_address));
    }

    #[test]
    fn the_address_of_the_private_key_one_is_known() {
        let mut one = [0; 32];
        one[31] = 1;
        let key = PublicKey::from_secret_key(&SecretKey::from_secret_bytes(one).unwrap()).serialize_uncompressed();
        let address = address_of(key[1..].try_into().unwrap());
        assert_eq!(address[..4], [0x7e, 0x5f, 0x45, 0x52]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_bit_is_no_signature(digest: [u8; 32], at in 0usize..512, of_digest in 0usize..256) {
            for item in signed(7, digest) {
                prop_assert!(is_valid(&item));
                let mut changed = item.clone();
                changed.signature[at / 8] ^= 1 << (at % 8);
                prop_assert!(!is_valid(&changed));
                let mut changed = item;
                changed.digest[of_digest / 8] ^= 1 << (of_digest % 8);
                prop_assert!(!is_valid(&changed));
            }
        }

        #[test]
        fn any_bytes_have_an_answer(digest: [u8; 32], r: [u8; 32], s: [u8; 32], x: [u8; 32], y: [u8; 32], recovery: u8) {
            let join = |a: [u8; 32], b: [u8; 32]| -> [u8; 64] { [a, b].concat().try_into().unwrap() };
            let signature = join(r, s);
            for signer in [Signer::Key(join(x, y)), Signer::Address { recovery, address: [0; 20] }] {
                let item = Secp256k1 { digest, signature, signer };
                prop_assert!(!is_valid(&item));
            }
        }
    }
}
