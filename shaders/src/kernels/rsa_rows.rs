//! The power s^65537 mod n, a lane for each tile of a signature (`wgsl/rsa_rows.wgsl`): numbers lie in registers and in
//! workgroup memory, and a signature's lanes meet twice in every row.

use super::fill;
use super::rsa_pss::{Numbers, run};
use crate::limbs::rows::Rows;
use crate::limbs::tape::{LANES, Scratch, Tape};
use crate::limbs::tile::Tiles;

/// The kernel as WGSL.
pub fn wgsl(rows: Rows) -> String {
    let Tiles { form, limbs, count } = rows.tiles;
    let each = |f: &dyn Fn(usize) -> String| (0..limbs).fold(String::new(), |text, i| text + &f(i) + "\n");
    // As in `Form::load_wgsl`, a mask tells the compiler how large a limb can be.
    let load = |name: &str, max: u64, from: &dyn Fn(usize) -> String| {
        let mask = (max + 1).next_power_of_two() - 1;
        each(&|i| match form.masked {
            true => format!("let {name}{i} = {} & {mask}u;", from(i)),
            false => format!("let {name}{i} = {};", from(i)),
        })
    };
    let (limb_max, mask) = (rows.limb_max(), u64::from(form.mask()));
    let shared = |array: &str, tile: &str| {
        let (array, tile) = (array.to_owned(), tile.to_owned());
        move |limb: usize| format!("{array}[own_at + {}u + {tile}]", limb * count)
    };
    let power = shared("power", "tile");
    let digit = |limb: usize| format!("digit[own * LIMBS + {limb}u]");
    let (sum, zero) = if form.wide { ("u64", "0lu") } else { ("u32", "0u") };
    let block = |text: String| format!("{{\n{text}}}\n");
    let shift = each(&|i| {
        let upper = limbs + i;
        let at = i * count;
        format!("t{i} = t{upper} + select({zero}, {sum}(lower[lower_at + {at}u]), above);\nt{upper} = {zero};")
    });
    let names = |from: &str, to: &str| each(&|i| format!("let {to}{i} = {from}{i};"));
    fill(
        include_str!("../../wgsl/rsa_rows.wgsl"),
        &[
            ("limbs", limbs.to_string()),
            ("tiles", count.to_string()),
            ("sum", sum.to_owned()),
            ("load_n", load("n", mask, &|limb| format!("keys[n_at + {limb}u]"))),
            ("load_inverse", load("inverse", mask, &|limb| format!("keys[inverse_at + {limb}u]"))),
            ("power_is_square_of_r", each(&|limb| format!("{} = keys[n_at + TOTAL + {limb}u];", power(limb)))),
            ("declare_b", each(&|limb| format!("var p{limb}: u32;"))),
            ("b_is_power", each(&|limb| format!("p{limb} = {};", power(limb)))),
            ("b_is_s", each(&|limb| format!("p{limb} = work[s_at + {limb}u];"))),
            ("clear", (0..2 * limbs).fold(String::new(), |text, i| text + &format!("var t{i}: {sum} = {zero};\n"))),
            ("load_a", load("a", limb_max, &shared("power", "row"))),
            ("accumulate", load("b", limb_max, &|limb| format!("p{limb}")) + &block(rows.accumulate().wgsl(true))),
            (
                "digit",
                each(&|limb| format!("var q{limb}: u32;"))
                    + &block(names("inverse", "a") + &rows.digit().wgsl(false))
                    + &each(&|limb| format!("{} = q{limb};", digit(limb))),
            ),
            ("load_digit", load("a", mask, &digit)),
            ("accumulate_digit", names("n", "b") + &block(rows.accumulate().wgsl(true))),
            ("carry", block(rows.carry().wgsl(true))),
            ("pass_lower", {
                let lower = shared("lower", "tile");
                each(&|limb| format!("{} = u32(t{limb});", lower(limb)))
            }),
            ("shift", shift),
            ("settle", block(rows.settle().wgsl(true))),
            ("store_power", each(&|limb| format!("{} = u32(t{limb});", power(limb)))),
            ("store_work", each(&|limb| format!("work[to + {limb}u] = {};", power(limb)))),
        ],
    )
}

/// The kernel's twin.
#[derive(Debug)]
pub struct Twin {
    tiles: Tiles,
    accumulate: Tape,
    digit: Tape,
    carry: Tape,
    settle: Tape,
}

type Limbs = Vec<[u64; LANES]>;

impl Twin {
    /// For numbers cut as `rows` says.
    pub fn new(rows: Rows) -> Twin {
        let (accumulate, digit) = (rows.accumulate(), rows.digit());
        Twin { tiles: rows.tiles, accumulate, digit, carry: rows.carry(), settle: rows.settle() }
    }

    /// s^65537 mod n, below 2 n, limb by limb; the lowest limb of a tile may be one more than its bits hold.
    pub(super) fn power(&self, numbers: &Numbers) -> Limbs {
        let mut x = numbers.r_squared.clone();
        let mut scratch = Scratch::default();
        for step in 0..18 {
            let square = step != 0 && step != 17;
            let b = if square { x.clone() } else { numbers.s.clone() };
            x = self.product(numbers, &x, &b, &mut scratch);
        }
        x
    }

    /// a * b / R mod n.
    fn product(&self, numbers: &Numbers, a: &Limbs, b: &Limbs, scratch: &mut Scratch) -> Limbs {
        let Tiles { limbs, count, .. } = self.tiles;
        let tile = |number: &Limbs, index: usize| number[index * limbs..][..limbs].to_vec();
        let mut sums = vec![vec![[0u64; LANES]; 2 * limbs]; count];
        for row in 0..count {
            for (own, t) in sums.iter_mut().enumerate() {
                run(&self.accumulate, t, &[tile(a, row), tile(b, own)].concat(), scratch);
            }
            let operands = [&sums[0][..limbs], &numbers.inverse].concat();
            let digit: Limbs = self.digit.run(&operands, scratch).copied().collect();
            for (own, t) in sums.iter_mut().enumerate() {
                run(&self.accumulate, t, &[digit.clone(), tile(&numbers.n, own)].concat(), scratch);
                run(&self.carry, &mut t[..=limbs], &[], scratch);
            }
            for own in 0..count {
                let above = sums.get(own + 1).map_or(vec![[0; LANES]; limbs], |t| t[..limbs].to_vec());
                sums[own].rotate_left(limbs);
                let (lower, upper) = sums[own].split_at_mut(limbs);
                upper.fill([0; LANES]);
                lower.iter_mut().zip(above).for_each(|(t, above)| add(t, &above));
            }
        }
        for _ in 0..2 {
            let mut carried = [0; LANES];
            for t in &mut sums {
                let settled: Limbs = self.settle.run(&t[..limbs], scratch).copied().collect();
                t[..limbs].copy_from_slice(&settled[..limbs]);
                add(&mut t[0], &carried);
                carried = settled[limbs];
            }
        }
        sums.into_iter().flat_map(|mut t| t.drain(..limbs).collect::<Limbs>()).collect()
    }
}

fn add(sum: &mut [u64; LANES], other: &[u64; LANES]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
}
