// IEEE 754 binary64 in integers, by the same rules and in the same ways as `float32.wgsl`. The constants are for the
// high word, where the sign, the exponent and the bit that makes a NaN quiet are.

const F64_SIGN: u32 = 0x80000000u;
const F64_MAGNITUDE: u32 = 0x7fffffffu;
const F64_INFINITY: u32 = 0x7ff00000u;
const F64_QUIET: u32 = 0x00080000u;
const F64_DEFAULT_NAN: u32 = 0xfff80000u;
const F64_ONE: u32 = 0x3ff00000u;
const F64_HALF: u32 = 0x3fe00000u;

fn f64_infinity() -> Wide { return wide(0u, F64_INFINITY); }
fn f64_default_nan() -> Wide { return wide(0u, F64_DEFAULT_NAN); }
fn f64_magnitude(a: Wide) -> Wide { return wide_and(a, wide(0xffffffffu, F64_MAGNITUDE)); }
fn f64_field(a: Wide) -> u32 { return (wide_high(a) >> 20u) & 0x7ffu; }
fn f64_is_nan(a: Wide) -> bool { return wide_lt(f64_infinity(), f64_magnitude(a)); }
fn f64_quieted(a: Wide) -> Wide { return wide_or(a, wide(0u, F64_QUIET)); }

// What an operation on two operands, at least one of them a NaN, gives.
fn f64_nan_of(a: Wide, b: Wide) -> Wide { return f64_quieted(wide_select(b, a, f64_is_nan(a))); }

// The significand's 53 bits, the leading one included where the number is normal.
fn f64_significand(a: Wide) -> Wide {
    let leading = select(0u, 0x100000u, f64_field(a) != 0u);
    return wide(wide_low(a), (wide_high(a) & 0xfffffu) | leading);
}

// A finite number as significand / 2^63 * 2^(exponent - 1023), the significand's top bit set even if it is subnormal.
// Zero has significand 0.
struct F64Parts { exponent: i32, significand: Wide }
fn f64_parts(a: Wide) -> F64Parts {
    let shifted = wide_shl(f64_significand(a), 11u);
    let zeros = wide_clz(shifted);
    return F64Parts(i32(max(f64_field(a), 1u)) - i32(zeros), wide_shl(shifted, zeros));
}

// The float nearest to significand / 2^62 * 2^(exponent - 1023), ties to even, with the sign. The significand is below
// 2^63 and may have any number of leading zeros, but at least 55 bits if its lowest one is sticky. 0 gives a zero.
fn f64_round_pack(sign: u32, exponent: i32, significand: Wide) -> Wide {
    // As in `f32_round_pack`.
    let left = wide_clz(significand) - 1u;
    let normal = select(exponent - i32(left), 0, left == 63u);
    let placed = wide_shr_sticky(wide_shl(significand, left), u32(clamp(1 - normal, 0, 63)));
    let rounded = wide_shr(wide_add(placed, wide_from(0x1ffu + ((wide_low(placed) >> 10u) & 1u))), 10u);
    let high = wide_high(rounded) + (u32(clamp(normal - 1, 0, 2046)) << 20u);
    let finite = high < F64_INFINITY;
    return wide(select(0u, wide_low(rounded), finite), sign | min(high, F64_INFINITY));
}

fn f64_add(a: Wide, b: Wide) -> Wide {
    let swapped = wide_lt(f64_magnitude(a), f64_magnitude(b));
    let larger = wide_select(a, b, swapped);
    let smaller = wide_select(b, a, swapped);
    let exponent = max(f64_field(larger), 1u);
    let distance = min(exponent - max(f64_field(smaller), 1u), 63u);
    let aligned = wide_shr_sticky(wide_shl(f64_significand(smaller), 9u), distance);
    let opposed = ((wide_high(a) ^ wide_high(b)) & F64_SIGN) != 0u;
    let sum = wide_add(wide_shl(f64_significand(larger), 9u), wide_select(aligned, wide_neg(aligned), opposed));
    // A sum of 0 is -0 only of two -0.
    let sign = select(wide_high(larger), wide_high(a) & wide_high(b), wide_is_zero(sum)) & F64_SIGN;
    let finite = f64_round_pack(sign, i32(exponent) + 1, sum);

    let cancelled = opposed & wide_eq(f64_magnitude(smaller), f64_infinity());
    let infinite = wide_select(larger, f64_default_nan(), cancelled);
    let special = wide_select(infinite, f64_nan_of(a, b), f64_is_nan(larger));
    return wide_select(finite, special, f64_field(larger) == 0x7ffu);
}
// A NaN keeps its sign.
fn f64_sub(a: Wide, b: Wide) -> Wide {
    return f64_add(a, wide_xor(b, wide(0u, select(F64_SIGN, 0u, f64_is_nan(b)))));
}

// The high half of a product of 128 bits, the low half only sticky.
fn wide_product_high_sticky(a: Wide, b: Wide) -> Wide {
    let low = wide_product(wide_low(a), wide_low(b));
    let middle = wide_add(wide_product(wide_high(a), wide_low(b)), wide_from(wide_high(low)));
    let other = wide_add(wide_product(wide_low(a), wide_high(b)), wide_from(wide_low(middle)));
    let carried = wide_add(wide_from(wide_high(middle)), wide_from(wide_high(other)));
    let high = wide_add(wide_product(wide_high(a), wide_high(b)), carried);
    return wide_or(high, wide_from(select(0u, 1u, (wide_low(low) | wide_low(other)) != 0u)));
}

fn f64_mul(a: Wide, b: Wide) -> Wide {
    let x = f64_parts(a);
    let y = f64_parts(b);
    let sign = (wide_high(a) ^ wide_high(b)) & F64_SIGN;
    let product = wide_product_high_sticky(x.significand, wide_shr(y.significand, 1u));
    let finite = f64_round_pack(sign, x.exponent + y.exponent - 1022, product);

    let by_zero = wide_is_zero(f64_magnitude(a)) | wide_is_zero(f64_magnitude(b));
    let infinite = wide_select(wide(0u, sign | F64_INFINITY), f64_default_nan(), by_zero);
    let not_nan = wide_select(finite, infinite, max(f64_field(a), f64_field(b)) == 0x7ffu);
    return wide_select(not_nan, f64_nan_of(a, b), f64_is_nan(a) | f64_is_nan(b));
}

fn f64_div(a: Wide, b: Wide) -> Wide {
    let x = f64_parts(a);
    let y = f64_parts(b);
    let sign = (wide_high(a) ^ wide_high(b)) & F64_SIGN;
    // Long division, digits of 28 and 27 bits. Estimated from the high words they are never too large, since the
    // inverse of the divisor's high word is lowered by what the low one can make of it, and too small by less than 2.
    // So remainders, which are computed modulo 2^64, are below twice the divisor: the second digit gets long enough to
    // make up for what the first one lacks, and the last remainder says whether 1 is missing.
    let inverse = reciprocal(wide_high(y.significand)) - 2u;
    let divisor = wide_shr(y.significand, 11u);
    let first = word_product_high(wide_high(x.significand), inverse) >> 3u;
    let middle = wide_sub(wide_shl(x.significand, 17u), wide_mul(divisor, wide_from(first)));
    let second = word_product_high(wide_high(wide_shl(middle, 10u)), inverse) >> 3u;
    let rest = wide_sub(wide_shl(middle, 27u), wide_mul(divisor, wide_from(second)));
    let short = !wide_lt(rest, divisor);
    let quotient = wide_add(wide_shl(wide_from(first), 27u), wide_from(second + select(0u, 1u, short)));
    let sticky = select(1u, 0u, wide_is_zero(rest) | wide_eq(rest, divisor));
    let finite = f64_round_pack(sign, x.exponent - y.exponent + 1030, wide_or(quotient, wide_from(sticky)));

    let dividend_infinite = f64_field(a) == 0x7ffu;
    let infinite = f64_field(b) == 0x7ffu;
    let dividend_zero = wide_is_zero(f64_magnitude(a));
    let zero = wide_is_zero(f64_magnitude(b));
    let undefined = (dividend_infinite & infinite) | (dividend_zero & zero);
    let number = wide_select(finite, wide(0u, sign), infinite);
    let limit = wide(0u, select(sign | F64_INFINITY, F64_DEFAULT_NAN, undefined));
    let not_nan = wide_select(number, limit, undefined | dividend_infinite | zero);
    return wide_select(not_nan, f64_nan_of(a, b), f64_is_nan(a) | f64_is_nan(b));
}

fn f64_sqrt(a: Wide) -> Wide {
    let x = f64_parts(a);
    // x / 2^64 in [1/4, 1) times an even power of 2.
    let radicand = wide_shr(x.significand, u32(x.exponent & 1));
    // 31 bits of the root come from the inverse of the root of the high word, 24 more from what remains, by (x - s^2) /
    // (2 s). That is too large by the square of what is missing, less than 1/4, so 1/4 is taken off: 2 before the last
    // three bits are dropped. The sum is at most 1 too small.
    let inverse = reciprocal_root(wide_high(radicand));
    let first = word_product_high(wide_high(radicand), inverse);
    let middle = wide_sub(radicand, wide_shl(wide_product(first, first), 2u));
    let second = (max(word_product_high(wide_low(wide_shr(middle, 6u)), inverse), 2u) - 2u) >> 3u;
    let estimate = wide_add(wide_shl(wide_from(first), 24u), wide_from(second));
    // Modulo 2^64, as the remainders of division. The lowest bit may be set as in `f32_sqrt`.
    let rest = wide_sub(wide_shl(radicand, 46u), wide_mul(estimate, estimate));
    let root = wide_add(estimate, wide_from(select(0u, 1u, wide_lt(wide_shl(estimate, 1u), rest))));
    let finite = f64_round_pack(0u, ((x.exponent - 1021) >> 1u) + 1030, wide_or(root, wide_from(1u)));

    let own = wide_is_zero(f64_magnitude(a)) | wide_eq(a, f64_infinity());
    let number = wide_select(finite, f64_default_nan(), wide_is_negative(a));
    return wide_select(wide_select(number, a, own), f64_quieted(a), f64_is_nan(a));
}

// Numbers' bits as signed integers in the numbers' order, -0 before +0.
fn f64_order(a: Wide) -> Wide {
    let all = bitcast<u32>(bitcast<i32>(wide_high(a)) >> 31u);
    return wide_xor(a, wide(all, all >> 1u));
}

// Of two NaNs the second is the result, as in `f32_min`.
fn f64_min(a: Wide, b: Wide) -> Wide {
    let number = wide_select(a, b, wide_lt_signed(f64_order(b), f64_order(a)));
    return wide_select(number, f64_nan_of(b, a), f64_is_nan(a) | f64_is_nan(b));
}
fn f64_max(a: Wide, b: Wide) -> Wide {
    let number = wide_select(b, a, wide_lt_signed(f64_order(b), f64_order(a)));
    return wide_select(number, f64_nan_of(b, a), f64_is_nan(a) | f64_is_nan(b));
}

fn f64_both_zero(a: Wide, b: Wide) -> bool { return wide_is_zero(f64_magnitude(wide_or(a, b))); }
fn f64_eq(a: Wide, b: Wide) -> bool {
    return (wide_eq(a, b) | f64_both_zero(a, b)) & !(f64_is_nan(a) | f64_is_nan(b));
}
fn f64_lt(a: Wide, b: Wide) -> bool {
    return wide_lt_signed(f64_order(a), f64_order(b)) & !(f64_both_zero(a, b) | f64_is_nan(a) | f64_is_nan(b));
}
fn f64_le(a: Wide, b: Wide) -> bool {
    let ordered = !wide_lt_signed(f64_order(b), f64_order(a)) | f64_both_zero(a, b);
    return ordered & !(f64_is_nan(a) | f64_is_nan(b));
}

// The place of the integers' lowest bit, and rounding to them as in `f32_integral`.
fn f64_unit(a: Wide) -> Wide { return wide_shl(wide_from(1u), u32(clamp(1075 - i32(f64_field(a)), 0, 52))); }
fn f64_integral(a: Wide, away: bool) -> Wide {
    let unit = f64_unit(a);
    let below_one = f64_field(a) < 1023u;
    let sign = wide_high(a) & F64_SIGN;
    let cleared = wide_and(a, wide_neg(unit));
    let nearer = wide_select(cleared, wide(0u, sign), below_one);
    let farther = wide_select(wide_add(cleared, unit), wide(0u, sign | F64_ONE), below_one);
    let integral = wide_select(nearer, farther, away & !wide_eq(nearer, a));
    return wide_or(integral, wide(0u, select(0u, F64_QUIET, f64_is_nan(a))));
}
fn f64_ceil(a: Wide) -> Wide { return f64_integral(a, !wide_is_negative(a)); }
fn f64_floor(a: Wide) -> Wide { return f64_integral(a, wide_is_negative(a)); }
fn f64_trunc(a: Wide) -> Wide { return f64_integral(a, false); }
fn f64_nearest(a: Wide) -> Wide {
    let unit = f64_unit(a);
    // As in `f32_nearest`.
    let odd = select(1u, 0u, wide_is_zero(wide_and(a, unit)));
    let twice = wide_shl(wide_and(a, wide_sub(unit, wide_from(1u))), 1u);
    let more = wide_lt(unit, wide_add(twice, wide_from(odd)));
    let above_half = wide_lt(wide(0u, F64_HALF), f64_magnitude(a));
    return f64_integral(a, select(more, above_half, f64_field(a) < 1023u));
}
