// Gives every lane the same words: a thread for each word of a tile's lanes.

const LANES = 64u;

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read> image: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group.x + group.y * groups.x;
    let lane_words = arrayLength(&image);
    if (number * LANES + lane < arrayLength(&words)) { words[number * LANES + lane] = image[number % lane_words]; }
}
