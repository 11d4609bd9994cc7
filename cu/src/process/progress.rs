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

    /// `evaluated` more entries are done, the last scheduled one has `nonce`, and `remaining` are known to follow.
    pub(super) fn tell(&mut self, evaluated: usize, nonce: Option<u64>, remaining: u64) {
        self.evaluated += evaluated as u64;
        if self.told.elapsed() < EVERY {
            return;
        }
        self.told = Instant::now();
        let rate = self.evaluated as f64 / self.began.elapsed().as_secs_f64();
        let seconds_left = if rate > 0.0 { remaining as f64 / rate } else { f64::INFINITY };
        tracing::info!(
            process = self.pid,
            nonce,
            of = nonce.map(|n| n + remaining),
            per_second = (rate * 10.0).round() / 10.0,
            seconds_left = seconds_left.round(),
            "replaying"
        );
    }
}
