//! What others may see of an actor while it works, without asking it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::evaluate::State;

/// What an actor shows of itself while it works.
#[derive(Debug)]
pub(super) struct View {
    running: AtomicBool,
    /// Nonce of the last scheduled entry evaluated; -1: none.
    nonce: AtomicI64,
    remaining: AtomicU64,
}

impl Default for View {
    fn default() -> Self {
        Self { running: AtomicBool::new(false), nonce: AtomicI64::new(-1), remaining: AtomicU64::new(0) }
    }
}

impl View {
    /// Nonce that a running stream has reached, if one runs and has reached any.
    pub(super) fn running_at(&self) -> Option<u64> {
        let running = self.running.load(Ordering::Acquire);
        u64::try_from(self.nonce.load(Ordering::Acquire)).ok().filter(|_| running)
    }

    /// Tells where the process stands now.
    pub(super) fn reached(&self, state: &State) {
        let nonce = state.nonce().and_then(|nonce| i64::try_from(nonce).ok()).unwrap_or(-1);
        self.nonce.store(nonce, Ordering::Release);
    }

    /// Tells that the process is no longer in memory.
    pub(super) fn gone(&self) {
        self.nonce.store(-1, Ordering::Release);
    }

    /// Tells whether a stream runs.
    pub(super) fn runs(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    /// Tells how many messages are known to wait; gives by how much that changed.
    pub(super) fn waits(&self, remaining: u64) -> i64 {
        let before = self.remaining.swap(remaining, Ordering::AcqRel);
        i64::try_from(remaining).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
    }
}
