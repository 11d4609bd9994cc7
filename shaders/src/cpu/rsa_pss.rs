//! RSA-PSS with SHA-256, by AWS-LC.
//!
//! # The rule
//!
//! RFC 8017, section 8.1.2, with MGF1-SHA-256, the public exponent 65537 and **a salt of any length that fits**: the
//! network's verifiers (OpenSSL's automatic salt length, the scheduler's `rsa`) read the length out of the signature, and
//! signers differ (Node: the longest, Web Crypto: 32 bytes, some: none). The modulus is odd and has exactly 2048 or 4096
//! bits; the signature is as long as the modulus and a smaller number.

use std::{collections::HashMap, num::NonZeroUsize};

use aws_lc_rs::{
    digest::{Digest as AwsDigest, SHA256},
    rsa::PublicKeyComponents,
    signature::{ParsedPublicKey, RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPssSaltLength},
};
use num_bigint::BigUint;
use sha2::{Digest, Sha256};

use crate::signature::RsaPss;

/// Bytes of the moduli in scope.
const MODULUS_BYTES: [usize; 2] = [256, 512];
/// The public exponent, 65537, big-endian.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// Items that a thread takes at a time: half a millisecond of work.
const GRAIN: usize = 8;
/// Keys that a thread keeps.
const KEYS_MAX: usize = 1024;

/// The salts that signers use, most usual first. AWS-LC checks one given length; others are found in the signature.
static SALTS: [RsaParameters; 3] =
    [salt(RsaPssSaltLength::Max), salt(RsaPssSaltLength::Custom(32)), salt(RsaPssSaltLength::Custom(0))];

const fn salt(length: RsaPssSaltLength) -> RsaParameters {
    RSA_PSS_2048_8192_SHA256.with_pss_salt_length(length)
}

/// Verifies each item.
pub fn verify(items: &[RsaPss], threads: NonZeroUsize) -> Vec<bool> {
    super::in_parallel(items, threads, GRAIN, Keys::default, |keys, items, verdicts| {
        for (item, verdict) in items.iter().zip(verdicts) {
            *verdict = keys.verify(item);
        }
    })
}

/// Verifies one item.
pub fn is_valid(item: &RsaPss) -> bool {
    Keys::default().verify(item)
}

/// What is known of the keys met: owners repeat, and each keeps to one length of salt.
#[derive(Default)]
struct Keys<'a>(HashMap<&'a [u8], Key>);

#[derive(Default)]
struct Key {
    /// By index in [`SALTS`].
    parsed: [Option<ParsedPublicKey>; SALTS.len()],
    /// The salt that its last signature had, if it is one of [`SALTS`].
    last: Option<usize>,
}

impl<'a> Keys<'a> {
    fn verify(&mut self, item: &'a RsaPss) -> bool {
        if !is_possible(item) {
            return false;
        }
        let Ok(digest) = AwsDigest::import_less_safe(&item.digest, &SHA256) else {
            return false;
        };
        if self.0.len() >= KEYS_MAX && !self.0.contains_key(&*item.modulus) {
            self.0.clear();
        }
        let key = self.0.entry(&item.modulus).or_default();
        let tried = match key.last {
            Some(last) => last..=last,
            None => 0..=1,
        };
        for salt in tried {
            if key.holds(salt, item, &digest) {
                key.last = Some(salt);
                return true;
            }
        }
        // A second look costs as much as the first, so it is the one that decides.
        let Some(salt_bytes) = salt_length(item) else {
            return false;
        };
        key.last = [item.modulus.len() - 34, 32, 0].iter().position(|usual| *usual == salt_bytes);
        true
    }
}

impl Key {
    fn holds(&mut self, salt: usize, item: &RsaPss, digest: &AwsDigest) -> bool {
        if self.parsed[salt].is_none() {
            let components = PublicKeyComponents { n: &item.modulus[..], e: &EXPONENT[..] };
            self.parsed[salt] = components.to_parsed_public_key(&SALTS[salt]).ok();
        }
        self.parsed[salt].as_ref().is_some_and(|key| key.verify_digest_sig(digest, &item.signature).is_ok())
    }
}

/// Whether lengths and ranges are those of the rule.
fn is_possible(item: &RsaPss) -> bool {
    let (modulus, signature) = (&item.modulus, &item.signature);
    MODULUS_BYTES.contains(&modulus.len())
        && modulus[0] & 0x80 != 0
        && modulus[modulus.len() - 1] & 1 == 1
        && signature.len() == modulus.len()
        && signature < modulus
}

/// Length of the salt (bytes) of a valid signature over `item.digest`; `None` if it is not valid.
fn salt_length(item: &RsaPss) -> Option<usize> {
    let number = BigUint::from_bytes_be;
    let power = number(&item.signature).modpow(&number(&EXPONENT), &number(&item.modulus)).to_bytes_be();
    let mut message = vec![0; item.modulus.len()];
    let zeros = message.len() - power.len();
    message[zeros..].copy_from_slice(&power);
    salt_of(&mut message, &item.digest)
}

/// EMSA-PSS-VERIFY (RFC 8017, section 9.1.2) with the length of the salt read out of the encoded message, whose number of
/// bits is a multiple of 8 less one.
fn salt_of(encoded: &mut [u8], digest: &[u8; 32]) -> Option<usize> {
    let (block, rest) = encoded.split_at_mut(encoded.len().checked_sub(33)?);
    let (hash, trailer) = rest.split_at(32);
    if trailer != [0xbc] || block.first()? & 0x80 != 0 {
        return None;
    }
    for (counter, part) in (0u32..).zip(block.chunks_mut(32)) {
        let mask = Sha256::new().chain_update(hash).chain_update(counter.to_be_bytes()).finalize();
        part.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    block[0] &= 0x7f;
    let mark = block.iter().position(|byte| *byte != 0).filter(|at| block[*at] == 1)?;
    let salt = &block[mark + 1..];
    let expected = Sha256::new().chain_update([0; 8]).chain_update(digest).chain_update(salt).finalize();
    (expected[..] == *hash).then_some(salt.len())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::KeySize,
        signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair},
    };

    use super::*;

    fn sign(key: &RsaKeyPair, salt: RsaPssSaltLength, message: &[u8]) -> RsaPss {
        static USUAL: [aws_lc_rs::signature::RsaSignatureEncoding; 5] = [
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max),
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(32)),
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0)),
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)),
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(100)),
        ];
        let encoding = match salt {
            RsaPssSaltLength::Max => &USUAL[0],
            RsaPssSaltLength::Custom(32) => &USUAL[1],
            RsaPssSaltLength::Custom(0) => &USUAL[2],
            RsaPssSaltLength::Custom(20) => &USUAL[3],
            _ => &USUAL[4],
        };
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        RsaPss {
            // A sequence of two integers, the first with a leading zero: nine bytes of lengths before it.
            modulus: key.public_key().as_ref()[9..][..key.public_modulus_len()].into(),
            signature: signature.into(),
            digest: Sha256::digest(message).into(),
        }
    }

    #[test]
    fn salts_of_any_length_verify_in_any_order() {
        for size in [KeySize::Rsa2048, KeySize::Rsa4096] {
            let key = RsaKeyPair::generate(size).unwrap();
            let custom = RsaPssSaltLength::Custom;
            let salts = [custom(100), custom(0), RsaPssSaltLength::Max, custom(32), custom(20), custom(32), custom(0)];
            let items: Vec<_> = salts.into_iter().map(|salt| sign(&key, salt, b"m")).collect();
            assert_eq!(verify(&items, NonZeroUsize::MIN), vec![true; items.len()]);
            for (item, bytes) in items.iter().zip([100, 0, item_max(&items[2]), 32, 20, 32, 0]) {
                assert!(is_valid(item));
                assert_eq!(salt_length(item), Some(bytes));
            }
        }
    }

    fn item_max(item: &RsaPss) -> usize {
        item.modulus.len() - 34
    }

    #[test]
    fn a_changed_bit_is_no_signature_by_either_way() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let item = sign(&key, RsaPssSaltLength::Max, b"m");
        for at in (0..2048).step_by(37) {
            let mut changed = item.clone();
            changed.signature[at / 8] ^= 1 << (at % 8);
            assert!(!is_valid(&changed) && (changed.signature >= changed.modulus || salt_length(&changed).is_none()));
            let mut changed = item.clone();
            changed.digest[at % 32] ^= 1 << (at % 8);
            assert!(!is_valid(&changed));
            let mut changed = item.clone();
            changed.modulus[at / 8] ^= 1 << (at % 8);
            assert!(!is_valid(&changed), "bit {at} of the modulus");
        }
    }

    #[test]
    fn impossible_keys_and_signatures_are_invalid() {
        let item = |modulus: Vec<u8>, signature: Vec<u8>| RsaPss {
            modulus: modulus.into(),
            signature: signature.into(),
            digest: [0; 32],
        };
        for bytes in [0, 1, 33, 255, 256, 257, 384, 512, 513, 1024] {
            for fill in [0, 1, 0x7f, 0x80, 0xfe, 0xff] {
                for signature in [0, bytes, bytes + 1] {
                    assert!(!is_valid(&item(vec![fill; bytes], vec![1; signature])), "{bytes} {fill} {signature}");
                    assert!(!is_valid(&item(vec![fill; bytes], vec![0; signature])), "{bytes} {fill} {signature}");
                }
            }
        }
    }

    #[test]
    fn no_encoded_message_makes_reading_the_salt_panic() {
        for bytes in [0, 1, 32, 33, 34, 65, 256, 512] {
            for fill in [0, 1, 0xbc, 0xff] {
                assert_eq!(salt_of(&mut vec![fill; bytes], &[0; 32]), None);
            }
        }
    }
}
