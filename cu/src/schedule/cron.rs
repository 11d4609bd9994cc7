//! Crons.
use crate::{Error, tags::{Tag, Tags}};

/// What a cron counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CronUnit {
    /// Arweave blocks since the process's origin.
    Blocks,
    /// Seconds since the process's origin.
    Seconds,
}

/// One cron of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// The tag's raw value: `10-minutes`.
    pub interval: String,
    /// What it counts.
    pub unit: CronUnit,
    /// Every how many; `None`: never (a value that is no number, or zero).
    pub every: Option<u64>,
    /// The message's tags.
    pub tags: Vec<Tag>,
}

/// The crons of a process, in the order of its tags.
pub fn parse_crons(tags: &Tags) -> Result<Vec<Cron>, Error> {
    todo!()
}
