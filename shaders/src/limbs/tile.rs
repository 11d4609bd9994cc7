//! Pieces of a Montgomery product of numbers too long for a lane's registers: tiles of limbs, multiplied and summed by
//! tapes inside loops that the kernel and its twin each have.
//!
//! A number is a row of tiles, each [`Tiles::limbs`] limbs. The product is scanned by columns of tiles (Koç, Acar and
//! Kaliski, "Analyzing and comparing Montgomery multiplication algorithms", 1996, there called FIPS, with a tile in the
//! place of a word): the sum of a column lives in `2 * limbs` accumulators.

use num_bigint::BigUint;

use super::Form;
use super::tape::{Node, Tape};

/// How a long number is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// How limbs are cut.
    pub form: Form,
    /// Limbs in a tile.
    pub limbs: usize,
    /// Tiles in a number.
    pub count: usize,
}

impl Tiles {
    /// Tiles for a modulus of `bits` bits. The radix R of its Montgomery products is more than four times the modulus, so
    /// that products of numbers below twice the modulus are below twice the modulus (Walter, "Montgomery exponentiation
    /// needs no final subtractions", 1999).
    pub fn new(form: Form, bits: u64) -> Tiles {
        // As large as leaves a lane's registers at good occupancy: a larger tile reads less of storage for each product.
        // `benches/gpu_cost.rs` shows what other sizes cost.
        let limbs = if form.wide { 8 } else { 16 };
        Tiles { form, limbs, count: form.limbs(bits + 2).div_ceil(limbs) }
    }

    /// Limbs in a number.
    pub fn total(&self) -> usize {
        self.limbs * self.count
    }

    /// log2 of R.
    pub fn radix_bits(&self) -> u64 {
        u64::from(self.form.bits) * self.total() as u64
    }

    /// -1/n modulo a tile, for odd n: the digit that clears the lowest tile of a sum is this times that tile.
    pub fn negative_inverse(&self, modulus: &BigUint) -> Vec<u32> {
        let bits = u64::from(self.form.bits) * self.limbs as u64;
        let mask = (BigUint::from(1u8) << bits) - 1u8;
        let low = modulus & &mask;
        // Newton's iteration doubles the bits that are right; an odd number is its own inverse modulo 8.
        let (mut inverse, mut right) = (low.clone(), 3);
        while right < bits {
            let product = (&low * &inverse) & &mask;
            let correction = (&mask + 3u8 - product) & &mask;
            inverse = (inverse * correction) & &mask;
            right *= 2;
        }
        self.form.split(&((&mask + 1u8 - inverse) & &mask), self.limbs)
    }

    fn capacity(&self) -> u64 {
        if self.form.wide { u64::MAX } else { u64::from(u32::MAX) }
    }

    fn pair_max(&self) -> u64 {
        let mask = u64::from(self.form.mask());
        self.limbs as u64 * mask * mask
    }

    /// How many products of two tiles the accumulators hold between carries. A doubled product counts as two.
    pub fn pairs_between_carries(&self) -> u32 {
        // What carries leave: limbs, and in the highest accumulator what a sum of all pairs carries out of the others.
        let left = 2 * u64::from(self.form.mask());
        u32::try_from((self.capacity() - left) / self.pair_max()).unwrap_or(u32::MAX)
    }

    fn accumulators(&self, tape: &mut Tape, max: u64) -> Vec<Node> {
        (0..2 * self.limbs).map(|index| tape.input_accumulator(format!("t{index}"), max)).collect()
    }

    fn limbs_of(&self, tape: &mut Tape, name: &str, max: u64) -> Vec<Node> {
        (0..self.limbs).map(|index| tape.input(format!("{name}{index}"), max)).collect()
    }

    /// `t += a * b`, where limbs of a may be doubled.
    pub fn accumulate(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let mask = u64::from(self.form.mask());
        // The loops see to it that there is room for one more, see `pairs_between_carries`.
        let mut t = self.accumulators(&mut tape, self.capacity() - 2 * self.pair_max());
        let (a, b) = (self.limbs_of(&mut tape, "a", 2 * mask), self.limbs_of(&mut tape, "b", mask));
        add_products(&mut tape, &mut t, &a, &b);
        for (index, t) in t.iter().enumerate() {
            tape.output(format!("t{index}"), *t);
        }
        tape
    }

    /// Carries from accumulator to accumulator; the highest keeps what comes.
    pub fn carry(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let (mask, bits) = (u64::from(self.form.mask()), self.form.bits);
        let most = self.capacity() - (self.capacity() >> bits) - 1;
        let t = self.accumulators(&mut tape, most);
        let mut carry = tape.constant(0);
        for (index, t) in t.iter().enumerate() {
            let sum = tape.add(*t, carry);
            let limb = if index + 1 == 2 * self.limbs { sum } else { tape.and(sum, mask) };
            tape.output(format!("t{index}"), limb);
            carry = tape.shr(sum, bits);
        }
        tape
    }

    /// `q = (t mod tile) * a mod tile`: the digit that clears the lowest tile, with the inverse in a. The lower half of t
    /// has been carried.
    pub fn digit(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let mask = u64::from(self.form.mask());
        let t = self.limbs_of(&mut tape, "u", mask);
        let a = self.limbs_of(&mut tape, "a", mask);
        output_low_product(&mut tape, self.form, &t, &a);
        tape
    }
}

/// `t += a * b`, limb by limb, without carries.
pub(super) fn add_products(tape: &mut Tape, t: &mut [Node], a: &[Node], b: &[Node]) {
    for (i, a) in a.iter().enumerate() {
        for (j, b) in b.iter().enumerate() {
            let product = tape.mul(*a, *b);
            t[i + j] = tape.add(t[i + j], product);
        }
    }
}

/// `q = t * a mod tile` as outputs, carried; t has been.
pub(super) fn output_low_product(tape: &mut Tape, form: Form, t: &[Node], a: &[Node]) {
    let mut carry = tape.constant(0);
    for column in 0..a.len() {
        let mut sum = carry;
        for i in 0..=column {
            let product = tape.mul(t[i], a[column - i]);
            sum = tape.add(sum, product);
        }
        let limb = tape.and(sum, u64::from(form.mask()));
        tape.output(format!("q{column}"), limb);
        carry = tape.shr(sum, form.bits);
    }
}
