//! Base-layer transactions, as wallets post them to a gateway: JSON, signed over Arweave's deep hash, with the data inside.

use arweave_rs::crypto::hash::{DeepHashItem, deep_hash};
use arweave_rs::crypto::merkle::{generate_data_root, generate_leaves};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use lockstep_cu::item::{Id, Tag, from_base64url, signature};

/// Most data in one transaction, bytes: what nodes take without chunk uploads.
pub const LAYER1_DATA_MAX: usize = 12 * 1024 * 1024;
/// Most tags on one transaction (Arweave's own bound is 2,048 bytes for all of them).
const TAGS_MAX: usize = 2048;

/// A checked transaction. Numbers stay text: they are signed as text.
#[derive(Debug)]
pub struct Layer1 {
    /// SHA-256 of the signature.
    pub id: Id,
    /// Public key.
    pub owner: Vec<u8>,
    /// Target address, or nothing.
    pub target: Vec<u8>,
    /// Anchor, or nothing.
    pub last_tx: Vec<u8>,
    /// Tags, as text.
    pub tags: Vec<Tag>,
    /// Winston sent, decimal.
    pub quantity: String,
    /// Winston paid, decimal.
    pub reward: String,
    /// The payload.
    pub data: Vec<u8>,
    /// 512 bytes.
    pub signature: Vec<u8>,
}

/// Why a transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Layer1Error {
    /// Not the JSON of a transaction.
    #[error("not the JSON of a transaction: {0}")]
    NotJson(String),
    /// A member that cannot mean anything.
    #[error("transaction member `{0}`: {1}")]
    Member(&'static str, &'static str),
    /// Data to be uploaded in chunks.
    #[error(
        "transaction has data_size {0} and other data; this network takes no chunks, send the data in the transaction (up to {LAYER1_DATA_MAX} bytes)"
    )]
    Chunks(u64),
    /// Data that does not have the signed root.
    #[error("transaction's data does not have its data_root")]
    DataRoot,
    /// An id that is not the signature's hash.
    #[error("transaction's id is not the SHA-256 of its signature")]
    Id,
    /// A signature that does not verify.
    #[error("Transaction verification failed.")]
    Signature,
}

#[derive(Deserialize)]
struct Wire {
    format: u8,
    id: String,
    last_tx: String,
    owner: String,
    #[serde(default)]
    tags: Vec<Tag>,
    target: String,
    quantity: String,
    data: String,
    data_size: serde_json::Value,
    data_root: String,
    reward: String,
    signature: String,
}

/// Reads and checks a transaction.
///
/// # Errors
/// Any [`Layer1Error`].
pub fn parse(json: &[u8]) -> Result<Layer1, Layer1Error> {
    let wire: Wire = serde_json::from_slice(json).map_err(|error| Layer1Error::NotJson(error.to_string()))?;
    let bytes = |name, text: &str| from_base64url(text).ok_or(Layer1Error::Member(name, "it is not base64url"));
    let (owner, target, last_tx) =
        (bytes("owner", &wire.owner)?, bytes("target", &wire.target)?, bytes("last_tx", &wire.last_tx)?);
    let (data, data_root) = (bytes("data", &wire.data)?, bytes("data_root", &wire.data_root)?);
    let signature = bytes("signature", &wire.signature)?;
    if !matches!(target.len(), 0 | 32) {
        return Err(Layer1Error::Member("target", "it is neither empty nor 32 bytes"));
    }
    for (name, number) in [("quantity", &wire.quantity), ("reward", &wire.reward)] {
        if number.is_empty() || number.len() > 30 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Layer1Error::Member(name, "it is not a decimal number"));
        }
    }
    if wire.format != 2 {
        return Err(Layer1Error::Member("format", "only transactions of format 2 are taken"));
    }
    let data_size = match &wire.data_size {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let data_size: u64 = data_size.ok_or(Layer1Error::Member("data_size", "it is not a number"))?;
    if data.len() > LAYER1_DATA_MAX || data_size != data.len() as u64 {
        return Err(Layer1Error::Chunks(data_size));
    }
    let raw_tags = raw_tags(&wire.tags)?;
    if root_of(&data) != data_root {
        return Err(Layer1Error::DataRoot);
    }
    let mut parts: Vec<DeepHashItem> =
        [&b"2"[..], &owner, &target, wire.quantity.as_bytes(), wire.reward.as_bytes(), &last_tx]
            .into_iter()
            .map(DeepHashItem::from_item)
            .collect();
    parts.push(DeepHashItem::from_children(
        raw_tags
            .iter()
            .map(|tag| DeepHashItem::from_children(tag.iter().map(|part| DeepHashItem::from_item(part)).collect()))
            .collect(),
    ));
    parts.push(DeepHashItem::from_item(data_size.to_string().as_bytes()));
    parts.push(DeepHashItem::from_item(&data_root));
    let signed = deep_hash(DeepHashItem::from_children(parts));
    signature::verify_rsa_pss(&owner, &signed, &signature).map_err(|_| Layer1Error::Signature)?;
    let id: Id = Sha256::digest(&signature).into();
    if bytes("id", &wire.id)? != id {
        return Err(Layer1Error::Id);
    }
    let tags = raw_tags.iter().map(|[name, value]| Some(Tag::new(text(name)?, text(value)?))).collect::<Option<_>>();
    let tags = tags.ok_or(Layer1Error::Member("tags", "a name or a value is not UTF-8"))?;
    let Wire { quantity, reward, .. } = wire;
    Ok(Layer1 { id, owner, target, last_tx, tags, quantity, reward, data, signature })
}

fn raw_tags(tags: &[Tag]) -> Result<Vec<[Vec<u8>; 2]>, Layer1Error> {
    if tags.len() > TAGS_MAX {
        return Err(Layer1Error::Member("tags", "there are too many"));
    }
    let read =
        |text: &str| from_base64url(text).ok_or(Layer1Error::Member("tags", "a name or a value is not base64url"));
    tags.iter().map(|tag| Ok([read(&tag.name)?, read(&tag.value)?])).collect()
}

/// The Merkle root of data in chunks; nothing for no data (for which arweave-rs would panic).
fn root_of(data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return Vec::new();
    }
    let root = generate_leaves(data.to_vec()).and_then(generate_data_root);
    root.map(|root| root.id.to_vec()).unwrap_or_default()
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
