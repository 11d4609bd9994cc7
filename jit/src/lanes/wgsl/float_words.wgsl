// What floats of both formats are computed with: shifts that remember what they dropped, and reciprocals.
//
// Throughout the float files conditions are joined with `&` and `|`: `&&` and `||` would become branches, and all of
// this is meant to be straight code that invocations run in step.

// The high word of a product.
fn word_product_high(a: u32, b: u32) -> u32 { return wide_high(wide_product(a, b)); }

// Shifts right, by at most 31 and 63, with a sticky lowest bit: it is set if any bit was lost, so that a later rounding
// still tells a half from a little more.
fn word_shr_sticky(a: u32, n: u32) -> u32 {
    let kept = a >> n;
    return kept | select(0u, 1u, (kept << n) != a);
}
fn wide_shr_sticky(a: Wide, n: u32) -> Wide {
    let kept = wide_shr(a, n);
    return wide_or(kept, wide_from(select(1u, 0u, wide_eq(wide_shl(kept, n), a))));
}
// The high word, made sticky by the low one.
fn wide_high_sticky(a: Wide) -> u32 { return wide_high(a) | select(0u, 1u, wide_low(a) != 0u); }

// 2^63 / d for d >= 2^31, from below: short by less than 4 for every d. Newton's y (2 - x y) stays below 1 / x whatever
// y, and squares the relative error. The first y is the line nearest to 1 / x, (48 - 32 x) / 17, which is off by 1/17
// at most: three turns are enough. What they subtract is rounded up, so that the result never comes out above.
fn reciprocal(d: u32) -> u32 {
    // The first turn makes 8 bits right, for which half words do: x is coarse / 2^16, 1 / (2 x) is line / 2^16.
    let coarse = (d >> 16u) + 1u;
    let line = 92521u - ((61680u * coarse) >> 16u);
    let first = ((0xffffu - ((coarse * line) >> 16u)) * line) << 1u;
    return reciprocal_turn(d, reciprocal_turn(d, first));
}
fn reciprocal_turn(d: u32, y: u32) -> u32 {
    let product = word_product_high(d, y) + 1u;
    return y + word_product_high(y, 0u - (product << 1u));
}

// 2^31 / sqrt(x / 2^32) for x >= 2^30, from below: short by less than 4 for every x. Newton's y (3 - x y^2) / 2
// likewise stays below 1 / sqrt(x) and squares the error. The first y is the nearest line for each half of the range,
// off by 1/45.
fn reciprocal_root(x: u32) -> u32 {
    let upper = x >= 0x80000000u;
    let coarse = (x >> 16u) + 1u;
    let line = select(82845u, 58580u, upper) - ((select(75072u, 26542u, upper) * coarse) >> 16u);
    // In half words: x is coarse / 2^16, y line / 2^15, and 3 is 0x18000 / 2^15.
    let product = (coarse * (((line * line) >> 15u) + 1u)) >> 16u;
    let first = (0x17fffu - product) * line;
    return reciprocal_root_turn(x, reciprocal_root_turn(x, first));
}
fn reciprocal_root_turn(x: u32, y: u32) -> u32 {
    // x y^2 with 30 bits behind the point. Rounded up it may be a little above 1.
    let product = min(word_product_high(x, word_product_high(y, y) + 1u) + 1u, 0x40000000u);
    return y + word_product_high(y, (0x40000000u - product) << 1u);
}
