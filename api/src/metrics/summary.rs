//! Summaries: quantiles of recent observations, which the metrics library does not have.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    sync::Mutex,
};

use super::Labels;

/// Observations a label set's quantiles are taken over.
const RECENT: usize = 1024;

/// The quantiles shown.
const QUANTILES: [f64; 7] = [0.01, 0.05, 0.5, 0.9, 0.95, 0.99, 0.999];

/// One summary family.
pub struct Summaries {
    name: &'static str,
    help: &'static str,
    series: Mutex<HashMap<Labels, Series>>,
}

#[derive(Default)]
struct Series {
    recent: VecDeque<f64>,
    sum: f64,
    count: u64,
}

impl Summaries {
    /// A family without observations.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, series: Mutex::default() }
    }

    /// Adds an observation.
    pub fn observe(&self, labels: Labels, value: f64) {
        let mut all = self.series.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let series = all.entry(labels).or_default();
        if series.recent.len() == RECENT {
            series.recent.pop_front();
        }
        series.recent.push_back(value);
        series.sum += value;
        series.count += 1;
    }

    /// Appends the family as OpenMetrics text. Label values are this program's own words: nothing in them needs escaping.
    pub fn encode(&self, out: &mut String) {
        let name = self.name;
        let mut lines = format!("# HELP {name} {}.\n# TYPE {name} summary\n", self.help);
        let all = self.series.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (labels, series) in all.iter() {
            let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
            let labels = labels.join(",");
            let mut sorted: Vec<f64> = series.recent.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            for quantile in QUANTILES {
                let rank = (quantile * sorted.len() as f64).ceil() as usize;
                if let Some(value) = sorted.get(rank.saturating_sub(1)) {
                    let _ = writeln!(lines, "{name}{{{labels},quantile=\"{quantile}\"}} {value}");
                }
            }
            let _ = writeln!(lines, "{name}_sum{{{labels}}} {}", series.sum);
            let _ = writeln!(lines, "{name}_count{{{labels}}} {}", series.count);
        }
        out.push_str(&lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_recent_observations_and_sum_and_count_of_all() {
        let summaries = Summaries::new("s", "h");
        for value in 0..2 * RECENT {
            summaries.observe(vec![("a", "b".to_owned())], value as f64);
        }
        let mut text = String::new();
        summaries.encode(&mut text);
        assert!(text.contains("s{a=\"b\",quantile=\"0.5\"} 1535\n"), "{text}");
        assert!(text.contains("s_count{a=\"b\"} 2048\n"), "{text}");
        assert!(text.contains("s_sum{a=\"b\"} 2096128\n"), "{text}");
    }
}
