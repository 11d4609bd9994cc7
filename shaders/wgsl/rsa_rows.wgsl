// s^65537 mod n with a lane for each tile of a signature: twin of kernels/rsa_rows.rs.
//
// keys: for each key the modulus n (TOTAL limbs), R^2 mod n (TOTAL limbs) and -1/n modulo a tile (LIMBS limbs).
// work: two numbers a signature, limb (number * signatures + signature) * TOTAL + limb: the signature s, the power.
// Names in @ signs are filled in by kernels/rsa_rows.rs.

@group(0) @binding(0) var<uniform> params: vec4<u32>; // signatures
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> key_of: array<u32>;
@group(0) @binding(3) var<storage, read_write> work: array<u32>;

const LIMBS = @limbs@u; // of a tile
const TILES = @tiles@u; // of a number: its lanes
const TOTAL = LIMBS * TILES;
const TOGETHER = 64u / TILES; // signatures of a workgroup

// Tiles of numbers, limb (signature * LIMBS + limb) * TILES + tile: neighbours lie in different banks.
var<workgroup> power: array<u32, TOGETHER * TOTAL>;
var<workgroup> lower: array<u32, TOGETHER * TOTAL>;
var<workgroup> digit: array<u32, TOGETHER * LIMBS>;
var<workgroup> carried: array<@sum@, 128>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = local % TILES;
    let own = local / TILES;
    let signatures = params.x;
    // Lanes beyond the last signature go through it as well: all of a workgroup's meet at its barriers.
    let signature = min(group.x * TOGETHER + own, signatures - 1u);
    let key = key_of[signature] * (2u * TOTAL + LIMBS);
    let n_at = key + tile * LIMBS;
    let inverse_at = key + 2u * TOTAL;
    let s_at = signature * TOTAL + tile * LIMBS;
    let own_at = own * LIMBS * TILES;
    @load_n@
    @load_inverse@
    @power_is_square_of_r@
    // x = R^2; then x = x * s / R, sixteen times x = x * x / R, and x = x * s / R, which leaves s^65537 without R.
    for (var step = 0u; step < 18u; step++) {
        workgroupBarrier();
        @declare_b@
        if (step != 0u && step != 17u) {
            @b_is_power@
        } else {
            @b_is_s@
        }
        @clear@
        for (var row = 0u; row < TILES; row++) {
            {
                @load_a@
                @accumulate@
            }
            if (tile == 0u) {
                @digit@
            }
            workgroupBarrier();
            {
                @load_digit@
                @accumulate_digit@
            }
            @carry@
            @pass_lower@
            workgroupBarrier();
            let above = tile + 1u < TILES;
            let lower_at = own_at + select(tile, tile + 1u, above);
            @shift@
        }
        for (var turn = 0u; turn < 2u; turn++) {
            var c: @sum@;
            @settle@
            carried[64u * turn + local] = c;
            workgroupBarrier();
            if (tile > 0u) {
                t0 += carried[64u * turn + local - 1u];
            }
        }
        @store_power@
    }
    if (group.x * TOGETHER + own < signatures) {
        let to = signatures * TOTAL + s_at;
        @store_work@
    }
}
