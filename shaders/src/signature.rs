//! What one verification needs, per scheme: the inputs of the signature kernels, of their twins and of the CPU path.
//! All numbers are big-endian byte strings unless a scheme's own standard says otherwise.

/// RSASSA-PSS with SHA-256, MGF1-SHA-256 and public exponent 65537 (RFC 8017, section 8.1.2). The salt may have any
/// length that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPss {
    /// The modulus: 256 or 512 bytes.
    pub modulus: Box<[u8]>,
    /// The signature: as many bytes as the modulus.
    pub signature: Box<[u8]>,
    /// SHA-256 of the signed message.
    pub digest: [u8; 32],
}

/// Ed25519 (RFC 8032), little-endian as the RFC has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ed25519 {
    /// The encoded point A.
    pub public_key: [u8; 32],
    /// The encoded point R, then S.
    pub signature: [u8; 64],
    /// The signed message.
    pub message: Box<[u8]>,
}

/// ECDSA on secp256k1 (SEC 1, section 4.1), with the signer either named by key or recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secp256k1 {
    /// The hash of the signed message.
    pub digest: [u8; 32],
    /// r, then s.
    pub signature: [u8; 64],
    /// Who must have signed.
    pub signer: Signer,
}

/// How the signer of a [`Secp256k1`] signature is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// By public key: x, then y, without the SEC 1 prefix.
    Key([u8; 64]),
    /// By public key, as above, where the signature must recover to it; `recovery` is SEC 1's recovery number, 0 to 3.
    Recovered {
        /// Which of the candidates is the key.
        recovery: u8,
        /// The key it must be.
        key: [u8; 64],
    },
    /// By the Ethereum address (the last 20 bytes of Keccak-256 of the key) of the key that the signature recovers to;
    /// `recovery` as above.
    Address {
        /// Which of the candidates is the key.
        recovery: u8,
        /// The address it must have.
        address: [u8; 20],
    },
}
