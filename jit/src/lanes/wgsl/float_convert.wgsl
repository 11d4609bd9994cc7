// Conversions between the floats of `float32.wgsl` and `float64.wgsl`, and between them and integers.

// A NaN keeps its sign and as much of its fraction, from the top, as both formats have, and is quieted.
fn f32_demote(a: Wide) -> u32 {
    let sign = wide_high(a) & F64_SIGN;
    let significand = wide_high_sticky(wide_shl(f64_significand(a), 10u));
    let finite = f32_round_pack(sign, i32(f64_field(a)) - 896, significand);
    let payload = wide_high(wide_shl(a, 3u)) & 0x7fffffu;
    let special = sign | F32_INFINITY | select(0u, F32_QUIET | payload, f64_is_nan(a));
    return select(finite, special, f64_field(a) == 0x7ffu);
}
fn f64_promote(a: u32) -> Wide {
    let sign = a & F32_SIGN;
    let parts = f32_parts(a);
    let magnitude = a & F32_MAGNITUDE;
    // Every number is exact and normal but zero. The significand's leading bit adds 1 to the exponent.
    let exponent = select(u32(parts.exponent + 895), 0u, magnitude == 0u) << 20u;
    let finite = wide(parts.significand << 21u, (parts.significand >> 11u) + exponent);
    let quiet = select(0u, F64_QUIET, magnitude > F32_INFINITY);
    let special = wide(a << 29u, F64_INFINITY | quiet | ((a & 0x7fffffu) >> 3u));
    return wide_or(wide_select(finite, special, magnitude >= F32_INFINITY), wide(0u, sign));
}

// From integers: a sign and a magnitude. The significand to round is at most 31 (63) bits long, so the magnitude's
// leading bit goes to the top and back by one, which loses nothing but what is sticky anyway.
fn f32_from_word(sign: u32, magnitude: u32) -> u32 {
    let zeros = countLeadingZeros(magnitude);
    return f32_round_pack(sign, 158 - i32(zeros), word_shr_sticky(magnitude << (zeros & 31u), 1u));
}
fn f32_from_wide(sign: u32, magnitude: Wide) -> u32 {
    let zeros = wide_clz(magnitude);
    let significand = wide_high_sticky(wide_shl(magnitude, zeros));
    return f32_round_pack(sign, 190 - i32(zeros), word_shr_sticky(significand, 1u));
}
// Every word fits without rounding. The leading bit adds 1 to the exponent.
fn f64_from_word(sign: u32, magnitude: u32) -> Wide {
    let zeros = countLeadingZeros(magnitude);
    let significand = wide_shl(wide_from(magnitude), 21u + zeros);
    let exponent = select((1053u - zeros) << 20u, 0u, magnitude == 0u);
    return wide_add(significand, wide(0u, sign | exponent));
}
fn f64_from_wide(sign: u32, magnitude: Wide) -> Wide {
    let zeros = wide_clz(magnitude);
    return f64_round_pack(sign, 1086 - i32(zeros), wide_shr_sticky(wide_shl(magnitude, zeros), 1u));
}

fn f32_from_i32_s(a: u32) -> u32 { return f32_from_word(a & F32_SIGN, abs32(a)); }
fn f32_from_i32_u(a: u32) -> u32 { return f32_from_word(0u, a); }
fn f32_from_i64_s(a: Wide) -> u32 { return f32_from_wide(wide_high(a) & F32_SIGN, wide_abs(a)); }
fn f32_from_i64_u(a: Wide) -> u32 { return f32_from_wide(0u, a); }
fn f64_from_i32_s(a: u32) -> Wide { return f64_from_word(a & F64_SIGN, abs32(a)); }
fn f64_from_i32_u(a: u32) -> Wide { return f64_from_word(0u, a); }
fn f64_from_i64_s(a: Wide) -> Wide { return f64_from_wide(wide_high(a) & F64_SIGN, wide_abs(a)); }
fn f64_from_i64_u(a: Wide) -> Wide { return f64_from_wide(0u, a); }

// Magnitudes of numbers, rounded towards zero, with all bits set where they are too large.
fn f32_to_word(a: u32) -> u32 {
    let field = (a >> 23u) & 0xffu;
    let whole = ((a << 8u) | 0x80000000u) >> ((158u - field) & 31u);
    return select(select(whole, 0u, field < 127u), 0xffffffffu, field > 158u);
}
fn f32_to_wide(a: u32) -> Wide {
    let field = (a >> 23u) & 0xffu;
    let whole = wide_shr(wide(0u, (a << 8u) | 0x80000000u), 190u - field);
    return wide_select(wide_select(whole, wide_from(0u), field < 127u), wide(0xffffffffu, 0xffffffffu), field > 190u);
}
fn f64_to_wide(a: Wide) -> Wide {
    let field = f64_field(a);
    let whole = wide_shr(wide_or(wide_shl(a, 11u), wide(0u, 0x80000000u)), 1086u - field);
    return wide_select(wide_select(whole, wide_from(0u), field < 1023u), wide(0xffffffffu, 0xffffffffu), field > 1086u);
}
fn f64_to_word(a: Wide) -> u32 {
    let whole = f64_to_wide(a);
    return select(wide_low(whole), 0xffffffffu, wide_high(whole) != 0u);
}

// Saturated to the range of the integers; a NaN gives 0.
fn word_saturated_signed(magnitude: u32, negative: bool) -> u32 {
    let limited = min(magnitude, select(0x7fffffffu, 0x80000000u, negative));
    return select(limited, 0u - limited, negative);
}
fn wide_saturated_signed(magnitude: Wide, negative: bool) -> Wide {
    let limit = wide_select(wide(0xffffffffu, 0x7fffffffu), wide(0u, 0x80000000u), negative);
    let limited = wide_select(magnitude, limit, wide_lt(limit, magnitude));
    return wide_select(limited, wide_neg(limited), negative);
}
fn i32_sat_f32_s(a: u32) -> u32 {
    return select(word_saturated_signed(f32_to_word(a), a >= F32_SIGN), 0u, f32_is_nan(a));
}
fn i32_sat_f32_u(a: u32) -> u32 { return select(f32_to_word(a), 0u, (a >= F32_SIGN) | f32_is_nan(a)); }
fn i32_sat_f64_s(a: Wide) -> u32 {
    return select(word_saturated_signed(f64_to_word(a), wide_is_negative(a)), 0u, f64_is_nan(a));
}
fn i32_sat_f64_u(a: Wide) -> u32 { return select(f64_to_word(a), 0u, wide_is_negative(a) | f64_is_nan(a)); }
fn i64_sat_f32_s(a: u32) -> Wide {
    return wide_select(wide_saturated_signed(f32_to_wide(a), a >= F32_SIGN), wide_from(0u), f32_is_nan(a));
}
fn i64_sat_f32_u(a: u32) -> Wide {
    return wide_select(f32_to_wide(a), wide_from(0u), (a >= F32_SIGN) | f32_is_nan(a));
}
fn i64_sat_f64_s(a: Wide) -> Wide {
    return wide_select(wide_saturated_signed(f64_to_wide(a), wide_is_negative(a)), wide_from(0u), f64_is_nan(a));
}
fn i64_sat_f64_u(a: Wide) -> Wide {
    return wide_select(f64_to_wide(a), wide_from(0u), wide_is_negative(a) | f64_is_nan(a));
}

// Whether a conversion that may trap does: 0 no, 1 for a NaN (invalid conversion to integer), 2 out of range (integer
// overflow). A number that passes is converted as by the saturating functions. The bounds are the least magnitudes that
// do not fit, of positive and of negative numbers: to n bits, signed, 2^(n - 1) and the first float that rounds to
// more; unsigned, 2^n and 1.
fn f32_fault(a: u32, positive: u32, negative: u32) -> u32 {
    let outside = (a & F32_MAGNITUDE) >= select(positive, negative, a >= F32_SIGN);
    return select(select(0u, 2u, outside), 1u, f32_is_nan(a));
}
fn f64_fault(a: Wide, positive: Wide, negative: Wide) -> u32 {
    let outside = !wide_lt(f64_magnitude(a), wide_select(positive, negative, wide_is_negative(a)));
    return select(select(0u, 2u, outside), 1u, f64_is_nan(a));
}
fn i32_trunc_f32_s_fault(a: u32) -> u32 { return f32_fault(a, 0x4f000000u, 0x4f000001u); }
fn i32_trunc_f32_u_fault(a: u32) -> u32 { return f32_fault(a, 0x4f800000u, F32_ONE); }
fn i64_trunc_f32_s_fault(a: u32) -> u32 { return f32_fault(a, 0x5f000000u, 0x5f000001u); }
fn i64_trunc_f32_u_fault(a: u32) -> u32 { return f32_fault(a, 0x5f800000u, F32_ONE); }
fn i32_trunc_f64_s_fault(a: Wide) -> u32 { return f64_fault(a, wide(0u, 0x41e00000u), wide(0x00200000u, 0x41e00000u)); }
fn i32_trunc_f64_u_fault(a: Wide) -> u32 { return f64_fault(a, wide(0u, 0x41f00000u), wide(0u, F64_ONE)); }
fn i64_trunc_f64_s_fault(a: Wide) -> u32 { return f64_fault(a, wide(0u, 0x43e00000u), wide(1u, 0x43e00000u)); }
fn i64_trunc_f64_u_fault(a: Wide) -> u32 { return f64_fault(a, wide(0u, 0x43f00000u), wide(0u, F64_ONE)); }
