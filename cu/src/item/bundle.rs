//! ANS-104 binary bundles: many data items in the data of one.
//!
//! Layout: number of items (32 bytes, little-endian); for each item its length (32 bytes, little-endian) and id (32 bytes);
//! then the items. The carrying item has the tags `Bundle-Format: binary` and `Bundle-Version: 2.0.0`.

use super::{DataItem, Id, ItemError, Tag, tags, to_base64url};

/// Most items read from one bundle.
pub const BUNDLE_ITEMS_MAX: usize = 1 << 20;
const HEADER_BYTES: usize = 64;

/// Why bytes are not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes end inside the table of items or inside an item.
    #[error("bundle of {length} bytes ends inside {what}")]
    Truncated {
        /// What is cut off.
        what: String,
        /// The bundle's length, bytes.
        length: usize,
    },
    /// More items than [`BUNDLE_ITEMS_MAX`], or a number that no file can hold.
    #[error("bundle announces more than {BUNDLE_ITEMS_MAX} items")]
    TooMany,
    /// An item that cannot be read.
    #[error("bundle item {index}: {error}")]
    Item {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        error: ItemError,
    },
    /// An item whose id is not the one in the table.
    #[error("bundle item {index} has the id {found}, where the table says {expected}")]
    Id {
        /// Its place, from 0.
        index: usize,
        /// The table's id.
        expected: String,
        /// The item's id.
        found: String,
    },
    /// Bytes after the last item.
    #[error("bundle of {length} bytes has {trailing} bytes after its last item")]
    Trailing {
        /// The bundle's length, bytes.
        length: usize,
        /// Bytes too many.
        trailing: usize,
    },
}

/// Whether an item's tags say that its data is a binary bundle.
pub fn is_bundle(tags: &[Tag]) -> bool {
    tags::first(tags, "Bundle-Format") == Some("binary") && tags::first(tags, "Bundle-Version") == Some("2.0.0")
}

/// The data of a bundle of these items.
pub fn write(items: &[DataItem]) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = items.iter().map(DataItem::to_bytes).collect();
    let mut out = Vec::with_capacity(32 + bodies.iter().map(|body| HEADER_BYTES + body.len()).sum::<usize>());
    put_u256(&mut out, items.len() as u64);
    for (item, body) in items.iter().zip(&bodies) {
        put_u256(&mut out, body.len() as u64);
        out.extend_from_slice(&item.id());
    }
    out.extend(bodies.into_iter().flatten());
    out
}

/// Reads the items of a bundle. Signatures are not checked.
///
/// # Errors
/// Any [`BundleError`].
pub fn read(bytes: &[u8]) -> Result<Vec<DataItem>, BundleError> {
    let truncated = |what: String| BundleError::Truncated { what, length: bytes.len() };
    let count = bytes.get(..32).ok_or_else(|| truncated("the number of items".into()))?;
    let count = get_u256(count).filter(|count| *count <= BUNDLE_ITEMS_MAX as u64).ok_or(BundleError::TooMany)? as usize;
    let table_end = 32 + count * HEADER_BYTES;
    let table = bytes.get(32..table_end).ok_or_else(|| truncated("the table of items".into()))?;
    let mut at = table_end;
    let mut items = Vec::with_capacity(count);
    for (index, header) in table.chunks_exact(HEADER_BYTES).enumerate() {
        let end = get_u256(&header[..32]).and_then(|length| at.checked_add(usize::try_from(length).ok()?));
        let body = end.and_then(|end| bytes.get(at..end)).ok_or_else(|| truncated(format!("item {index}")))?;
        let item = DataItem::parse(body).map_err(|error| BundleError::Item { index, error })?;
        let expected: Id = header[32..].try_into().expect("a header is 64 bytes long");
        if item.id() != expected {
            return Err(BundleError::Id { index, expected: to_base64url(&expected), found: item.id_text() });
        }
        at += body.len();
        items.push(item);
    }
    if at != bytes.len() {
        return Err(BundleError::Trailing { length: bytes.len(), trailing: bytes.len() - at });
    }
    Ok(items)
}

fn put_u256(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&[0; 24]);
}

/// `None` for numbers above 64 bits.
pub(crate) fn get_u256(bytes: &[u8]) -> Option<u64> {
    let (low, high) = bytes.split_at_checked(8)?;
    high.iter().all(|byte| *byte == 0).then(|| low.try_into().map(u64::from_le_bytes).ok()).flatten()
}
