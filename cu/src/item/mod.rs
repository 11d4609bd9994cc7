//! ANS-104 data items: the signed envelope of everything on ao (processes, messages, assignments, modules).
//!
//! Layout, all numbers little-endian: signature type `u16`; signature; owner (public key); target presence byte and 32 bytes;
//! anchor presence byte and 32 bytes; number of tags `u64`; bytes of tags `u64`; tags (Avro, see [`tags`]); data to the end.
//! The id is the SHA-256 of the signature. What is signed is the deep hash of
//! `["dataitem", "1", decimal signature type, owner, target, anchor, tags (as encoded), data]`.

pub mod bundle;
pub mod checks;
pub mod deep_hash;
pub mod head;
pub mod signature;
pub mod tags;
pub mod transaction;
pub mod wallet;

pub use checks::{Checks, Flaw, VerifyError};
pub use head::Head;
pub use signature::SignatureType;
pub use tags::{Tag, TagError};
pub use wallet::{Wallet, WalletError};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The 32 bytes behind a 43-character id: of a transaction, an item, a process, or an address.
pub type Id = [u8; 32];

/// Base64url without padding, as ids, keys and signatures are written.
pub fn to_base64url(bytes: &[u8]) -> String {
    crate::ids::encode(bytes)
}

/// Reads base64url without padding; `None` when it is not that.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Reads an id: exactly 43 characters of base64url.
pub fn parse_id(text: &str) -> Option<Id> {
    if text.len() != 43 {
        return None;
    }
    from_base64url(text)?.try_into().ok()
}

/// The address of a public key: its SHA-256.
pub fn address_of(owner: &[u8]) -> Id {
    Sha256::digest(owner).into()
}

/// Why bytes are not a data item. Offsets count from the item's first byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The bytes end too soon.
    #[error("data item of {length} bytes ends inside {what}, which needs {needed} bytes from byte {at}")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// Where it starts.
        at: usize,
        /// Its length, bytes.
        needed: u64,
        /// The item's length, bytes.
        length: usize,
    },
    /// A signature type nobody defined.
    #[error("data item has the unknown signature type {0}")]
    UnknownSignatureType(u16),
    /// A presence byte other than 0 and 1.
    #[error("data item has {found} as the presence byte of its {what} at byte {at}, where 0 or 1 must stand")]
    Presence {
        /// `target` or `anchor`.
        what: &'static str,
        /// Where it stands.
        at: usize,
        /// What stands there.
        found: u8,
    },
    /// The tag section cannot be read.
    #[error("data item's tags, from byte {at}: {error}")]
    Tags {
        /// Where the section starts.
        at: usize,
        /// What is wrong in it.
        error: TagError,
    },
    /// A signature or an owner that has not the length of its scheme.
    #[error("{what} of {found} bytes, where {signature_type:?} signatures need {expected}")]
    Length {
        /// `signature` or `owner`.
        what: &'static str,
        /// The scheme.
        signature_type: SignatureType,
        /// Its length, bytes.
        expected: usize,
        /// The length found, bytes.
        found: usize,
    },
    /// The number of tags announced is not the number found.
    #[error("data item announces {announced} tags and has {found}")]
    TagCount {
        /// The header's number.
        announced: u64,
        /// Tags in the section.
        found: usize,
    },
}

/// What a signer adds a signature and an owner to.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The process or address the item is for.
    pub target: Option<Id>,
    /// 32 bytes that make otherwise equal items differ.
    pub anchor: Option<[u8; 32]>,
    /// Names and values.
    pub tags: Vec<Tag>,
    /// The payload.
    pub data: Vec<u8>,
}

/// A signed (not necessarily checked) data item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataItem {
    head: Head,
    data: Vec<u8>,
}

impl DataItem {
    /// Puts an item together from what another form (a scheduler's JSON) holds of it. The tags are encoded as signers encode
    /// them. Whether it is the item that was signed, only its signature shows: see [`DataItem::verify`].
    ///
    /// # Errors
    /// [`ItemError::Length`], [`ItemError::Tags`].
    pub fn assemble(
        signature_type: SignatureType,
        signature: Vec<u8>,
        owner: Vec<u8>,
        draft: Draft,
    ) -> Result<Self, ItemError> {
        let Draft { target, anchor, tags, data } = draft;
        let head = Head::assemble(signature_type, signature, owner, target, anchor, tags)?;
        Ok(Self { head, data })
    }

    /// Reads an item. Its signature is not checked: see [`DataItem::verify`].
    ///
    /// # Errors
    /// Any [`ItemError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ItemError> {
        let (head, data) = Head::parse(bytes)?;
        Ok(Self { head, data: data.to_vec() })
    }

    /// The item's bytes. `DataItem::parse` of them gives the item back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.head.to_bytes(self.data.len());
        out.extend_from_slice(&self.data);
        out
    }

    /// The bytes the owner signed (deep hash, 48 bytes).
    pub fn signed_bytes(&self) -> [u8; deep_hash::DEEP_HASH_BYTES] {
        self.head.signed_bytes(&deep_hash::blob(&self.data))
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`VerifyError`]: it is not by this owner over these bytes, or not written as its scheme writes signatures.
    pub fn verify(&self) -> Result<(), VerifyError> {
        self.checks()?.verify()
    }

    /// What has to hold for the signature to be valid.
    ///
    /// # Errors
    /// [`Flaw`]: no check is needed to see that it is not.
    pub fn checks(&self) -> Result<Checks, Flaw> {
        Checks::of(&self.head, &self.signed_bytes())
    }

    /// Everything but the data.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The id: SHA-256 of the signature.
    pub fn id(&self) -> Id {
        self.head.id()
    }

    /// The id as it is written.
    pub fn id_text(&self) -> String {
        to_base64url(&self.id())
    }

    /// The signature scheme.
    pub fn signature_type(&self) -> SignatureType {
        self.head.signature_type
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        &self.head.signature
    }

    /// The owner's public key.
    pub fn owner(&self) -> &[u8] {
        &self.head.owner
    }

    /// The target, if there is one.
    pub fn target(&self) -> Option<&Id> {
        self.head.target.as_ref()
    }

    /// The anchor, if there is one.
    pub fn anchor(&self) -> Option<&[u8; 32]> {
        self.head.anchor.as_ref()
    }

    /// The tags, in order.
    pub fn tags(&self) -> &[Tag] {
        &self.head.tags
    }

    /// The value of the first tag of this name.
    pub fn tag(&self, name: &str) -> Option<&str> {
        tags::first(&self.head.tags, name)
    }

    /// The payload.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests;
