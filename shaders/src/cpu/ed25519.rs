//! Ed25519 by the rule of the network's verifiers.
//!
//! # The rule
//!
//! That of `arbundles`, whose verifier is `@noble/ed25519` 1.6. With A and R decoded and k = SHA-512(R ‖ A ‖ M) mod ℓ, a
//! signature is valid exactly if s < ℓ and `[8](R + [k]A - [s]B)` is the neutral element:
//!
//! - *cofactored*: points of small order, in A or R or both, are no reason to refuse;
//! - y is the low 255 bits, taken mod p: the encodings of p to 2²⁵⁵ - 1 stand for 0 to 18;
//! - an x of zero may have its sign bit set ("negative zero"), and then **the bit is cleared before hashing**. In this one
//!   point the rule is not ZIP 215, which hashes the bytes as they came;
//! - y without an x, and s from ℓ on, are refused.
//!
//! ed25519-dalek offers neither half of this (its check is cofactorless and compares encodings), so the equation is
//! written here over curve25519-dalek. A batch checks one random linear combination of the items' equations. Since all
//! of them are multiplied by 8, no combination of small-order parts can cancel or appear: a batch holds if each item
//! does, and otherwise fails but for a chance of 2⁻¹²⁸; then each item is checked alone.

use std::{collections::HashMap, iter, num::NonZeroUsize};

use curve25519_dalek::{
    constants::ED25519_BASEPOINT_POINT,
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use sha2::{Digest, Sha512};

use crate::signature::Ed25519;

/// Most items in one equation. Larger ones save little more and cost more when one item is bad.
const BATCH_MAX: usize = 256;
/// Fewest items in one equation.
const BATCH_MIN: usize = 4;
/// Fewest items worth a thread: half a millisecond of work. For less, waiting for a busy core costs more than is won.
const GRAIN_MIN: usize = 16;

/// Verifies each item.
pub fn verify(items: &[Ed25519], threads: NonZeroUsize) -> Vec<bool> {
    let grain = items.len().div_ceil(threads.get()).clamp(GRAIN_MIN, BATCH_MAX);
    super::in_parallel(
        items,
        threads,
        grain,
        || (),
        |(), items, verdicts| {
            let batch = Batch::of(items);
            let all = batch.equations.len() >= BATCH_MIN && batch.holds();
            for equation in &batch.equations {
                verdicts[equation.item] = all || batch.holds_for(equation);
            }
        },
    )
}

/// Verifies one item.
pub fn is_valid(item: &Ed25519) -> bool {
    let batch = Batch::of(std::slice::from_ref(item));
    batch.equations.first().is_some_and(|equation| batch.holds_for(equation))
}

/// The factor k of the rule: SHA-512(R ‖ A ‖ message) mod ℓ, little-endian, with the sign of an x of zero cleared.
pub fn challenge(item: &Ed25519) -> [u8; 32] {
    scalar_of(item).to_bytes()
}

fn scalar_of(item: &Ed25519) -> Scalar {
    let (r, _) = item.signature.split_at(32);
    let hash = Sha512::new()
        .chain_update(without_negative_zero(r.try_into().expect("32 of 64 bytes")))
        .chain_update(without_negative_zero(item.public_key))
        .chain_update(&item.message);
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// The encoding as it is hashed: the sign bit is cleared where x is zero, which it is for y = 1 and y = -1 alone.
fn without_negative_zero(encoding: [u8; 32]) -> [u8; 32] {
    /// y, little-endian, all but its first byte and with the sign bit: of 1.
    const ONE: (u8, u8, u8) = (1, 0, 0x80);
    /// Of p - 1 and p + 1 with p = 2²⁵⁵ - 19.
    const ABOUT_P: [(u8, u8, u8); 2] = [(0xec, 0xff, 0xff), (0xee, 0xff, 0xff)];
    let is = |(first, middle, last): (u8, u8, u8)| {
        encoding[0] == first && encoding[31] == last && encoding[1..31].iter().all(|byte| *byte == middle)
    };
    let mut hashed = encoding;
    if is(ONE) || ABOUT_P.into_iter().any(is) {
        hashed[31] &= 0x7f;
    }
    hashed
}

/// What a batch comes down to.
#[derive(Default)]
struct Batch {
    /// -A of each signer. Signers repeat: one term for each.
    minus_keys: Vec<EdwardsPoint>,
    /// Of those items that have one.
    equations: Vec<Equation>,
}

/// `[s]B - [k]A - R` must be of small order.
struct Equation {
    /// Index among the items.
    item: usize,
    /// Index of A among the signers.
    key: usize,
    r: EdwardsPoint,
    k: Scalar,
    s: Scalar,
}

impl Batch {
    fn of(items: &[Ed25519]) -> Self {
        let mut batch = Self::default();
        let mut keys: HashMap<&[u8; 32], Option<usize>> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let key = *keys.entry(&item.public_key).or_insert_with(|| {
                batch.minus_keys.push(-decode(&item.public_key)?);
                Some(batch.minus_keys.len() - 1)
            });
            let (r, s) = item.signature.split_at(32);
            let s = s.try_into().ok().and_then(|bytes| Option::<Scalar>::from(Scalar::from_canonical_bytes(bytes)));
            if let (Some(key), Some(r), Some(s)) = (key, decode(r), s) {
                batch.equations.push(Equation { item: index, key, r, k: scalar_of(item), s });
            }
        }
        batch
    }

    fn holds_for(&self, equation: &Equation) -> bool {
        let Equation { key, r, k, s, .. } = equation;
        let sum = EdwardsPoint::vartime_double_scalar_mul_basepoint(k, &self.minus_keys[*key], s) - r;
        sum.mul_by_cofactor().is_identity()
    }

    /// Whether a random linear combination of the equations holds.
    fn holds(&self) -> bool {
        let Some(factors) = super::random_numbers(self.equations.len()) else {
            return false;
        };
        let factors: Vec<Scalar> = factors.into_iter().map(Scalar::from).collect();
        let mut base = Scalar::ZERO;
        let mut of_keys = vec![Scalar::ZERO; self.minus_keys.len()];
        for (equation, factor) in self.equations.iter().zip(&factors) {
            base += factor * equation.s;
            of_keys[equation.key] += factor * equation.k;
        }
        // R is added, and the rest subtracted, so that the factors of R stay short.
        let scalars = iter::once(-base).chain(of_keys.iter().map(|scalar| -scalar)).chain(factors);
        let points = iter::once(&ED25519_BASEPOINT_POINT)
            .chain(&self.minus_keys)
            .chain(self.equations.iter().map(|equation| &equation.r));
        EdwardsPoint::vartime_multiscalar_mul(scalars, points).mul_by_cofactor().is_identity()
    }
}

/// A point from any of its encodings.
fn decode(encoding: &[u8]) -> Option<EdwardsPoint> {
    CompressedEdwardsY::from_slice(encoding).ok()?.decompress()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;

    fn signed(key: u8, message: &[u8]) -> Ed25519 {
        let key = SigningKey::from_bytes(&[key; 32]);
        Ed25519 {
            public_key: key.verifying_key().to_bytes(),
            signature: key.sign(message).to_bytes(),
            message: message.into(),
        }
    }

    fn one_thread() -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    #[test]
    fn a_bad_item_spoils_nothing_but_itself() {
        for count in [1usize, 2, 4, 5, 255, 256, 257, 600] {
            for bad in [0, count / 2, count - 1] {
                let mut items: Vec<_> = (0..count).map(|i| signed((i % 7) as u8, &i.to_le_bytes())).collect();
                assert!(verify(&items, one_thread()).into_iter().all(|valid| valid), "{count}");
                items[bad].message = b"another".as_slice().into();
                let verdicts = verify(&items, NonZeroUsize::new(2).unwrap());
                assert!(verdicts.into_iter().enumerate().all(|(i, valid)| valid == (i != bad)), "{count}, {bad}");
            }
        }
        assert!(verify(&[], one_thread()).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_batch_says_what_single_checks_say(
            changes in prop::collection::vec(prop::option::weighted(0.3, (0usize..96, 0u8..8)), 4..40)
        ) {
            let items: Vec<_> = changes.iter().enumerate().map(|(i, change)| {
                let mut item = signed((i % 3) as u8, &[i as u8]);
                match change {
                    Some((at, bit)) if *at < 64 => item.signature[*at] ^= 1 << bit,
                    Some((at, bit)) => item.public_key[*at - 64] ^= 1 << bit,
                    None => {}
                }
                item
            }).collect();
            let single: Vec<_> = items.iter().map(is_valid).collect();
            prop_assert_eq!(&single, &changes.iter().map(Option::is_none).collect::<Vec<_>>());
            prop_assert_eq!(verify(&items, one_thread()), single);
        }

        #[test]
        fn any_bytes_have_an_answer(public_key: [u8; 32], r: [u8; 32], s: [u8; 32], message: Vec<u8>) {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r);
            signature[32..].copy_from_slice(&s);
            let item = Ed25519 { public_key, signature, message: message.into() };
            prop_assert!(!is_valid(&item));
        }
    }
}
