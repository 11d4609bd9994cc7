//! Deep hash: the SHA-384 tree hash over nested byte strings that Arweave signatures are made of.
//!
//! Definition (Arweave `deepHash`, used by ANS-104): a byte string `b` hashes to
//! `H(H("blob" + decimal length) || H(b))`; a list folds `acc = H(acc || hash(child))` from `acc = H("list" + decimal
//! length)`; `H` is SHA-384. Data items need one flat list, transactions lists in a list; there is no recursion here, and no
//! copy of the data.

use std::{collections::HashMap, sync::LazyLock};

use sha2::{Digest, Sha384};

/// Bytes of a deep hash (SHA-384).
pub const DEEP_HASH_BYTES: usize = 48;

/// Lengths whose part of the hash is kept: those of keys, signatures, ids and most tags and data.
const KEPT_LENGTHS: u64 = 1025;

/// Byte strings whose hashes [`Blobs`] keeps.
const BLOBS_MAX: usize = 4096;

/// Deep hash of one byte string.
pub fn blob(bytes: &[u8]) -> [u8; DEEP_HASH_BYTES] {
    /// Of none: most items leave something out.
    static EMPTY: LazyLock<[u8; DEEP_HASH_BYTES]> = LazyLock::new(|| blob_of(0, &Sha384::digest([]).into()));
    if bytes.is_empty() { *EMPTY } else { blob_of(bytes.len() as u64, &Sha384::digest(bytes).into()) }
}

/// Deep hashes of byte strings that come again and again, such as owners and targets.
#[derive(Default)]
pub struct Blobs(HashMap<Box<[u8]>, [u8; DEEP_HASH_BYTES]>);

impl Blobs {
    /// [`blob`].
    pub fn blob(&mut self, bytes: &[u8]) -> [u8; DEEP_HASH_BYTES] {
        if let Some(hash) = self.0.get(bytes) {
            return *hash;
        }
        if self.0.len() >= BLOBS_MAX {
            self.0.clear();
        }
        let hash = blob(bytes);
        self.0.insert(bytes.into(), hash);
        hash
    }
}

/// Deep hash of a byte string of which the length and the SHA-384 are known.
pub fn blob_of(length: u64, hash_of_bytes: &[u8; DEEP_HASH_BYTES]) -> [u8; DEEP_HASH_BYTES] {
    static KEPT: LazyLock<Vec<[u8; DEEP_HASH_BYTES]>> =
        LazyLock::new(|| (0..KEPT_LENGTHS).map(hash_of_length).collect());
    let kept = usize::try_from(length).ok().and_then(|length| KEPT.get(length).copied());
    let mut hash = Sha384::new();
    hash.update(kept.unwrap_or_else(|| hash_of_length(length)));
    hash.update(hash_of_bytes);
    hash.finalize().into()
}

fn hash_of_length(length: u64) -> [u8; DEEP_HASH_BYTES] {
    Sha384::digest(format!("blob{length}")).into()
}

/// Deep hash of a flat list of byte strings.
pub fn list(blobs: &[&[u8]]) -> [u8; DEEP_HASH_BYTES] {
    let hashes: Vec<_> = blobs.iter().map(|bytes| blob(bytes)).collect();
    list_of(hashes.len(), &hashes)
}

/// Deep hash of a list of `count` children, given theirs.
pub fn list_of<'a>(
    count: usize,
    children: impl IntoIterator<Item = &'a [u8; DEEP_HASH_BYTES]>,
) -> [u8; DEEP_HASH_BYTES] {
    continued(Sha384::digest(format!("list{count}")).into(), children)
}

/// Deep hash of a list, given that of its beginning and those of the children after it.
pub fn continued<'a>(
    beginning: [u8; DEEP_HASH_BYTES],
    children: impl IntoIterator<Item = &'a [u8; DEEP_HASH_BYTES]>,
) -> [u8; DEEP_HASH_BYTES] {
    children.into_iter().fold(beginning, |acc, child| {
        let mut hash = Sha384::new();
        hash.update(acc);
        hash.update(child);
        hash.finalize().into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arweave_rs::crypto::hash::{DeepHashItem, deep_hash};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_independent_implementation_of_arweave_rs(
            blobs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..9)
        ) {
            let theirs = deep_hash(DeepHashItem::List(blobs.iter().cloned().map(DeepHashItem::Blob).collect()));
            let ours = list(&blobs.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn what_is_kept_is_what_would_be_found_again() {
        let mut kept = Blobs::default();
        let strings = (0..2 * BLOBS_MAX as u32 + 10).map(|i| (i % (BLOBS_MAX as u32 + 7)).to_le_bytes());
        for bytes in strings.chain([[0; 4]; 2]) {
            assert_eq!(kept.blob(&bytes), blob(&bytes));
            assert_eq!(kept.blob(&bytes[..1]), blob(&bytes[..1]));
            assert!(kept.0.len() <= BLOBS_MAX);
        }
        assert_eq!(kept.blob(&[]), blob(&[]));
        assert_eq!(blob(&[]), blob_of(0, &Sha384::digest([]).into()));
    }

    #[test]
    fn the_split_between_neighbours_is_part_of_the_hash() {
        assert_ne!(list(&[b"ab", b"c"]), list(&[b"a", b"bc"]));
    }
}
