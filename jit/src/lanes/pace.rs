//! How many turns of loops a lane makes in one dispatch.
//!
//! Each dispatch costs a pass over the kernel, and bringing and keeping all variables, so few and long ones are best. But
//! systems reset GPUs that are busy for seconds, who waits for a group wants it to end by its deadline, and Mesa's CPU driver
//! ends every loop of a kernel after 65,535 turns that lanes of a vector make, whichever of them do. How often lanes turn
//! together is known of no program beforehand: so dispatches grow longer until a driver cuts one short.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lockstep_shaders::device::Found;

/// Turns in a dispatch on hardware, and at first on vectors of eight lanes.
const TURNS: u32 = 7_500;

/// Turns that a vector's lanes may make one by one: what is left of 65,535 is for the loops that bring and keep variables, and for
/// lanes' last turns.
const VECTOR_TURNS: u32 = 60_000;

/// Most lanes of a vector of a driver that is a program on the processor: those of 512 bits.
const VECTOR_LANES_MAX: u32 = 16;

/// Turns of lanes that turn together, at most: half of what the driver allows, for what they do not do together.
const TOGETHER_MAX: u32 = 32_000;

/// Fewer are not worth a dispatch.
const TURNS_MIN: u32 = 500;

/// A dispatch that takes less time may be longer, one that takes more is too long.
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_millis(400);

/// What is known of one module's kernel on one device.
#[derive(Debug)]
pub struct Pace {
    turns: AtomicU32,
    most: AtomicU32,
}

impl Pace {
    /// As nothing is known yet: even if no two lanes ever turn together, no driver cuts a dispatch short.
    pub fn new(found: &Found) -> Pace {
        // Mesa's CPU driver says how many lanes a vector has as its subgroup's size.
        let lanes = found.subgroup_size.1.clamp(1, VECTOR_LANES_MAX);
        let (first, most) =
            if found.software { (TURNS.min(VECTOR_TURNS / lanes), TOGETHER_MAX) } else { (TURNS, TURNS) };
        Pace { turns: first.into(), most: most.into() }
    }

    /// Turns in the next dispatch.
    pub fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// A dispatch that did not end all lanes took so long.
    pub fn took(&self, time: Duration) {
        let now = self.turns();
        let next = match time {
            short if short < SHORT => (2 * now).min(self.most.load(Ordering::Relaxed)),
            long if long > LONG => (now / 2).max(TURNS_MIN),
            _ => now,
        };
        self.turns.store(next, Ordering::Relaxed);
    }

    /// A dispatch was cut short by the driver: none is that long again.
    pub fn was_cut(&self) {
        let less = (self.turns() / 2).max(TURNS_MIN);
        self.most.fetch_min(less, Ordering::Relaxed);
        self.turns.fetch_min(less, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(software: bool, lanes: u32) -> Found {
        Found {
            name: String::new(),
            driver: String::new(),
            backend: "vulkan",
            software,
            int64: true,
            subgroups: true,
            subgroup_size: (lanes, lanes),
            max_binding_bytes: 1 << 27,
        }
    }

    #[test]
    fn lanes_that_never_turn_together_stay_below_what_a_vector_may_turn() {
        let first = |lanes| Pace::new(&found(true, lanes)).turns();
        assert_eq!([0, 1, 4, 8, 16, 64].map(first), [7_500, 7_500, 7_500, 7_500, 3_750, 3_750]);
    }

    #[test]
    fn dispatches_grow_until_they_are_long_or_cut() {
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(1));
        let pace = Pace::new(&found(true, 16));
        (0..9).for_each(|_| pace.took(short));
        assert_eq!(pace.turns(), 32_000);
        pace.took(Duration::from_millis(100));
        assert_eq!(pace.turns(), 32_000);
        pace.was_cut();
        pace.took(short);
        assert_eq!(pace.turns(), 16_000);
        (0..9).for_each(|_| pace.took(long));
        assert_eq!(pace.turns(), 500);
        (0..9).for_each(|_| pace.took(short));
        assert_eq!(pace.turns(), 16_000);
    }

    #[test]
    fn hardware_is_not_kept_busy_for_longer() {
        let pace = Pace::new(&found(false, 64));
        (0..9).for_each(|_| pace.took(Duration::ZERO));
        assert_eq!(pace.turns(), 7_500);
    }
}
