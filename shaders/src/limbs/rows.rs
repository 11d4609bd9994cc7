//! Pieces of a Montgomery product of numbers that several lanes share: each lane has one tile of limbs of every number, and
//! the lanes go through the product row by row.
//!
//! In row i every lane adds its tile of `a_i * b` to its sums, the lowest lane finds the digit that makes its tile zero,
//! every lane adds its tile of `digit * n`, and the sums move down by a tile, which is a division by its radix. What carries
//! out of a lane's lower tile stays in its upper one; lanes carry into each other only after the last row. (Montgomery's
//! product as Koç, Acar and Kaliski's CIOS, "Analyzing and comparing Montgomery multiplication algorithms", 1996, with a
//! tile in the place of a word.)

use super::Form;
use super::tape::{Node, Tape};
use super::tile::{Tiles, add_products, output_low_product};

/// The shape and the tapes of such products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// How numbers are cut: a lane for each tile.
    pub tiles: Tiles,
}

impl Rows {
    /// For moduli of `bits` bits. As many lanes, a power of two, as give each about ten limbs: with fewer the lowest lane's
    /// digit is more of the work, with more the sums take too many registers.
    pub fn new(form: Form, bits: u64) -> Rows {
        // As in [`Tiles::new`], R is more than four times the modulus.
        let limbs = form.limbs(bits + 2);
        let count = limbs.div_ceil(12).next_power_of_two();
        Rows { tiles: Tiles { form, limbs: limbs.div_ceil(count), count } }
    }

    /// The largest limb of a number that the lanes hold: the lowest limb of a tile may have been carried into once.
    pub fn limb_max(&self) -> u64 {
        1 << self.tiles.form.bits
    }

    /// What one product of tiles adds to a sum at most.
    fn product_max(&self) -> u64 {
        self.tiles.limbs as u64 * self.limb_max() * self.limb_max()
    }

    /// What a sum is at most when a row begins: what two products leave in an upper tile, what carries into it, and a limb
    /// of the lane above. [`Rows::carry`] checks it.
    fn row_max(&self) -> u64 {
        2 * self.product_max() + 8 * self.tiles.limbs as u64 * self.limb_max()
    }

    fn sums(&self, tape: &mut Tape, count: usize, max: u64) -> Vec<Node> {
        (0..count).map(|index| tape.input_accumulator(format!("t{index}"), max)).collect()
    }

    fn limbs_of(&self, tape: &mut Tape, name: &str, max: u64) -> Vec<Node> {
        (0..self.tiles.limbs).map(|index| tape.input(format!("{name}{index}"), max)).collect()
    }

    /// `t += a * b`; twice in a row.
    pub fn accumulate(&self) -> Tape {
        let mut tape = Tape::new(self.tiles.form.wide);
        let mut t = self.sums(&mut tape, 2 * self.tiles.limbs, self.row_max() + self.product_max());
        let (a, b) = (self.limbs_of(&mut tape, "a", self.limb_max()), self.limbs_of(&mut tape, "b", self.limb_max()));
        add_products(&mut tape, &mut t, &a, &b);
        for (index, t) in t.iter().enumerate() {
            tape.output(format!("t{index}"), *t);
        }
        tape
    }

    /// `q = (t mod tile) * a mod tile`: the digit that makes the lower tile zero, with -1/n modulo a tile in a.
    pub fn digit(&self) -> Tape {
        let Tiles { form, limbs, .. } = self.tiles;
        let mut tape = Tape::new(form.wide);
        let mask = u64::from(form.mask());
        let t = self.sums(&mut tape, limbs, self.row_max() + self.product_max());
        let a = self.limbs_of(&mut tape, "a", mask);
        let (lower, _) = carried(&mut tape, form, &t);
        output_low_product(&mut tape, form, &lower, &a);
        tape
    }

    /// Carries through the lower tile into the upper one.
    ///
    /// # Panics
    /// If the form does not leave room for a row's sums: for none of [`Form::ALL`].
    pub fn carry(&self) -> Tape {
        let Tiles { form, limbs, .. } = self.tiles;
        let mut tape = Tape::new(form.wide);
        // An upper tile begins a row as zero.
        let lower = self.sums(&mut tape, limbs, self.row_max() + 2 * self.product_max());
        let upper = tape.input_accumulator(format!("t{limbs}"), 2 * self.product_max());
        let (limbs_out, carry) = carried(&mut tape, form, &lower);
        let upper = tape.add(upper, carry);
        let next = tape.max(upper) + u64::from(form.mask());
        assert!(next <= self.row_max(), "a row's sums grow from row to row");
        for (index, limb) in limbs_out.into_iter().chain([upper]).enumerate() {
            tape.output(format!("t{index}"), limb);
        }
        tape
    }

    /// After the last row, twice: carries through the lower tile; what comes out, `c`, is for the next lane. The second time
    /// it is 0 or 1, so that a limb is then at most [`Rows::limb_max`].
    pub fn settle(&self) -> Tape {
        let Tiles { form, limbs, .. } = self.tiles;
        let mut tape = Tape::new(form.wide);
        let t = self.sums(&mut tape, limbs, self.row_max());
        let (limbs_out, carry) = carried(&mut tape, form, &t);
        for (index, limb) in limbs_out.into_iter().enumerate() {
            tape.output(format!("t{index}"), limb);
        }
        tape.output("c", carry);
        tape
    }
}

/// Limbs and what carries out of the highest.
fn carried(tape: &mut Tape, form: Form, sums: &[Node]) -> (Vec<Node>, Node) {
    let mut carry = tape.constant(0);
    let limbs = sums
        .iter()
        .map(|sum| {
            let sum = tape.add(*sum, carry);
            carry = tape.shr(sum, form.bits);
            tape.and(sum, form.mask().into())
        })
        .collect();
    (limbs, carry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_room_for_a_row_and_fills_a_workgroup() {
        for form in Form::ALL {
            for bits in [2048, 4096] {
                let rows = Rows::new(form, bits);
                let Tiles { limbs, count, .. } = rows.tiles;
                assert!(rows.tiles.radix_bits() >= bits + 2, "{rows:?}");
                assert!(64 % count == 0 && (8..=12).contains(&limbs), "{rows:?}");
                for tape in [rows.accumulate(), rows.digit(), rows.carry(), rows.settle()] {
                    assert!(!tape.wgsl(true).is_empty());
                }
            }
        }
    }
}
