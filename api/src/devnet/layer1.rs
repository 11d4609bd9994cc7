//! Base-layer transactions, as wallets post them to a gateway: JSON, signed over Arweave's deep hash, with the data inside.

use lockstep_cu::item::{
    Id, Tag,
    transaction::{Transaction, TransactionError},
};

/// Most data in one transaction, bytes: what nodes take without chunk uploads.
pub const LAYER1_DATA_MAX: usize = 12 * 1024 * 1024;

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
    /// It is none, or its parts do not fit together.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// Data to be uploaded in chunks.
    #[error(
        "transaction has data_size {0} and other data; this network takes no chunks, send the data in the transaction (up to {LAYER1_DATA_MAX} bytes)"
    )]
    Chunks(u64),
    /// A signature that does not verify.
    #[error("Transaction verification failed.")]
    Signature,
}

/// Reads and checks a transaction.
///
/// # Errors
/// Any [`Layer1Error`].
pub fn parse(json: &[u8]) -> Result<Layer1, Layer1Error> {
    let member = |name, why| Layer1Error::Transaction(TransactionError::Member(name, why));
    let transaction = Transaction::parse(json)?;
    if transaction.format != 2 {
        return Err(member("format", "only transactions of format 2 are taken"));
    }
    if transaction.data.len() > LAYER1_DATA_MAX || transaction.data_size != transaction.data.len() as u64 {
        return Err(Layer1Error::Chunks(transaction.data_size));
    }
    if transaction.data.is_empty() && !transaction.data_root.is_empty() {
        return Err(TransactionError::DataRoot.into());
    }
    transaction.checks()?.verify().map_err(|_| Layer1Error::Signature)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let tags = transaction.tags.iter().map(|[name, value]| Some(Tag::new(text(name)?, text(value)?)));
    let tags = tags.collect::<Option<_>>().ok_or_else(|| member("tags", "a name or a value is not UTF-8"))?;
    let Transaction { id, owner, target, last_tx, quantity, reward, data, signature, .. } = transaction;
    Ok(Layer1 { id, owner, target, last_tx, tags, quantity, reward, data, signature })
}
