//! Arithmetic modulo a prime just below a power of two, as tapes.
//!
//! Between operations an element is below [`Field::bound`], not necessarily below the prime: limbs are whole except for
//! the highest, and only [`Field::freeze`] makes the one canonical form. A product is reduced by folding: what lies above
//! a power of two 2^P is multiplied by 2^P mod p and added to what lies below.

use num_bigint::BigUint;

use super::Form;
use super::tape::{LANES, Node, Scratch, Tape};

/// A prime and a form for its elements.
#[derive(Clone, Debug)]
pub struct Field {
    /// How elements are cut.
    pub form: Form,
    /// The prime.
    pub modulus: BigUint,
    /// Limbs in an element.
    pub count: usize,
    /// Every element is below this, 3/2 of the power of two above the prime.
    pub bound: BigUint,
    /// The multiple of the prime that a difference is made positive with, limb by limb no less than any element.
    bias: Vec<u32>,
}

/// A number on a tape: columns of the form's weights, each perhaps more than a limb.
struct Number {
    columns: Vec<Node>,
    /// The number is below this.
    below: BigUint,
}

impl Field {
    /// 2^255 - 19 (RFC 7748, section 4.1).
    pub fn curve25519(form: Form) -> Field {
        Field::new(form, (BigUint::from(1u8) << 255u32) - 19u8)
    }

    /// 2^256 - 2^32 - 977, the field of secp256k1 (SEC 2, section 2.4.1).
    pub fn secp256k1(form: Form) -> Field {
        Field::new(form, (BigUint::from(1u8) << 256u32) - (BigUint::from(1u8) << 32u32) - 977u32)
    }

    /// The field of a prime close below a power of two: folding has to make numbers smaller.
    pub fn new(form: Form, modulus: BigUint) -> Field {
        let bits = modulus.bits();
        let bound = BigUint::from(3u8) << (bits - 1);
        let count = form.limbs(bits + 1);
        let mut largest: Vec<u32> = vec![form.mask(); count];
        largest[count - 1] = form.split(&(&bound - 1u8), count)[count - 1];
        let all_largest = form.join(largest.iter().map(|limb| u64::from(*limb)));
        let multiple = all_largest.div_ceil_by(&modulus) * &modulus;
        let rest = form.split(&(multiple - all_largest), count);
        let bias = largest.iter().zip(rest).map(|(a, b)| a + b).collect();
        Field { form, modulus, count, bound, bias }
    }

    fn power(bits: u64) -> BigUint {
        BigUint::from(1u8) << bits
    }

    /// An element as two tapes' input, its limbs the WGSL variables `name0`, `name1`, ...
    fn element(&self, tape: &mut Tape, name: &str) -> Number {
        let top = self.form.split(&(&self.bound - 1u8), self.count)[self.count - 1];
        let columns = (0..self.count)
            .map(|index| {
                let max = if index + 1 == self.count { top } else { self.form.mask() };
                tape.input(format!("{name}{index}"), max.into())
            })
            .collect();
        Number { columns, below: self.bound.clone() }
    }

    /// Carries, so that every column but the last is a limb, and columns above what the number can reach are gone.
    fn carry(&self, tape: &mut Tape, number: Number) -> Number {
        let mask = u64::from(self.form.mask());
        let count = self.form.limbs((&number.below - 1u8).bits()).max(self.count);
        let mut columns = Vec::with_capacity(count);
        let mut carry = tape.constant(0);
        for index in 0..count {
            let column = match number.columns.get(index) {
                Some(column) => tape.add(*column, carry),
                None => carry,
            };
            let last = index + 1 == count;
            let limb = if last { tape.and(column, u64::from(u32::MAX)) } else { tape.and(column, mask) };
            if last {
                let reach = (&number.below - 1u8) >> (u64::from(self.form.bits) * index as u64);
                tape.assume(limb, reach.try_into().expect("a highest limb of a number whose bits were counted"));
            }
            columns.push(limb);
            carry = tape.shr(column, self.form.bits);
        }
        Number { columns, below: number.below }
    }

    /// Folds at 2^position; the columns below the highest have to be limbs.
    fn fold(&self, tape: &mut Tape, number: Number, position: u64) -> Number {
        let (bits, mask) = (self.form.bits, u64::from(self.form.mask()));
        let (first, offset) = ((position / u64::from(bits)) as usize, (position % u64::from(bits)) as u32);
        let mut low: Vec<Node> = number.columns[..number.columns.len().min(first)].to_vec();
        let mut high = Vec::new();
        if let Some(straddling) = number.columns.get(first)
            && offset > 0
        {
            low.push(tape.and(*straddling, (1 << offset) - 1));
        }
        for index in first..number.columns.len() {
            // The next column's low bits complete this high limb; the highest column may be more than a limb.
            let lower = tape.shr(number.columns[index], offset);
            let limb = match number.columns.get(index + 1) {
                Some(next) if offset > 0 => {
                    let upper = tape.and(*next, (1 << offset) - 1);
                    let upper = tape.shl(upper, bits - offset);
                    tape.add(lower, upper)
                }
                _ => lower,
            };
            high.push(limb);
        }
        let factor = Field::power(position) % &self.modulus;
        let factor_limbs = self.form.split(&factor, self.form.limbs(factor.bits()));
        let mut columns = low;
        for (i, high) in high.iter().enumerate() {
            for (j, limb) in factor_limbs.iter().enumerate() {
                let limb = tape.constant((*limb).into());
                let product = tape.mul(*high, limb);
                while columns.len() <= i + j {
                    let zero = tape.constant(0);
                    columns.push(zero);
                }
                columns[i + j] = tape.add(columns[i + j], product);
            }
        }
        debug_assert!(high.iter().rev().skip(1).all(|limb| tape.max(*limb) <= mask));
        let top = (&number.below - 1u8) >> position;
        let below = Field::power(position) + &top * &factor;
        Number { columns, below }
    }

    /// Folds until the number is an element.
    fn reduce(&self, tape: &mut Tape, number: Number) -> Number {
        let mut number = self.carry(tape, number);
        let whole = u64::from(self.form.bits) * self.count as u64;
        while number.below > self.bound {
            let position = if number.below > Field::power(whole + 48) { whole } else { self.modulus.bits() };
            number = self.fold(tape, number, position);
            number = self.carry(tape, number);
        }
        number
    }

    /// Folds what lies above the prime's power of two without carrying first, for sums of few elements.
    fn reduce_sum(&self, tape: &mut Tape, number: Number) -> Number {
        // The highest column is split before carries reach it, which they raise by less than the fold lowers it.
        let position = self.modulus.bits();
        let offset = (position - u64::from(self.form.bits) * (self.count as u64 - 1)) as u32;
        let top = number.columns[self.count - 1];
        let high = tape.shr(top, offset);
        let mut columns = number.columns;
        columns[self.count - 1] = tape.and(top, (1 << offset) - 1);
        let factor = Field::power(position) % &self.modulus;
        for (index, limb) in self.form.split(&factor, self.form.limbs(factor.bits())).into_iter().enumerate() {
            let limb = tape.constant(limb.into());
            let product = tape.mul(high, limb);
            columns[index] = tape.add(columns[index], product);
        }
        let below = self.form.join(columns.iter().map(|column| tape.max(*column))) + 1u8;
        let number = Number { columns, below };
        self.reduce(tape, number)
    }

    fn finish(&self, tape: &mut Tape, number: Number) {
        assert!(number.below <= self.bound && number.columns.len() == self.count, "an element");
        for (index, limb) in number.columns.iter().enumerate() {
            tape.output(format!("d{index}"), *limb);
        }
    }

    /// `d = a * b`. Limbs are the variables `a0..`, `b0..`, `d0..`, as in every tape here.
    pub fn mul(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let (a, b) = (self.element(&mut tape, "a"), self.element(&mut tape, "b"));
        let zero = tape.constant(0);
        let mut columns = vec![zero; 2 * self.count - 1];
        for (i, a) in a.columns.iter().enumerate() {
            for (j, b) in b.columns.iter().enumerate() {
                let product = tape.mul(*a, *b);
                columns[i + j] = tape.add(columns[i + j], product);
            }
        }
        let below = &self.bound * &self.bound;
        let product = self.reduce(&mut tape, Number { columns, below });
        self.finish(&mut tape, product);
        tape
    }

    /// `d = a * a`, with each product of two unlike limbs made once.
    pub fn square(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let a = self.element(&mut tape, "a");
        let zero = tape.constant(0);
        let mut columns = vec![zero; 2 * self.count - 1];
        for i in 0..self.count {
            for j in 0..i {
                let product = tape.mul(a.columns[i], a.columns[j]);
                columns[i + j] = tape.add(columns[i + j], product);
            }
        }
        for (at, column) in columns.iter_mut().enumerate() {
            *column = tape.add(*column, *column);
            if at % 2 == 0 {
                let product = tape.mul(a.columns[at / 2], a.columns[at / 2]);
                *column = tape.add(*column, product);
            }
        }
        let below = &self.bound * &self.bound;
        let product = self.reduce(&mut tape, Number { columns, below });
        self.finish(&mut tape, product);
        tape
    }

    /// `d = a * modifier`, where the variable `modifier` is at most [`Field::LARGEST_FACTOR`].
    pub fn scale(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let a = self.element(&mut tape, "a");
        let factor = tape.input("modifier", Field::LARGEST_FACTOR.into());
        let columns = a.columns.iter().map(|limb| tape.mul(*limb, factor)).collect();
        let product = self.reduce_sum(&mut tape, Number { columns, below: &self.bound * Field::LARGEST_FACTOR });
        self.finish(&mut tape, product);
        tape
    }

    /// What [`Field::scale`] multiplies by at most: enough for the curves' small constants.
    pub const LARGEST_FACTOR: u32 = 63;

    /// `d = a + b`.
    pub fn add(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let (a, b) = (self.element(&mut tape, "a"), self.element(&mut tape, "b"));
        let columns = a.columns.iter().zip(&b.columns).map(|(a, b)| tape.add(*a, *b)).collect();
        let sum = self.reduce_sum(&mut tape, Number { columns, below: &self.bound << 1u32 });
        self.finish(&mut tape, sum);
        tape
    }

    /// `d = a - b`.
    pub fn sub(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let (a, b) = (self.element(&mut tape, "a"), self.element(&mut tape, "b"));
        let columns: Vec<Node> = (0..self.count)
            .map(|index| {
                let bias = tape.constant(self.bias[index].into());
                let difference = tape.sub(bias, b.columns[index]);
                tape.add(a.columns[index], difference)
            })
            .collect();
        let below = &self.bound + self.form.join(self.bias.iter().map(|limb| u64::from(*limb)));
        let difference = self.reduce_sum(&mut tape, Number { columns, below });
        self.finish(&mut tape, difference);
        tape
    }

    /// `d = a`, below the prime and with whole limbs.
    pub fn freeze(&self) -> Tape {
        let mut tape = Tape::new(self.form.wide);
        let position = self.modulus.bits();
        let (power, factor) = (Field::power(position), Field::power(position) - &self.modulus);
        let mut number = self.element(&mut tape, "a");
        while number.below > power {
            let top_is_one = number.below <= &power << 1u32;
            let under = &number.below - &power + &factor;
            number = self.fold(&mut tape, number, position);
            if top_is_one {
                // Below 2^P nothing was folded; above, 2^P was taken away and the factor added.
                number.below = under.max(power.clone());
            }
            number = self.carry(&mut tape, number);
        }
        // Subtracting the prime is adding the factor and dropping 2^P.
        let raised: Vec<Node> = self
            .form
            .split(&factor, self.count)
            .into_iter()
            .zip(&number.columns)
            .map(|(limb, column)| {
                let limb = tape.constant(limb.into());
                tape.add(*column, limb)
            })
            .collect();
        let raised = self.carry(&mut tape, Number { columns: raised, below: &power + &factor });
        let offset = (position - u64::from(self.form.bits) * (self.count as u64 - 1)) as u32;
        let over = tape.shr(raised.columns[self.count - 1], offset);
        for index in 0..self.count {
            let mut reduced = raised.columns[index];
            if index + 1 == self.count {
                reduced = tape.and(reduced, (1 << offset) - 1);
            }
            let limb = tape.select(over, reduced, number.columns[index]);
            tape.output(format!("d{index}"), limb);
        }
        tape
    }

    /// Runs one of this field's tapes on a block: `out` and the operands are [`Field::count`] rows of lanes.
    pub fn run(tape: &Tape, operands: &[[u64; LANES]], out: &mut [[u32; LANES]], scratch: &mut Scratch) {
        for (out, limb) in out.iter_mut().zip(tape.run(operands, scratch)) {
            for (out, limb) in out.iter_mut().zip(limb) {
                *out = *limb as u32;
            }
        }
    }
}

trait DivCeil {
    fn div_ceil_by(&self, divisor: &BigUint) -> BigUint;
}

impl DivCeil for BigUint {
    fn div_ceil_by(&self, divisor: &BigUint) -> BigUint {
        (self + divisor - 1u8) / divisor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::Random;

    fn fields() -> Vec<Field> {
        let order_of_secp256k1 =
            BigUint::parse_bytes(b"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
        Form::ALL
            .into_iter()
            .flat_map(|form| {
                [Field::curve25519(form), Field::secp256k1(form), Field::new(form, order_of_secp256k1.clone())]
            })
            .collect()
    }

    fn operands(field: &Field, numbers: &[Vec<BigUint>]) -> Vec<[u64; LANES]> {
        let mut rows = Vec::new();
        for lanes in numbers {
            let split: Vec<_> = lanes.iter().map(|number| field.form.split(number, field.count)).collect();
            rows.extend((0..field.count).map(|limb| std::array::from_fn(|lane| u64::from(split[lane][limb]))));
        }
        rows
    }

    fn run(field: &Field, tape: &Tape, numbers: &[Vec<BigUint>]) -> Vec<BigUint> {
        let mut scratch = Scratch::default();
        let limbs: Vec<_> = tape.run(&operands(field, numbers), &mut scratch).copied().collect();
        (0..LANES).map(|lane| field.form.join(limbs.iter().map(|limb| limb[lane]))).collect()
    }

    /// Elements with the corners of their range among them.
    fn elements(field: &Field, random: &mut Random) -> Vec<BigUint> {
        let corners = [
            BigUint::from(0u8),
            BigUint::from(1u8),
            &field.modulus - 1u8,
            field.modulus.clone(),
            &field.modulus + 1u8,
            &field.bound - 1u8,
            Field::power(field.modulus.bits()) - 1u8,
            Field::power(field.modulus.bits()),
        ];
        (0..LANES)
            .map(|_| match random.below(4) {
                0 => corners[random.below(corners.len() as u64) as usize].clone(),
                _ => random.number(40) % &field.bound,
            })
            .collect()
    }

    #[test]
    fn every_operation_of_every_form_is_what_num_bigint_says() {
        let mut random = Random::new(1);
        for field in fields() {
            let p = &field.modulus;
            let tapes = [field.mul(), field.add(), field.sub()];
            for _ in 0..30 {
                let (a, b) = (elements(&field, &mut random), elements(&field, &mut random));
                let results = tapes.iter().map(|tape| run(&field, tape, &[a.clone(), b.clone()])).collect::<Vec<_>>();
                for lane in 0..LANES {
                    let (a, b) = (&a[lane], &b[lane]);
                    let expected = [a * b % p, (a + b) % p, (a + p * 2u8 - b) % p];
                    for (result, expected) in results.iter().zip(expected) {
                        assert!(result[lane] < field.bound);
                        assert_eq!(&result[lane] % p, expected, "{:?} {a} {b}", field.form);
                    }
                }
                let squares = run(&field, &field.square(), std::slice::from_ref(&a));
                assert!(
                    (0..LANES).all(|lane| squares[lane] < field.bound && &squares[lane] % p == &a[lane] * &a[lane] % p)
                );
                let factor = random.below(u64::from(Field::LARGEST_FACTOR) + 1);
                let mut inputs = operands(&field, std::slice::from_ref(&a));
                inputs.push([factor; LANES]);
                let mut scratch = Scratch::default();
                let limbs: Vec<_> = field.scale().run(&inputs, &mut scratch).copied().collect();
                for (lane, a) in a.iter().enumerate() {
                    let scaled = field.form.join(limbs.iter().map(|limb| limb[lane]));
                    assert!(scaled < field.bound && &scaled % p == a * factor % p);
                }
                let frozen = run(&field, &field.freeze(), std::slice::from_ref(&a));
                assert!((0..LANES).all(|lane| frozen[lane] == &a[lane] % p));
            }
        }
    }
}
