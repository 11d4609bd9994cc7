//! What `stat` tells, and how each format lays it out in guest memory.

use super::{
    Glue,
    error::{Abort, FilesResult},
};

/// Largest distance from the epoch, in milliseconds, that a JavaScript date can hold.
const MAX_DATE_MS: f64 = 8.64e15;
const BLOCK_BYTES: u64 = 4096;

/// The attributes of a node. Owner and group are always 0, the number of links always 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stat {
    /// 1, or the inode for a device.
    pub dev: u32,
    /// Inode number.
    pub ino: u32,
    /// Type and permission bits.
    pub mode: i32,
    /// Device number: `major << 8 | minor`.
    pub rdev: i32,
    /// Bytes in a file; 4096 for a directory, the target's length for a link, 0 for a device.
    pub size: u64,
    /// Milliseconds since 1970, for all three times; any number, since guests can set it.
    pub timestamp: f64,
}

impl Stat {
    /// Bytes that the structure takes in guest memory.
    pub fn bytes(glue: Glue) -> usize {
        match glue {
            Glue::Emscripten2 => 88,
            Glue::Emscripten3 | Glue::Emscripten4 => 96,
            Glue::Wasm64 => 104,
        }
    }

    /// Writes the structure as the loader does: padding keeps what was there.
    ///
    /// `out` must be at least [`Stat::bytes`] long.
    ///
    /// # Errors
    /// Aborts in the 64-bit format if the time is no date (the loader cannot make an integer of it).
    pub fn store(&self, glue: Glue, out: &mut [u8]) -> FilesResult<()> {
        let blocks = self.size.div_ceil(BLOCK_BYTES) as i32;
        let size = self.size;
        let mut put4 = |at: usize, value: i32| out[at..at + 4].copy_from_slice(&value.to_le_bytes());
        if glue == Glue::Emscripten2 {
            let seconds = to_int32(date_value(self.timestamp) / 1e3);
            let fields = [
                (0, self.dev as i32),
                (4, 0),
                (8, self.ino as i32),
                (12, self.mode),
                (16, 1),
                (20, 0),
                (24, 0),
                (28, self.rdev),
                (32, 0),
                (40, size as i32),
                (44, (size >> 32) as i32),
                (48, BLOCK_BYTES as i32),
                (52, blocks),
                (56, seconds),
                (60, 0),
                (64, seconds),
                (68, 0),
                (72, seconds),
                (76, 0),
                (80, self.ino as i32),
                (84, 0),
            ];
            fields.into_iter().for_each(|(at, value)| put4(at, value));
            return Ok(());
        }
        let wide = glue == Glue::Wasm64;
        let ms = date_value(self.timestamp);
        if wide && ms.is_nan() {
            return Err(Abort::because("a file's time is no date"));
        }
        // The loader takes the rest of the milliseconds for microseconds and stores them as nanoseconds.
        let seconds = (ms / 1e3).floor();
        let rest = ms % 1e3 * 1e3;
        put4(0, self.dev as i32);
        put4(4, self.mode);
        put4(8, 1);
        // The 64-bit format widens the number of links, and the rest moves up.
        let base = if wide {
            put4(12, 0);
            16
        } else {
            12
        };
        put4(base, 0);
        put4(base + 4, 0);
        put4(base + 8, self.rdev);
        let size_at = if wide { 32 } else { 24 };
        put4(size_at, size as i32);
        put4(size_at + 4, (size >> 32) as i32);
        put4(size_at + 8, BLOCK_BYTES as i32);
        put4(size_at + 12, blocks);
        for time_at in [16, 32, 48].map(|offset| size_at + offset) {
            // NaN stores as zero; what is left of the milliseconds may be negative.
            put4(time_at, seconds as i64 as i32);
            put4(time_at + 4, (seconds as i64 >> 32) as i32);
            put4(time_at + 8, to_int32(rest));
            if wide {
                put4(time_at + 12, (rest as i64 >> 32) as i32);
            }
        }
        let ino_at = size_at + 64;
        put4(ino_at, self.ino as i32);
        put4(ino_at + 4, 0);
        Ok(())
    }
}

/// The milliseconds that a JavaScript date made from `ms` holds: whole, in range, or not a number.
fn date_value(ms: f64) -> f64 {
    if ms.abs() <= MAX_DATE_MS { ms.trunc() } else { f64::NAN }
}

/// JavaScript's conversion to a 32-bit integer: truncate, keep the low 32 bits; what is not finite gives 0.
fn to_int32(value: f64) -> i32 {
    // All numbers here are below 2^63, so the first cast loses nothing but the fraction.
    value as i64 as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: Stat = Stat { dev: 1, ino: 21, mode: 0o100_644, rdev: 0, size: 5_000, timestamp: 1_700_000_000_123.0 };

    fn stored(stat: Stat, glue: Glue) -> Vec<u8> {
        let mut bytes = vec![0xAA; Stat::bytes(glue)];
        stat.store(glue, &mut bytes).expect("a date");
        bytes
    }

    #[test]
    fn padding_keeps_what_was_there() {
        let padding = |glue| {
            let bytes = stored(STAT, glue);
            (0..bytes.len()).filter(|at| bytes[*at] == 0xAA).collect::<Vec<_>>()
        };
        assert_eq!(padding(Glue::Emscripten2), (36..40).collect::<Vec<_>>());
        assert_eq!(padding(Glue::Emscripten3), [52..56, 68..72, 84..88].into_iter().flatten().collect::<Vec<_>>());
        assert_eq!(padding(Glue::Wasm64), (28..32).collect::<Vec<_>>());
    }

    #[test]
    fn a_time_that_is_no_date_is_zero_in_32_bits_and_the_end_in_64() {
        let stat = Stat { timestamp: f64::NAN, ..STAT };
        assert_eq!(stored(stat, Glue::Emscripten4)[40..52], [0; 12]);
        assert!(stat.store(Glue::Wasm64, &mut [0; 104]).is_err());
    }
}
