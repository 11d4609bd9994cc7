// 64-bit integers as the device's own, where it has them (SHADER_INT64). `wide_pair.wgsl` declares the same functions over
// pairs of words: whatever is written with these names runs on both. Amounts of shifts are taken modulo 64.

alias Wide = u64;

fn wide(low: u32, high: u32) -> Wide { return (u64(high) << 32u) | u64(low); }
fn wide_low(a: Wide) -> u32 { return u32(a & 0xfffffffflu); }
fn wide_high(a: Wide) -> u32 { return u32(a >> 32u); }
fn wide_from(a: u32) -> Wide { return u64(a); }
// Not by a conversion of signed numbers: Mesa (22.3) compares what was converted so with a constant, and is wrong about most.
fn wide_from_signed(a: u32) -> Wide { return wide(a, bitcast<u32>(bitcast<i32>(a) >> 31u)); }

fn wide_add(a: Wide, b: Wide) -> Wide { return a + b; }
fn wide_sub(a: Wide, b: Wide) -> Wide { return a - b; }
fn wide_mul(a: Wide, b: Wide) -> Wide { return a * b; }
fn wide_and(a: Wide, b: Wide) -> Wide { return a & b; }
fn wide_or(a: Wide, b: Wide) -> Wide { return a | b; }
fn wide_xor(a: Wide, b: Wide) -> Wide { return a ^ b; }
fn wide_shl(a: Wide, n: u32) -> Wide { return a << (n & 63u); }
fn wide_shr(a: Wide, n: u32) -> Wide { return a >> (n & 63u); }
fn wide_shr_signed(a: Wide, n: u32) -> Wide { return bitcast<u64>(bitcast<i64>(a) >> (n & 63u)); }
fn wide_eq(a: Wide, b: Wide) -> bool { return a == b; }
fn wide_lt(a: Wide, b: Wide) -> bool { return a < b; }
fn wide_lt_signed(a: Wide, b: Wide) -> bool { return bitcast<i64>(a) < bitcast<i64>(b); }
fn wide_select(no: Wide, yes: Wide, which: bool) -> Wide { return select(no, yes, which); }

// The whole product of two words.
fn wide_product(a: u32, b: u32) -> Wide { return u64(a) * u64(b); }

// Quotient; the divisor is not 0.
fn wide_div(a: Wide, b: Wide) -> Wide { return a / b; }
fn wide_rem(a: Wide, b: Wide) -> Wide { return a % b; }
