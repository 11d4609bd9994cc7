//! From the network to "the next thing to evaluate": where a process's schedule is, what stands in it, in which order.
//!
//! Everything here is checked at the edge: past [`Upstream`] there are only types. The order of a schedule is decided
//! here and nowhere else.

mod cron;
mod dedup;
mod fast_page;
mod gap;
mod hash_chain;
mod index;
mod locate;
mod page;
mod pager;
mod process;
mod stream;
mod upstream;

#[cfg(test)]
mod tests;

pub use cron::{Cron, CronUnit, parse_crons};
pub use process::Process;
pub use stream::EntryStream;
pub use upstream::Upstream;

use serde::{Deserialize, Serialize};

/// Where a message stands in its process's schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// When the scheduler assigned it, ms since 1970.
    pub timestamp: u64,
    /// Its nonce (slot). `None`: the process itself where its scheduler gives it no assignment, or a message of a legacy
    /// scheduler that names none.
    pub nonce: Option<u64>,
    /// Id of the message's data item; `None` where the scheduler did not say.
    pub message_id: Option<String>,
    /// Id of its assignment; `None` where the scheduler did not say.
    pub assignment_id: Option<String>,
    /// Whether it is the process itself (the boot).
    pub is_process: bool,
}

/// The scheduled entry (or the process's origin) on which the entries after it build: hash chain, order, crons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// ms since 1970.
    pub timestamp: u64,
    /// Arweave block height that the scheduler named.
    pub block_height: u64,
    /// `None` before the first scheduled entry.
    pub nonce: Option<u64>,
    /// `None` before the first scheduled entry.
    pub epoch: Option<u64>,
}

/// What a process actor keeps of the last entry it evaluated: enough to go on after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The entry's own timestamp, ms.
    pub timestamp: u64,
    /// The entry's ordinate (a nonce as decimal text; crons have that of the scheduled entry before them).
    pub ordinate: String,
    /// The entry's own nonce; `None` for crons and the prepended process.
    pub nonce: Option<u64>,
    /// The entry's own epoch; `None` for crons and the prepended process.
    pub epoch: Option<u64>,
    /// The entry's own block height.
    pub block_height: u64,
    /// The entry's cron id (`0-10-minutes`), if it is one.
    pub cron: Option<String>,
    /// Assignment id of the last *scheduled* entry up to here.
    pub assignment_id: Option<String>,
    /// `Hash-Chain` of the last *scheduled* entry up to here.
    pub hash_chain: Option<String>,
    /// The last scheduled entry up to here (the process's origin before the first). `None`, as in checkpoints that other
    /// units made: the entry itself stands in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scheduled: Option<Boundary>,
}

impl Checkpoint {
    /// The last scheduled entry up to this checkpoint, as well as it is known.
    pub fn boundary(&self) -> Boundary {
        self.last_scheduled.clone().unwrap_or_else(|| Boundary {
            timestamp: self.timestamp,
            block_height: self.block_height,
            nonce: self.nonce.or_else(|| self.assignment_id.as_ref().and_then(|_| self.ordinate.parse().ok())),
            epoch: self.epoch,
        })
    }
}

/// The point after which entries are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the beginning, boot included.
    Cold,
    /// After an entry that has been evaluated.
    After(Checkpoint),
}

/// The last entry wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// This one, inclusive. Crons that fall before it come too, none after it.
    Message(Position),
    /// Everything up to this time (ms), inclusive for scheduled entries, exclusive for crons; never beyond the
    /// scheduler's present.
    Timestamp(u64),
    /// Everything there is now.
    Latest,
}

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A message that was sent to the process.
    Scheduled,
    /// An existing item, assigned to the process.
    Assignment,
    /// Made from the process's `Cron-Interval` tags.
    Cron,
    /// The process itself, put before the schedule because its scheduler does not supply it.
    Process,
}

/// One thing to evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The exact JSON text that the guest gets.
    pub message_json: String,
    /// Id of the message's data item; `None` for crons.
    pub message_id: Option<String>,
    /// For logs.
    pub name: String,
    /// ms since 1970.
    pub timestamp: u64,
    /// Place in the process's order of results, with `timestamp` and `cron`.
    pub ordinate: String,
    /// `None` for crons and the prepended process.
    pub nonce: Option<u64>,
    /// `None` for crons and the prepended process.
    pub epoch: Option<u64>,
    /// Arweave block height.
    pub block_height: u64,
    /// Cron id: `<index in its group>-<raw interval>`.
    pub cron: Option<String>,
    /// The assignment's id; `None` for crons and the prepended process.
    pub assignment_id: Option<String>,
    /// The assignment's `Hash-Chain`; `None` for crons and the prepended process.
    pub hash_chain: Option<String>,
    /// What tells a repeated message: the id of an assigned item, the deep hash of a forwarded message. An entry whose
    /// key was evaluated before (same process and epoch, smaller nonce) is skipped by the process actor.
    pub dedup_key: Option<String>,
    /// Whether its result is stored; false for the prepended process.
    pub store: bool,
    /// Nonces still to come after this one, where the end's nonce is known.
    pub remaining: Option<u64>,
    /// The address that signed the message (`Owner` of the message; the process's owner for crons).
    pub owner: String,
    /// First value of the tag `Action`, if any.
    pub action: Option<String>,
    /// The checkpoint to keep once this entry has been evaluated (or skipped as a duplicate).
    pub checkpoint: Checkpoint,
}
