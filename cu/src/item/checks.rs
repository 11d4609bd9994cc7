//! From a data item to the verifications that decide about its signature, and the rules of each signature type.
//!
//! The rules are those of `arbundles`, the library that the network's signers and gateways use, and for Ethereum also
//! those of the scheduler unit, which is what lets an item into a schedule:
//!
//! | type | message | rule beyond the scheme's |
//! |---|---|---|
//! | 1 | deep hash | a salt of any length ([`rsa_pss`](lockstep_shaders::cpu::rsa_pss)) |
//! | 2 | deep hash | as [`ed25519`](lockstep_shaders::cpu::ed25519) says |
//! | 3 | EIP-191 hash of the deep hash | the owner begins with 4; s is in the lower half; v is 27 or 28 (or 0 or 1) and leads to the owner |
//! | 4 | deep hash in hexadecimal digits | as 2 |
//! | 5 | `APTOS`, the deep hash in hexadecimal digits, `nonce: bundlr`, on a line each | as 2 |
//! | 6 | deep hash | each signature marked holds, under a key that is not all zeros; there are as many as the last byte of the owner says, and one at least; the places not marked are zeros |
//! | 7 | EIP-712 hash of deep hash and owner | the owner is an address in text, checksummed if in mixed case; v as in 3; either half of s |
//!
//! Where `arbundles` lets more pass, it is never the work of a signer, and would give one content several ids or take it
//! from nobody: it ignores v in 3 (the scheduler wants 27 or 28) and takes any v from 27 on in 7, and in 6 it ignores the
//! threshold, the places not marked and even that none is marked.

use std::sync::LazyLock;

use lockstep_shaders::{
    cpu,
    signature::{Ed25519, RsaPss, Secp256k1, Signer},
};
use sha2::{Digest, Sha256};
use sha3::Keccak256;

use super::{Head, SignatureType, deep_hash::DEEP_HASH_BYTES};

/// Places for keys and signatures in type 6.
const MULTI_PLACES: usize = 32;
/// Half the order of secp256k1, rounded down: the largest s of the lower half (BIP 146).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57, 0x6e,
    0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// What has to hold for a signature to be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Types 1, and transactions.
    RsaPss(RsaPss),
    /// Types 2, 4, 5: one; type 6: one or more, all of which must hold.
    Ed25519(Vec<Ed25519>),
    /// Types 3 and 7.
    Secp256k1(Secp256k1),
}

/// Why a signature is invalid before any arithmetic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The last byte of an Ethereum signature.
    #[error("the recovery byte is {0}, where 27, 28, 0 or 1 must stand")]
    Recovery(u8),
    /// An s that has a smaller twin.
    #[error("s is in the upper half")]
    HighS,
    /// An owner that is no key.
    #[error("the owner begins with {0}, where an uncompressed key begins with 4")]
    KeyForm(u8),
    /// An owner that is no Ethereum address.
    #[error("the owner is no Ethereum address in text")]
    AddressForm,
    /// Too few signatures of several.
    #[error("{found} signatures, where {needed} are needed")]
    Threshold {
        /// Signatures marked.
        found: usize,
        /// The owner's threshold, at least 1.
        needed: usize,
    },
    /// A signature in a place that is not marked, or marked and without a key.
    #[error("place {0} has a key or a signature too many")]
    Place(usize),
}

/// The outcome of a signature check that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature was not made by this owner over these bytes.
    #[error("Signature verification failed")]
    Invalid,
    /// The signature is not written as its scheme writes signatures.
    #[error("Signature verification failed: {0}")]
    Flawed(#[from] Flaw),
}

impl Checks {
    /// Of the item with this head, of which the owner signed these bytes ([`Head::signed_bytes`]).
    ///
    /// # Errors
    /// [`Flaw`]: it is invalid whatever the arithmetic says.
    pub fn of(head: &Head, signed: &[u8; DEEP_HASH_BYTES]) -> Result<Self, Flaw> {
        let (owner, signature) = (&head.owner[..], &head.signature[..]);
        Ok(match head.signature_type {
            SignatureType::Arweave => Self::rsa(owner, signed, signature),
            SignatureType::Ed25519 => Self::ed25519(owner, signature, signed),
            SignatureType::Solana => Self::ed25519(owner, signature, hex(signed).as_bytes()),
            SignatureType::InjectedAptos => {
                Self::ed25519(owner, signature, format!("APTOS\nmessage: {}\nnonce: bundlr", hex(signed)).as_bytes())
            }
            SignatureType::MultiAptos => Self::Ed25519(multi(owner, signature, signed)?),
            SignatureType::Ethereum => Self::Secp256k1(ethereum(owner, signature, signed)?),
            SignatureType::TypedEthereum => Self::Secp256k1(typed_ethereum(owner, signature, signed)?),
        })
    }

    /// Of an RSA-PSS signature over `message`.
    pub fn rsa(modulus: &[u8], message: &[u8], signature: &[u8]) -> Self {
        let digest = Sha256::digest(message).into();
        Self::RsaPss(RsaPss { modulus: modulus.into(), signature: signature.into(), digest })
    }

    fn ed25519(owner: &[u8], signature: &[u8], message: &[u8]) -> Self {
        Self::Ed25519(vec![Ed25519 {
            public_key: owner.try_into().expect("a head's owner is as long as its type's"),
            signature: signature.try_into().expect("a head's signature is as long as its type's"),
            message: message.into(),
        }])
    }

    /// Checks, here and now, on this thread.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`].
    pub fn verify(&self) -> Result<(), VerifyError> {
        let holds = match self {
            Self::RsaPss(item) => cpu::rsa_pss::is_valid(item),
            Self::Ed25519(items) => items.iter().all(cpu::ed25519::is_valid),
            Self::Secp256k1(item) => cpu::secp256k1::is_valid(item),
        };
        if holds { Ok(()) } else { Err(VerifyError::Invalid) }
    }
}

/// Owner: 32 keys of 32 bytes and the threshold. Signature: 32 signatures of 64 bytes and a bitmap, its first bit the
/// highest of its first byte.
fn multi(owner: &[u8], signature: &[u8], message: &[u8]) -> Result<Vec<Ed25519>, Flaw> {
    let (keys, threshold) = owner.split_at(MULTI_PLACES * 32);
    let (signatures, bitmap) = signature.split_at(MULTI_PLACES * 64);
    let mut checks = Vec::new();
    for (place, (key, signature)) in keys.chunks_exact(32).zip(signatures.chunks_exact(64)).enumerate() {
        let marked = bitmap[place / 8] & (0x80 >> (place % 8)) != 0;
        // The key of zeros has a small order: anybody signs for it.
        let empty = if marked { key } else { signature }.iter().all(|byte| *byte == 0);
        if marked == empty {
            return Err(Flaw::Place(place));
        }
        if marked {
            checks.push(Ed25519 {
                public_key: key.try_into().expect("a chunk of 32 bytes"),
                signature: signature.try_into().expect("a chunk of 64 bytes"),
                message: message.into(),
            });
        }
    }
    let needed = usize::from(threshold[0]).max(1);
    if checks.len() < needed {
        return Err(Flaw::Threshold { found: checks.len(), needed });
    }
    Ok(checks)
}

/// EIP-191 ("version E") over the deep hash.
fn ethereum(owner: &[u8], signature: &[u8], signed: &[u8; DEEP_HASH_BYTES]) -> Result<Secp256k1, Flaw> {
    let (form, key) = owner.split_at(1);
    if form[0] != 4 {
        return Err(Flaw::KeyForm(form[0]));
    }
    let key = key.try_into().expect("an Ethereum owner has 65 bytes");
    let digest = Keccak256::new()
        .chain_update(format!("\x19Ethereum Signed Message:\n{DEEP_HASH_BYTES}"))
        .chain_update(signed)
        .finalize();
    let (signature, recovery) = recoverable(signature)?;
    if signature[32..] > HALF_ORDER[..] {
        return Err(Flaw::HighS);
    }
    Ok(Secp256k1 { digest: digest.into(), signature, signer: Signer::Recovered { recovery, key } })
}

/// EIP-712 over the deep hash and the owner's address, in the domain that `arbundles` signs for.
fn typed_ethereum(owner: &[u8], signature: &[u8], signed: &[u8; DEEP_HASH_BYTES]) -> Result<Secp256k1, Flaw> {
    /// Hash of the domain: name `Bundlr`, version `1`.
    static DOMAIN: LazyLock<[u8; 32]> = LazyLock::new(|| {
        let hash = Keccak256::new()
            .chain_update(Keccak256::digest("EIP712Domain(string name,string version)"))
            .chain_update(Keccak256::digest("Bundlr"))
            .chain_update(Keccak256::digest("1"));
        hash.finalize().into()
    });
    /// Hash of the type's description.
    static TYPE: LazyLock<[u8; 32]> =
        LazyLock::new(|| Keccak256::digest("Bundlr(bytes Transaction hash,address address)").into());
    let address = read_address(owner).ok_or(Flaw::AddressForm)?;
    let content = Keccak256::new()
        .chain_update(*TYPE)
        .chain_update(Keccak256::digest(signed))
        .chain_update([0; 12])
        .chain_update(address)
        .finalize();
    let digest = Keccak256::new().chain_update([0x19, 0x01]).chain_update(*DOMAIN).chain_update(content).finalize();
    let (signature, recovery) = recoverable(signature)?;
    Ok(Secp256k1 { digest: digest.into(), signature, signer: Signer::Address { recovery, address } })
}

/// r and s, and the recovery number.
fn recoverable(signature: &[u8]) -> Result<([u8; 64], u8), Flaw> {
    let (signature, last) = signature.split_at(64);
    let recovery = match last[0] {
        number @ (0 | 1) => number,
        v @ (27 | 28) => v - 27,
        other => return Err(Flaw::Recovery(other)),
    };
    Ok((signature.try_into().expect("an Ethereum signature has 65 bytes"), recovery))
}

/// `0x` and 40 hexadecimal digits; letters of both cases only as EIP-55 puts them.
fn read_address(owner: &[u8]) -> Option<[u8; 20]> {
    let digits = std::str::from_utf8(owner).ok()?.strip_prefix("0x").filter(|digits| digits.len() == 40)?;
    let mut address = [0; 20];
    for (byte, pair) in address.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    let mixed = digits.bytes().any(|b| b.is_ascii_lowercase()) && digits.bytes().any(|b| b.is_ascii_uppercase());
    (!mixed || crate::owner::checksummed(&address)[2..] == *digits).then_some(address)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
