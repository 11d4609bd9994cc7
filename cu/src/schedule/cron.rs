//! Crons: messages that a process's own tags ask for at intervals of blocks or of time.
//!
//! **When they fall.** Two scheduled entries that follow each other (or the process's origin and the first, or the last
//! and the present) enclose a *gap*. Time in a gap goes in steps of a second from its left end's very millisecond. At
//! each step at most one block is taken that lies after the left end and whose second has come; then crons of blocks fall
//! if that block's height is due, at the block's own time; then crons of time if the step's second is due, at the step's
//! time. Due means: a multiple of the interval away from the origin, the origin itself excepted.
//!
//! A gap's left end is always the last *scheduled* entry, also when evaluation goes on after a cron. So the crons of a
//! process are a function of its schedule (and of block times) alone, and equal those that the reference gives when it
//! evaluates in one go; when the reference goes on from a cron of blocks, it moves the later ones by milliseconds.
//!
//! Nothing here walks through seconds: the work is in the crons that fall and the blocks that are taken.

use std::cmp::Ordering;

use crate::{
    Error,
    gateway::Block,
    js,
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
        } else if let Some(name) = tag
            .name
            .strip_prefix("Cron-Tag-")
            .filter(|name| !name.is_empty())
        {
            let Some(cron) = crons.last_mut() else {
                let text = format!(
                    "Unmatched Cron-Tag with no preceding Cron-Interval: {}",
                    tag.name
                );
                return Err(Error::Unprocessable(text));
            };
            cron.tags.0.push(Tag::new(name, tag.value.as_str()));
        }
    }
    Ok(crons)
}

fn parse_interval(interval: &str) -> Result<Cron, Error> {
    let mut parts = interval
        .split('-')
        .map(|part| part.trim_matches(js::is_space));
    let value = parts.next().unwrap_or_default();
    let unit = parts.next().unwrap_or_default();
    let (unit, every) = if matches!(unit, "block" | "blocks") {
        (
            CronUnit::Blocks,
            js::parse_int(value).filter(|every| *every > 0),
        )
    } else {
        let seconds = duration_ms(&format!("{value} {unit}")).map(|ms| (ms / 1000.0).floor());
        if seconds.is_some_and(|seconds| seconds <= 0.0) {
            return Err(Error::Unprocessable(
                "time-based cron cannot be less than 1 second".to_owned(),
            ));
        }
        (
            CronUnit::Seconds,
            seconds
                .filter(|s| *s <= js::SAFE_INTEGER_MAX as f64)
                .map(|seconds| seconds as u64),
        )
    };
    Ok(Cron {
        interval: interval.to_owned(),
        unit,
        every,
        tags: Tags::default(),
    })
}

/// A duration in milliseconds: a decimal number, spaces, a unit of any case (none: ms); at most 100 characters.
fn duration_ms(text: &str) -> Option<f64> {
    if text.len() > 100 {
        return None;
    }
    let (sign, rest) = text
        .strip_prefix('-')
        .map_or((1.0, text), |rest| (-1.0, rest));
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
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
    every: Option<u64>,
    pub tags: Tags,
}

/// The crons of a process, grouped and in firing order.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    blocks: Vec<Rule>,
    seconds: Vec<Rule>,
    origin_height: u64,
    /// s since 1970
    origin_second: u64,
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
        self.blocks
            .iter()
            .chain(&self.seconds)
            .all(|rule| rule.every.is_none())
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
            if order(crons[at], crons[middle]).is_lt() {
                high = middle
            } else {
                low = middle + 1
            }
        }
        crons[low..=at].rotate_right(1);
    }
    crons
}

/// One cron that falls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    /// ms
    pub timestamp: u64,
    pub block_height: u64,
    /// Index among [`Timetable::rules`].
    pub rule: usize,
}

/// What a gap needs or gives next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A cron falls.
    Tick(Tick),
    /// It depends on the block after this height: answer with [`Gap::give_block`].
    NeedBlock(u64),
    /// None any more.
    End,
}

/// The crons of one gap, in order, asking for blocks only as far as it must.
#[derive(Debug)]
pub(crate) struct Gap<'a> {
    table: &'a Timetable,
    /// ms
    left: u64,
    /// Steps at or after the right end do not happen.
    steps: u64,
    /// The next step whose crons of time have not been looked at.
    step: u64,
    /// Steps before this one are known to be done: nothing is given for them.
    first: u64,
    height: u64,
    /// The last height that was asked for or passed over.
    asked: u64,
    /// The next block and the step that takes it.
    block: Option<(Block, u64)>,
    no_more_blocks: bool,
    /// The step at which the last block was taken.
    taken: Option<u64>,
    /// Crons that fall at the step being looked at.
    due: std::collections::VecDeque<Tick>,
}

/// Blocks before the left end's height that are looked at: a scheduler and a gateway may disagree by one or two about
/// which block is the newest.
const LOOK_BACK_BLOCKS: u64 = 2;

impl<'a> Gap<'a> {
    /// `left` and `right` in ms. `height`: block height at the left end. `resume`: time (ms) and block height of the last
    /// cron of this gap that has been evaluated; what falls in earlier seconds is not given again.
    pub fn new(
        table: &'a Timetable,
        left: u64,
        height: u64,
        right: u64,
        resume: Option<(u64, u64)>,
    ) -> Self {
        let steps = if table.is_empty() {
            0
        } else {
            right.saturating_sub(left).div_ceil(1000)
        };
        let first = resume.map_or(0, |(timestamp, _)| {
            (timestamp / 1000).saturating_sub(left / 1000)
        });
        let height = resume.map_or(height, |(_, height)| height);
        let asked = height
            .saturating_sub(LOOK_BACK_BLOCKS + 1)
            .max(table.origin_height);
        Self {
            table,
            left,
            steps,
            step: 0,
            first,
            height,
            asked,
            block: None,
            no_more_blocks: false,
            taken: None,
            due: Default::default(),
        }
    }

    /// Ends the gap after the last block taken: what lies behind it may depend on blocks that are not known yet.
    pub fn stop_at_last_block(&mut self) {
        self.no_more_blocks = true;
        self.steps = self.steps.min(self.taken.map_or(0, |step| step + 1));
    }

    /// The block that was asked for, or none if there is none yet.
    pub fn give_block(&mut self, block: Option<Block>) {
        let Some(block) = block else {
            self.no_more_blocks = true;
            return;
        };
        self.asked = block.height;
        if block.timestamp <= self.left {
            return;
        }
        let second = (block.timestamp / 1000).saturating_sub(self.left / 1000);
        let step = self.taken.map_or(second, |taken| second.max(taken + 1));
        if step >= self.steps {
            self.no_more_blocks = true;
        } else {
            self.block = Some((block, step));
        }
    }

    /// What comes next.
    pub fn next(&mut self) -> Next {
        loop {
            if let Some(tick) = self.due.pop_front() {
                return Next::Tick(tick);
            }
            let timer = self.next_timer_step();
            // Without crons of blocks, blocks matter only up to the next cron of time.
            if timer.is_none() && !self.table.counts_blocks() {
                return Next::End;
            }
            let Some((block, taken_at)) = self.block else {
                if !self.no_more_blocks {
                    return Next::NeedBlock(self.asked);
                }
                match timer {
                    None => return Next::End,
                    Some(step) => self.fire_timers(step),
                }
                continue;
            };
            if timer.is_some_and(|step| step < taken_at) {
                self.fire_timers(timer.unwrap_or_default());
                continue;
            }
            self.block = None;
            self.taken = Some(taken_at);
            self.height = block.height;
            if taken_at >= self.first {
                for (rule, cron) in self.table.blocks.iter().enumerate() {
                    let away = block.height.abs_diff(self.table.origin_height);
                    if away != 0 && cron.every.is_some_and(|every| away.is_multiple_of(every)) {
                        self.due.push_back(Tick {
                            timestamp: block.timestamp,
                            block_height: block.height,
                            rule,
                        });
                    }
                }
            }
            if timer == Some(taken_at) {
                self.fire_timers(taken_at);
            }
        }
    }

    /// The first step from `self.step` on at which a cron of time is due.
    fn next_timer_step(&self) -> Option<u64> {
        let from = self.step.max(self.first);
        let second = self.left / 1000 + from;
        let due = self.table.seconds.iter().filter_map(|cron| {
            let every = cron.every?;
            let mut wait = match second.checked_sub(self.table.origin_second) {
                Some(since) => (every - since % every) % every,
                None => (self.table.origin_second - second) % every,
            };
            if second + wait == self.table.origin_second {
                wait += every;
            }
            Some(from + wait)
        });
        due.min().filter(|step| *step < self.steps)
    }

    fn fire_timers(&mut self, step: u64) {
        let second = self.left / 1000 + step;
        let away = second.abs_diff(self.table.origin_second);
        for (i, cron) in self.table.seconds.iter().enumerate() {
            if cron.every.is_some_and(|every| away.is_multiple_of(every)) {
                let rule = self.table.blocks.len() + i;
                self.due.push_back(Tick {
                    timestamp: self.left + step * 1000,
                    block_height: self.height,
                    rule,
                });
            }
        }
        self.step = step + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crons(intervals: &[&str]) -> Vec<Cron> {
        parse_crons(
            &intervals
                .iter()
                .map(|interval| ("Cron-Interval", *interval))
                .collect(),
        )
        .unwrap()
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
        let seen: Vec<_> = parsed
            .iter()
            .map(|c| (c.interval.as_str(), c.unit, c.every, c.tags.0.len()))
            .collect();
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
        let tags = [("Cron-Tag-A", "1"), ("Cron-Interval", "5-minutes")]
            .into_iter()
            .collect();
        assert!(matches!(parse_crons(&tags), Err(Error::Unprocessable(_))));
        assert!(
            parse_crons(&[("Cron-Tag-", "1")].into_iter().collect())
                .unwrap()
                .is_empty()
        );
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
        ] {
            assert_eq!(every(interval).unwrap(), want, "{interval:?}");
        }
        for short in ["500-Milliseconds", "0-minutes", "0.9-seconds", "500"] {
            assert!(
                matches!(every(short), Err(Error::Unprocessable(_))),
                "{short:?}"
            );
        }
    }

    #[test]
    fn crons_of_time_are_numbered_from_the_most_frequent_on() {
        let ids = |intervals: &[&str]| {
            Timetable::new(&crons(intervals), 0, 0)
                .rules()
                .map(|rule| rule.id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&["1-hour", "3-blocks", "10-minutes", "1-block", "600-seconds"]),
            [
                "0-3-blocks",
                "1-1-block",
                "0-10-minutes",
                "1-600-seconds",
                "2-1-hour"
            ]
        );
        // As node 20 leaves them: an interval that is no number stands in the way of the others.
        assert_eq!(
            ids(&["9-s", "1-month", "5-s", "3-s"]),
            ["0-9-s", "1-1-month", "2-3-s", "3-5-s"]
        );
        assert_eq!(
            ids(&["5-s", "1-month", "3-s"]),
            ["0-5-s", "1-1-month", "2-3-s"]
        );
        assert_eq!(
            ids(&["1-month", "9-s", "1-s", "5-s"]),
            ["0-1-month", "1-1-s", "2-5-s", "3-9-s"]
        );
    }

    /// Every tick of a gap, blocks given from a list.
    fn all(
        table: &Timetable,
        left: (u64, u64),
        right: u64,
        blocks: &[Block],
        resume: Option<(u64, u64)>,
    ) -> Vec<Tick> {
        let mut gap = Gap::new(table, left.0, left.1, right, resume);
        let mut ticks = Vec::new();
        loop {
            match gap.next() {
                Next::End => return ticks,
                Next::Tick(tick) => ticks.push(tick),
                Next::NeedBlock(after) => {
                    gap.give_block(blocks.iter().find(|b| b.height > after).copied())
                }
            }
        }
    }

    /// The rule of the module's documentation, second by second.
    fn stepping(table: &Timetable, left: (u64, u64), right: u64, blocks: &[Block]) -> Vec<Tick> {
        let mut waiting: std::collections::VecDeque<_> = blocks
            .iter()
            .filter(|b| {
                b.height > table.origin_height && b.timestamp > left.0 && b.timestamp < right
            })
            .collect();
        let mut ticks = Vec::new();
        let mut height = left.1;
        let mut now = left.0;
        while now < right {
            if waiting
                .front()
                .is_some_and(|b| now / 1000 >= b.timestamp / 1000)
            {
                let block = waiting.pop_front().unwrap();
                height = block.height;
                for (rule, cron) in table.blocks.iter().enumerate() {
                    let away = height as i64 - table.origin_height as i64;
                    if away != 0 && cron.every.is_some_and(|every| away % every as i64 == 0) {
                        ticks.push(Tick {
                            timestamp: block.timestamp,
                            block_height: height,
                            rule,
                        });
                    }
                }
            }
            for (i, cron) in table.seconds.iter().enumerate() {
                let away = (now / 1000) as i64 - table.origin_second as i64;
                if away != 0 && cron.every.is_some_and(|every| away % every as i64 == 0) {
                    ticks.push(Tick {
                        timestamp: now,
                        block_height: height,
                        rule: table.blocks.len() + i,
                    });
                }
            }
            now += 1000;
        }
        ticks
    }

    fn block(height: u64, second: u64) -> Block {
        Block {
            height,
            timestamp: second * 1000,
        }
    }

    #[test]
    fn a_long_silence_costs_what_falls_in_it() {
        let table = Timetable::new(&crons(&["1-year"]), 0, 0);
        let blocks: Vec<_> = (1..2000).map(|i| block(i, i * 120)).collect();
        let begun = std::time::Instant::now();
        let century = 100 * 31_557_600_000u64;
        assert_eq!(all(&table, (500, 0), century, &blocks, None).len(), 99);
        assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    }

    #[test]
    fn no_block_is_asked_for_where_nothing_falls() {
        let table = Timetable::new(&crons(&["10-minutes"]), 0, 0);
        assert_eq!(Gap::new(&table, 1_000, 5, 599_000, None).next(), Next::End);
        assert!(matches!(
            Gap::new(&table, 1_000, 5, 601_001, None).next(),
            Next::NeedBlock(_)
        ));
        assert_eq!(
            Gap::new(
                &Timetable::new(&crons(&["1-month"]), 0, 0),
                0,
                0,
                1 << 50,
                None
            )
            .next(),
            Next::End
        );
    }

    #[test]
    fn the_step_of_a_cron_has_its_left_ends_millisecond() {
        // Origin and left end apart by milliseconds only; the first 10 minutes fall at the left end's own 149 ms.
        let table = Timetable::new(&crons(&["10-minutes"]), 0, 1_750_018_581_031);
        let ticks = all(&table, (1_750_018_582_149, 7), 1_750_019_200_000, &[], None);
        assert_eq!(
            ticks,
            [Tick {
                timestamp: 1_750_019_181_149,
                block_height: 7,
                rule: 0
            }]
        );
    }

    fn any_intervals() -> impl Strategy<Value = Vec<String>> {
        let one = (
            1..40u64,
            prop::sample::select(vec!["blocks", "block", "seconds", "s", "months"]),
        );
        prop::collection::vec(one.prop_map(|(n, unit)| format!("{n}-{unit}")), 1..6)
    }

    prop_compose! {
        fn any_blocks()(steps in prop::collection::vec((0..40u64, 1..3u64), 0..60), begin in 0..200u64) -> Vec<Block> {
            let (mut second, mut height) = (begin, 0);
            steps.into_iter().map(|(wait, up)| {
                second += wait;
                height += up;
                block(height, second)
            }).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn ticks_equal_those_of_stepping_through_every_second(
            intervals in any_intervals(),
            origin in (0..20u64, 0..300_000u64),
            left in 0..400_000u64,
            length in 0..400_000u64,
            blocks in any_blocks(),
        ) {
            let intervals: Vec<&str> = intervals.iter().map(String::as_str).collect();
            let table = Timetable::new(&crons(&intervals), origin.0, origin.1);
            // The height at the left end is that of the newest block by then, as a scheduler claims it.
            let height = blocks.iter().filter(|b| b.timestamp <= left).map(|b| b.height).max().unwrap_or(0).max(origin.0);
            let want = stepping(&table, (left, height), left + length, &blocks);
            prop_assert_eq!(all(&table, (left, height), left + length, &blocks, None), want);
        }

        #[test]
        fn going_on_after_any_cron_gives_the_rest(
            intervals in any_intervals(),
            origin in 0..300_000u64,
            left in 0..400_000u64,
            length in 0..400_000u64,
            cut in any::<prop::sample::Index>(),
        ) {
            let intervals: Vec<&str> = intervals.iter().map(String::as_str).collect();
            let table = Timetable::new(&crons(&intervals), 0, origin);
            let blocks: Vec<_> = (1..60).map(|h| block(h, h * 17)).collect();
            let height = left / 17_000;
            let whole = all(&table, (left, height), left + length, &blocks, None);
            prop_assume!(!whole.is_empty());
            let cut = cut.index(whole.len());
            let at = &whole[cut];
            let mut rest = all(&table, (left, height), left + length, &blocks, Some((at.timestamp, at.block_height)));
            let seen = rest.iter().position(|tick| tick == at).expect("the last one evaluated is given again");
            rest.drain(..=seen);
            prop_assert_eq!(&rest[..], &whole[cut + 1..]);
        }

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
