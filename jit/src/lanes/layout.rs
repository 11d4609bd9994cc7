//! Where a lane's words lie. Mirrored by `wgsl/machine.wgsl`.

use bytemuck::{Pod, Zeroable};

/// Lanes of a tile, which is a workgroup.
pub const TILE_LANES: u32 = 64;

/// Bytes of a page of linear memory.
pub const PAGE_BYTES: u32 = 65_536;

/// Parts of linear memory whose writing is told apart: the bits of one word.
pub const GRANULES: u32 = 32;

/// Words of a row of what a lane keeps from dispatch to dispatch: each turn of the loops that bring and keep it moves one. Each word of a
/// row is a place that reaches memory, which costs every driver time to compile, and lavapipe 3 ms; but a turn chooses among all rows, and
/// a driver's time may go with the cube of their number: SwiftShader's does, and at more than a hundred it crashes.
pub const ROW_WORDS: u32 = 4;

/// The first words of a lane: what a call takes and gives, and the first of those that it keeps from dispatch to dispatch.
pub struct Header;

impl Header {
    /// Values that a call takes and gives at most.
    pub const VALUES_MAX: usize = 32;
    /// The first word that is kept.
    pub const KEPT: u32 = 2 * Self::VALUES_MAX as u32;
    /// How the lane ended; 0: it runs.
    pub const STATUS: u32 = Self::KEPT;
    /// The state to go on with.
    pub const STATE: u32 = Self::KEPT + 1;
    /// Gas charged, in two words.
    pub const GAS: u32 = Self::KEPT + 2;
    /// Size of linear memory, pages.
    pub const PAGES: u32 = Self::KEPT + 4;
    /// Granules written.
    pub const DIRTY: u32 = Self::KEPT + 5;
    /// Instructions run, in sixteens, about.
    pub const SPENT: u32 = Self::KEPT + 6;
    /// Behind the word that says how deep the call stack is.
    const GLOBALS: u32 = Self::KEPT + 8;

    /// Where a parameter or result lies.
    pub fn value(at: usize) -> u32 {
        2 * at as u32
    }

    /// Where a global lies.
    pub fn global(at: usize) -> u32 {
        Self::GLOBALS + 2 * at as u32
    }

    /// How many words it takes with so many globals. Variables of the kernel are kept behind it.
    pub fn words(globals: usize) -> u32 {
        Self::global(globals)
    }
}

/// Bytes as little-endian words, the last one filled up with zeros.
pub fn words_of(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks(4).map(|chunk| {
        let mut four = [0; 4];
        four[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(four)
    })
}

/// Most pages of a window.
pub const WINDOW_PAGES_MAX: u32 = 1 << 15;

/// The sizes of a group's lanes, as the kernel reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Shape {
    /// Words of a lane: header and what else it keeps, inbox, call stack, window and what an access at its end may touch.
    pub lane_words: u32,
    /// Where the call stack begins.
    pub stack_word: u32,
    /// Where the window begins, and the call stack ends.
    pub window_word: u32,
    /// Pages that linear memory may grow to in the window.
    pub window_pages: u32,
    /// A byte's granule is its address shifted right by this.
    pub granule_shift: u32,
    /// Instructions that a lane may run before it gives up, in sixteens, about.
    pub budget: u32,
    /// Pages that the module lets its memory grow to.
    pub pages_max: u32,
    /// Where the inbox begins: what the host says to the lane. It ends where the call stack begins.
    pub inbox_word: u32,
    /// Rows of words that are kept.
    pub kept_rows: u32,
    /// Turns of loops that a lane may make in one dispatch.
    pub turns: u32,
}

impl Shape {
    /// Lanes that keep so many rows of words, with room for `window_pages` pages of memory, `stack_words` of nested calls and `inbox_words`
    /// from the host. How long they run is for a dispatch to say.
    pub fn new(kept_rows: u32, inbox_words: u32, stack_words: u32, window_pages: u32, pages_max: u32) -> Shape {
        let inbox_word = Header::KEPT + kept_rows * ROW_WORDS;
        let stack_word = inbox_word + inbox_words;
        let window_word = stack_word + stack_words;
        assert!(window_pages <= WINDOW_PAGES_MAX, "a window's bytes are counted in 31 bits");
        // Behind the window: what an access at its end may touch, and where accesses go that may not be made.
        let window_words = window_pages * (PAGE_BYTES / 4) + 3;
        Shape {
            lane_words: window_word + window_words,
            stack_word,
            window_word,
            window_pages,
            granule_shift: granule_shift(window_pages),
            budget: 0,
            pages_max,
            inbox_word,
            kept_rows,
            turns: 0,
        }
    }

    /// Bytes of memory told apart when written.
    pub fn granule_bytes(&self) -> u32 {
        1 << self.granule_shift
    }
}

fn granule_shift(window_pages: u32) -> u32 {
    let bytes = u64::from(window_pages.max(1)) * u64::from(PAGE_BYTES);
    (bytes / u64::from(GRANULES)).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_window_has_a_granule() {
        for pages in [0, 1, 2, 3, 5, 31, 32, 33, 1000] {
            let shape = Shape::new(3, 0, 0, pages, 65_536);
            let last = (pages.max(1) * PAGE_BYTES - 1) >> shape.granule_shift;
            assert!(last < GRANULES, "{pages} pages");
            assert!(2 * (last + 1) >= GRANULES.min(last + 1), "{pages} pages");
        }
    }
}
