//! Ids and their encoding.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Error;

/// Longest id accepted from outside, in characters. (Transaction ids have 43; routes of the network allow 100.)
pub const ID_CHARS_MAX: usize = 100;

/// Refuses what cannot be an id: anything but 1 to [`ID_CHARS_MAX`] characters of the base64url alphabet. Ids go into URL
/// paths and file names, so this stands before both.
///
/// # Errors
/// [`Error::Invalid`], naming `what`.
pub fn check(what: &str, id: &str) -> Result<(), Error> {
    let fits = (1..=ID_CHARS_MAX).contains(&id.len());
    if fits && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Ok(());
    }
    let shown: String = id.chars().take(48).collect();
    Err(Error::Invalid(format!("{what}: expected 1 to {ID_CHARS_MAX} characters of A-Z a-z 0-9 - _, found {shown:?}")))
}

/// Base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64 as Node's `Buffer.from(text, 'base64url')` does: both alphabets, characters of neither skipped, the end
/// at the first `=`. It never fails, so two units agree also about ids that are no base64.
pub fn decode_leniently(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for b in text.bytes() {
        let six = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_decoding_and_encoding() {
        let id = "Wd2fjXQc3mJwpQrDMNHftGrVHWi4-2zL_Q_Ev4SbLXk";
        assert_eq!(encode(&decode_leniently(id)), id);
        assert_eq!(decode_leniently(id).len(), 32);
    }

    #[test]
    fn decoding_takes_both_alphabets_skips_strangers_and_stops_at_padding() {
        assert_eq!(decode_leniently("-_+/"), decode_leniently("-_-_"));
        assert_eq!(decode_leniently("aG k="), b"hi"[..1].iter().chain(b"i").copied().collect::<Vec<u8>>());
        assert_eq!(decode_leniently("aGk=aGk="), b"hi");
        assert_eq!(decode_leniently("*"), b"");
        assert_eq!(decode_leniently("a"), b"", "six bits are no byte");
    }

    #[test]
    fn what_could_leave_a_path_is_no_id() {
        for bad in ["", "..", "a/b", "a%2fb", "é", "a b", &"x".repeat(101)] {
            assert!(matches!(check("process", bad), Err(Error::Invalid(_))), "{bad:?}");
        }
        assert!(check("process", &"x".repeat(100)).is_ok());
    }
}
