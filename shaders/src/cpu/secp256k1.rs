//! ECDSA on secp256k1, by libsecp256k1.
//!
//! # The rule
//!
//! SEC 1, sections 4.1.4 and 4.1.6, and nothing more: r and s from 1 to n - 1, each read as it stands (never reduced);
//! either half of s; a key is a point of the curve with both coordinates below p. A recovery number of 2 or 3 means that
//! the x of R is r + n. Whoever wants low s only, or other rules about how a signature is written, checks that before.
//!
//! Signatures that come with a recovery number and the key are first checked together (`batch`), and each alone where
//! that does not show them valid: the answers are those of single checks.

mod batch;
mod buckets;

use std::num::NonZeroUsize;

use secp256k1::{
    Message, PublicKey,
    ecdsa::{RecoverableSignature, RecoveryId, Signature},
};
use sha3::{Digest, Keccak256};

use crate::signature::{Secp256k1, Signer};

/// Most items in one batch. Larger ones save little more and cost more when one item is bad.
const BATCH_MAX: usize = 256;
/// Fewest items worth a thread: a third of a millisecond of work. For less, waiting for a busy core costs more than is
/// won.
const GRAIN_MIN: usize = 16;

/// Verifies each item.
pub fn verify(items: &[Secp256k1], threads: NonZeroUsize) -> Vec<bool> {
    let grain = items.len().div_ceil(threads.get()).clamp(GRAIN_MIN, BATCH_MAX);
    super::in_parallel(
        items,
        threads,
        grain,
        || (),
        |(), items, verdicts| {
            for index in batch::valid(items) {
                verdicts[index] = true;
            }
            for (item, verdict) in items.iter().zip(verdicts) {
                *verdict = *verdict || is_valid(item);
            }
        },
    )
}

/// Verifies one item.
pub fn is_valid(item: &Secp256k1) -> bool {
    match &item.signer {
        Signer::Key(key) => is_by_key(item, key),
        Signer::Recovered { recovery, key } => recover(item, *recovery).is_some_and(|recovered| recovered == *key),
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

    /// By key, by the key recovered, and by its address.
    fn signed(secret: u8, digest: [u8; 32]) -> [Secp256k1; 3] {
        let secret = SecretKey::from_secret_bytes([secret; 32]).unwrap();
        let mut key = [0; 64];
        key.copy_from_slice(&PublicKey::from_secret_key(&secret).serialize_uncompressed()[1..]);
        let recoverable = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &secret);
        let (recovery, signature) = recoverable.serialize_compact();
        let recovery = recovery.to_u8();
        let address = address_of(&key);
        [Signer::Key(key), Signer::Recovered { recovery, key }, Signer::Address { recovery, address }]
            .map(|signer| Secp256k1 { digest, signature, signer })
    }

    /// An item by the key recovered, of one of many signers.
    pub(super) fn recovered(secret: u8, message: &[u8]) -> Secp256k1 {
        let [_, item, _] = signed(secret, Keccak256::digest(message).into());
        item
    }

    pub(super) fn one_thread() -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    #[test]
    fn both_halves_of_s_are_signatures() {
        let [mut by_key, mut by_recovery, mut by_address] = signed(5, [3; 32]);
        assert!(is_valid(&by_key) && is_valid(&by_recovery) && is_valid(&by_address));
        for item in [&mut by_key, &mut by_recovery, &mut by_address] {
            other_half(&mut item.signature);
        }
        assert!(is_valid(&by_key));
        for mut item in [by_recovery, by_address] {
            assert!(!is_valid(&item), "the other half belongs to the other recovery number");
            let (Signer::Recovered { recovery, .. } | Signer::Address { recovery, .. }) = &mut item.signer else {
                unreachable!()
            };
            *recovery ^= 1;
            assert!(is_valid(&item));
            assert_eq!(verify(&vec![item; 40], one_thread()), [true; 40]);
        }
    }

    #[test]
    fn the_address_of_the_private_key_one_is_known() {
        let mut one = [0; 32];
        one[31] = 1;
        let key = PublicKey::from_secret_key(&SecretKey::from_secret_bytes(one).unwrap()).serialize_uncompressed();
        let address = address_of(key[1..].try_into().unwrap());
        assert_eq!(address[..4], [0x7e, 0x5f, 0x45, 0x52]);
    }

    #[test]
    fn a_bad_item_spoils_nothing_but_itself() {
        for count in [1usize, 2, 4, 5, 255, 256, 257, 600] {
            for (bad, signers) in [(0, 7), (count / 2, 1), (count - 1, 200)] {
                let mut items: Vec<_> =
                    (0..count).map(|i| recovered((1 + i % signers) as u8, &i.to_le_bytes())).collect();
                assert!(verify(&items, one_thread()).into_iter().all(|valid| valid), "{count}");
                items[bad].digest[31] ^= 1;
                let verdicts = verify(&items, NonZeroUsize::new(2).unwrap());
                assert!(verdicts.into_iter().enumerate().all(|(i, valid)| valid == (i != bad)), "{count}, {bad}");
            }
        }
        assert!(verify(&[], one_thread()).is_empty());
    }

    #[test]
    fn all_kinds_of_signers_are_verified_side_by_side() {
        let items: Vec<_> = (0..40).flat_map(|i| signed(1 + i % 3, [i; 32])).collect();
        assert_eq!(verify(&items, one_thread()), [true; 120]);
        for bad in 0..6 {
            let mut items = items.clone();
            items[bad].signature[40] ^= 1;
            let verdicts = verify(&items, one_thread());
            assert!(verdicts.into_iter().enumerate().all(|(i, valid)| valid == (i != bad)), "{bad}");
        }
    }

    /// r is x - n, for an x from n on: found by starting from r. What key that is the library says, and that it signed.
    #[test]
    fn recovery_numbers_2_and_3_are_for_an_x_above_the_order() {
        let mut found = 0;
        for r in 1..40u8 {
            let mut item = recovered(1, &[r]);
            item.signature[..32].fill(0);
            item.signature[31] = r;
            for recovery in [2, 3] {
                let Some(key) = recover(&item, recovery) else { continue };
                found += 1;
                assert!(is_valid(&Secp256k1 { signer: Signer::Key(key), ..item.clone() }));
                let mut items: Vec<_> = (0..40).map(|i| recovered(1, &[i])).collect();
                for number in 0..5 {
                    items.push(Secp256k1 { signer: Signer::Recovered { recovery: number, key }, ..item.clone() });
                }
                let verdicts = verify(&items, one_thread());
                assert!(
                    verdicts.iter().enumerate().all(|(i, valid)| *valid == (i < 40 || i == 40 + usize::from(recovery)))
                );
            }
        }
        assert!(found > 20, "{found}");
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
            let (signature, key) = (join(r, s), join(x, y));
            let signers =
                [Signer::Key(key), Signer::Recovered { recovery, key }, Signer::Address { recovery, address: [0; 20] }];
            for signer in signers {
                let item = Secp256k1 { digest, signature, signer };
                prop_assert!(!is_valid(&item));
                prop_assert_eq!(verify(&vec![item; 30], one_thread()), [false; 30]);
            }
        }

        #[test]
        fn a_batch_says_what_single_checks_say(
            changes in prop::collection::vec(prop::option::weighted(0.02, (0usize..161, 0u8..8)), 30..80)
        ) {
            let items: Vec<_> = changes.iter().enumerate().map(|(i, change)| {
                let mut item = recovered((1 + i % 3) as u8, &[i as u8]);
                let Signer::Recovered { recovery, key } = &mut item.signer else { unreachable!() };
                match change {
                    Some((at @ 0..64, bit)) => item.signature[*at] ^= 1 << bit,
                    Some((at @ 64..96, bit)) => item.digest[*at - 64] ^= 1 << bit,
                    Some((at @ 96..160, bit)) => key[*at - 96] ^= 1 << bit,
                    Some((_, bit)) => *recovery ^= 1 << bit,
                    None => {}
                }
                item
            }).collect();
            let single: Vec<_> = items.iter().map(is_valid).collect();
            prop_assert_eq!(&single, &changes.iter().map(Option::is_none).collect::<Vec<_>>());
            prop_assert_eq!(verify(&items, one_thread()), single);
        }
    }
}
