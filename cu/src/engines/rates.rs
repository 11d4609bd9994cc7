//! What is known of how fast either engine does a module's messages, and which should do the next ones.
//!
//! Work is counted in gas where the module is metered, else in messages. The native engine has a rate on one thread; lanes
//! have one for each size of group, by powers of two: a group of twice as many may take hardly longer. With `n` messages
//! ready, each of mean work `w`, `k` threads natively take `n w / (k r)` seconds and lanes `wait + n w / l(n)`.
//!
//! Lanes are tried only where messages are long enough together for a group to be worth forming, and only one group at a
//! time; of sizes that were not tried, the next smaller one's rate is taken for certain, and its time for what is possible. A
//! size that lost is tried again after a while, less often the more it lost by.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Lanes must be expected to take less than this part of the time the native engine takes.
const MARGIN: f64 = 0.9;
/// How much each message that is evaluated natively counts beside all that came before.
const NATIVE_MEMORY: f64 = 1.0 - 1.0 / 512.0;
/// How much each group counts beside those of its size before.
const LANES_MEMORY: f64 = 0.7;
/// Messages ready at once from which on lanes are tried.
const CROWD_MIN: usize = 16;
/// Time for which the messages that are ready would keep the native engine busy, from which on lanes are tried, in times of
/// what a message waits for others.
const WAITS_MIN: f64 = 10.0;
/// Time that messages of a module must have taken natively before its kernel is compiled.
const COMPILE_AFTER: Duration = Duration::from_secs(2);
/// A size of group that lost is tried again after this long,
const RETRY_AFTER: Duration = Duration::from_secs(600);
/// or this many times what the last try lost, if that is longer.
const RETRY_LOSSES: f64 = 100.0;

/// A rate as a decaying mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    work: f64,
    seconds: f64,
    messages: f64,
}

impl Mean {
    fn add(&mut self, memory: f64, messages: f64, work: f64, seconds: f64) {
        self.work = self.work * memory + work;
        self.seconds = self.seconds * memory + seconds;
        self.messages = self.messages * memory + messages;
    }

    /// Work a second; none if nothing is known.
    fn rate(&self) -> Option<f64> {
        (self.work > 0.0 && self.seconds > 0.0).then(|| self.work / self.seconds)
    }
}

/// What a module's messages should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The native engine is faster, or nothing speaks for lanes.
    Native,
    /// Lanes are faster.
    Lanes,
    /// Lanes may be faster: one group should be tried.
    Try,
}

/// What a group of lanes did.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Messages that went in.
    pub messages: usize,
    /// Those that did not come back.
    pub evaluated: usize,
    /// Gas of those; 0: none is counted.
    pub gas: u64,
    /// From the first step to the last.
    pub took: Duration,
}

/// What is learnt of a module.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    native: Mean,
    /// By the binary logarithm of the group's size.
    lanes: BTreeMap<u32, Mean>,
    /// Sizes that lost, and until when they are left alone.
    left_alone: BTreeMap<u32, Instant>,
    /// Time that messages took natively since this unit began.
    spent: Duration,
    /// Whether lanes came to something else than the native engine, once.
    is_wrong: bool,
}

/// As kept over restarts.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    adapter: String,
    native: Mean,
    lanes: BTreeMap<u32, Mean>,
    #[serde(default)]
    is_wrong: bool,
}

/// The work of a message that charged so much gas.
fn work_of(gas: u64) -> f64 {
    if gas > 0 { gas as f64 } else { 1.0 }
}

fn size_class(messages: usize) -> u32 {
    messages.max(1).ilog2()
}

impl Rates {
    /// A message was evaluated natively: its gas (0: none is counted) and its time.
    pub fn native(&mut self, gas: u64, took: Duration) {
        self.native.add(NATIVE_MEMORY, 1.0, work_of(gas), took.as_secs_f64());
        self.spent += took;
    }

    /// A group was evaluated in lanes. `threads`: that evaluate natively.
    pub fn lanes(&mut self, group: &Group, threads: usize, now: Instant) {
        let Group { messages, evaluated, gas, took } = *group;
        let work = if gas > 0 { gas as f64 } else { evaluated as f64 };
        let class = size_class(messages);
        self.lanes.entry(class).or_default().add(LANES_MEMORY, messages as f64, work, took.as_secs_f64());
        let native = self.native.rate().map_or(f64::INFINITY, |rate| work / rate / threads as f64);
        let lost = took.as_secs_f64() - native;
        if lost > 0.0 {
            let pause = RETRY_AFTER.max(Duration::try_from_secs_f64(lost * RETRY_LOSSES).unwrap_or(Duration::MAX));
            // Beyond the clock's end it is never tried again.
            self.left_alone.insert(class, now.checked_add(pause).unwrap_or(now + RETRY_AFTER));
        } else {
            self.left_alone.remove(&class);
        }
    }

    /// Seconds that so many messages take natively on so many threads.
    fn native_seconds(&self, messages: usize, threads: usize) -> f64 {
        let each = if self.native.messages > 0.0 { self.native.seconds / self.native.messages } else { 0.0 };
        messages as f64 * each / threads.max(1) as f64
    }

    /// How long so many messages of mean work take in lanes, by the nearest size that is known.
    pub fn lanes_time(&self, messages: usize) -> Option<Duration> {
        let class = size_class(messages);
        let nearest = self.lanes.iter().filter_map(|(at, mean)| Some((at.abs_diff(class), mean.rate()?)));
        let (_, rate) = nearest.min_by_key(|(distance, _)| *distance)?;
        let work = self.native.work / self.native.messages;
        Duration::try_from_secs_f64(messages as f64 * work / rate).ok()
    }

    /// How long a group may take before it has certainly lost.
    pub fn patience(&self, messages: usize, threads: usize) -> Duration {
        const TIMES: f64 = 4.0;
        const LEAST: Duration = Duration::from_secs(2);
        Duration::try_from_secs_f64(TIMES * self.native_seconds(messages, threads)).unwrap_or(Duration::MAX).max(LEAST)
    }

    /// Whether lanes are worth being compiled, with so many messages ready.
    pub fn is_worth_compiling(&self, ready: usize, threads: usize, wait: Duration, now: Instant) -> bool {
        let known = self.lanes.values().any(|mean| mean.rate().is_some());
        (known || self.spent >= COMPILE_AFTER) && self.advice(ready, threads, wait, now) != Advice::Native
    }

    /// Which engine so many messages should take that are ready now.
    pub fn advice(&self, ready: usize, threads: usize, wait: Duration, now: Instant) -> Advice {
        let native = self.native_seconds(ready, threads);
        let wait = wait.as_secs_f64();
        if ready < CROWD_MIN || native < WAITS_MIN * wait.max(0.001) {
            return Advice::Native;
        }
        let wins = |seconds: f64| wait + seconds < MARGIN * native;
        let class = size_class(ready);
        let work = ready as f64 * self.native.work / self.native.messages.max(f64::MIN_POSITIVE);
        let took =
            |class: u32| self.lanes.get(&class)?.rate().map(|rate| (rate, rate_time(rate, class, work / ready as f64)));
        // Of a smaller group's rate at least, of a larger one's time at most.
        let certain =
            (0..=class).rev().find_map(took).map(|(rate, _)| work / rate).or_else(|| {
                self.lanes.range(class + 1..).find_map(|(class, _)| took(*class)).map(|(_, seconds)| seconds)
            });
        if certain.is_some_and(wins) {
            return Advice::Lanes;
        }
        if self.left_alone.get(&class).is_some_and(|until| now < *until) {
            return Advice::Native;
        }
        let is_tried = self.lanes.contains_key(&class);
        // At best a group takes no longer than the smaller one did.
        let possible = (0..class).rev().find_map(took).map_or(0.0, |(_, seconds)| seconds);
        if is_tried || wins(possible) { Advice::Try } else { Advice::Native }
    }

    /// Lanes came to something else than the native engine.
    pub fn distrust_lanes(&mut self) {
        self.is_wrong = true;
    }

    /// Whether they ever did, on the adapter and with the driver that they run on.
    pub fn distrusts_lanes(&self) -> bool {
        self.is_wrong
    }

    /// What is known, for a restart, as it is on this adapter.
    pub fn to_text(&self, adapter: &str) -> String {
        let (native, lanes, is_wrong) = (self.native, self.lanes.clone(), self.is_wrong);
        let kept = Kept { adapter: adapter.to_owned(), native, lanes, is_wrong };
        serde_json::to_string(&kept).expect("numbers and texts always serialise")
    }

    /// What an earlier run kept, and its adapter; none if it cannot be read.
    pub fn from_text(text: &str) -> Option<(Rates, String)> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        let is_sound =
            |mean: &Mean| [mean.work, mean.seconds, mean.messages].iter().all(|n| n.is_finite() && *n >= 0.0);
        let sound = is_sound(&kept.native) && kept.lanes.iter().all(|(class, mean)| *class < 32 && is_sound(mean));
        let Kept { adapter, native, lanes, is_wrong } = kept;
        sound.then(|| (Rates { native, lanes, is_wrong, ..Rates::default() }, adapter))
    }

    /// Forgets what is known of lanes: they are others, or run on another adapter.
    pub fn forget_lanes(&mut self) {
        self.lanes.clear();
        self.left_alone.clear();
        self.is_wrong = false;
    }
}

/// Seconds that a full group of a size class takes, with so much work in each message.
fn rate_time(rate: f64, class: u32, work: f64) -> f64 {
    f64::from(1u32 << class.min(31)) * work / rate
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(10);

    /// Lanes did 64 messages of 1,000 gas.
    fn lanes(rates: &mut Rates, took: Duration, now: Instant) {
        rates.lanes(&Group { messages: 64, evaluated: 64, gas: 64_000, took }, 2, now);
    }

    fn after(messages: u32, each: Duration) -> Rates {
        let mut rates = Rates::default();
        (0..messages).for_each(|_| rates.native(1000, each));
        rates
    }

    #[test]
    fn short_messages_and_small_crowds_are_never_tried() {
        let now = Instant::now();
        let short = after(200_000, Duration::from_micros(20));
        assert!(!short.is_worth_compiling(1000, 2, WAIT, now));
        let long = after(1000, Duration::from_millis(20));
        assert!(!long.is_worth_compiling(15, 2, WAIT, now));
        assert!(long.is_worth_compiling(16, 2, WAIT, now));
        // Not before they have taken some time together.
        assert!(!after(50, Duration::from_millis(20)).is_worth_compiling(64, 2, WAIT, now));
    }

    #[test]
    fn what_wins_is_used_and_what_loses_is_left_alone() {
        let now = Instant::now();
        // 64 messages take 0.64 s on two threads.
        let mut rates = after(1000, Duration::from_millis(20));
        assert_eq!(rates.advice(64, 2, WAIT, now), Advice::Try);
        lanes(&mut rates, Duration::from_millis(300), now);
        assert_eq!(rates.advice(64, 2, WAIT, now), Advice::Lanes);
        assert_eq!(rates.advice(127, 2, WAIT, now), Advice::Lanes);
        assert_eq!(rates.lanes_time(64).map(|time| time.as_millis()), Some(300));
        assert_eq!(rates.lanes_time(128).map(|time| time.as_millis()), Some(600));
        // A larger group is at least as fast a message; a smaller one takes at most as long.
        assert_eq!(rates.advice(1000, 2, WAIT, now), Advice::Lanes);
        assert_eq!(rates.advice(40, 2, WAIT, now), Advice::Lanes);
        assert_eq!(rates.advice(20, 2, WAIT, now), Advice::Try);

        let mut rates = after(1000, Duration::from_millis(20));
        lanes(&mut rates, Duration::from_millis(900), now);
        assert_eq!(rates.advice(64, 2, WAIT, now), Advice::Native);
        assert_eq!(rates.advice(64, 2, WAIT, now + RETRY_AFTER * 2), Advice::Try);
        // 128 might take no longer than 64 did; 70 could not.
        assert_eq!(rates.advice(128, 2, WAIT, now), Advice::Try);
        assert_eq!(rates.advice(70, 2, WAIT, now), Advice::Native);
        // Lost badly: left alone for long.
        lanes(&mut rates, Duration::from_secs(100), now);
        assert_eq!(rates.advice(64, 2, WAIT, now + RETRY_AFTER * 2), Advice::Native);
    }

    #[test]
    fn a_rate_follows_the_messages() {
        let now = Instant::now();
        let mut rates = after(1000, Duration::from_millis(20));
        lanes(&mut rates, Duration::from_millis(300), now);
        assert_eq!(rates.advice(64, 2, WAIT, now), Advice::Lanes);
        // The machine is busy now, and lanes suffer most.
        (0..10).for_each(|_| lanes(&mut rates, Duration::from_millis(1500), now));
        assert_eq!(rates.advice(64, 2, WAIT, now), Advice::Native);
        // The messages become short.
        let mut rates = after(1000, Duration::from_millis(20));
        lanes(&mut rates, Duration::from_millis(300), now);
        (0..5000).for_each(|_| rates.native(10, Duration::from_micros(200)));
        assert_eq!(rates.advice(64, 2, WAIT, now), Advice::Native);
    }

    #[test]
    fn rates_outlive_a_restart() {
        let now = Instant::now();
        let mut rates = after(1000, Duration::from_millis(20));
        lanes(&mut rates, Duration::from_millis(300), now);
        let (again, adapter) = Rates::from_text(&rates.to_text("an adapter")).unwrap();
        assert_eq!(adapter, "an adapter");
        assert!(again.is_worth_compiling(64, 2, WAIT, now), "at once: it is known to win");
        assert_eq!(again.advice(64, 2, WAIT, now), Advice::Lanes);
        assert!(!again.distrusts_lanes());
        rates.distrust_lanes();
        let (mut again, _) = Rates::from_text(&rates.to_text("an adapter")).unwrap();
        assert!(again.distrusts_lanes());
        again.forget_lanes();
        assert!(!again.distrusts_lanes());
        for text in ["", "{}", "[1]", r#"{"adapter":"a","native":{"work":-1,"seconds":1,"messages":1},"lanes":{}}"#] {
            assert!(Rates::from_text(text).is_none(), "{text}");
        }
    }
}
