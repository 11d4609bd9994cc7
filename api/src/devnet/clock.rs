//! The network's time: milliseconds of the machine, and blocks that come at a steady pace from the start on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha384};

use lockstep_cu::item::to_base64url;

/// Height of the first block. Above 1,440,000, from which on units check hash chains.
pub const FIRST_HEIGHT: u64 = 1_800_000;

/// One block's public face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// 48 bytes in base64url, as Arweave's.
    pub id: String,
    /// Its number.
    pub height: u64,
    /// Seconds since 1970, as Arweave's.
    pub timestamp: u64,
    /// The id of the block before.
    pub previous: String,
}

/// When blocks come.
#[derive(Debug, Clone)]
pub struct Clock {
    started_ms: u64,
    block_ms: u64,
}

impl Clock {
    /// A clock whose first block is found now and whose next ones follow every `block_time` (at least a millisecond).
    pub fn start(block_time: Duration) -> Self {
        Self { started_ms: now_ms(), block_ms: u64::try_from(block_time.as_millis()).unwrap_or(u64::MAX).max(1) }
    }

    /// Height of the newest block.
    pub fn height(&self) -> u64 {
        FIRST_HEIGHT + now_ms().saturating_sub(self.started_ms) / self.block_ms
    }

    /// A block, if it has been found already.
    pub fn block(&self, height: u64) -> Option<Block> {
        if !(FIRST_HEIGHT..=self.height()).contains(&height) {
            return None;
        }
        let timestamp = self.started_ms.saturating_add((height - FIRST_HEIGHT).saturating_mul(self.block_ms)) / 1000;
        Some(Block { id: block_id(height), height, timestamp, previous: block_id(height - 1) })
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn block_id(height: u64) -> String {
    to_base64url(&Sha384::digest(format!("lockstep development block {height}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_at_their_pace_and_never_from_the_future() {
        let clock = Clock { started_ms: now_ms() - 2500, block_ms: 1000 };
        assert_eq!(clock.height(), FIRST_HEIGHT + 2);
        assert_eq!(clock.block(FIRST_HEIGHT + 3), None);
        assert_eq!(clock.block(FIRST_HEIGHT - 1), None);
        let [first, second] = [0, 1].map(|n| clock.block(FIRST_HEIGHT + n).unwrap());
        assert_eq!(second.previous, first.id);
        assert_eq!(second.timestamp, first.timestamp + 1);
        assert_eq!(first.id.len(), 64);
    }

    #[test]
    fn a_pace_of_zero_is_a_block_a_millisecond() {
        let clock = Clock::start(Duration::ZERO);
        assert!(clock.height() >= FIRST_HEIGHT);
    }
}
