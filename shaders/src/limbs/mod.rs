//! Arithmetic on long numbers, described once: as WGSL for the device and as its twin on the CPU.
//!
//! A number is a row of limbs, lowest first, each of [`Form::bits`] bits in a 32-bit word. Which form is fastest depends on
//! the adapter: where integer multiply-add is 24 bits wide (AMD, Apple) it is 13-bit limbs whose products fit that unit,
//! and where it is 32 bits wide with 64-bit sums (NVIDIA) it is limbs just short of 32 bits with `u64` sums. Everything
//! here is made for any form, and all forms run under the same tests.

pub mod field;
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

    /// What a load of a limb ends with in WGSL.
    pub fn mask_wgsl(self) -> String {
        if self.masked { format!(" & {}u", self.mask()) } else { String::new() }
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
