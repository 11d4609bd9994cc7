//! Signature types of ANS-104, and the check of the one that every ao unit signs with: Arweave's RSA-PSS.

use lockstep_shaders::{cpu::rsa_pss, signature::RsaPss};
use sha2::{Digest, Sha256};

use super::VerifyError;

/// Bytes of an Arweave public key (the RSA-4096 modulus, big-endian) and of its signatures.
pub const RSA_BYTES: usize = 512;

/// The schemes of ANS-104, by their numbers on the wire (little-endian `u16`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum SignatureType {
    /// RSA-PSS, SHA-256, 4096 bits.
    Arweave = 1,
    /// Ed25519 over the deep hash.
    Ed25519 = 2,
    /// secp256k1 over the EIP-191 hash of the deep hash.
    Ethereum = 3,
    /// Ed25519, Solana's way.
    Solana = 4,
    /// Ed25519, Aptos' way.
    InjectedAptos = 5,
    /// Up to 32 Ed25519 keys.
    MultiAptos = 6,
    /// secp256k1 over typed data (EIP-712); the owner is an address in text.
    TypedEthereum = 7,
}

impl SignatureType {
    /// The type with this number, if there is one.
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Arweave,
            2 => Self::Ed25519,
            3 => Self::Ethereum,
            4 => Self::Solana,
            5 => Self::InjectedAptos,
            6 => Self::MultiAptos,
            7 => Self::TypedEthereum,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Bytes of a signature.
    pub fn signature_bytes(self) -> usize {
        match self {
            Self::Arweave => RSA_BYTES,
            Self::Ed25519 | Self::Solana | Self::InjectedAptos => 64,
            Self::Ethereum | Self::TypedEthereum => 65,
            Self::MultiAptos => 32 * 64 + 4,
        }
    }

    /// Bytes of an owner (public key, or address for [`SignatureType::TypedEthereum`]).
    pub fn owner_bytes(self) -> usize {
        match self {
            Self::Arweave => RSA_BYTES,
            Self::Ed25519 | Self::Solana | Self::InjectedAptos => 32,
            Self::Ethereum => 65,
            Self::MultiAptos => 32 * 32 + 1,
            Self::TypedEthereum => 42,
        }
    }
}

/// Checks an RSA-PSS (SHA-256, MGF1-SHA-256) signature of any salt length, as Arweave does.
///
/// `owner`: the modulus, big-endian, [`RSA_BYTES`] long; `message` is hashed here; `signature`: [`RSA_BYTES`].
///
/// # Errors
/// [`VerifyError::Invalid`] for wrong lengths and impossible keys too.
pub fn verify_rsa_pss(owner: &[u8], message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
    let digest = Sha256::digest(message).into();
    let item = RsaPss { modulus: owner.into(), signature: signature.into(), digest };
    if owner.len() == RSA_BYTES && rsa_pss::is_valid(&item) { Ok(()) } else { Err(VerifyError::Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn checking_any_key_and_signature_never_panics(
            mut owner in proptest::collection::vec(any::<u8>(), RSA_BYTES),
            mut signature in proptest::collection::vec(any::<u8>(), RSA_BYTES),
        ) {
            // Past the cheap checks, so that the libraries see the bytes.
            owner[0] |= 0x80;
            owner[RSA_BYTES - 1] |= 1;
            signature[0] &= 0x7f;
            prop_assert_eq!(verify_rsa_pss(&owner, b"message", &signature), Err(VerifyError::Invalid));
        }
    }

    #[test]
    fn impossible_keys_are_refused() {
        for owner in [vec![], vec![0; RSA_BYTES], vec![0xff; RSA_BYTES - 1], vec![0xfe; RSA_BYTES]] {
            assert_eq!(verify_rsa_pss(&owner, b"", &[1; RSA_BYTES]), Err(VerifyError::Invalid));
        }
    }
}
