//! Patience with a message that runs out of time.
//!
//! A time-out is no result, so a message that never ends is tried again for every request. Tried without pause it would
//! hold an evaluating thread for ever, and other processes would pay; so each time the pause before the next try is as
//! long as what was spent on it so far.

use std::time::{Duration, Instant};

use super::goal::Goal;
use crate::{Error, schedule::Entry};

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// A message that ran out of time, right behind where its process stands.
pub(super) struct Stuck {
    name: String,
    timestamp: u64,
    error: Error,
    times: u32,
    until: Instant,
}

impl Stuck {
    /// `entry` ran out of time; `before` is what the process was stuck at last.
    pub(super) fn at(entry: &Entry, error: Error, time_limit: Duration, before: Option<Self>) -> Self {
        let times = before.filter(|b| b.name == entry.name).map_or(0, |b| b.times) + 1;
        // The first failure may have been a busy machine: it is tried again at once.
        let pause = time_limit.saturating_mul(times - 1).min(PAUSE_MAX);
        Self { name: entry.name.clone(), timestamp: entry.timestamp, error, times, until: Instant::now() + pause }
    }

    /// Whether the pause lasts.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether `goal` cannot be reached without passing the message.
    pub(super) fn is_before(&self, goal: &Goal) -> bool {
        !matches!(goal, Goal::Until(time) if *time < self.timestamp)
    }

    /// What those get who ask during the pause.
    pub(super) fn error(&self) -> Error {
        let seconds = self.until.saturating_duration_since(Instant::now()).as_secs() + 1;
        match &self.error {
            Error::Internal(text) => {
                Error::Internal(format!("{text} ({} times in a row; the next try is in {seconds} s)", self.times))
            }
            other => other.clone(),
        }
    }
}
