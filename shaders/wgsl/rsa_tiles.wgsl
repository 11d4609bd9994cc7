// s^65537 mod n for one signature a lane: twin of kernels/rsa_tiles.rs.
//
// keys: for each key the modulus n (TOTAL words), R^2 mod n (TOTAL words) and -1/n modulo a tile (WORDS words).
// work: three numbers a lane, word (number * TOTAL + word) * lanes + lane: the power x, the digits q, the signature s.
// Names in @ signs are filled in by kernels/rsa_tiles.rs.

@group(0) @binding(0) var<uniform> params: vec4<u32>; // lanes
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> key_of: array<u32>;
@group(0) @binding(3) var<storage, read_write> work: array<u32>;

const WORDS = @words@u; // of a tile
const TILES = @tiles@u;
const TOTAL = TILES * WORDS;
const PAIRS = @pairs@u; // products of tiles that the sums hold between carries

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let lanes = params.x;
    let lane = id.x;
    if (lane >= lanes) {
        return;
    }
    let key = key_of[lane] * (2u * TOTAL + WORDS);
    for (var word = 0u; word < TOTAL; word++) {
        work[word * lanes + lane] = keys[key + TOTAL + word];
    }
    // x = R^2; then x = x * s / R, sixteen times x = x * x / R, and x = x * s / R, which leaves s^65537 without R.
    for (var step = 0u; step < 18u; step++) {
        let square = step != 0u && step != 17u;
        let right = select(2u * TOTAL, 0u, square);
        @clear@
        for (var column = 0u; column < 2u * TILES; column++) {
            var held = 0u;
            let first = select(0u, column - (TILES - 1u), column >= TILES);
            // Of a square, each pair of unlike tiles is taken once and doubled.
            let end = select(min(column, TILES - 1u) + 1u, column / 2u + 1u, square);
            for (var i = first; i < end; i++) {
                let doubled = u32(square && 2u * i != column);
                if (held + 2u > PAIRS) {
                    @carry@
                    held = 0u;
                }
                held += 1u + doubled;
                let a_at = (i * WORDS) * lanes + lane;
                let b_at = (right + (column - i) * WORDS) * lanes + lane;
                @load_a_doubled@
                @load_b@
                @accumulate@
            }
            for (var i = first; i < min(column, TILES); i++) {
                if (held + 2u > PAIRS) {
                    @carry@
                    held = 0u;
                }
                held += 1u;
                let a_at = (TOTAL + i * WORDS) * lanes + lane;
                let n_at = key + (column - i) * WORDS;
                @load_a@
                @load_n@
                @accumulate@
            }
            @carry@
            if (column < TILES) {
                // The digit that makes the lowest tile zero.
                let inverse_at = key + 2u * TOTAL;
                @digit@
                let n_at = key;
                @load_n@
                @accumulate_digit@
                @carry@
                let q_at = (TOTAL + column * WORDS) * lanes + lane;
                @store_q@
            } else {
                let x_at = ((column - TILES) * WORDS) * lanes + lane;
                @store_x@
            }
            @shift@
        }
    }
}
