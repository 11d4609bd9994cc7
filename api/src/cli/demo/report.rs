//! The table at the end, and what went wrong.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_cu::unit::Status;

use super::cores;
use super::live::Live;
use super::replay::Replay;
use super::sign::SignedAll;

/// Faults shown in full.
const SHOWN_MAX: usize = 10;

/// Results that are missing or wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<String>>>);

impl Faults {
    /// One more.
    pub fn add(&self, fault: String) {
        self.0.lock().expect("no panics while faults are locked").push(fault);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().expect("no panics while faults are locked").is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.0.lock().expect("no panics while faults are locked");
        if faults.is_empty() {
            return write!(f, "Every result is there, is right, and is the same in both units.");
        }
        writeln!(f, "{} results are missing or wrong:", faults.len())?;
        faults.iter().take(SHOWN_MAX).try_for_each(|fault| writeln!(f, "  {fault}"))?;
        if faults.len() > SHOWN_MAX { write!(f, "  ...") } else { Ok(()) }
    }
}

/// Everything that was measured.
pub struct Report<'a> {
    /// Messages through the network.
    pub live: Live,
    /// The same messages from the schedule.
    pub replay: Replay,
    /// The first unit, after the last message.
    pub memory: Status,
    /// What was sent.
    pub signed: &'a SignedAll,
    /// Messages under way at once.
    pub clients: u64,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = self.signed.messages as f64;
        let processes = self.signed.processes.len() as f64;
        let per_second = |count: f64, took: Duration| format!("{}/s", rounded(count / took.as_secs_f64().max(1e-9)));
        let (live, replay) = (&self.live, &self.replay);
        let per_message = replay.engine_seconds / replay.evaluated.max(1.0);
        let memory = self.memory.processes_live_bytes as f64 / (self.memory.processes_live.max(1) as f64);
        let gas = match replay.gas {
            0.0 => "not metered".to_owned(),
            gas => format!("{}/s", rounded(gas / replay.replaying.as_secs_f64().max(1e-9))),
        };
        let lanes = match replay.in_lanes.1 {
            0.0 => "messages while replaying: the native engine did all".to_owned(),
            groups => format!(
                "messages while replaying, in {} groups; kernel compiled in {} s",
                rounded(groups),
                rounded(replay.lanes_compile_seconds)
            ),
        };
        for (what, value, remark) in [
            ("signing", per_second(messages, self.signed.took), format!("RSA-4096, by the user, {} threads", cores())),
            ("spawning", per_second(processes, live.spawning), "sent, scheduled, booted".to_owned()),
            (
                "messages, end to end",
                per_second(messages, live.sending),
                format!("sent, signed again by the scheduler, answered; {} at once", self.clients),
            ),
            (
                "latency, half of them",
                milliseconds(quantile(&live.latencies, 0.5)),
                "from sending to the answer".to_owned(),
            ),
            ("latency, 99 of 100", milliseconds(quantile(&live.latencies, 0.99)), String::new()),
            (
                "messages, evaluation",
                per_second(messages, replay.replaying),
                "a second unit, replaying the schedules".to_owned(),
            ),
            ("one evaluation", format!("{} us", rounded(per_message * 1e6)), "inside the engine".to_owned()),
            ("gas", gas, "while replaying".to_owned()),
            ("in lanes", rounded(replay.in_lanes.0), lanes),
            (
                "memory per process",
                format!("{} KiB", rounded(memory / 1024.0)),
                format!("{} live", self.memory.processes_live),
            ),
            (
                "compile time",
                format!("{} ms", rounded(replay.compile_seconds * 1e3)),
                "once a module, kept on disk".to_owned(),
            ),
            (
                "boot after that",
                milliseconds(replay.booting.saturating_sub(Duration::from_secs_f64(replay.compile_seconds.max(0.0)))),
                format!("all {processes} processes"),
            ),
        ] {
            writeln!(f, "  {what:<22} {value:>14}   {remark}")?;
        }
        writeln!(f, "  results' SHA-256       {}", replay.results_hash)
    }
}

/// The value that this part of sorted values is not above; zero of none.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((part * last as f64).round() as usize).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", rounded(duration.as_secs_f64() * 1e3))
}

/// Three digits that matter, and thousands apart.
fn rounded(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 && digit.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match part {
        Some(part) => format!("{grouped}.{part}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        for (value, text) in [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.5, "1,234"),
            (82_863_349_976.0, "82,863,349,976"),
        ] {
            assert_eq!(rounded(value), text);
        }
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sorted, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&sorted, 0.0), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn faults_are_counted_and_the_first_ones_shown() {
        let faults = Faults::default();
        assert!(faults.to_string().starts_with("Every result"));
        (0..12).for_each(|n| faults.add(format!("fault {n}")));
        let text = faults.to_string();
        assert!(text.starts_with("12 results") && text.contains("fault 9") && !text.contains("fault 10"));
    }
}
