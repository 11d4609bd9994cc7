// Between lanes' interleaved words and plain arrays. `DIRECTION` is put before this text: a kernel each way.
//
// A workgroup does one move: `count` words of a lane from word `word` on, which lie plainly from `at` on.

const LANES = 64u;

struct Move {
    lane: u32,
    word: u32,
    count: u32,
    at: u32,
}

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> plain: array<u32>;
@group(0) @binding(2) var<storage, read> moves: array<Move>;
@group(0) @binding(3) var<storage, read> lane_words: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = group.x + group.y * groups.x;
    // The grid may be a little larger than there are moves.
    if (number >= lane_words[1]) { return; }
    let part = moves[number];
    let first = ((part.lane / LANES) * lane_words[0] + part.word) * LANES + part.lane % LANES;
    for (var at = thread; at < part.count; at += LANES) {
        if (TO_LANES) {
            words[first + at * LANES] = plain[part.at + at];
        } else {
            plain[part.at + at] = words[first + at * LANES];
        }
    }
}
