//! Base-layer transactions of Arweave, formats 1 and 2, in the JSON that nodes and wallets speak.
//!
//! What is signed, of format 2: the deep hash of `["2", owner, target, quantity, reward, last_tx, [[name, value], ...],
//! data_size, data_root]`; of format 1: owner, target, data, quantity, reward, last_tx, names and values in turn, all in
//! one run of bytes. Numbers are signed as decimal text. (arweave-js, `Transaction.getSignatureData`.)

use std::borrow::Cow;

use arweave_rs::crypto::merkle::{generate_data_root, generate_leaves};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Checks, Id, deep_hash, from_base64url};

/// Most tags on one transaction (Arweave's own bound is 2,048 bytes for all of them).
const TAGS_MAX: usize = 2048;
/// Most digits of an amount.
const DIGITS_MAX: usize = 30;
/// Bytes of the moduli that transactions are signed with.
const OWNER_BYTES: [usize; 2] = [256, 512];

/// A transaction as it is written. Numbers stay text: they are signed as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// 1 or 2.
    pub format: u8,
    /// The id it says it has.
    pub id: Id,
    /// Public key: an RSA modulus.
    pub owner: Vec<u8>,
    /// Target address, or nothing.
    pub target: Vec<u8>,
    /// Anchor, or nothing.
    pub last_tx: Vec<u8>,
    /// Names and values.
    pub tags: Vec<[Vec<u8>; 2]>,
    /// Winston sent, decimal.
    pub quantity: String,
    /// Winston paid, decimal.
    pub reward: String,
    /// Bytes of the data, wherever it is.
    pub data_size: u64,
    /// Root of the tree of the data's chunks; nothing for no data.
    pub data_root: Vec<u8>,
    /// The data, if it came along.
    pub data: Vec<u8>,
    /// As many bytes as the owner.
    pub signature: Vec<u8>,
}

/// Why JSON is no transaction, or no sound one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Not the JSON of a transaction.
    #[error("not the JSON of a transaction: {0}")]
    NotJson(String),
    /// A member that cannot mean anything.
    #[error("transaction member `{0}`: {1}")]
    Member(&'static str, &'static str),
    /// Data that does not have the signed root.
    #[error("transaction's data does not have its data_root")]
    DataRoot,
    /// An id that is not the signature's hash.
    #[error("transaction's id is not the SHA-256 of its signature")]
    Id,
}

#[derive(Deserialize)]
struct Wire<'a> {
    format: u8,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    last_tx: Cow<'a, str>,
    #[serde(borrow)]
    owner: Cow<'a, str>,
    #[serde(borrow, default)]
    tags: Vec<WireTag<'a>>,
    #[serde(borrow, default)]
    target: Cow<'a, str>,
    quantity: String,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
    #[serde(default)]
    data_size: serde_json::Value,
    #[serde(borrow, default)]
    data_root: Cow<'a, str>,
    reward: String,
    #[serde(borrow)]
    signature: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WireTag<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

impl Transaction {
    /// Reads a transaction. Nothing is checked but its shape.
    ///
    /// # Errors
    /// [`TransactionError::NotJson`], [`TransactionError::Member`].
    pub fn parse(json: &[u8]) -> Result<Self, TransactionError> {
        use TransactionError::{Member, NotJson};
        let wire: Wire<'_> = serde_json::from_slice(json).map_err(|error| NotJson(error.to_string()))?;
        let bytes = |name, text: &str| from_base64url(text).ok_or(Member(name, "it is not base64url"));
        if !matches!(wire.format, 1 | 2) {
            return Err(Member("format", "it is neither 1 nor 2"));
        }
        let owner = bytes("owner", &wire.owner)?;
        if !OWNER_BYTES.contains(&owner.len()) {
            return Err(Member("owner", "it is no RSA key of 2048 or 4096 bits"));
        }
        let target = bytes("target", &wire.target)?;
        if !matches!(target.len(), 0 | 32) {
            return Err(Member("target", "it is neither empty nor 32 bytes"));
        }
        for (name, number) in [("quantity", &wire.quantity), ("reward", &wire.reward)] {
            if !(1..=DIGITS_MAX).contains(&number.len()) || !number.bytes().all(|digit| digit.is_ascii_digit()) {
                return Err(Member(name, "it is not a decimal number"));
            }
        }
        let data = bytes("data", &wire.data)?;
        let data_size = match &wire.data_size {
            serde_json::Value::Null if wire.format == 1 => Some(data.len() as u64),
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        if wire.tags.len() > TAGS_MAX {
            return Err(Member("tags", "there are too many"));
        }
        let text = |text: &str| from_base64url(text).ok_or(Member("tags", "a name or a value is not base64url"));
        let tags = wire.tags.iter().map(|tag| Ok([text(&tag.name)?, text(&tag.value)?])).collect::<Result<_, _>>()?;
        Ok(Self {
            format: wire.format,
            id: bytes("id", &wire.id)?.try_into().map_err(|_| Member("id", "it is not 32 bytes"))?,
            owner,
            target,
            last_tx: bytes("last_tx", &wire.last_tx)?,
            tags,
            data_size: data_size.ok_or(Member("data_size", "it is not a number"))?,
            data_root: bytes("data_root", &wire.data_root)?,
            data,
            signature: bytes("signature", &wire.signature)?,
            quantity: wire.quantity,
            reward: wire.reward,
        })
    }

    /// What has to hold for the signature to be valid, once id and data have been found to fit. The data of format 2 may
    /// be elsewhere: then only its root is vouched for.
    ///
    /// # Errors
    /// [`TransactionError::Id`], [`TransactionError::DataRoot`].
    pub fn checks(&self) -> Result<Checks, TransactionError> {
        if Id::from(Sha256::digest(&self.signature)) != self.id {
            return Err(TransactionError::Id);
        }
        let elsewhere = self.format == 2 && self.data.is_empty();
        if !elsewhere && self.data_size != self.data.len() as u64 {
            return Err(TransactionError::DataRoot);
        }
        if self.format == 2 && !elsewhere && root_of(&self.data) != self.data_root {
            return Err(TransactionError::DataRoot);
        }
        Ok(Checks::rsa(&self.owner, &self.signed_bytes(), &self.signature))
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let (quantity, reward) = (self.quantity.as_bytes(), self.reward.as_bytes());
        if self.format == 1 {
            let tags = self.tags.concat().concat();
            return [&self.owner[..], &self.target, &self.data, quantity, reward, &self.last_tx, &tags].concat();
        }
        let tags: Vec<_> = self.tags.iter().map(|[name, value]| deep_hash::list(&[name, value])).collect();
        let before = [b"2", &self.owner[..], &self.target, quantity, reward, &self.last_tx].map(deep_hash::blob);
        let tags = deep_hash::list_of(tags.len(), &tags);
        let after = [self.data_size.to_string().as_bytes(), &self.data_root].map(deep_hash::blob);
        let parts = before.iter().chain([&tags]).chain(&after);
        deep_hash::list_of(before.len() + 1 + after.len(), parts).to_vec()
    }
}

/// The Merkle root of data in chunks; nothing for no data (for which arweave-rs would panic).
fn root_of(data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return Vec::new();
    }
    let root = generate_leaves(data.to_vec()).and_then(generate_data_root);
    root.map(|root| root.id.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// As arweave-js made them, the third with the data that the file leaves out.
    fn golden() -> Vec<(String, Value)> {
        let file: Value = serde_json::from_str(include_str!("../../../tests/items/transactions.json")).unwrap();
        let of = |kind: &str| file[kind].as_object().unwrap().clone().into_iter().collect::<Vec<_>>();
        [of("transactions"), of("legacy")].concat()
    }

    fn verify(transaction: &Value) -> bool {
        let transaction = Transaction::parse(transaction.to_string().as_bytes()).unwrap();
        transaction.checks().is_ok_and(|checks| checks.verify().is_ok())
    }

    #[test]
    fn transactions_of_both_formats_verify_and_nothing_in_them_can_be_changed() {
        let golden = golden();
        assert_eq!(golden.len(), 4);
        for (name, transaction) in golden {
            assert!(verify(&transaction), "{name}");
            let other = |text: &Value| {
                let text = text.as_str().unwrap();
                let first = if text.starts_with('A') { "B" } else { "A" };
                json!(format!("{first}{}", &text[1..]))
            };
            for member in ["id", "owner", "target", "last_tx", "data", "data_root", "signature"] {
                let mut changed = transaction.clone();
                if changed[member].as_str().is_none_or(str::is_empty) {
                    continue;
                }
                changed[member] = other(&changed[member]);
                // Format 1 signs its data; a root that comes along says nothing.
                let is_signed = !(member == "data_root" && changed["format"] == 1);
                assert_eq!(verify(&changed), !is_signed, "{name}: {member}");
            }
            for (member, value) in [("quantity", "3"), ("reward", "3"), ("data_size", "3")] {
                let mut changed = transaction.clone();
                changed[member] = json!(value);
                assert!(!verify(&changed), "{name}: {member}");
            }
            let mut changed = transaction.clone();
            changed["tags"] = json!([{"name": "QQ", "value": "QQ"}]);
            assert!(!verify(&changed), "{name}: tags");
        }
    }

    #[test]
    fn data_of_the_second_format_that_came_along_must_have_the_root() {
        let (_, mut transaction) = golden().into_iter().find(|(name, _)| name.starts_with("two chunks")).unwrap();
        transaction["data"] = json!(super::super::to_base64url(&vec![7; 256 * 1024 + 10]));
        assert!(verify(&transaction));
        transaction["data"] = json!(super::super::to_base64url(&vec![8; 256 * 1024 + 10]));
        let parsed = Transaction::parse(transaction.to_string().as_bytes()).unwrap();
        assert_eq!(parsed.checks(), Err(TransactionError::DataRoot));
    }

    #[test]
    fn what_is_no_transaction_is_refused_by_member() {
        let (_, transaction) = golden().swap_remove(0);
        for (member, value, named) in [
            ("format", json!(3), "format"),
            ("owner", json!("AQAB"), "owner"),
            ("owner", json!("!"), "owner"),
            ("target", json!("AQAB"), "target"),
            ("quantity", json!(""), "quantity"),
            ("reward", json!("1e9"), "reward"),
            ("data_size", json!("-1"), "data_size"),
            ("id", json!("AQAB"), "id"),
            ("tags", json!(vec![json!({"name": "", "value": ""}); TAGS_MAX + 1]), "tags"),
        ] {
            let mut changed = transaction.clone();
            changed[member] = value;
            let error = Transaction::parse(changed.to_string().as_bytes()).unwrap_err();
            assert!(matches!(error, TransactionError::Member(found, _) if found == named), "{member}: {error}");
        }
        assert!(matches!(Transaction::parse(b"{}"), Err(TransactionError::NotJson(_))));
    }
}
