//! One process's schedule: what was assigned to it, in order, each assignment chained to the one before.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, RwLock};

use sha2::{Digest, Sha256};

use lockstep_cu::item::{DataItem, Id};

/// A hash of the chain.
pub type Chain = [u8; 32];
/// What pushed messages are told apart by.
pub type DeepHash = [u8; 48];

/// A message, or only its assignment, in its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The message; `None` where a message of another process was assigned.
    pub message: Option<Arc<DataItem>>,
    /// The scheduler's item that gives it its place.
    pub assignment: Arc<DataItem>,
    /// Its place.
    pub nonce: u64,
    /// Milliseconds; later than the entry before.
    pub timestamp: u64,
}

/// The process itself: always the first of its schedule, if it was spawned here.
#[derive(Debug, Clone)]
pub struct Birth {
    /// The process.
    pub process: Arc<DataItem>,
    /// Its assignment.
    pub assignment: Arc<DataItem>,
    /// Its nonce.
    pub nonce: u64,
    /// Milliseconds.
    pub timestamp: u64,
    /// Block height, as it is written: 12 digits.
    pub block: String,
}

/// Where the schedule stands. Held while one item is scheduled, so that two never get one place.
#[derive(Debug, Default)]
pub struct Tip {
    last: Option<Last>,
    /// Deep hashes of pushed messages and of assigned ones.
    pub deep_hashes: HashSet<DeepHash>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    nonce: u64,
    timestamp: u64,
    chain: Chain,
    assignment: Id,
}

/// The next free place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// One more than the last; 0 at first.
    pub nonce: u64,
    /// Now, but always later than the last.
    pub timestamp: u64,
    /// Links to the last.
    pub chain: Chain,
}

impl Tip {
    /// The place after the last one.
    ///
    /// `chain(n) = SHA-256(assignment id(n-1) || chain(n-1))`, and `SHA-256(process id)` for the first.
    pub fn next(&self, process: &Id, now_ms: u64) -> Place {
        match self.last {
            None => Place { nonce: 0, timestamp: now_ms, chain: Sha256::digest(process).into() },
            Some(last) => Place {
                nonce: last.nonce + 1,
                timestamp: now_ms.max(last.timestamp + 1),
                chain: Sha256::new().chain_update(last.assignment).chain_update(last.chain).finalize().into(),
            },
        }
    }

    /// Takes a place for good.
    pub fn take(&mut self, place: Place, assignment: Id) {
        let Place { nonce, timestamp, chain } = place;
        self.last = Some(Last { nonce, timestamp, chain, assignment });
    }
}

/// A schedule. Reading never waits for an item that is being signed.
#[derive(Debug, Default)]
pub struct Schedule {
    /// See [`Tip`].
    pub tip: Mutex<Tip>,
    birth: RwLock<Option<Arc<Birth>>>,
    entries: RwLock<Vec<Entry>>,
}

/// No code can panic while it holds one of the locks: only moves and clones happen there.
const UNPOISONED: &str = "no panics while a schedule is locked";

impl Schedule {
    /// The process, if it was spawned here.
    pub fn birth(&self) -> Option<Arc<Birth>> {
        self.birth.read().expect(UNPOISONED).clone()
    }

    /// Sets the process.
    pub fn bear(&self, birth: Birth) {
        *self.birth.write().expect(UNPOISONED) = Some(Arc::new(birth));
    }

    /// Appends an entry and answers its index.
    pub fn append(&self, entry: Entry) -> usize {
        let mut entries = self.entries.write().expect(UNPOISONED);
        entries.push(entry);
        entries.len() - 1
    }

    /// The entry of an index.
    pub fn entry(&self, index: usize) -> Option<Entry> {
        self.entries.read().expect(UNPOISONED).get(index).cloned()
    }

    /// The newest entry.
    pub fn latest(&self) -> Option<Entry> {
        self.entries.read().expect(UNPOISONED).last().cloned()
    }

    /// Up to `limit` entries from the first one for which `skip` is false, as long as `within` holds; and whether more
    /// would follow. Both must change only once over a schedule (bounds on nonce or timestamp do).
    pub fn slice(
        &self,
        skip: impl Fn(&Entry) -> bool,
        within: impl Fn(&Entry) -> bool,
        limit: usize,
    ) -> (Vec<Entry>, bool) {
        let entries = self.entries.read().expect(UNPOISONED);
        let start = entries.partition_point(skip);
        let end = start + entries[start..].partition_point(within);
        let taken = end.min(start.saturating_add(limit));
        (entries[start..taken].to_vec(), taken < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_rising_nonces_later_times_and_chained_hashes() {
        let process = [1; 32];
        let mut tip = Tip::default();
        let first = tip.next(&process, 100);
        assert_eq!((first.nonce, first.timestamp), (0, 100));
        assert_eq!(first.chain, <Chain>::from(Sha256::digest(process)));
        tip.take(first, [2; 32]);
        // The clock stands still, then goes back.
        for (now, nonce, timestamp) in [(100, 1, 101), (50, 2, 102), (500, 3, 500)] {
            let before = tip.last.unwrap();
            let place = tip.next(&process, now);
            assert_eq!((place.nonce, place.timestamp), (nonce, timestamp));
            assert_eq!(place.chain, <Chain>::from(Sha256::digest([before.assignment, before.chain].concat())));
            tip.take(place, [nonce as u8; 32]);
        }
    }
}
