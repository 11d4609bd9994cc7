//! ANS-104 tags: an Avro array of records `{name: string, value: string}`.
//!
//! Avro: the array is a sequence of blocks, each a zig-zag varint count followed by that many records, ended by a block of
//! count 0; a negative count is followed by the block's size in bytes. A string is a zig-zag varint length and that many
//! UTF-8 bytes.

pub use crate::tags::Tag;

/// Largest encoded tag section accepted, bytes: what the specification's own bounds (128 tags, names of 1,024 bytes, values
/// of 3,072 bytes) add up to, lengths included. The JavaScript signers stop at 4,096 bytes.
pub const TAG_BYTES_MAX: usize = 128 * (1024 + 3072 + 4) + 4;
/// Most tags accepted. Above the specification's 128, because the network's own units do not enforce it and a unit that
/// refuses what a scheduler has accepted cannot follow the schedule; 2,048 is what 4,096 bytes of empty tags can hold.
pub const TAGS_MAX: usize = 2048;

/// The value of the first tag with exactly this name.
pub fn first<'a>(tags: &'a [Tag], name: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.name == name).map(|tag| tag.value.as_str())
}

/// Why a tag section cannot be read or written. Offsets count from the section's first byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The section ends inside a number or a string.
    #[error("tag section ends at byte {at}, inside {what}")]
    Truncated {
        /// Offset of the missing byte.
        at: usize,
        /// What was being read.
        what: &'static str,
    },
    /// A varint longer than a 64-bit number.
    #[error("tag section has an overlong number at byte {at}")]
    Overlong {
        /// Offset of the number.
        at: usize,
    },
    /// A negative string length.
    #[error("tag {what} at byte {at} has the length {found}")]
    Length {
        /// Offset of the length.
        at: usize,
        /// `name` or `value`.
        what: &'static str,
        /// The length found.
        found: i64,
    },
    /// A string that is not UTF-8.
    #[error("tag {what} at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Offset of the string's first byte.
        at: usize,
        /// `name` or `value`.
        what: &'static str,
    },
    /// More than [`TAGS_MAX`] tags.
    #[error("{found} tags, more than the {TAGS_MAX} allowed")]
    TooMany {
        /// Tags found or announced.
        found: u64,
    },
    /// More than [`TAG_BYTES_MAX`] bytes.
    #[error("{found} bytes of tags, more than the {TAG_BYTES_MAX} allowed")]
    TooLong {
        /// Bytes found or announced.
        found: u64,
    },
    /// Bytes after the end of the array.
    #[error("tag section of {length} bytes has its last tag end at byte {at}")]
    Trailing {
        /// Offset after the array's end mark.
        at: usize,
        /// The section's length.
        length: usize,
    },
}

/// Encodes tags as one Avro block. No tags encode to no bytes at all, as the JavaScript signers do.
///
/// # Errors
/// [`TagError::TooMany`], [`TagError::TooLong`].
pub fn encode(tags: &[Tag]) -> Result<Vec<u8>, TagError> {
    if tags.is_empty() {
        return Ok(Vec::new());
    }
    if tags.len() > TAGS_MAX {
        return Err(TagError::TooMany { found: tags.len() as u64 });
    }
    let mut out = Vec::new();
    put_number(&mut out, tags.len());
    for tag in tags {
        for text in [&tag.name, &tag.value] {
            put_number(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    put_number(&mut out, 0);
    if out.len() > TAG_BYTES_MAX {
        return Err(TagError::TooLong { found: out.len() as u64 });
    }
    Ok(out)
}

/// Decodes a whole tag section.
///
/// # Errors
/// Any [`TagError`]; the message says at which byte.
pub fn decode(section: &[u8]) -> Result<Vec<Tag>, TagError> {
    if section.is_empty() {
        return Ok(Vec::new());
    }
    if section.len() > TAG_BYTES_MAX {
        return Err(TagError::TooLong { found: section.len() as u64 });
    }
    let mut reader = Reader { section, at: 0 };
    let mut tags = Vec::new();
    loop {
        let mut count = reader.number("the tag count")?;
        if count == 0 {
            break;
        }
        if count < 0 {
            // A block with its size in bytes, for readers that skip blocks. We never do.
            reader.number("a block size")?;
            count = count.checked_neg().unwrap_or(i64::MAX);
        }
        let announced = count.unsigned_abs().saturating_add(tags.len() as u64);
        if announced > TAGS_MAX as u64 {
            return Err(TagError::TooMany { found: announced });
        }
        for _ in 0..count {
            tags.push(Tag { name: reader.text("name")?, value: reader.text("value")? });
        }
    }
    if reader.at != section.len() {
        return Err(TagError::Trailing { at: reader.at, length: section.len() });
    }
    Ok(tags)
}

/// Non-negative lengths and counts only: zig-zag is then a doubling.
fn put_number(out: &mut Vec<u8>, number: usize) {
    let mut rest = (number as u64) << 1;
    while rest >= 0x80 {
        out.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

struct Reader<'a> {
    section: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self, what: &'static str) -> Result<i64, TagError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.section.get(self.at).ok_or(TagError::Truncated { at: self.at, what })?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(TagError::Overlong { at: start });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(TagError::Overlong { at: start })
    }

    fn text(&mut self, what: &'static str) -> Result<String, TagError> {
        let at = self.at;
        let length = self.number(what)?;
        let length = usize::try_from(length).map_err(|_| TagError::Length { at, what, found: length })?;
        let start = self.at;
        let end = start
            .checked_add(length)
            .filter(|end| *end <= self.section.len())
            .ok_or(TagError::Truncated { at: self.section.len(), what })?;
        self.at = end;
        String::from_utf8(self.section[start..end].to_vec()).map_err(|_| TagError::NotUtf8 { at: start, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_tags_are_no_bytes() {
        assert_eq!(encode(&[]).unwrap(), Vec::<u8>::new());
        assert_eq!(decode(&[]).unwrap(), Vec::new());
    }

    #[test]
    fn blocks_with_a_byte_size_and_several_blocks_are_read() {
        // count -1 (zig-zag 1), size 4, "a" = "b"; then count 1, "c" = ""; then the end.
        let section = [1, 8, 2, b'a', 2, b'b', 2, 2, b'c', 0, 0];
        assert_eq!(decode(&section).unwrap(), vec![Tag::new("a", "b"), Tag::new("c", "")]);
    }

    #[test]
    fn hostile_counts_lengths_and_ends_are_named() {
        assert_eq!(decode(&[2]), Err(TagError::Truncated { at: 1, what: "name" }));
        assert_eq!(decode(&[2, 2]), Err(TagError::Truncated { at: 2, what: "name" }));
        assert_eq!(decode(&[2, 1, 0]), Err(TagError::Length { at: 1, what: "name", found: -1 }));
        assert_eq!(decode(&[2, 2, 0xff, 0, 0]), Err(TagError::NotUtf8 { at: 2, what: "name" }));
        assert_eq!(decode(&[0, 0]), Err(TagError::Trailing { at: 1, length: 2 }));
        assert_eq!(decode(&[0xff; 11]), Err(TagError::Overlong { at: 0 }));
        // A count of i64::MIN, whose negation does not exist.
        let min = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
        assert!(matches!(decode(&min), Err(TagError::TooMany { .. })));
        assert!(matches!(decode(&[0xfe, 0xff, 0xff, 0x07]), Err(TagError::TooMany { .. })));
        assert!(matches!(decode(&vec![0; TAG_BYTES_MAX + 1]), Err(TagError::TooLong { .. })));
    }

    #[test]
    fn too_much_is_refused_when_encoding() {
        let many = vec![Tag::new("", ""); TAGS_MAX + 1];
        assert!(matches!(encode(&many), Err(TagError::TooMany { .. })));
        assert!(matches!(encode(&[Tag::new("a", "b".repeat(TAG_BYTES_MAX))]), Err(TagError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(pairs in proptest::collection::vec((".{0,70}", ".{0,200}"), 0..20)) {
            let tags: Vec<Tag> = pairs.into_iter().map(|(name, value)| Tag { name, value }).collect();
            prop_assert_eq!(decode(&encode(&tags).unwrap()).unwrap(), tags);
        }

        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
