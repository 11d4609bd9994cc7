//! Deep hash: the SHA-384 tree hash over nested byte strings that Arweave signatures are made of.
//!
//! Definition (Arweave `deepHash`, used by ANS-104): a byte string `b` hashes to
//! `H(H("blob" + decimal length) || H(b))`; a list folds `acc = H(acc || hash(child))` from `acc = H("list" + decimal
//! length)`; `H` is SHA-384. Data items need one flat list, transactions lists in a list; there is no recursion here, and no
//! copy of the data.

use std::sync::LazyLock;

use sha2::{Digest, Sha384};

/// Bytes of a deep hash (SHA-384).
pub const DEEP_HASH_BYTES: usize = 48;

/// Lengths whose part of the hash is kept: those of keys, signatures, ids and most tags and data.
const KEPT_LENGTHS: u64 = 1025;

/// Deep hash of one byte string.
pub fn blob(bytes: &[u8]) -> [u8; DEEP_HASH_BYTES] {
    blob_of(bytes.len() as u64, &Sha384::digest(bytes).into())
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
    fn the_split_between_neighbours_is_part_of_the_hash() {
        assert_ne!(list(&[b"ab", b"c"]), list(&[b"a", b"bc"]));
    }
}
