//! ANS-104 data items: the signed envelope of everything on ao (processes, messages, assignments, modules).
//!
//! Layout, all numbers little-endian: signature type `u16`; signature; owner (public key); target presence byte and 32 bytes;
//! anchor presence byte and 32 bytes; number of tags `u64`; bytes of tags `u64`; tags (Avro, see [`tags`]); data to the end.
//! The id is the SHA-256 of the signature. What is signed is the deep hash of
//! `["dataitem", "1", decimal signature type, owner, target, anchor, tags (as encoded), data]`.

pub mod bundle;
pub mod deep_hash;
pub mod signature;
pub mod tags;
pub mod wallet;

pub use signature::{SignatureType, VerifyError};
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
    signature_type: SignatureType,
    signature: Vec<u8>,
    owner: Vec<u8>,
    target: Option<Id>,
    anchor: Option<[u8; 32]>,
    tags: Vec<Tag>,
    /// As they came: another encoder may have written the same tags in other blocks, and the signature covers these bytes.
    raw_tags: Vec<u8>,
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
        for (what, expected, found) in [
            ("signature", signature_type.signature_bytes(), signature.len()),
            ("owner", signature_type.owner_bytes(), owner.len()),
        ] {
            if expected != found {
                return Err(ItemError::Length { what, signature_type, expected, found });
            }
        }
        let Draft { target, anchor, tags, data } = draft;
        let raw_tags = tags::encode(&tags).map_err(|error| ItemError::Tags { at: 0, error })?;
        Ok(Self { signature_type, signature, owner, target, anchor, tags, raw_tags, data })
    }

    /// Reads an item. Its signature is not checked: see [`DataItem::verify`].
    ///
    /// # Errors
    /// Any [`ItemError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ItemError> {
        let mut reader = Reader { bytes, at: 0 };
        let number = u16::from_le_bytes(reader.array("the signature type")?);
        let signature_type = SignatureType::from_number(number).ok_or(ItemError::UnknownSignatureType(number))?;
        let signature = reader.take("the signature", signature_type.signature_bytes() as u64)?.to_vec();
        let owner = reader.take("the owner", signature_type.owner_bytes() as u64)?.to_vec();
        let target = reader.optional("target")?;
        let anchor = reader.optional("anchor")?;
        let announced = u64::from_le_bytes(reader.array("the number of tags")?);
        let tag_bytes = u64::from_le_bytes(reader.array("the length of the tags")?);
        let at = reader.at;
        if tag_bytes > tags::TAG_BYTES_MAX as u64 {
            return Err(ItemError::Tags { at, error: TagError::TooLong { found: tag_bytes } });
        }
        let raw_tags = reader.take("the tags", tag_bytes)?.to_vec();
        let tags = tags::decode(&raw_tags).map_err(|error| ItemError::Tags { at, error })?;
        if announced != tags.len() as u64 {
            return Err(ItemError::TagCount { announced, found: tags.len() });
        }
        let data = bytes[reader.at..].to_vec();
        Ok(Self { signature_type, signature, owner, target, anchor, tags, raw_tags, data })
    }

    /// The item's bytes. `DataItem::parse` of them gives the item back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let fixed = 2 + self.signature.len() + self.owner.len() + 2 * 33 + 16;
        let mut out = Vec::with_capacity(fixed + self.raw_tags.len() + self.data.len());
        out.extend_from_slice(&self.signature_type.number().to_le_bytes());
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&self.owner);
        for part in [&self.target, &self.anchor] {
            match part {
                Some(bytes) => {
                    out.push(1);
                    out.extend_from_slice(bytes);
                }
                None => out.push(0),
            }
        }
        out.extend_from_slice(&(self.tags.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.raw_tags.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.raw_tags);
        out.extend_from_slice(&self.data);
        out
    }

    /// The bytes the owner signed (deep hash, 48 bytes).
    pub fn signed_bytes(&self) -> [u8; deep_hash::DEEP_HASH_BYTES] {
        signed_bytes(
            self.signature_type,
            &self.owner,
            self.target.as_ref(),
            self.anchor.as_ref(),
            &self.raw_tags,
            &self.data,
        )
    }

    /// Checks the signature. Only Arweave signatures are checked so far.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`], or [`VerifyError::Unsupported`] for every other scheme.
    pub fn verify(&self) -> Result<(), VerifyError> {
        match self.signature_type {
            SignatureType::Arweave => signature::verify_rsa_pss(&self.owner, &self.signed_bytes(), &self.signature),
            other => Err(VerifyError::Unsupported(other)),
        }
    }

    /// The id: SHA-256 of the signature.
    pub fn id(&self) -> Id {
        Sha256::digest(&self.signature).into()
    }

    /// The id as it is written.
    pub fn id_text(&self) -> String {
        to_base64url(&self.id())
    }

    /// The signature scheme.
    pub fn signature_type(&self) -> SignatureType {
        self.signature_type
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The owner's public key.
    pub fn owner(&self) -> &[u8] {
        &self.owner
    }

    /// The target, if there is one.
    pub fn target(&self) -> Option<&Id> {
        self.target.as_ref()
    }

    /// The anchor, if there is one.
    pub fn anchor(&self) -> Option<&[u8; 32]> {
        self.anchor.as_ref()
    }

    /// The tags, in order.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The value of the first tag of this name.
    pub fn tag(&self, name: &str) -> Option<&str> {
        tags::first(&self.tags, name)
    }

    /// The payload.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

fn signed_bytes(
    signature_type: SignatureType,
    owner: &[u8],
    target: Option<&Id>,
    anchor: Option<&[u8; 32]>,
    raw_tags: &[u8],
    data: &[u8],
) -> [u8; deep_hash::DEEP_HASH_BYTES] {
    let number = signature_type.number().to_string();
    deep_hash::list(&[
        b"dataitem",
        b"1",
        number.as_bytes(),
        owner,
        target.map_or(&[], |id| &id[..]),
        anchor.map_or(&[], |bytes| &bytes[..]),
        raw_tags,
        data,
    ])
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, what: &'static str, needed: u64) -> Result<&'a [u8], ItemError> {
        let end = usize::try_from(needed).ok().and_then(|needed| self.at.checked_add(needed));
        let part = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(ItemError::Truncated {
            what,
            at: self.at,
            needed,
            length: self.bytes.len(),
        })?;
        self.at += part.len();
        Ok(part)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ItemError> {
        let part = self.take(what, N as u64)?;
        Ok(part.try_into().expect("take returns as many bytes as it was asked for"))
    }

    fn optional(&mut self, what: &'static str) -> Result<Option<[u8; 32]>, ItemError> {
        let at = self.at;
        match self.array::<1>(what)?[0] {
            0 => Ok(None),
            1 => self.array(what).map(Some),
            found => Err(ItemError::Presence { what, at, found }),
        }
    }
}

#[cfg(test)]
mod tests;
