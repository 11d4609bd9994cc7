//! Arweave wallets: a JSON Web Key of an RSA-4096 key, and signing with it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::RSA_PSS_SHA256;
use serde::Deserialize;

use super::{
    DataItem, Draft, Head, Id, SignatureType, TagError, address_of, deep_hash, from_base64url, signature::RSA_BYTES,
    tags,
};

/// Why a wallet cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    /// Not the JSON of an RSA private key.
    #[error("wallet is not a JSON Web Key of an RSA private key: {0}")]
    NotAJwk(String),
    /// A member that is not base64url.
    #[error("wallet member `{0}` is not base64url")]
    NotBase64(&'static str),
    /// A key of another size, or another exponent.
    #[error("wallet holds an RSA key of {bits} bits, where Arweave keys have 4096 bits and the exponent 65537")]
    NotArweave {
        /// Bits of the modulus.
        bits: usize,
    },
    /// Numbers that do not belong together.
    #[error("wallet's numbers do not make an RSA key: {0}")]
    Inconsistent(String),
}

/// A wallet. Signing takes about 2 ms of one core: do it off the threads that do I/O.
pub struct Wallet {
    key: KeyPair,
    owner: Vec<u8>,
    address: Id,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    n: String,
    e: String,
    d: String,
    p: String,
    q: String,
    dp: String,
    dq: String,
    qi: String,
}

impl Wallet {
    /// Reads a wallet file's text. The key's numbers are checked against one another.
    ///
    /// # Errors
    /// Any [`WalletError`].
    pub fn from_jwk(text: &str) -> Result<Self, WalletError> {
        let jwk: Jwk = serde_json::from_str(text).map_err(|error| WalletError::NotAJwk(error.to_string()))?;
        if jwk.kty != "RSA" {
            return Err(WalletError::NotAJwk(format!("its `kty` is {:?}", jwk.kty)));
        }
        let number = |name, text: &str| from_base64url(text).ok_or(WalletError::NotBase64(name));
        let owner = number("n", &jwk.n)?;
        let exponent = number("e", &jwk.e)?;
        if owner.len() != RSA_BYTES || exponent != [1, 0, 1] {
            return Err(WalletError::NotArweave { bits: owner.len() * 8 });
        }
        let key = KeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n: owner.clone(), e: exponent },
            d: number("d", &jwk.d)?,
            p: number("p", &jwk.p)?,
            q: number("q", &jwk.q)?,
            dP: number("dp", &jwk.dp)?,
            dQ: number("dq", &jwk.dq)?,
            qInv: number("qi", &jwk.qi)?,
        })
        .map_err(|error| WalletError::Inconsistent(error.to_string()))?;
        let address = address_of(&owner);
        Ok(Self { key, owner, address })
    }

    /// The address: SHA-256 of the modulus.
    pub fn address(&self) -> &Id {
        &self.address
    }

    /// The modulus, big-endian, 512 bytes.
    pub fn owner(&self) -> &[u8] {
        &self.owner
    }

    /// Signs bytes: RSA-PSS, SHA-256, a salt of 32 bytes; 512 bytes.
    pub fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; RSA_BYTES];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("a checked RSA-4096 key signs, unless the system has no memory or no randomness");
        signature
    }

    /// Makes a signed data item.
    ///
    /// # Errors
    /// Tags beyond the bounds of [`tags`].
    pub fn sign(&self, draft: Draft) -> Result<DataItem, TagError> {
        let Draft { target, anchor, tags, data } = draft;
        let raw_tags = tags::encode(&tags)?;
        let signature_type = SignatureType::Arweave;
        let mut head =
            Head { signature_type, signature: Vec::new(), owner: self.owner.clone(), target, anchor, tags, raw_tags };
        head.signature = self.sign_bytes(&head.signed_bytes(&deep_hash::blob(&data)));
        Ok(DataItem { head, data })
    }
}

impl std::fmt::Debug for Wallet {
    /// The address only: a log must never hold a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet").field("address", &super::to_base64url(&self.address)).finish_non_exhaustive()
    }
}
