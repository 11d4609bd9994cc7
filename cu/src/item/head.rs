//! Everything of a data item but its data: what stands before it, and is enough to know what was signed once the data's
//! own hash is known. So an item of any length is read and checked in little memory.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::{
    Id, ItemError, SignatureType, Tag, TagError,
    deep_hash::{self, Blobs, DEEP_HASH_BYTES},
    tags::{self, TAG_BYTES_MAX},
};

/// Longest head, bytes: type, the longest signature and owner, target, anchor, two lengths, tags.
pub const HEAD_BYTES_MAX: usize = 2 + 2052 + 1025 + 2 * 33 + 16 + TAG_BYTES_MAX;

/// A data item without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub(super) signature_type: SignatureType,
    pub(super) signature: Vec<u8>,
    pub(super) owner: Vec<u8>,
    pub(super) target: Option<Id>,
    pub(super) anchor: Option<[u8; 32]>,
    pub(super) tags: Vec<Tag>,
    /// As they came: another encoder may have written the same tags in other blocks, and the signature covers these bytes.
    pub(super) raw_tags: Vec<u8>,
}

impl Head {
    /// From its parts; the tags are encoded as signers encode them.
    ///
    /// # Errors
    /// [`ItemError::Length`], [`ItemError::Tags`].
    pub fn assemble(
        signature_type: SignatureType,
        signature: Vec<u8>,
        owner: Vec<u8>,
        target: Option<Id>,
        anchor: Option<[u8; 32]>,
        tags: Vec<Tag>,
    ) -> Result<Self, ItemError> {
        for (what, expected, found) in [
            ("signature", signature_type.signature_bytes(), signature.len()),
            ("owner", signature_type.owner_bytes(), owner.len()),
        ] {
            if expected != found {
                return Err(ItemError::Length { what, signature_type, expected, found });
            }
        }
        let raw_tags = tags::encode(&tags).map_err(|error| ItemError::Tags { at: 0, error })?;
        Ok(Self { signature_type, signature, owner, target, anchor, tags, raw_tags })
    }

    /// Reads a head; gives back what follows it.
    ///
    /// # Errors
    /// Any [`ItemError`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), ItemError> {
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
        if tag_bytes > TAG_BYTES_MAX as u64 {
            return Err(ItemError::Tags { at, error: TagError::TooLong { found: tag_bytes } });
        }
        let raw_tags = reader.take("the tags", tag_bytes)?.to_vec();
        let tags = tags::decode(&raw_tags).map_err(|error| ItemError::Tags { at, error })?;
        if announced != tags.len() as u64 {
            return Err(ItemError::TagCount { announced, found: tags.len() });
        }
        let head = Self { signature_type, signature, owner, target, anchor, tags, raw_tags };
        Ok((head, &bytes[reader.at..]))
    }

    /// The head's bytes, with room for so many bytes of data behind them.
    pub fn to_bytes(&self, data_bytes: usize) -> Vec<u8> {
        let fixed = 2 + self.signature.len() + self.owner.len() + 2 * 33 + 16;
        let mut out = Vec::with_capacity(fixed + self.raw_tags.len() + data_bytes);
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
        out
    }

    /// The bytes the owner signed, given the deep hash of the data ([`deep_hash::blob`]).
    pub fn signed_bytes(&self, data: &[u8; DEEP_HASH_BYTES]) -> [u8; DEEP_HASH_BYTES] {
        self.signed_bytes_by(data, &mut deep_hash::blob)
    }

    /// [`Head::signed_bytes`] of one of many heads, of which some have the owner or the target in common.
    pub fn signed_bytes_of_many(&self, data: &[u8; DEEP_HASH_BYTES], known: &mut Blobs) -> [u8; DEEP_HASH_BYTES] {
        self.signed_bytes_by(data, &mut |bytes| known.blob(bytes))
    }

    /// `blob`: of the owner, and of the target.
    fn signed_bytes_by(
        &self,
        data: &[u8; DEEP_HASH_BYTES],
        blob: &mut dyn FnMut(&[u8]) -> [u8; DEEP_HASH_BYTES],
    ) -> [u8; DEEP_HASH_BYTES] {
        /// Parts in all.
        const PARTS: usize = 8;
        /// Of the first three parts, by signature type.
        static BEGINNINGS: LazyLock<[[u8; DEEP_HASH_BYTES]; 8]> = LazyLock::new(|| {
            std::array::from_fn(|number| {
                let parts = [&b"dataitem"[..], b"1", number.to_string().as_bytes()].map(deep_hash::blob);
                deep_hash::list_of(PARTS, &parts)
            })
        });
        let parts = [
            blob(&self.owner),
            self.target.as_ref().map_or_else(|| deep_hash::blob(&[]), |target| blob(target)),
            deep_hash::blob(self.anchor.as_ref().map_or(&[], |anchor| anchor)),
            deep_hash::blob(&self.raw_tags),
        ];
        let beginning = BEGINNINGS[usize::from(self.signature_type.number())];
        deep_hash::continued(beginning, parts.iter().chain([data]))
    }

    /// The id: SHA-256 of the signature.
    pub fn id(&self) -> Id {
        Sha256::digest(&self.signature).into()
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

    /// The tags, in order.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The same head under another scheme, if the lengths fit.
    pub(crate) fn with_type(&self, signature_type: SignatureType) -> Option<Self> {
        let fits = signature_type.signature_bytes() == self.signature.len()
            && signature_type.owner_bytes() == self.owner.len();
        fits.then(|| Self { signature_type, ..self.clone() })
    }
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
