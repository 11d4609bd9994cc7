// A machine for programs of field operations, one signature a lane: twin of kernels/curve.rs. Every lane of a dispatch
// runs the same program, so that control flow is the same for all; what differs between lanes are addresses.
//
// program: a step each, as kernels/program.rs writes it: (operation | modifier << 8, target, a, b).
// registers: element after element, WORDS words each: (register * WORDS + word) * lanes + lane.
// words: scalars and flags of each lane, word * lanes + lane, read a few bits at a time.
// table: field elements that all lanes share, WORDS words each.
// flags: after the program, 32 flags a lane.
// Names in @ signs are filled in by kernels/curve.rs.

@group(0) @binding(0) var<uniform> params: vec4<u32>; // lanes, steps
@group(0) @binding(1) var<storage, read> program: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> registers: array<u32>;
@group(0) @binding(3) var<storage, read> words: array<u32>;
@group(0) @binding(4) var<storage, read> table: array<u32>;
@group(0) @binding(5) var<storage, read_write> flags: array<u32>;

const WORDS = @words@u;

// `width` bits at `shift` of one of the lane's words, as kernels/program.rs packs them.
fn bits_at(packed: u32, lanes: u32, lane: u32) -> u32 {
    let word = words[(packed & 0xffffu) * lanes + lane];
    return (word >> ((packed >> 16u) & 31u)) & ((1u << (packed >> 24u)) - 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let lanes = params.x;
    let lane = id.x;
    if (lane >= lanes) {
        return;
    }
    var held = 0x80000000u; // flag 31 is always set
    for (var at = 0u; at < params.y; at++) {
        let step = program[at];
        let operation = step.x & 0xffu;
        let modifier = step.x >> 8u;
        if (operation >= FIRST_OF_FLAGS) {
            let a = (held >> (step.z & 31u)) & 1u;
            let b = (held >> (step.w & 31u)) & 1u;
            var flag = 0u;
            switch operation {
                case BIT: { flag = bits_at(step.w, lanes, lane); }
                case AND: { flag = a & b; }
                case OR: { flag = a | b; }
                default: { flag = a ^ b; }
            }
            held = (held & ~(1u << step.y)) | (flag << step.y);
            continue;
        }
        @declare_d@
        if (operation == TABLE) {
            let from_table = (step.z + modifier * bits_at(step.w, lanes, lane)) * WORDS;
            @load_table@
        } else {
            var register_a = step.z;
            if (operation == LOOK) {
                register_a += modifier * bits_at(step.w, lanes, lane);
            }
            let from_a = register_a * WORDS * lanes + lane;
            @load_a@
            switch operation {
                case LOOK: {
                    @copy_a@
                }
                case FREEZE: {
                    @freeze@
                    let zero = u32((@any_d@) == 0u);
                    let odd = d0 & 1u;
                    let to_zero = step.w & 31u;
                    let to_odd = (step.w >> 8u) & 31u;
                    held = (held & ~(1u << to_zero)) | (zero << to_zero);
                    held = (held & ~(1u << to_odd)) | (odd << to_odd);
                }
                case SQUARE: {
                    @square@
                }
                case SCALE: {
                    @scale@
                }
                default: {
                    let from_b = step.w * WORDS * lanes + lane;
                    @load_b@
                    switch operation {
                        case MUL: {
                            @mul@
                        }
                        case ADD: {
                            @add@
                        }
                        case SUB: {
                            @sub@
                        }
                        default: {
                            let choice = ((held >> modifier) & 1u) == 1u;
                            @select@
                        }
                    }
                }
            }
        }
        let to = step.y * WORDS * lanes + lane;
        @store_d@
    }
    flags[lane] = held;
}
