//! JSON as JavaScript has it: what `JSON.stringify(JSON.parse(text))` gives.
//!
//! The reference passes every result through V8 twice, which changes more than white space: members whose names are
//! array indices come first in ascending order, a repeated name keeps its first place and its last value, and numbers
//! are doubles printed the ECMAScript way. Results must be equal byte for byte, so ours go through the same.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Deepest nesting accepted in a guest's response.
pub const DEPTH_MAX: usize = 2_000;

/// Why a text is not JSON that Lockstep can hold.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
}

/// Parses as `JSON.parse` does. A lone surrogate escape, which no UTF-8 text can hold, becomes U+FFFD.
///
/// # Errors
/// [`ParseError`] if `text` is not JSON or nests too deep.
pub fn parse(text: &str) -> Result<Value, ParseError> {
    let mended = mend_surrogates(text)?;
    let text = mended.as_deref().unwrap_or(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    let mut value = serde::Deserialize::deserialize(&mut deserializer)?;
    deserializer.end()?;
    normalise(&mut value);
    Ok(value)
}

/// Prints as `JSON.stringify` does; the value's members are taken to be in JavaScript's order already (see [`parse`]).
pub fn to_js_string(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

/// JavaScript's truth: everything but `false`, `null`, `0` and `""`.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64().is_some_and(|n| n != 0.0 && !n.is_nan()),
        Value::String(s) => !s.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// Checks the depth, and replaces escapes of lone surrogates. `None` if nothing had to be replaced.
fn mend_surrogates(text: &str) -> Result<Option<String>, ParseError> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut in_string = false;
    let mut mended: Option<String> = None;
    let mut copied = 0;
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(ParseError::TooDeep);
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            b'\\' if in_string => {
                match escaped_unit(bytes, i) {
                    Some(0xD800..=0xDBFF) if matches!(escaped_unit(bytes, i + 6), Some(0xDC00..=0xDFFF)) => i += 11,
                    Some(0xD800..=0xDFFF) => {
                        let out = mended.get_or_insert_default();
                        out.push_str(&text[copied..i]);
                        out.push_str("\\ufffd");
                        i += 5;
                        copied = i + 1;
                    }
                    _ => i += 1,
                };
            }
            _ => {}
        }
        i += 1;
    }
    Ok(mended.map(|mut out| {
        out.push_str(&text[copied.min(text.len())..]);
        out
    }))
}

/// The code unit of a `\uXXXX` escape that begins at `at`.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))
}

fn normalise(value: &mut Value) {
    match value {
        Value::Number(n) => normalise_number(n),
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(members) => {
            members.values_mut().for_each(normalise);
            if members.keys().any(|k| array_index(k).is_some()) {
                let (mut indexed, named): (Vec<_>, Vec<_>) =
                    std::mem::take(members).into_iter().partition(|(k, _)| array_index(k).is_some());
                indexed.sort_by_key(|(k, _)| array_index(k));
                *members = Map::from_iter(indexed.into_iter().chain(named));
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The canonical array index that a member name spells (`"0"`, `"17"`; not `"01"`, not `"4294967295"`).
fn array_index(name: &str) -> Option<u32> {
    let canonical = !name.is_empty() && name.len() <= 10 && (name == "0" || !name.starts_with('0'));
    if !canonical || !name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    name.parse().ok().filter(|i| *i != u32::MAX)
}

/// Makes a number the double JavaScript would hold; whole ones within 2^53 stay integers here.
fn normalise_number(n: &mut Number) {
    const SAFE: f64 = 9_007_199_254_740_992.0;
    let Some(double) = n.as_f64() else { return };
    if double.fract() == 0.0 && double.abs() <= SAFE {
        *n = Number::from(double as i64);
    } else if let Some(double) = Number::from_f64(double) {
        *n = double;
    }
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(n) => write_number(out, n),
        Value::String(s) => write_string(out, s),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (name, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_value(out, member);
            }
            out.push('}');
        }
    }
}

fn write_number(out: &mut String, n: &Number) {
    match (n.as_i64(), n.as_f64()) {
        (Some(i), _) if i.unsigned_abs() <= 1 << 53 => {
            let _ = fmt::Write::write_fmt(out, format_args!("{i}"));
        }
        // JSON.parse makes an overflowing literal infinite, and JSON.stringify prints that as null.
        (_, Some(f)) if !f.is_finite() => out.push_str("null"),
        (_, Some(f)) => out.push_str(ryu_js::Buffer::new().format(f)),
        (_, None) => out.push_str("null"),
    }
}

/// serde_json escapes exactly what `JSON.stringify` does: quote, backslash and the control characters, with the same
/// short forms and lower-case hex.
fn write_string(out: &mut String, s: &str) {
    out.push_str(&serde_json::to_string(s).expect("a string always serialises"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        to_js_string(&parse(text).expect("JSON"))
    }

    #[test]
    fn index_like_names_come_first_in_ascending_order() {
        assert_eq!(
            round(r#"{"b":1,"10":2,"2":3,"01":4,"a":5,"4294967295":6}"#),
            r#"{"2":3,"10":2,"b":1,"01":4,"a":5,"4294967295":6}"#
        );
    }

    #[test]
    fn a_repeated_name_keeps_its_first_place_and_last_value() {
        assert_eq!(round(r#"{"a":1,"b":2,"a":3}"#), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn numbers_print_as_ecmascript_prints_doubles() {
        for (given, wanted) in [
            ("1.0", "1"),
            ("-0", "0"),
            ("1e21", "1e+21"),
            ("123456789012345680000", "123456789012345680000"),
            ("12345678901234567890", "12345678901234567000"),
            ("0.1", "0.1"),
            ("1e-7", "1e-7"),
            ("9007199254740993", "9007199254740992"),
            ("3.141592653589793", "3.141592653589793"),
        ] {
            assert_eq!(round(given), wanted);
        }
    }

    #[test]
    fn a_lone_surrogate_becomes_the_replacement_character_and_a_pair_survives() {
        assert_eq!(round(r#"["\ud800x","\ud83d\ude00","\\ud800"]"#), "[\"\u{fffd}x\",\"\u{1f600}\",\"\\\\ud800\"]");
    }

    #[test]
    fn nesting_beyond_the_bound_is_an_error_and_not_a_stack_overflow() {
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(&deep), Err(ParseError::TooDeep)));
        let fine = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert_eq!(round(&fine), fine);
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn printing_is_stable(text in r#"[\[\]{}":,0-9.eE+a-d\\u-]{0,40}"#) {
            if let Ok(value) = parse(&text) {
                let once = to_js_string(&value);
                proptest::prop_assert_eq!(&once, &round(&once));
            }
        }
    }
}
