//! A process as its scheduler describes it, verified.

use url::Url;

use crate::tags::Tags;

/// A verified process: it speaks ao, is a process, and names a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: String,
    /// The owner's address (an Ethereum address where the key is one).
    pub owner: String,
    /// All its tags, unfiltered.
    pub tags: Tags,
    /// Id of its module (tag `Module`).
    pub module_id: String,
    /// Arweave block height at its birth, as the scheduler says.
    pub block_height: u64,
    /// Its birth, ms since 1970, as the scheduler says.
    pub timestamp: u64,
    /// `None`: the scheduler left it out; `Some(None)`: it is null.
    pub signature: Option<Option<String>>,
    /// `None`: the scheduler left it out; `Some(None)`: it is null.
    pub anchor: Option<Option<String>>,
    /// Where its schedule is.
    pub scheduler: Url,
}
