//! Strings as the loader sees them: UTF-16, read from and written to guest memory by its own rules.
//!
//! Guests pass bytes; the loader turns them into JavaScript strings and back. For valid UTF-8 that changes nothing. For
//! anything else the outcome shows (a file name, a formatted date), so the rules are followed to the letter: up to 16
//! bytes are decoded by hand, without any check, and may swallow bytes after the terminator; longer strings go through
//! the strict decoder, which puts U+FFFD for what is malformed and drops a leading byte order mark.

use std::fmt;

/// Longest string, in bytes, that the loader decodes by hand.
const DECODED_BY_HAND: usize = 16;

/// Most bytes of a guest's string that are read: guests can offer all of their memory as one. A string that is cut here
/// has more units than [`MAX_UNITS`], so that whoever uses it can tell, and refuse.
pub const MAX_STRING_BYTES: usize = 65_536;
/// Most units of a string that a use of it may allow.
pub const MAX_UNITS: usize = 16_384;

/// A JavaScript string: any sequence of 16-bit units, lone surrogates included.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JsString(Vec<u16>);

impl JsString {
    /// The NUL-terminated string at address `at` of guest memory `heap`; the end of memory ends it too, and so
    /// does [`MAX_STRING_BYTES`]. Address 0 is the empty string.
    pub fn from_guest(heap: &[u8], at: usize) -> Self {
        let Some(tail) = heap.get(at..).filter(|_| at != 0) else {
            return Self::default();
        };
        let tail = &tail[..tail.len().min(MAX_STRING_BYTES)];
        let length = tail.iter().position(|byte| *byte == 0).unwrap_or(tail.len());
        if length > DECODED_BY_HAND {
            let bytes = tail[..length].strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&tail[..length]);
            return Self(String::from_utf8_lossy(bytes).encode_utf16().collect());
        }
        Self(decode_by_hand(tail, length))
    }

    /// The string that a golden record quotes: `%xx` for bytes that are not plain. Read as from a guest, out of zeroed
    /// memory as when the records were made.
    #[cfg(test)]
    pub fn unquote(word: &str) -> Self {
        let mut bytes = vec![0];
        let mut rest = word.trim_matches('"').bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => {
                    let hex = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                    u8::from_str_radix(std::str::from_utf8(&hex).expect("ASCII"), 16).expect("hexadecimal")
                }
                byte => byte,
            });
        }
        bytes.extend([0; 4]);
        Self::from_guest(&bytes, 1)
    }

    /// The 16-bit units.
    pub fn units(&self) -> &[u16] {
        &self.0
    }

    /// Number of 16-bit units: JavaScript's `length`.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no units.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes the loader writes for this string, without a terminator.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_within(usize::MAX)
    }

    /// As [`encode`](Self::encode), but stops before the first character that would go past `room` bytes.
    pub fn encode_within(&self, room: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len().min(room));
        let mut units = self.0.iter().copied();
        while let Some(unit) = units.next() {
            let mut code = u32::from(unit);
            if (0xD800..=0xDFFF).contains(&code) {
                // Any surrogate is taken for the first of a pair, whatever follows it; nothing counts as zero.
                let low = u32::from(units.next().unwrap_or(0));
                code = (0x1_0000 + ((code & 0x3FF) << 10)) | (low & 0x3FF);
            }
            let lead = |shift: u32, mark: u32| (mark | (code >> shift)) as u8;
            let next = |shift: u32| (0x80 | ((code >> shift) & 0x3F)) as u8;
            let (buffer, count) = match code {
                0..=0x7F => ([code as u8, 0, 0, 0], 1),
                0x80..=0x7FF => ([lead(6, 0xC0), next(0), 0, 0], 2),
                0x800..=0xFFFF => ([lead(12, 0xE0), next(6), next(0), 0], 3),
                _ => ([lead(18, 0xF0), next(12), next(6), next(0)], 4),
            };
            if bytes.len() + count > room {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        bytes
    }
}

fn decode_by_hand(tail: &[u8], length: usize) -> Vec<u16> {
    let mut units = Vec::with_capacity(length);
    let mut at = 0;
    // Past the end of memory JavaScript reads `undefined`, whose bits are zero.
    let next = |at: &mut usize| {
        let byte = tail.get(*at).copied().unwrap_or(0);
        *at += 1;
        u32::from(byte)
    };
    while at < length {
        let first = next(&mut at);
        if first & 0x80 == 0 {
            units.push(first as u16);
            continue;
        }
        let second = next(&mut at) & 0x3F;
        if first & 0xE0 == 0xC0 {
            units.push(((first & 0x1F) << 6 | second) as u16);
            continue;
        }
        let third = next(&mut at) & 0x3F;
        if first & 0xF0 == 0xE0 {
            units.push(((first & 0x0F) << 12 | second << 6 | third) as u16);
            continue;
        }
        let code = (first & 0x07) << 18 | second << 12 | third << 6 | (next(&mut at) & 0x3F);
        if code < 0x1_0000 {
            units.push(code as u16);
        } else {
            let rest = code - 0x1_0000;
            units.push((0xD800 | rest >> 10) as u16);
            units.push((0xDC00 | rest & 0x3FF) as u16);
        }
    }
    units
}

impl From<&str> for JsString {
    fn from(text: &str) -> Self {
        Self(text.encode_utf16().collect())
    }
}

impl From<Vec<u16>> for JsString {
    fn from(units: Vec<u16>) -> Self {
        Self(units)
    }
}

impl PartialEq<str> for JsString {
    fn eq(&self, other: &str) -> bool {
        self.0.iter().copied().eq(other.encode_utf16())
    }
}

/// Lone surrogates show as U+FFFD.
impl fmt::Display for JsString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf16_lossy(&self.0))
    }
}

impl fmt::Debug for JsString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf16_lossy(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> JsString {
        JsString::from_guest(&[&[0xFF], bytes, &[0]].concat(), 1)
    }

    #[test]
    fn address_zero_and_addresses_past_the_end_are_empty() {
        assert!(JsString::from_guest(b"abc", 0).is_empty());
        assert!(JsString::from_guest(b"abc", 3).is_empty());
        assert!(JsString::from_guest(b"abc", usize::MAX).is_empty());
    }

    #[test]
    fn a_string_that_was_cut_is_longer_than_any_use_allows() {
        for text in ["a", "é", "€", "\u{10000}"] {
            let long = text.repeat(MAX_STRING_BYTES);
            let read = read(long.as_bytes());
            assert!(read.len() > MAX_UNITS && read.len() <= MAX_STRING_BYTES, "{text}: {} units", read.len());
        }
    }

    #[test]
    fn the_end_of_memory_ends_a_string() {
        assert_eq!(JsString::from_guest(b"-abc", 1), JsString::from("abc"));
    }

    #[test]
    fn a_short_string_swallows_what_follows_its_terminator() {
        // "\xE9" asks for two more bytes: the terminator and the byte after it.
        assert_eq!(JsString::from_guest(b"-\xE9\0\x85", 1).units(), [0x9005]);
        assert_eq!(JsString::from_guest(b"-\xE9", 1).units(), [0x9000]);
    }

    #[test]
    fn a_long_string_replaces_what_is_malformed_and_drops_a_byte_order_mark() {
        assert_eq!(read(b"0123456789abcdef\xE9"), JsString::from("0123456789abcdef\u{FFFD}"));
        assert_eq!(read(b"\xEF\xBB\xBF0123456789abcdef"), JsString::from("0123456789abcdef"));
        assert_eq!(read(b"\xEF\xBB\xBFab"), JsString::from("\u{FEFF}ab"));
    }

    #[test]
    fn a_lone_surrogate_takes_the_next_unit_with_it() {
        assert_eq!(JsString::from(vec![0xD800]).encode(), [0xF0, 0x90, 0x80, 0x80]);
        assert_eq!(JsString::from(vec![0xDC00, 0x41]).encode(), [0xF0, 0x90, 0x81, 0x81]);
    }

    #[test]
    fn encoding_stops_before_the_character_that_does_not_fit() {
        assert_eq!(JsString::from("aéb").encode_within(2), b"a");
        assert_eq!(JsString::from("aéb").encode_within(3), "aé".as_bytes());
    }

    proptest! {
        #[test]
        fn valid_text_without_nul_survives_both_ways(text in "[^\0\u{FEFF}]{0,40}") {
            let read = read(text.as_bytes());
            prop_assert_eq!(&read, &JsString::from(text.as_str()));
            prop_assert_eq!(read.encode(), text.as_bytes());
        }

        #[test]
        fn any_bytes_can_be_read_and_written(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..70) {
            JsString::from_guest(&bytes, at).encode();
        }
    }
}
