//! When crons fall.
//!
//! Two scheduled entries that follow each other (or the process's origin and the first, or the last
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

use std::collections::VecDeque;

use super::cron::Timetable;
use crate::gateway::Block;

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
    due: VecDeque<Tick>,
}

/// Blocks before the left end's height that are looked at: a scheduler and a gateway may disagree by one or two about
/// which block is the newest.
const LOOK_BACK_BLOCKS: u64 = 2;

impl<'a> Gap<'a> {
    /// `left` and `right` in ms. `height`: block height at the left end. `resume`: time (ms) and block height of the last
    /// cron of this gap that has been evaluated; what falls in earlier seconds is not given again.
    pub fn new(table: &'a Timetable, left: u64, height: u64, right: u64, resume: Option<(u64, u64)>) -> Self {
        let steps = if table.is_empty() { 0 } else { right.saturating_sub(left).div_ceil(1000) };
        let first = resume.map_or(0, |(timestamp, _)| (timestamp / 1000).saturating_sub(left / 1000));
        let height = resume.map_or(height, |(_, height)| height);
        let asked = height.saturating_sub(LOOK_BACK_BLOCKS + 1).max(table.origin_height);
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

    /// Whether a block after this height can still matter: the left end's scheduler had not seen it.
    pub fn needs_block_after(&self, height: u64) -> bool {
        height >= self.height
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
                        self.due.push_back(Tick { timestamp: block.timestamp, block_height: block.height, rule });
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
                self.due.push_back(Tick { timestamp: self.left + step * 1000, block_height: self.height, rule });
            }
        }
        self.step = step + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::cron::{Cron, parse_crons};

    fn crons(intervals: &[&str]) -> Vec<Cron> {
        parse_crons(&intervals.iter().map(|interval| ("Cron-Interval", *interval)).collect()).unwrap()
    }

    /// Every tick of a gap, blocks given from a list.
    fn all(table: &Timetable, left: (u64, u64), right: u64, blocks: &[Block], resume: Option<(u64, u64)>) -> Vec<Tick> {
        let mut gap = Gap::new(table, left.0, left.1, right, resume);
        let mut ticks = Vec::new();
        loop {
            match gap.next() {
                Next::End => return ticks,
                Next::Tick(tick) => ticks.push(tick),
                Next::NeedBlock(after) => gap.give_block(blocks.iter().find(|b| b.height > after).copied()),
            }
        }
    }

    /// The rule of the module's documentation, second by second.
    fn stepping(table: &Timetable, left: (u64, u64), right: u64, blocks: &[Block]) -> Vec<Tick> {
        let mut waiting: std::collections::VecDeque<_> = blocks
            .iter()
            .filter(|b| b.height > table.origin_height && b.timestamp > left.0 && b.timestamp < right)
            .collect();
        let mut ticks = Vec::new();
        let mut height = left.1;
        let mut now = left.0;
        while now < right {
            if waiting.front().is_some_and(|b| now / 1000 >= b.timestamp / 1000) {
                let block = waiting.pop_front().unwrap();
                height = block.height;
                for (rule, cron) in table.blocks.iter().enumerate() {
                    let away = height as i64 - table.origin_height as i64;
                    if away != 0 && cron.every.is_some_and(|every| away % every as i64 == 0) {
                        ticks.push(Tick { timestamp: block.timestamp, block_height: height, rule });
                    }
                }
            }
            for (i, cron) in table.seconds.iter().enumerate() {
                let away = (now / 1000) as i64 - table.origin_second as i64;
                if away != 0 && cron.every.is_some_and(|every| away % every as i64 == 0) {
                    ticks.push(Tick { timestamp: now, block_height: height, rule: table.blocks.len() + i });
                }
            }
            now += 1000;
        }
        ticks
    }

    fn block(height: u64, second: u64) -> Block {
        Block { height, timestamp: second * 1000 }
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
        assert!(matches!(Gap::new(&table, 1_000, 5, 601_001, None).next(), Next::NeedBlock(_)));
        assert_eq!(Gap::new(&Timetable::new(&crons(&["1-month"]), 0, 0), 0, 0, 1 << 50, None).next(), Next::End);
    }

    #[test]
    fn the_step_of_a_cron_has_its_left_ends_millisecond() {
        // Origin and left end apart by milliseconds only; the first 10 minutes fall at the left end's own 149 ms.
        let table = Timetable::new(&crons(&["10-minutes"]), 0, 1_750_018_581_031);
        let ticks = all(&table, (1_750_018_582_149, 7), 1_750_019_200_000, &[], None);
        assert_eq!(ticks, [Tick { timestamp: 1_750_019_181_149, block_height: 7, rule: 0 }]);
    }

    #[test]
    fn four_crons_over_seventy_minutes_and_three_blocks_fall_fifteen_times() {
        let minute = 60_000;
        let intervals = ["10-minutes", "2-blocks", "15-minutes", "2-blocks"];
        let table = Timetable::new(&crons(&intervals), 125_000, 0);
        let blocks: Vec<_> =
            [35, 51, 80, 95, 105].into_iter().zip(125_012..).map(|(at, height)| block(height, at * 60)).collect();
        let ticks = all(&table, (20 * minute, 125_011), 90 * minute, &blocks, None);
        let rules: Vec<_> = table.rules().map(|rule| rule.id.as_str()).collect();
        let seen: Vec<_> =
            ticks.iter().map(|t| (t.timestamp / minute, t.block_height - 125_000, rules[t.rule])).collect();
        let (ten, fifteen) = ("0-10-minutes", "1-15-minutes");
        assert_eq!(
            seen,
            [
                (20, 11, ten),
                (30, 11, ten),
                (30, 11, fifteen),
                (35, 12, "0-2-blocks"),
                (35, 12, "1-2-blocks"),
                (40, 12, ten),
                (45, 12, fifteen),
                (50, 12, ten),
                (60, 13, ten),
                (60, 13, fifteen),
                (70, 13, ten),
                (75, 13, fifteen),
                (80, 14, "0-2-blocks"),
                (80, 14, "1-2-blocks"),
                (80, 14, ten),
            ]
        );
    }

    #[test]
    fn a_block_is_due_at_multiples_from_the_origin_but_not_at_the_origin() {
        for (origin, fires) in [(123_455, 1), (123_457, 0), (125_000, 0)] {
            let table = Timetable::new(&crons(&["5-blocks"]), origin, 0);
            let blocks = [block(125_000, 10)];
            assert_eq!(all(&table, (0, 124_999), 20_000, &blocks, None).len(), fires, "origin {origin}");
        }
    }

    fn any_intervals() -> impl Strategy<Value = Vec<String>> {
        let one = (1..40u64, prop::sample::select(vec!["blocks", "block", "seconds", "s", "months"]));
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
    }
}
