// A lane: where its words lie, how it ends, and how it reaches its linear memory. The compiler adds the states of the
// machine to `main`.
//
// Words are interleaved: word w of lane l of a tile of LANES lanes is `words[tile + w * LANES + l]`, so that lanes in step
// touch neighbouring words. A lane's words are its header (`layout.rs`), what it keeps from dispatch to dispatch
// (`lower/kept.rs`), what the host tells it, its call stack and its window: linear memory, and three words more, for an access
// at its end that is not aligned and for accesses that may not be made.

const LANES = 64u;

// Mirrors `layout::Header`.
const HEADER_STATUS = 64u;

// Mirrors `ending::Ending`.
const DONE = 1u;
const FAULT_MEMORY = 3u;
const FAULT_TABLE = 4u;
const FAULT_ENTRY_NULL = 5u;
const FAULT_ENTRY_TYPE = 6u;
const FAULT_DIVISION = 7u;
const FAULT_OVERFLOW = 8u;
const FAULT_CONVERSION = 9u;
const BAIL_BUDGET = 32u;
const BAIL_WINDOW = 33u;
const BAIL_STACK = 34u;
const BAIL_HOST = 35u;
const BAIL_ALIGNMENT = 36u;
const BAIL_DRIVER = 39u;
const BAIL_FRAME = 40u;
const BAIL_CONSTANTS = 41u;

// Mirrors `layout::Shape`.
struct Shape {
    lane_words: u32,
    stack_word: u32,
    window_word: u32,
    window_pages: u32,
    granule_shift: u32,
    budget: u32,
    pages_max: u32,
    inbox_word: u32,
    kept_rows: u32,
    turns: u32,
}

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read> tables: array<u32>;
@group(0) @binding(2) var<uniform> shape: Shape;
// Which lane runs at each place of the dispatch: a permutation.
@group(0) @binding(3) var<storage, read> order: array<u32>;

// How the lane ended; 0: it runs. What runs on after a fault changes nothing that anyone will see.
var<private> status: u32;
var<private> gas: Wide;
// Instructions so far, in sixteens, about: loops and states count theirs each time.
var<private> spent: u32;
// How much of that the lane may run. This and what else each access and turn asks for is read from the buffer once: Mesa's CPU
// driver may read a buffer lane by lane, each time anew.
var<private> budget: u32;
// Turns of loops, and states, that are left in this dispatch; below 0 it is over.
var<private> turns: i32;
var<private> memory_bytes: u32;
// A bit for each granule of memory that was written.
var<private> dirty: u32;
var<private> header: u32;
var<private> window: u32;
var<private> stack: u32;
var<private> stack_end: u32;
// As the header has them: the size of linear memory, and how many words of the call stack are taken.
var<private> pages: u32;
var<private> depth: u32;
var<private> granule_shift: u32;
// Where an access that has ended the lane goes, so that it does no harm: the words behind the window.
var<private> aside: u32;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    begin(order[(tile.x + tile.y * tiles.x) * LANES + lane]);
}

fn begin(lane: u32) {
    header = lane / LANES * shape.lane_words * LANES + lane % LANES;
    window = header + shape.window_word * LANES;
    stack_end = window;
    budget = shape.budget;
    granule_shift = shape.granule_shift;
    aside = shape.window_pages << 16u;
    turns = i32(shape.turns);
}

fn header_word(at: u32) -> u32 { return words[header + at * LANES]; }
fn set_header_word(at: u32, value: u32) { words[header + at * LANES] = value; }

// Between these two a lane runs; before the one and behind the other is what it keeps.
fn resume() {
    memory_bytes = pages << 16u;
    stack = header + (shape.stack_word + depth) * LANES;
}
fn pause() {
    pages = memory_bytes >> 16u;
    depth = (stack - header) / LANES - shape.stack_word;
}
fn kept_rows() -> u32 { return shape.kept_rows; }
// What the lane keeps is lost.
fn lose() { set_header_word(HEADER_STATUS, BAIL_DRIVER); }

fn is_running() -> bool { return status == 0u; }

// Ends the lane, unless it has ended: what came first counts. Without a branch, as everywhere here: `&&` and `||` are branches
// too, and there is a driver whose time to compile doubles with each that depends on the one before.
fn end_if(bad: bool, how: u32) {
    status = select(status, how, bad & (status == 0u));
}
fn end(how: u32) { end_if(true, how); }

// What runs on after the lane's end costs nothing.
fn charge(amount: Wide) { gas = wide_add(gas, wide_select(wide(0u, 0u), amount, status == 0u)); }

// Counts instructions against the lane's budget.
fn tick(instructions: u32) {
    turns -= 1;
    spent += (instructions + 15u) / 16u;
    end_if(spent > budget, BAIL_BUDGET);
}

// Whether a loop is left: it has come to its end, or the lane has, or the dispatch has lasted long enough. In the last case
// the lane goes on from here in the next one.
fn leaves(again: bool) -> bool { return !again | (status != 0u) | (turns < 0); }

// For behind a loop of this file: one that ends before it is over was bounded by the driver.
fn driver_left_if(early: bool) { end_if(early, BAIL_DRIVER); }

// ---- Frames of functions that may be active more than once -------------------------------------------------------------------

// Room for so many words on the call stack; where they begin. A lane that has no room has ended, and what it writes over is
// its own: frames are smaller than windows.
fn push_frame(count: u32) -> u32 {
    let at = stack;
    if (stack_end - at < count * LANES) {
        end(BAIL_STACK);
        return header;
    }
    stack = at + count * LANES;
    return at;
}
fn pop_frame(count: u32) -> u32 {
    if (status == 0u) { stack -= count * LANES; }
    return select(header, stack, status == 0u);
}
fn frame_word(frame: u32, at: u32) -> u32 { return words[frame + at * LANES]; }
fn set_frame_word(frame: u32, at: u32, value: u32) { words[frame + at * LANES] = value; }

// ---- Linear memory -----------------------------------------------------------------------------------------------------------

// The byte that an access of `size` bytes begins at. Leaving the memory ends the lane.
fn place(at: u32, offset: u32, size: u32) -> u32 {
    let room = memory_bytes - size;
    let bad = (memory_bytes < size) | (offset > room) | (at > room - offset);
    end_if(bad, FAULT_MEMORY);
    return select(at + offset, aside, bad);
}
fn place_wide(at: Wide, offset: u32, size: u32) -> u32 {
    return place(select(wide_low(at), 0xffffffffu, wide_high(at) != 0u), offset, size);
}

fn word_index(byte: u32) -> u32 { return window + (byte >> 2u) * LANES; }
fn mark(byte: u32) { dirty |= 1u << (byte >> granule_shift); }
fn aligned(byte: u32, mask: u32) -> u32 {
    let bad = (byte & mask) != 0u;
    end_if(bad, BAIL_ALIGNMENT);
    return select(byte, aside, bad);
}

fn load8(byte: u32) -> u32 { return (words[word_index(byte)] >> ((byte & 3u) * 8u)) & 0xffu; }
fn load16(byte: u32) -> u32 { return (words[word_index(aligned(byte, 1u))] >> ((byte & 2u) * 8u)) & 0xffffu; }
fn load32(byte: u32) -> u32 { return words[word_index(aligned(byte, 3u))]; }
fn load64(byte: u32) -> Wide {
    let at = word_index(aligned(byte, 3u));
    return wide(words[at], words[at + LANES]);
}

// Where nothing is said of the alignment: from two words.
fn joined(low: u32, high: u32, shift: u32) -> u32 { return (low >> shift) | ((high << 1u) << (31u - shift)); }
fn load16_any(byte: u32) -> u32 { return load32_any(byte) & 0xffffu; }
fn load32_any(byte: u32) -> u32 {
    let at = word_index(byte);
    return joined(words[at], words[at + LANES], (byte & 3u) * 8u);
}
fn load64_any(byte: u32) -> Wide {
    let at = word_index(byte);
    let middle = words[at + LANES];
    let shift = (byte & 3u) * 8u;
    // The third word holds nothing of an aligned number, and need not be there then.
    let last = words[select(at, at + 2u * LANES, shift != 0u)];
    return wide(joined(words[at], middle, shift), joined(middle, last, shift));
}

// Writes the bits of a word that are set in `mask`.
fn blend(at: u32, mask: u32, value: u32) {
    words[at] = (words[at] & ~mask) | (value & mask);
}
fn store8(byte: u32, value: u32) {
    let shift = (byte & 3u) * 8u;
    mark(byte);
    blend(word_index(byte), 0xffu << shift, value << shift);
}
fn store16(byte: u32, value: u32) {
    let shift = (aligned(byte, 1u) & 2u) * 8u;
    mark(byte);
    blend(word_index(byte), 0xffffu << shift, value << shift);
}
fn store32(byte: u32, value: u32) {
    let at = word_index(aligned(byte, 3u));
    mark(byte);
    words[at] = value;
}
fn store64(byte: u32, value: Wide) {
    let at = word_index(aligned(byte, 3u));
    mark(byte);
    mark(byte + 4u);
    words[at] = wide_low(value);
    words[at + LANES] = wide_high(value);
}
fn store16_any(byte: u32, value: u32) {
    mark(byte);
    mark(byte + 1u);
    spread(byte, 0xffffu, value);
}
fn store32_any(byte: u32, value: u32) {
    mark(byte);
    mark(byte + 3u);
    spread(byte, 0xffffffffu, value);
}
fn store64_any(byte: u32, value: Wide) {
    store32_any(byte, wide_low(value));
    store32_any(byte + 4u, wide_high(value));
}
fn spread(byte: u32, mask: u32, value: u32) {
    let at = word_index(byte);
    let shift = (byte & 3u) * 8u;
    blend(at, mask << shift, value << shift);
    let over = (mask >> 1u) >> (31u - shift);
    if (over != 0u) { blend(at + LANES, over, (value >> 1u) >> (31u - shift)); }
}

fn memory_size() -> u32 { return memory_bytes >> 16u; }
// The size before, in pages; all ones if the module allows no more.
fn memory_grow(by: u32) -> u32 {
    let before = memory_size();
    if (by > shape.pages_max - before) { return 0xffffffffu; }
    if (by > shape.window_pages - before) {
        end(BAIL_WINDOW);
        return 0xffffffffu;
    }
    memory_bytes += by << 16u;
    return before;
}

// Whether `count` bytes from `at` on are there.
fn reaches(at: u32, count: u32) -> bool { return (count <= memory_bytes) & (at <= memory_bytes - count); }
fn memory_fill(to: u32, value: u32, count: u32) {
    if (!reaches(to, count)) {
        end(FAULT_MEMORY);
        return;
    }
    let word = (value & 0xffu) * 0x01010101u;
    var at = to;
    let past = to + count;
    while (at < past) {
        let size = select(1u, 4u, ((at & 3u) == 0u) & (past - at >= 4u));
        mark(at);
        blend(word_index(at), select(0xffu << ((at & 3u) * 8u), 0xffffffffu, size == 4u), word);
        at += size;
        tick(4u);
    }
    driver_left_if(at < past);
}
fn memory_copy(to: u32, source: u32, count: u32) {
    if (!(reaches(to, count) & reaches(source, count))) {
        end(FAULT_MEMORY);
        return;
    }
    // By words where both are aligned alike; from the end where the target lies behind what it overlaps.
    let backwards = to > source;
    let alike = ((to ^ source) & 3u) == 0u;
    var done = 0u;
    while (done < count) {
        let left = count - done;
        let edge = select(to + done, to + left, backwards);
        let size = select(1u, 4u, alike & ((edge & 3u) == 0u) & (left >= 4u));
        let at = select(done, left - size, backwards);
        let mask = select(0xffu, 0xffffffffu, size == 4u);
        let shift = ((to + at) & 3u) * 8u;
        let value = words[word_index(source + at)] >> (((source + at) & 3u) * 8u);
        mark(to + at);
        blend(word_index(to + at), mask << shift, value << shift);
        done += size;
        tick(4u);
    }
    driver_left_if(done < count);
}

// Bytes that the host left for the lane, from word `from_word` of its inbox on.
fn copy_in(to: u32, from_word: u32, count: u32) {
    if (!reaches(to, count)) {
        end(FAULT_MEMORY);
        return;
    }
    var done = 0u;
    while (done < count) {
        let word = words[header + (shape.inbox_word + from_word + (done >> 2u)) * LANES];
        let size = select(1u, 4u, (((to + done) & 3u) == 0u) & ((done & 3u) == 0u) & (count - done >= 4u));
        let shift = ((to + done) & 3u) * 8u;
        mark(to + done);
        let value = (word >> ((done & 3u) * 8u)) << shift;
        blend(word_index(to + done), select(0xffu, 0xffffffffu, size == 4u) << shift, value);
        done += size;
        tick(4u);
    }
    driver_left_if(done < count);
}

// ---- What the compiler took for granted --------------------------------------------------------------------------------------

// Of a loop that keeps its frame in locals.
fn guard(bad: u32) {
    end_if(bad != 0u, BAIL_FRAME);
}

// Words from byte `start` on are what the tables' buffer says from `at` on.
fn check_constants(start: u32, count: u32, at: u32) {
    var done = 0u;
    while (done < count) {
        end_if(words[word_index(start + 4u * done)] != tables[at + done], BAIL_CONSTANTS);
        done += 1u;
        tick(4u);
    }
    driver_left_if(done < count);
}

// `count` bytes from `to` on are none of the constants.
fn guard_constants(to: u32, count: u32, start: u32, past: u32) {
    end_if((count != 0u) & (to < past) & ((to >= start) | (count > start - to)), BAIL_CONSTANTS);
}

// ---- Arithmetic that can fail ------------------------------------------------------------------------------------------------

fn checked_div32(a: u32, b: u32) -> u32 {
    end_if(b == 0u, FAULT_DIVISION);
    return a / select(b, 1u, b == 0u);
}
fn checked_rem32(a: u32, b: u32) -> u32 {
    end_if(b == 0u, FAULT_DIVISION);
    return a % select(b, 1u, b == 0u);
}
fn checked_div32_signed(a: u32, b: u32) -> u32 {
    end_if(b == 0u, FAULT_DIVISION);
    end_if((a == 0x80000000u) & (b == 0xffffffffu), FAULT_OVERFLOW);
    return div32_signed(a, select(b, 1u, b == 0u));
}
fn checked_rem32_signed(a: u32, b: u32) -> u32 {
    end_if(b == 0u, FAULT_DIVISION);
    return rem32_signed(a, select(b, 1u, b == 0u));
}
fn divisor(b: Wide) -> Wide {
    let zero = wide_is_zero(b);
    end_if(zero, FAULT_DIVISION);
    return wide_select(b, wide(1u, 0u), zero);
}
fn checked_wide_div(a: Wide, b: Wide) -> Wide { return wide_div(a, divisor(b)); }
fn checked_wide_rem(a: Wide, b: Wide) -> Wide { return wide_rem(a, divisor(b)); }
fn checked_wide_div_signed(a: Wide, b: Wide) -> Wide {
    end_if(wide_eq(a, wide(0u, 0x80000000u)) & wide_eq(b, wide(0xffffffffu, 0xffffffffu)), FAULT_OVERFLOW);
    return wide_div_signed(a, divisor(b));
}
fn checked_wide_rem_signed(a: Wide, b: Wide) -> Wide { return wide_rem_signed(a, divisor(b)); }

// What a float that is no integer's ends in: see `float_convert.wgsl`.
fn converted(fault: u32) {
    end_if(fault == 1u, FAULT_CONVERSION);
    end_if(fault == 2u, FAULT_OVERFLOW);
}

// A table's entry: (state that a call goes to, canonical type + 1); 0 where there is none.
fn table_entry(first: u32, length: u32, at: u32, type_plus_1: u32) -> u32 {
    if (at >= length) {
        end(FAULT_TABLE);
        return 0u;
    }
    let state = tables[(first + at) * 2u];
    let found = tables[(first + at) * 2u + 1u];
    if (found == 0u) {
        end(FAULT_ENTRY_NULL);
    } else if (found != type_plus_1) {
        end(FAULT_ENTRY_TYPE);
    } else if (state == 0xffffffffu) {
        end(BAIL_HOST);
    }
    return state;
}
