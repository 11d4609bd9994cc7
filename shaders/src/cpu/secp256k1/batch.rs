//! Many signatures shown to be valid by one equation.
//!
//! A signature with a recovery number names a point R: r is its x, and the number tells which y. With the digest as a
//! number z, it recovers to Q = (s R - z G) / r. So where the key is known, "it recovers to Q" is the equation
//!
//! R = (z/s) G + (r/s) Q
//!
//! for r and s from 1 to n - 1, R and Q on the curve. A batch checks one random linear combination of the items'
//! equations. The group has the prime order n: where the two sides of some equation differ, and whatever the other items
//! are, at most one of the 2¹²⁸ values of that item's factor makes the combination hold. So a batch holds if each item
//! does, and otherwise fails but for a chance of 2⁻¹²⁸.
//!
//! Of each R a short multiple is added, by [`buckets`](super::buckets); G and each key, of which there are fewer, get
//! long factors. What is left to single checks: signers named in another way; recovery numbers 2 and 3, which come once
//! in 2¹²⁷ signatures; items without an equation; batches so small, or with so many keys, that they would cost more;
//! and all items of a batch that fails.

use std::collections::{HashMap, HashSet};

use k256::{
    AffinePoint, FieldBytes, ProjectivePoint, Scalar,
    elliptic_curve::{
        PrimeField,
        ff::BatchInverter,
        ops::{LinearCombination, Reduce},
        point::AffineCoordinates,
    },
};
use secp256k1::PublicKey;

use super::buckets::Buckets;
use crate::signature::{Secp256k1, Signer};

// Costs in additions of two points, measured with those of k256: 0.18 µs, where libsecp256k1 recovers a key in 26 µs.
/// Recovering one key.
const RECOVERY: usize = 140;
/// An item's equation: above all, the root that R takes.
const EQUATION: usize = 22;
/// The long multiple of a key, or of G.
const KEY: usize = 73;
/// What the long multiples have in common.
const LONG: usize = 90;

/// Indices of items that are valid for certain. Nothing is known of the others.
pub(super) fn valid(items: &[Secp256k1]) -> Vec<usize> {
    let claims: Vec<_> = items.iter().enumerate().filter_map(|(index, item)| Claim::of(index, item)).collect();
    let keys: HashSet<_> = claims.iter().map(|claim| claim.key).collect();
    if !pays(claims.len(), keys.len()) {
        return Vec::new();
    }
    let batch = Batch::of(&claims);
    if !batch.holds() {
        return Vec::new();
    }
    batch.equations.into_iter().map(|equation| equation.item).collect()
}

/// Whether so many items with so many keys are faster verified together.
fn pays(items: usize, keys: usize) -> bool {
    Buckets::of(items).additions(items) + EQUATION * items + LONG + KEY * (keys + 1) < RECOVERY * items
}

/// An item of which an equation can be made, if its numbers allow it.
struct Claim<'a> {
    /// Index among the items.
    index: usize,
    item: &'a Secp256k1,
    key: &'a [u8; 64],
    /// Whether the y of R is odd.
    odd: bool,
}

impl<'a> Claim<'a> {
    fn of(index: usize, item: &'a Secp256k1) -> Option<Self> {
        match &item.signer {
            Signer::Recovered { recovery: recovery @ (0 | 1), key } => {
                Some(Self { index, item, key, odd: *recovery == 1 })
            }
            _ => None,
        }
    }
}

/// What a batch comes down to.
#[derive(Default)]
struct Batch {
    /// Q of each signer. Signers repeat: one term for each.
    keys: Vec<ProjectivePoint>,
    equations: Vec<Equation>,
}

/// R = (z/s) G + (r/s) Q.
struct Equation {
    /// Index among the items.
    item: usize,
    /// Index of Q among the signers.
    key: usize,
    point: AffinePoint,
    r: Scalar,
    s: Scalar,
    z: Scalar,
}

impl Batch {
    fn of(claims: &[Claim]) -> Self {
        let mut batch = Self::default();
        let mut keys: HashMap<&[u8; 64], Option<usize>> = HashMap::new();
        for claim in claims {
            let key = *keys.entry(claim.key).or_insert_with(|| {
                batch.keys.push(on_curve(claim.key)?.into());
                Some(batch.keys.len() - 1)
            });
            let (r, s) = claim.item.signature.split_at(32);
            if let (Some(key), Some(point), Some(r), Some(s)) = (key, lift(r, claim.odd), scalar(r), scalar(s)) {
                let z = <Scalar as Reduce<FieldBytes>>::reduce(&claim.item.digest.into());
                batch.equations.push(Equation { item: claim.index, key, point, r, s, z });
            }
        }
        batch
    }

    /// Whether a random linear combination of the equations holds.
    fn holds(&self) -> bool {
        let Some(numbers) = crate::cpu::random_numbers(self.equations.len()) else {
            return false;
        };
        let buckets = Buckets::of(self.equations.len());
        let mut inverses: Vec<Scalar> = self.equations.iter().map(|equation| equation.s).collect();
        BatchInverter::invert_with_external_scratch(&mut inverses, &mut vec![Scalar::ZERO; self.equations.len()]);
        let mut of_base = Scalar::ZERO;
        let mut of_keys = vec![Scalar::ZERO; self.keys.len()];
        let mut terms = Vec::with_capacity(self.equations.len());
        for ((equation, inverse), number) in self.equations.iter().zip(inverses).zip(numbers) {
            let quotient = buckets.factor(number) * inverse;
            of_base += quotient * equation.z;
            of_keys[equation.key] += quotient * equation.r;
            terms.push((equation.point, number));
        }
        let mut long = vec![(ProjectivePoint::GENERATOR, of_base)];
        long.extend(self.keys.iter().copied().zip(of_keys));
        buckets.sum(&terms) == ProjectivePoint::lincomb_vartime(&long[..])
    }
}

/// The point with this x. libsecp256k1 finds its y faster than k256.
fn lift(x: &[u8], odd: bool) -> Option<AffinePoint> {
    let mut compressed = [2 + u8::from(odd); 33];
    compressed[1..].copy_from_slice(x);
    on_curve(PublicKey::from_slice(&compressed).ok()?.serialize_uncompressed()[1..].try_into().ok()?)
}

/// The point with these coordinates (x, then y), if there is one.
fn on_curve(coordinates: &[u8; 64]) -> Option<AffinePoint> {
    let (x, y) = coordinates.split_at(32);
    AffinePoint::from_coordinates(x.try_into().ok()?, y.try_into().ok()?).into()
}

/// A number from 1 to n - 1.
fn scalar(bytes: &[u8]) -> Option<Scalar> {
    let scalar: Option<Scalar> = Scalar::from_repr(FieldBytes::try_from(bytes).ok()?).into();
    scalar.filter(|scalar| !bool::from(scalar.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::super::{
        is_valid,
        tests::{one_thread, recovered},
        verify,
    };
    use super::*;

    /// The order of the group, big-endian.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae,
        0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];

    /// Items of so many signers.
    fn items(count: usize, signers: usize) -> Vec<Secp256k1> {
        (0..count).map(|i| recovered((1 + i % signers) as u8, &i.to_le_bytes())).collect()
    }

    fn key(item: &mut Secp256k1) -> &mut [u8; 64] {
        let Signer::Recovered { key, .. } = &mut item.signer else { unreachable!() };
        key
    }

    #[test]
    fn one_equation_shows_all_items_valid() {
        for (count, signers) in [(16, 1), (100, 16), (256, 1), (256, 16), (255, 250)] {
            assert!(pays(count, signers), "{count}, {signers}");
            assert_eq!(valid(&items(count, signers)), (0..count).collect::<Vec<_>>(), "{count}, {signers}");
        }
        let twice = [items(100, 3), items(100, 3)].concat();
        assert_eq!(valid(&twice), (0..200).collect::<Vec<_>>());
        for (count, signers) in [(0, 1), (1, 1), (4, 1), (16, 16)] {
            assert!(!pays(count, signers) && valid(&items(count, signers)).is_empty(), "{count}, {signers}");
        }
    }

    #[test]
    fn digests_are_reduced() {
        let below = std::array::from_fn(|byte| ORDER[byte] - u8::from(byte == 31));
        let secret = secp256k1::SecretKey::from_secret_bytes([1; 32]).unwrap();
        for digest in [[0; 32], below, ORDER, [0xff; 32]] {
            let message = secp256k1::Message::from_digest(digest);
            let signature = secp256k1::ecdsa::RecoverableSignature::sign_ecdsa_recoverable(message, &secret);
            let (number, signature) = signature.serialize_compact();
            let mut items = items(30, 1);
            let signer = Signer::Recovered { recovery: number.to_u8(), key: *key(&mut items[0]) };
            items[7] = Secp256k1 { digest, signature, signer };
            assert_eq!(valid(&items).len(), 30);
        }
    }

    #[test]
    fn an_equation_that_does_not_hold_shows_nothing_valid() {
        type Change = fn(&mut Secp256k1);
        let changes: [(&str, Change); 4] = [
            ("another digest", |item| item.digest[0] ^= 1),
            ("another s", |item| item.signature[63] ^= 1),
            ("another y", |item| {
                let Signer::Recovered { recovery, .. } = &mut item.signer else { unreachable!() };
                *recovery ^= 1;
            }),
            ("the key's negative", |item| {
                let negative = -ProjectivePoint::from(on_curve(key(item)).unwrap());
                key(item)[32..].copy_from_slice(&negative.to_affine().y());
            }),
        ];
        for (name, change) in changes {
            let mut items = items(64, 2);
            change(&mut items[20]);
            assert!(!is_valid(&items[20]), "{name}");
            assert!(valid(&items).is_empty(), "{name}");
            let expected: Vec<_> = (0..64).map(|i| i != 20).collect();
            assert_eq!(verify(&items, one_thread()), expected, "{name}");
        }
    }

    #[test]
    fn what_has_no_equation_is_left_out() {
        type Change = fn(&mut Secp256k1);
        let changes: [(&str, Change); 8] = [
            ("r is zero", |item| item.signature[..32].fill(0)),
            ("s is zero", |item| item.signature[32..].fill(0)),
            ("r is the order", |item| item.signature[..32].copy_from_slice(&ORDER)),
            ("s is the order", |item| item.signature[32..].copy_from_slice(&ORDER)),
            ("no point has this x", |item| {
                // 5^3 + 7 is no square.
                item.signature[..32].fill(0);
                item.signature[31] = 5;
            }),
            ("the key is off the curve", |item| key(item)[63] ^= 1),
            ("the key's x is not below the prime", |item| key(item)[..32].fill(0xff)),
            ("the key is zeros", |item| key(item).fill(0)),
        ];
        for (name, change) in changes {
            let mut items = items(64, 2);
            change(&mut items[20]);
            assert!(!is_valid(&items[20]), "{name}");
            assert_eq!(valid(&items), (0..64).filter(|i| *i != 20).collect::<Vec<_>>(), "{name}");
            assert!(!verify(&items, one_thread())[20], "{name}");
        }
    }

    #[test]
    fn errors_that_would_cancel_each_other_do_not() {
        let mut items = items(64, 1);
        for (at, error) in [(3, Scalar::ONE), (40, -Scalar::ONE)] {
            let s = scalar(&items[at].signature[32..]).unwrap();
            let z = <Scalar as Reduce<FieldBytes>>::reduce(&items[at].digest.into()) + error * s;
            items[at].digest = z.to_bytes().into();
        }
        // The sum of all sides is as it was.
        let batch = Batch::of(&items.iter().enumerate().filter_map(|(i, item)| Claim::of(i, item)).collect::<Vec<_>>());
        let mut difference = ProjectivePoint::IDENTITY;
        for Equation { key, point, r, s, z, .. } in &batch.equations {
            let inverse = s.invert().unwrap();
            difference += ProjectivePoint::GENERATOR * (z * &inverse) + batch.keys[*key] * (r * &inverse) - point;
        }
        assert_eq!(difference, ProjectivePoint::IDENTITY);
        assert!(valid(&items).is_empty());
        assert!(verify(&items, one_thread()).into_iter().enumerate().all(|(i, valid)| valid != [3, 40].contains(&i)));
    }
}
