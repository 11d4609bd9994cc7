//! Sums of many points of secp256k1, each times a random factor of 128 bits.
//!
//! By buckets, which is Pippenger's method ("On the evaluation of powers and monomials", 1980): a factor is cut into
//! digits; for one place of all factors the points are added up by digit, and the sums by digit then count by running
//! sums. Digits are signed, since a point's negative costs nothing and half of the buckets are saved. That needs no
//! carries where factors are random: any number of 128 bits is taken, and half a digit is taken off in every place.
//! k256's additions have no exceptions: points may repeat, and cancel each other.

use std::ops::RangeInclusive;

use k256::{AffinePoint, ProjectivePoint, Scalar};

/// Bits of a factor.
const BITS: u32 = 128;
/// Widths of a digit, bits. Wider ones are for more points than a batch has.
const WIDTHS: RangeInclusive<u32> = 2..=8;

/// A way to cut factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    /// Bits of a digit.
    width: u32,
    /// Half a digit in every place.
    halves: Scalar,
}

impl Buckets {
    /// The fastest way for so many points.
    pub fn of(points: usize) -> Self {
        Self::with(WIDTHS.min_by_key(|width| additions(*width, points)).expect("there are widths"))
    }

    fn with(width: u32) -> Self {
        let base = Scalar::from(1u64 << width);
        let half = Scalar::from(half(width) as u64);
        Self { width, halves: (0..places(width)).fold(Scalar::ZERO, |sum, _| sum * base + half) }
    }

    /// What a sum of so many points costs, in additions of two points.
    pub fn additions(self, points: usize) -> usize {
        additions(self.width, points)
    }

    /// What a number becomes. Different numbers become different factors.
    pub fn factor(self, number: u128) -> Scalar {
        Scalar::from(number) - self.halves
    }

    /// The sum of the points, each times the factor of its number.
    pub fn sum(self, terms: &[(AffinePoint, u128)]) -> ProjectivePoint {
        let half = half(self.width);
        let mask = (2 * half - 1) as u128;
        let mut buckets = vec![ProjectivePoint::IDENTITY; half];
        let mut sum = ProjectivePoint::IDENTITY;
        for place in (0..places(self.width) as u32).rev() {
            (0..self.width).for_each(|_| sum = sum.double());
            buckets.fill(ProjectivePoint::IDENTITY);
            for (point, number) in terms {
                let digit = (number >> (place * self.width) & mask) as usize;
                if digit > half {
                    buckets[digit - half - 1] += point;
                } else if digit < half {
                    buckets[half - digit - 1] -= point;
                }
            }
            // The last bucket as often as there are buckets, the first once.
            let mut running = ProjectivePoint::IDENTITY;
            for bucket in buckets.iter().rev() {
                running += bucket;
                sum += running;
            }
        }
        sum
    }
}

/// Half a digit. It is also the number of buckets: digits are from minus so many to one less than so many.
fn half(width: u32) -> usize {
    1 << (width - 1)
}

fn places(width: u32) -> usize {
    BITS.div_ceil(width) as usize
}

/// A doubling is two thirds of an addition.
fn additions(width: u32, points: usize) -> usize {
    places(width) * (points + 2 * half(width)) + BITS as usize * 2 / 3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn more_points_are_cut_into_wider_digits() {
        let widths = [1, 16, 256, 4096].map(|points| Buckets::of(points).width);
        assert!(widths.is_sorted() && widths[0] < widths[3], "{widths:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn a_sum_is_what_its_terms_add_up_to(
            numbers in prop::collection::vec(prop_oneof![any::<u128>(), 0..20u128, Just(u128::MAX)], 0..20)
        ) {
            // Points repeat, and are each other's negatives.
            let point = |at: usize| {
                let multiple = Scalar::from(at as u64 % 5 + 1);
                let multiple = if at.is_multiple_of(2) { multiple } else { -multiple };
                (ProjectivePoint::GENERATOR * multiple).to_affine()
            };
            let terms: Vec<_> = numbers.iter().enumerate().map(|(at, number)| (point(at), *number)).collect();
            for way in WIDTHS.map(Buckets::with) {
                let sum: ProjectivePoint =
                    terms.iter().map(|(point, number)| ProjectivePoint::from(*point) * way.factor(*number)).sum();
                prop_assert_eq!(way.sum(&terms), sum);
            }
        }
    }
}
