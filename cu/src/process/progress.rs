//! A line now and then while a long schedule is replayed.

use std::time::{Duration, Instant};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    pid: String,
    began: Instant,
    told: Instant,
    evaluated: u64,
}

impl Progress {
    pub(super) fn new(pid: &str) -> Self {
        let now = Instant::now();
        Self { pid: pid.to_owned(), began: now, told: now, evaluated: 0 }
    }

    /// `evaluated` more entries are done.
    pub(super) fn add(&mut self, evaluated: usize) {
        self.evaluated += evaluated as u64;
    }

    /// Whether a line is due.
    pub(super) fn is_due(&self) -> bool {
        self.told.elapsed() >= EVERY
    }

    /// The last scheduled entry has `nonce`, and `remaining` follow, as far as that is known.
    pub(super) fn tell(&mut self, nonce: Option<u64>, remaining: Option<u64>) {
        self.told = Instant::now();
        let per_second = self.evaluated as f64 / self.began.elapsed().as_secs_f64();
        let of = nonce.zip(remaining).map(|(nonce, remaining)| nonce + remaining);
        let seconds_left = remaining.map(|remaining| (remaining as f64 / per_second).round());
        let per_second = (per_second * 10.0).round() / 10.0;
        tracing::info!(process = self.pid, nonce, of, per_second, seconds_left, "replaying");
    }
}
