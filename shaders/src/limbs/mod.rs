//! Arithmetic on long numbers, described once: as WGSL for the device and as its twin on the CPU.
//!
//! A number is a row of limbs, lowest first, each of [`Form::bits`] bits in a 32-bit word. Which form is fastest depends on
//! the adapter: where integer multiply-add is 24 bits wide (AMD, Apple) it is 13-bit limbs whose products fit that unit,
//! and where it is 32 bits wide with 64-bit sums (NVIDIA) it is limbs just short of 32 bits with `u64` sums. Everything
//! here is made for any form, and all forms run under the same tests.

pub mod field;
pub mod rows;
pub mod tape;
pub mod tile;

use num_bigint::BigUint;

/// How a number is cut into limbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Bits in a limb.
    pub bits: u32,
    /// Whether sums of products are 64 bits wide, which asks the adapter for `SHADER_INT64`.
    pub wide: bool,
    /// Whether limbs are masked when loaded, which tells the compiler how large they can be.
    pub masked: bool,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sums = if self.wide { 64 } else { 32 };
        write!(f, "{}-bit limbs, {sums}-bit sums{}", self.bits, if self.masked { ", masked" } else { "" })
    }
}

impl Form {
    /// 13-bit limbs: 63 products fit a 32-bit sum, and a masked factor fits 24-bit multiply-add.
    pub const THIN: Form = Form { bits: 13, wide: false, masked: true };
    /// As [`Form::THIN`], limbs as loaded.
    pub const THIN_UNMASKED: Form = Form { bits: 13, wide: false, masked: false };
    /// 12-bit limbs: sums of 255 products.
    pub const NARROW: Form = Form { bits: 12, wide: false, masked: true };
    /// 28-bit limbs with 64-bit sums of 255 products.
    pub const WIDE: Form = Form { bits: 28, wide: true, masked: false };
    /// 29-bit limbs with 64-bit sums of 63 products.
    pub const WIDEST: Form = Form { bits: 29, wide: true, masked: false };

    /// Every form that is tried.
    pub const ALL: [Form; 5] = [Form::THIN, Form::THIN_UNMASKED, Form::NARROW, Form::WIDE, Form::WIDEST];

    /// The largest limb.
    pub fn mask(self) -> u32 {
        (1 << self.bits) - 1
    }

    /// Limbs that hold a number of `bits` bits.
    pub fn limbs(self, bits: u64) -> usize {
        bits.div_ceil(u64::from(self.bits)) as usize
    }

    /// Limbs that lie in one word of storage. Short limbs lie in pairs, which halves what is read and written; taking them
    /// apart costs nothing where limbs are masked anyway.
    pub fn per_word(self) -> usize {
        if self.masked && self.bits <= 16 { 2 } else { 1 }
    }

    /// Words that hold `count` limbs.
    pub fn words(self, count: usize) -> usize {
        count.div_ceil(self.per_word())
    }

    /// Limbs as they lie in storage.
    pub fn pack(self, limbs: &[u32]) -> Vec<u32> {
        limbs
            .chunks(self.per_word())
            .map(|pair| pair.iter().rev().fold(0, |word, limb| word << self.bits | limb))
            .collect()
    }

    /// `count` limbs from where they lie in storage.
    pub fn unpack(self, count: usize, word: impl Fn(usize) -> u32) -> impl Iterator<Item = u32> {
        let mask = if self.per_word() == 1 { u32::MAX } else { self.mask() };
        (0..count).map(move |limb| {
            let (at, offset) = (limb / self.per_word(), limb % self.per_word());
            word(at) >> (self.bits * offset as u32) & mask
        })
    }

    /// WGSL that declares `name0..` as the limbs in the words that `word` gives the expressions of.
    pub fn load_wgsl(self, name: &str, count: usize, word: impl Fn(usize) -> String) -> String {
        let mask = self.mask();
        let mut text = String::new();
        for at in 0..self.words(count) {
            text += &match (self.per_word(), self.masked) {
                (1, false) => format!("let {name}{at} = {};\n", word(at)),
                (1, true) => format!("let {name}{at} = {} & {mask}u;\n", word(at)),
                _ => {
                    let (low, high, shift) = (2 * at, 2 * at + 1, self.bits);
                    let word = word(at);
                    format!(
                        "let {name}_{at} = {word};\nlet {name}{low} = {name}_{at} & {mask}u;\n\
                         let {name}{high} = ({name}_{at} >> {shift}u) & {mask}u;\n"
                    )
                }
            };
        }
        text
    }

    /// WGSL that puts the limbs that `limb` gives the expressions of into the words that `word` names.
    pub fn store_wgsl(self, count: usize, limb: impl Fn(usize) -> String, word: impl Fn(usize) -> String) -> String {
        let mut text = String::new();
        for at in 0..self.words(count) {
            let low = limb(self.per_word() * at);
            text += &match self.per_word() {
                2 if 2 * at + 1 < count => {
                    format!("{} = {low} | ({} << {}u);\n", word(at), limb(2 * at + 1), self.bits)
                }
                _ => format!("{} = {low};\n", word(at)),
            };
        }
        text
    }

    /// `count` limbs of a number given as little-endian bytes; bits that do not fit are left out.
    pub fn cut(self, little_endian: &[u8], count: usize) -> Vec<u32> {
        let (mut limbs, mut held, mut held_bits) = (Vec::with_capacity(count), 0u64, 0);
        let mut bytes = little_endian.iter();
        while limbs.len() < count {
            while held_bits < self.bits {
                held |= u64::from(bytes.next().copied().unwrap_or(0)) << held_bits;
                held_bits += 8;
            }
            limbs.push(held as u32 & self.mask());
            held >>= self.bits;
            held_bits -= self.bits;
        }
        limbs
    }

    /// `count` limbs of a number.
    pub fn split(self, number: &BigUint, count: usize) -> Vec<u32> {
        self.cut(&number.to_bytes_le(), count)
    }

    /// The first `count` little-endian bytes of the number that `limbs` are, each limb at most [`Form::mask`].
    pub fn bytes(self, limbs: impl IntoIterator<Item = u32>, count: usize) -> Vec<u8> {
        let (mut bytes, mut held, mut held_bits) = (Vec::with_capacity(count + 4), 0u64, 0);
        for limb in limbs {
            held |= u64::from(limb) << held_bits;
            held_bits += self.bits;
            while held_bits >= 8 {
                bytes.push(held as u8);
                held >>= 8;
                held_bits -= 8;
            }
        }
        bytes.push(held as u8);
        bytes.resize(count, 0);
        bytes
    }

    /// The number that `limbs` are, whatever their size.
    pub fn join(self, limbs: impl IntoIterator<Item = u64>) -> BigUint {
        limbs
            .into_iter()
            .enumerate()
            .map(|(index, limb)| BigUint::from(limb) << (u64::from(self.bits) * index as u64))
            .sum()
    }
}
