// 64-bit integers as pairs of words, low one first, for devices without integers of that size. The names are those of
// `wide_u64.wgsl`. Amounts of shifts are taken modulo 64.

alias Wide = vec2<u32>;

fn wide(low: u32, high: u32) -> Wide { return vec2<u32>(low, high); }
fn wide_low(a: Wide) -> u32 { return a.x; }
fn wide_high(a: Wide) -> u32 { return a.y; }
fn wide_from(a: u32) -> Wide { return vec2<u32>(a, 0u); }
fn wide_from_signed(a: u32) -> Wide { return vec2<u32>(a, bitcast<u32>(bitcast<i32>(a) >> 31u)); }

fn wide_add(a: Wide, b: Wide) -> Wide {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}
fn wide_sub(a: Wide, b: Wide) -> Wide { return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }
fn wide_and(a: Wide, b: Wide) -> Wide { return a & b; }
fn wide_or(a: Wide, b: Wide) -> Wide { return a | b; }
fn wide_xor(a: Wide, b: Wide) -> Wide { return a ^ b; }

// The whole product of two words, from those of their halves.
fn wide_product(a: u32, b: u32) -> Wide {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let first = a1 * b0 + (low >> 16u);
    let second = a0 * b1 + (first & 0xffffu);
    return vec2<u32>((second << 16u) | (low & 0xffffu), a1 * b1 + (first >> 16u) + (second >> 16u));
}
fn wide_mul(a: Wide, b: Wide) -> Wide {
    let low = wide_product(a.x, b.x);
    return vec2<u32>(low.x, low.y + a.x * b.y + a.y * b.x);
}

// A shift by 32 of a word would be by 0: what crosses between the words goes in two steps.
fn wide_shl(a: Wide, n: u32) -> Wide {
    let m = n & 31u;
    let crossed = (a.x >> 1u) >> (31u - m);
    return select(vec2<u32>(a.x << m, (a.y << m) | crossed), vec2<u32>(0u, a.x << m), (n & 32u) != 0u);
}
fn wide_shr(a: Wide, n: u32) -> Wide {
    let m = n & 31u;
    let crossed = (a.y << 1u) << (31u - m);
    return select(vec2<u32>((a.x >> m) | crossed, a.y >> m), vec2<u32>(a.y >> m, 0u), (n & 32u) != 0u);
}
fn wide_shr_signed(a: Wide, n: u32) -> Wide {
    let m = n & 31u;
    let crossed = (a.y << 1u) << (31u - m);
    let high = bitcast<u32>(bitcast<i32>(a.y) >> m);
    let sign = bitcast<u32>(bitcast<i32>(a.y) >> 31u);
    return select(vec2<u32>((a.x >> m) | crossed, high), vec2<u32>(high, sign), (n & 32u) != 0u);
}

fn wide_eq(a: Wide, b: Wide) -> bool { return (a.x == b.x) & (a.y == b.y); }
fn wide_lt(a: Wide, b: Wide) -> bool { return (a.y < b.y) | ((a.y == b.y) & (a.x < b.x)); }
fn wide_lt_signed(a: Wide, b: Wide) -> bool {
    return (bitcast<i32>(a.y) < bitcast<i32>(b.y)) | ((a.y == b.y) & (a.x < b.x));
}
fn wide_select(no: Wide, yes: Wide, which: bool) -> Wide { return select(no, yes, which); }

// Quotient and remainder by restoring division, a bit a turn; x: quotient, y: remainder. The divisor is not 0.
struct WideParts { quotient: Wide, remainder: Wide }
fn wide_parts(a: Wide, b: Wide) -> WideParts {
    if ((a.y | b.y) == 0u) {
        return WideParts(vec2<u32>(a.x / b.x, 0u), vec2<u32>(a.x % b.x, 0u));
    }
    var left = a;
    var rest = vec2<u32>(0u, 0u);
    for (var turn = 0u; turn < 64u; turn++) {
        // Of a divisor above half the range the remainder may be one bit longer than a pair.
        let longer = (rest.y >> 31u) != 0u;
        rest = vec2<u32>((rest.x << 1u) | (left.y >> 31u), (rest.y << 1u) | (rest.x >> 31u));
        left = vec2<u32>(left.x << 1u, (left.y << 1u) | (left.x >> 31u));
        if (longer | !wide_lt(rest, b)) {
            rest = wide_sub(rest, b);
            left.x |= 1u;
        }
    }
    return WideParts(left, rest);
}
fn wide_div(a: Wide, b: Wide) -> Wide { return wide_parts(a, b).quotient; }
fn wide_rem(a: Wide, b: Wide) -> Wide { return wide_parts(a, b).remainder; }
