//! The guest's clock: a counter, so that time is a function of what the guest did and of nothing else.

/// Milliseconds that the first reading of an evaluation gives.
pub const CLOCK_START_MS: u64 = 10_000;

/// The loader's stand-in for `Date.now`: every reading gives the next millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// What the next reading gives, in milliseconds.
    pub next_ms: u64,
}

impl Clock {
    /// A clock nobody has read yet.
    pub fn new() -> Self {
        Self { next_ms: CLOCK_START_MS }
    }

    /// Reads the clock, in milliseconds, and moves it on by one.
    pub fn tick(&mut self) -> u64 {
        let now = self.next_ms;
        self.next_ms = now.saturating_add(1);
        now
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_moves_the_clock_by_one_millisecond() {
        let mut clock = Clock::new();
        assert_eq!([clock.tick(), clock.tick(), clock.next_ms], [10_000, 10_001, 10_002]);
    }
}
