// WebAssembly's integer instructions that no shading language has as such, over the names of `wide_*.wgsl`.

fn rotl32(a: u32, n: u32) -> u32 { return (a << (n & 31u)) | (a >> ((32u - n) & 31u)); }
fn rotr32(a: u32, n: u32) -> u32 { return (a >> (n & 31u)) | (a << ((32u - n) & 31u)); }

fn wide_is_zero(a: Wide) -> bool { return (wide_low(a) | wide_high(a)) == 0u; }
fn wide_clz(a: Wide) -> u32 {
    let high = wide_high(a);
    return select(countLeadingZeros(high), 32u + countLeadingZeros(wide_low(a)), high == 0u);
}
fn wide_ctz(a: Wide) -> u32 {
    let low = wide_low(a);
    return select(countTrailingZeros(low), 32u + countTrailingZeros(wide_high(a)), low == 0u);
}
fn wide_popcnt(a: Wide) -> u32 { return countOneBits(wide_low(a)) + countOneBits(wide_high(a)); }
fn wide_rotl(a: Wide, n: u32) -> Wide { return wide_or(wide_shl(a, n), wide_shr(a, 64u - n)); }
fn wide_rotr(a: Wide, n: u32) -> Wide { return wide_or(wide_shr(a, n), wide_shl(a, 64u - n)); }
fn wide_neg(a: Wide) -> Wide { return wide_sub(wide(0u, 0u), a); }
fn wide_is_negative(a: Wide) -> bool { return wide_high(a) >= 0x80000000u; }
fn wide_abs(a: Wide) -> Wide { return wide_select(a, wide_neg(a), wide_is_negative(a)); }

// Signed division rounds towards zero; the divisor is not 0. The smallest number by -1 gives itself, remainder 0.
fn wide_div_signed(a: Wide, b: Wide) -> Wide {
    let quotient = wide_div(wide_abs(a), wide_abs(b));
    return wide_select(quotient, wide_neg(quotient), wide_is_negative(wide_xor(a, b)));
}
fn wide_rem_signed(a: Wide, b: Wide) -> Wide {
    let remainder = wide_rem(wide_abs(a), wide_abs(b));
    return wide_select(remainder, wide_neg(remainder), wide_is_negative(a));
}
fn div32_signed(a: u32, b: u32) -> u32 {
    let quotient = abs32(a) / abs32(b);
    return select(quotient, 0u - quotient, (a ^ b) >= 0x80000000u);
}
fn rem32_signed(a: u32, b: u32) -> u32 {
    let remainder = abs32(a) % abs32(b);
    return select(remainder, 0u - remainder, a >= 0x80000000u);
}
fn abs32(a: u32) -> u32 { return select(a, 0u - a, a >= 0x80000000u); }
