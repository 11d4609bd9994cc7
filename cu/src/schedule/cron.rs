//! Crons: messages that a process's own tags ask for, at intervals of blocks or of time.

use std::cmp::Ordering;

use crate::{
    Error, js,
    tags::{Tag, Tags},
};

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
    pub tags: Tags,
}

/// The crons of a process, in the order of its tags: `Cron-Interval` begins one, the `Cron-Tag-X` after it are its tags.
///
/// # Errors
/// [`Error::Unprocessable`]: a `Cron-Tag-X` before any interval, or an interval of time below a second.
pub fn parse_crons(tags: &Tags) -> Result<Vec<Cron>, Error> {
    let mut crons: Vec<Cron> = Vec::new();
    for tag in &tags.0 {
        if tag.name == "Cron-Interval" {
            crons.push(parse_interval(&tag.value)?);
        } else if let Some(name) = tag.name.strip_prefix("Cron-Tag-").filter(|name| !name.is_empty()) {
            let Some(cron) = crons.last_mut() else {
                let text = format!("Unmatched Cron-Tag with no preceding Cron-Interval: {}", tag.name);
                return Err(Error::Unprocessable(text));
            };
            cron.tags.0.push(Tag::new(name, tag.value.as_str()));
        }
    }
    Ok(crons)
}

fn parse_interval(interval: &str) -> Result<Cron, Error> {
    let mut parts = interval.split('-').map(|part| part.trim_matches(js::is_space));
    let value = parts.next().unwrap_or_default();
    let unit = parts.next().unwrap_or_default();
    let (unit, every) = if matches!(unit, "block" | "blocks") {
        (CronUnit::Blocks, js::parse_int(value).filter(|every| *every > 0))
    } else {
        let seconds = duration_ms(&format!("{value} {unit}")).map(|ms| (ms / 1000.0).floor());
        if seconds.is_some_and(|seconds| seconds <= 0.0) {
            return Err(Error::Unprocessable("time-based cron cannot be less than 1 second".to_owned()));
        }
        (CronUnit::Seconds, seconds.filter(|s| *s <= js::SAFE_INTEGER_MAX as f64).map(|seconds| seconds as u64))
    };
    Ok(Cron { interval: interval.to_owned(), unit, every, tags: Tags::default() })
}

/// A duration in milliseconds: a decimal number, spaces, a unit of any case (none: ms); at most 100 characters.
fn duration_ms(text: &str) -> Option<f64> {
    if text.len() > 100 {
        return None;
    }
    let (sign, rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    // One point at most, and digits after it.
    if number.matches('.').count() > 1 || !number.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let ms = match unit.as_str() {
        "" | "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60e3,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600e3,
        "d" | "day" | "days" => 86_400e3,
        "w" | "week" | "weeks" => 7.0 * 86_400e3,
        "y" | "yr" | "yrs" | "year" | "years" => 365.25 * 86_400e3,
        _ => return None,
    };
    Some(sign * number * ms)
}

/// A cron's place in its group: index, interval, tags.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// `<index in its group>-<raw interval>`
    pub id: String,
    pub every: Option<u64>,
    pub tags: Tags,
}

/// The crons of a process, grouped and in firing order.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    pub blocks: Vec<Rule>,
    pub seconds: Vec<Rule>,
    pub origin_height: u64,
    /// s since 1970
    pub origin_second: u64,
}

impl Timetable {
    /// `origin_timestamp` in ms.
    pub fn new(crons: &[Cron], origin_height: u64, origin_timestamp: u64) -> Self {
        let group = |unit| crons.iter().filter(move |cron| cron.unit == unit);
        let rules = |crons: Vec<&Cron>| {
            let rule = |(i, cron): (usize, &Cron)| Rule {
                id: format!("{i}-{}", cron.interval),
                every: cron.every,
                tags: cron.tags.clone(),
            };
            crons.into_iter().enumerate().map(rule).collect::<Vec<_>>()
        };
        Self {
            blocks: rules(group(CronUnit::Blocks).collect()),
            seconds: rules(sorted(group(CronUnit::Seconds).collect())),
            origin_height,
            origin_second: origin_timestamp / 1000,
        }
    }

    /// Whether nothing ever fires.
    pub fn is_empty(&self) -> bool {
        self.blocks.iter().chain(&self.seconds).all(|rule| rule.every.is_none())
    }

    /// Whether some cron counts blocks.
    pub fn counts_blocks(&self) -> bool {
        self.blocks.iter().any(|rule| rule.every.is_some())
    }

    /// The rule of an id.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.blocks.iter().chain(&self.seconds)
    }
}

/// Crons of time from the most frequent on. Intervals that are no number compare equal to everything, as in the sort of
/// the JavaScript engine (ascending run, then binary insertion), because a cron's index in this order is part of its id.
fn sorted(mut crons: Vec<&Cron>) -> Vec<&Cron> {
    let order = |a: &Cron, b: &Cron| match (a.every, b.every) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    };
    let count = crons.len();
    if count < 2 {
        return crons;
    }
    let mut run = 2;
    let descending = order(crons[1], crons[0]).is_lt();
    while run < count && order(crons[run], crons[run - 1]).is_lt() == descending {
        run += 1;
    }
    if descending {
        crons[..run].reverse();
    }
    for at in run..count {
        let (mut low, mut high) = (0, at);
        while low < high {
            let middle = low + (high - low) / 2;
            if order(crons[at], crons[middle]).is_lt() { high = middle } else { low = middle + 1 }
        }
        crons[low..=at].rotate_right(1);
    }
    crons
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crons(intervals: &[&str]) -> Vec<Cron> {
        parse_crons(&intervals.iter().map(|interval| ("Cron-Interval", *interval)).collect()).unwrap()
    }

    #[test]
    fn tags_belong_to_the_interval_before_them() {
        let tags: Tags = [
            ("Foo", "bar"),
            ("Cron-Interval", "5-minutes"),
            ("Cron-Tag-A", "1"),
            ("random", "x"),
            ("Cron-Interval", " 10-blocks "),
            ("Cron-Tag-B", "2"),
            ("Cron-Tag-C", "3"),
            ("Cron-Interval", " 10-minutes "),
        ]
        .into_iter()
        .collect();
        let parsed = parse_crons(&tags).unwrap();
        let seen: Vec<_> = parsed.iter().map(|c| (c.interval.as_str(), c.unit, c.every, c.tags.0.len())).collect();
        assert_eq!(
            seen,
            [
                ("5-minutes", CronUnit::Seconds, Some(300), 1),
                (" 10-blocks ", CronUnit::Blocks, Some(10), 2),
                (" 10-minutes ", CronUnit::Seconds, Some(600), 0),
            ]
        );
        assert_eq!(parsed[1].tags.first("C"), Some("3"));
    }

    #[test]
    fn a_cron_tag_before_any_interval_is_an_error() {
        let tags = [("Cron-Tag-A", "1"), ("Cron-Interval", "5-minutes")].into_iter().collect();
        assert!(matches!(parse_crons(&tags), Err(Error::Unprocessable(_))));
        assert!(parse_crons(&[("Cron-Tag-", "1")].into_iter().collect()).unwrap().is_empty());
    }

    #[test]
    fn intervals_are_read_as_the_network_reads_them() {
        let every = |interval: &str| parse_interval(interval).map(|cron| cron.every);
        for (interval, want) in [
            ("1-second", Some(1)),
            ("90-seconds", Some(90)),
            ("1.5-minutes", Some(90)),
            ("1-hour", Some(3600)),
            ("2-DAYS", Some(172_800)),
            ("1-year", Some(31_557_600)),
            ("1500-ms", Some(1)),
            ("10000", Some(10)),
            ("3-months", None),
            ("soon", None),
            ("", None),
            ("x-minutes", None),
            ("1.-minutes", None),
            ("0-blocks", None),
            ("x-blocks", None),
            ("7-block", Some(7)),
            ("7x-blocks", Some(7)),
            ("1-minute-2", Some(60)),
            ("1 hour", None),
        ] {
            assert_eq!(every(interval).unwrap(), want, "{interval:?}");
        }
        for short in ["500-Milliseconds", "0-minutes", "0.9-seconds", "500"] {
            assert!(matches!(every(short), Err(Error::Unprocessable(_))), "{short:?}");
        }
    }

    #[test]
    fn crons_of_time_are_numbered_from_the_most_frequent_on() {
        let ids = |intervals: &[&str]| {
            Timetable::new(&crons(intervals), 0, 0).rules().map(|rule| rule.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&["1-hour", "3-blocks", "10-minutes", "1-block", "600-seconds"]),
            ["0-3-blocks", "1-1-block", "0-10-minutes", "1-600-seconds", "2-1-hour"]
        );
        // As node 20 leaves them: an interval that is no number stands in the way of the others.
        assert_eq!(ids(&["9-s", "1-month", "5-s", "3-s"]), ["0-9-s", "1-1-month", "2-3-s", "3-5-s"]);
        assert_eq!(ids(&["5-s", "1-month", "3-s"]), ["0-5-s", "1-1-month", "2-3-s"]);
        assert_eq!(ids(&["1-month", "9-s", "1-s", "5-s"]), ["0-1-month", "1-1-s", "2-5-s", "3-9-s"]);
    }

    proptest! {
        #[test]
        fn no_interval_makes_parsing_panic(interval in any::<String>()) {
            let _ = parse_interval(&interval);
        }

        #[test]
        fn sorting_is_stable_and_ascending(values in prop::collection::vec(0..5u64, 0..40)) {
            let crons: Vec<Cron> = values.iter().enumerate().map(|(i, v)| Cron {
                interval: i.to_string(), unit: CronUnit::Seconds, every: Some(*v), tags: Tags::default(),
            }).collect();
            let mut want: Vec<&Cron> = crons.iter().collect();
            want.sort_by_key(|c| c.every);
            prop_assert_eq!(sorted(crons.iter().collect()), want);
        }
    }
}
