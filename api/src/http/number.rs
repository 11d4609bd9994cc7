//! Numbers as the reference's clients may write them: JavaScript's `Number(...)`.

use serde_json::{Number, Value};

/// Largest whole number JavaScript counts to without gaps: 2^53 - 1.
pub const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// `Number(text)`: NaN if it is none; empty and blank are 0.
pub fn from_text(text: &str) -> f64 {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let radix = |digits: &str, radix: u32| {
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return f64::NAN;
        }
        digits.chars().filter_map(|c| c.to_digit(radix)).fold(0.0, |sum, d| sum * f64::from(radix) + f64::from(d))
    };
    match text.get(..2) {
        Some("0x" | "0X") => return radix(&text[2..], 16),
        Some("0o" | "0O") => return radix(&text[2..], 8),
        Some("0b" | "0B") => return radix(&text[2..], 2),
        _ => {}
    }
    match text {
        "" => 0.0,
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Rust also knows `inf` and `nan`, in any case.
        _ if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')) => {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

/// `Number(value)` of a JSON value.
pub fn from_value(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(is) => f64::from(u8::from(*is)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) => from_text(text),
        Value::Array(entries) => match entries.as_slice() {
            [] => 0.0,
            [Value::Null] => 0.0,
            [one @ (Value::Number(_) | Value::String(_) | Value::Array(_))] => from_value(one),
            _ => f64::NAN,
        },
        Value::Object(_) => f64::NAN,
    }
}

/// A count or a time: fractions are dropped, negative is 0, too large the largest; `None` for NaN.
pub fn to_u64(number: f64) -> Option<u64> {
    // `as` saturates at both ends.
    if number.is_nan() { None } else { Some(number as u64) }
}

/// The shortest JSON number for `number`: whole where it is. `None` for NaN and infinities.
pub fn to_json(number: f64) -> Option<Number> {
    if number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER {
        Some(if number < 0.0 { Number::from(number as i64) } else { Number::from(number as u64) })
    } else {
        Number::from_f64(number)
    }
}

/// What JavaScript's validators call a value's type.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_numbers_where_javascript_says_so() {
        for (text, number) in [
            ("", 0.0),
            (" 12 ", 12.0),
            ("1e3", 1000.0),
            ("0x10", 16.0),
            ("0b11", 3.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-0", 0.0),
            ("Infinity", f64::INFINITY),
        ] {
            assert_eq!(from_text(text), number, "{text}");
        }
        for text in ["abc", "1_000", "inf", "nan", "0x", "--1", "1 2", "1,2", "٣", "e5"] {
            assert!(from_text(text).is_nan(), "{text}");
        }
    }

    #[test]
    fn values_are_numbers_where_javascript_says_so() {
        for (value, number) in [
            (json!(null), 0.0),
            (json!(true), 1.0),
            (json!("7"), 7.0),
            (json!([]), 0.0),
            (json!(["7"]), 7.0),
            (json!([null]), 0.0),
        ] {
            assert_eq!(from_value(&value), number, "{value}");
        }
        for value in [json!({}), json!([1, 2]), json!("x"), json!([true])] {
            assert!(from_value(&value).is_nan(), "{value}");
        }
    }

    #[test]
    fn whole_numbers_stay_whole_in_json() {
        assert_eq!(to_json(1.0).unwrap().to_string(), "1");
        assert_eq!(to_json(-1.0).unwrap().to_string(), "-1");
        assert_eq!(to_json(1.5).unwrap().to_string(), "1.5");
        assert_eq!(to_json(f64::NAN), None);
        assert_eq!(
            (to_u64(-1.0), to_u64(2.9), to_u64(f64::INFINITY), to_u64(f64::NAN)),
            (Some(0), Some(2), Some(u64::MAX), None)
        );
    }
}
