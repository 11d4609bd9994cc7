// IEEE 754 binary32 in integers: a float is its bits. The results are those of x86-64's scalar SSE instructions, which
// WebAssembly is compiled to there, including the bits of NaNs that WebAssembly leaves open:
//  - a NaN among the operands is the result, quieted: the first operand if it is one, else the second;
//  - a NaN made from numbers (inf - inf, 0 * inf, 0 / 0, inf / inf, the root of a negative) has its sign set.
// Devices' own floats are never used: they may flush subnormals, fuse operations, round otherwise and change NaNs.

const F32_SIGN: u32 = 0x80000000u;
const F32_MAGNITUDE: u32 = 0x7fffffffu;
const F32_INFINITY: u32 = 0x7f800000u;
const F32_QUIET: u32 = 0x00400000u;
const F32_DEFAULT_NAN: u32 = 0xffc00000u;
const F32_ONE: u32 = 0x3f800000u;
const F32_HALF: u32 = 0x3f000000u;

fn f32_is_nan(a: u32) -> bool { return (a & F32_MAGNITUDE) > F32_INFINITY; }

// What an operation on two operands, at least one of them a NaN, gives.
fn f32_nan_of(a: u32, b: u32) -> u32 { return select(b, a, f32_is_nan(a)) | F32_QUIET; }

// A finite number as significand / 2^31 * 2^(exponent - 127), the significand's top bit set even if it is subnormal.
// Zero has significand 0.
struct F32Parts { exponent: i32, significand: u32 }
fn f32_parts(a: u32) -> F32Parts {
    let field = (a >> 23u) & 0xffu;
    let shifted = ((a << 8u) & F32_MAGNITUDE) | select(0u, 0x80000000u, field != 0u);
    let zeros = countLeadingZeros(shifted);
    return F32Parts(i32(max(field, 1u)) - i32(zeros), shifted << (zeros & 31u));
}

// The float nearest to significand / 2^30 * 2^(exponent - 127), ties to even, with the sign. The significand is below
// 2^31 and may have any number of leading zeros, but if its lowest bit is sticky, at least 26 bits, unless all of it is
// below half the least float. 0 gives a zero.
fn f32_round_pack(sign: u32, exponent: i32, significand: u32) -> u32 {
    let zeros = countLeadingZeros(significand);
    let left = zeros - 1u;
    let normal = select(exponent - i32(left), 0, significand == 0u);
    // Below the normal numbers the exponent stays at its least, and the significand moves right instead.
    let placed = word_shr_sticky(significand << (left & 31u), u32(clamp(1 - normal, 0, 31)));
    let rounded = (placed + 0x3fu + ((placed >> 7u) & 1u)) >> 7u;
    // The leading bit, which subnormals lack, adds the 1 that the exponent is short of; a carry from rounding adds
    // another rightly. What goes over the top is an infinity.
    return sign | min(rounded + (u32(clamp(normal - 1, 0, 254)) << 23u), F32_INFINITY);
}

fn f32_add(a: u32, b: u32) -> u32 {
    let swapped = (a & F32_MAGNITUDE) < (b & F32_MAGNITUDE);
    let larger = select(a, b, swapped);
    let smaller = select(b, a, swapped);
    let larger_field = (larger >> 23u) & 0xffu;
    let smaller_field = (smaller >> 23u) & 0xffu;
    let exponent = max(larger_field, 1u);
    let larger_part = ((larger & 0x7fffffu) | select(0u, 0x800000u, larger_field != 0u)) << 6u;
    let smaller_part = ((smaller & 0x7fffffu) | select(0u, 0x800000u, smaller_field != 0u)) << 6u;
    let aligned = word_shr_sticky(smaller_part, min(exponent - max(smaller_field, 1u), 31u));
    let opposed = ((a ^ b) & F32_SIGN) != 0u;
    let sum = larger_part + select(aligned, 0u - aligned, opposed);
    // A sum of 0 is -0 only of two -0.
    let sign = select(larger, a & b, sum == 0u) & F32_SIGN;
    let finite = f32_round_pack(sign, i32(exponent) + 1, sum);

    let magnitude = larger & F32_MAGNITUDE;
    let cancelled = opposed & ((smaller & F32_MAGNITUDE) == F32_INFINITY);
    let infinite = select(select(larger, F32_DEFAULT_NAN, cancelled), f32_nan_of(a, b), magnitude > F32_INFINITY);
    return select(finite, infinite, magnitude >= F32_INFINITY);
}
// A NaN keeps its sign.
fn f32_sub(a: u32, b: u32) -> u32 { return f32_add(a, select(b ^ F32_SIGN, b, f32_is_nan(b))); }

fn f32_mul(a: u32, b: u32) -> u32 {
    let x = f32_parts(a);
    let y = f32_parts(b);
    let sign = (a ^ b) & F32_SIGN;
    let product = wide_high_sticky(wide_product(x.significand, y.significand >> 1u));
    let finite = f32_round_pack(sign, x.exponent + y.exponent - 126, product);

    let larger = max(a & F32_MAGNITUDE, b & F32_MAGNITUDE);
    let by_zero = min(a & F32_MAGNITUDE, b & F32_MAGNITUDE) == 0u;
    let infinite = select(sign | F32_INFINITY, F32_DEFAULT_NAN, by_zero);
    return select(select(finite, infinite, larger == F32_INFINITY), f32_nan_of(a, b), larger > F32_INFINITY);
}

fn f32_div(a: u32, b: u32) -> u32 {
    let x = f32_parts(a);
    let y = f32_parts(b);
    let sign = (a ^ b) & F32_SIGN;
    // The quotient's first 26 or 27 bits, at most 1 too small: the remainder, modulo 2^32, tells. Then it makes the
    // lowest bit sticky.
    let divisor = y.significand >> 8u;
    let estimate = word_product_high(x.significand, reciprocal(y.significand)) >> 5u;
    let rest = ((x.significand >> 8u) << 26u) - estimate * divisor;
    let quotient = select(estimate, estimate + 1u, rest >= divisor);
    let sticky = select(0u, 1u, (rest != 0u) & (rest != divisor));
    let finite = f32_round_pack(sign, x.exponent - y.exponent + 131, quotient | sticky);

    let dividend = a & F32_MAGNITUDE;
    let by = b & F32_MAGNITUDE;
    let undefined = (dividend == by) & ((by == 0u) | (by == F32_INFINITY));
    let unlimited = (dividend == F32_INFINITY) | (by == 0u);
    let number = select(select(finite, sign, by == F32_INFINITY), sign | F32_INFINITY, unlimited);
    let not_nan = select(number, F32_DEFAULT_NAN, undefined);
    return select(not_nan, f32_nan_of(a, b), max(dividend, by) > F32_INFINITY);
}

fn f32_sqrt(a: u32) -> u32 {
    let x = f32_parts(a);
    // x / 2^32 in [1/4, 1) times an even power of 2.
    let even = (x.exponent & 1) == 0;
    let radicand = select(x.significand >> 1u, x.significand, even);
    // The root's first 25 bits, at most 1 too small: what remains of the radicand, modulo 2^32, tells. The sticky bit
    // below them may be set even if nothing remains: an exact root has no 25th bit to round.
    let estimate = word_product_high(radicand, reciprocal_root(radicand)) >> 6u;
    let rest = (radicand << 18u) - estimate * estimate;
    let root = select(estimate, estimate + 1u, rest > (estimate << 1u));
    let finite = f32_round_pack(0u, ((x.exponent - 125) >> 1u) + 131, (root << 1u) | 1u);

    let own = ((a << 1u) == 0u) | (a == F32_INFINITY);
    let number = select(select(finite, F32_DEFAULT_NAN, a >= F32_SIGN), a, own);
    return select(number, a | F32_QUIET, f32_is_nan(a));
}

// Numbers' bits as signed integers in the numbers' order, -0 before +0.
fn f32_order(a: u32) -> i32 { return bitcast<i32>(a ^ (bitcast<u32>(bitcast<i32>(a) >> 31u) >> 1u)); }

// Of two NaNs the second is the result, unlike elsewhere: SSE's own minimum and maximum are not WebAssembly's, and what
// stands for them adds the first operand to the second if there is a NaN.
fn f32_min(a: u32, b: u32) -> u32 {
    let number = select(a, b, f32_order(b) < f32_order(a));
    return select(number, f32_nan_of(b, a), f32_is_nan(a) | f32_is_nan(b));
}
fn f32_max(a: u32, b: u32) -> u32 {
    let number = select(b, a, f32_order(b) < f32_order(a));
    return select(number, f32_nan_of(b, a), f32_is_nan(a) | f32_is_nan(b));
}

fn f32_eq(a: u32, b: u32) -> bool { return ((a == b) | (((a | b) << 1u) == 0u)) & !(f32_is_nan(a) | f32_is_nan(b)); }
fn f32_lt(a: u32, b: u32) -> bool {
    return (f32_order(a) < f32_order(b)) & (((a | b) << 1u) != 0u) & !(f32_is_nan(a) | f32_is_nan(b));
}
fn f32_le(a: u32, b: u32) -> bool {
    return ((f32_order(a) <= f32_order(b)) | (((a | b) << 1u) == 0u)) & !(f32_is_nan(a) | f32_is_nan(b));
}

// The integer next to a number towards zero, or where `away` says so the one away from it, unless the number is one. A
// carry from the fraction into the exponent is right: that integer is a power of 2.
fn f32_integral(a: u32, away: bool) -> u32 {
    let field = (a >> 23u) & 0xffu;
    let unit = 1u << u32(clamp(150 - i32(field), 0, 23));
    let below_one = field < 127u;
    let sign = a & F32_SIGN;
    let nearer = select(a & (0u - unit), sign, below_one);
    let farther = select((a & (0u - unit)) + unit, sign | F32_ONE, below_one);
    let integral = select(nearer, farther, away & (nearer != a));
    return integral | select(0u, F32_QUIET, f32_is_nan(a));
}
fn f32_ceil(a: u32) -> u32 { return f32_integral(a, a < F32_SIGN); }
fn f32_floor(a: u32) -> u32 { return f32_integral(a, a >= F32_SIGN); }
fn f32_trunc(a: u32) -> u32 { return f32_integral(a, false); }
fn f32_nearest(a: u32) -> u32 {
    let field = (a >> 23u) & 0xffu;
    let unit = 1u << u32(clamp(150 - i32(field), 0, 23));
    // From 1 up. A tie goes away from an odd integer. The bit that says odd is the exponent's lowest one for the
    // integer 1, and rightly set.
    let more = ((a & (unit - 1u)) << 1u) + select(0u, 1u, (a & unit) != 0u) > unit;
    return f32_integral(a, select(more, (a & F32_MAGNITUDE) > F32_HALF, field < 127u));
}
