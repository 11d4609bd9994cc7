//! The power s^65537 mod n, one lane a signature (`wgsl/rsa_tiles.wgsl`): a tile of two factors and their sums in registers,
//! the rest streamed from storage.

use std::fmt::Write;

use super::fill;
use super::rsa_pss::{Numbers, run};
use crate::limbs::tape::{LANES, Scratch, Tape};
use crate::limbs::tile::Tiles;

/// The kernel as WGSL.
pub fn wgsl(tiles: Tiles) -> String {
    let Tiles { form, limbs, count } = tiles;
    let rows = |f: &dyn Fn(usize) -> String| (0..limbs).fold(String::new(), |text, i| text + &f(i) + "\n");
    let work = |at: &str| {
        let at = at.to_owned();
        move |word: usize| format!("work[{at} + {word}u * lanes]")
    };
    let keys = |at: &str| {
        let at = at.to_owned();
        move |word: usize| format!("keys[{at} + {word}u]")
    };
    let (sum, zero) = if form.wide { ("u64", "0lu") } else { ("u32", "0u") };
    let mut clear = String::new();
    let mut shift = String::new();
    for i in 0..2 * limbs {
        let _ = writeln!(clear, "var t{i}: {sum} = {zero};");
        let from = if i < limbs { format!("t{}", i + limbs) } else { zero.into() };
        let _ = writeln!(shift, "t{i} = {from};");
    }
    let outside = rows(&|i| format!("var q{i}: u32;"));
    let block = |text: String| format!("{{\n{text}}}\n");
    let accumulate = block(tiles.accumulate().wgsl(true));
    let load_u = rows(&|i| format!("let u{i} = u32(t{i});"));
    let load_inverse = form.load_wgsl("a", limbs, keys("inverse_at"));
    let digit = outside + &block(load_u + &load_inverse + &tiles.digit().wgsl(false));
    let rename = rows(&|i| format!("let a{i} = q{i};"));
    fill(
        include_str!("../../wgsl/rsa_tiles.wgsl"),
        &[
            ("words", form.words(limbs).to_string()),
            ("tiles", count.to_string()),
            ("pairs", tiles.pairs_between_carries().to_string()),
            ("clear", clear),
            ("carry", block(tiles.carry().wgsl(true))),
            (
                "load_a_doubled",
                form.load_wgsl("c", limbs, work("a_at")) + &rows(&|i| format!("let a{i} = c{i} << doubled;")),
            ),
            ("load_a", form.load_wgsl("a", limbs, work("a_at"))),
            ("load_b", form.load_wgsl("b", limbs, work("b_at"))),
            ("load_n", form.load_wgsl("b", limbs, keys("n_at"))),
            ("digit", digit),
            ("accumulate_digit", block(rename + &accumulate)),
            ("accumulate", accumulate),
            ("store_q", form.store_wgsl(limbs, |i| format!("q{i}"), work("q_at"))),
            ("store_x", form.store_wgsl(limbs, |i| format!("u32(t{i})"), work("x_at"))),
            ("shift", shift),
        ],
    )
}

/// The kernel's twin.
#[derive(Debug)]
pub struct Twin {
    tiles: Tiles,
    accumulate: Tape,
    carry: Tape,
    digit: Tape,
}

impl Twin {
    /// For numbers cut into `tiles`.
    pub fn new(tiles: Tiles) -> Twin {
        Twin { tiles, accumulate: tiles.accumulate(), carry: tiles.carry(), digit: tiles.digit() }
    }

    /// s^65537 mod n, below 2 n, limb by limb.
    pub(super) fn power(&self, numbers: &Numbers) -> Vec<[u64; LANES]> {
        let Tiles { limbs, count, .. } = self.tiles;
        let Numbers { n, r_squared, inverse, s } = numbers;
        let mut x = r_squared.clone();
        let mut q = vec![[0; LANES]; n.len()];
        let pairs = self.tiles.pairs_between_carries();
        let mut scratch = Scratch::default();
        for step in 0..18 {
            let square = step != 0 && step != 17;
            let mut t = vec![[0u64; LANES]; 2 * limbs];
            for column in 0..2 * count {
                let mut held = 0;
                let tile = |number: &[[u64; LANES]], index: usize| number[index * limbs..][..limbs].to_vec();
                let mut add = |t: &mut Vec<[u64; LANES]>, a: Vec<[u64; LANES]>, b: Vec<[u64; LANES]>, weight: u32| {
                    if held + 2 > pairs {
                        run(&self.carry, t, &[], &mut scratch);
                        held = 0;
                    }
                    held += weight;
                    run(&self.accumulate, t, &[a, b].concat(), &mut scratch);
                };
                let first = (column + 1).saturating_sub(count);
                let end = if square { column / 2 + 1 } else { column.min(count - 1) + 1 };
                for i in first..end {
                    let doubled = u32::from(square && 2 * i != column);
                    let mut a = tile(&x, i);
                    a.iter_mut().flatten().for_each(|limb| *limb <<= doubled);
                    let b = tile(if square { &x } else { s }, column - i);
                    add(&mut t, a, b, 1 + doubled);
                }
                for i in first..column.min(count) {
                    add(&mut t, tile(&q, i), tile(n, column - i), 1);
                }
                run(&self.carry, &mut t, &[], &mut scratch);
                if column < count {
                    let operands = [tile(&t, 0), inverse.clone()].concat();
                    let digit: Vec<_> = self.digit.run(&operands, &mut scratch).copied().collect();
                    run(&self.accumulate, &mut t, &[&digit[..], &n[..limbs]].concat(), &mut scratch);
                    run(&self.carry, &mut t, &[], &mut scratch);
                    q[column * limbs..][..limbs].copy_from_slice(&digit);
                } else {
                    x[(column - count) * limbs..][..limbs].copy_from_slice(&t[..limbs]);
                }
                t.copy_within(limbs.., 0);
                t[limbs..].fill([0; LANES]);
            }
        }
        x
    }
}
