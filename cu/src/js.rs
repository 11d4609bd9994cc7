//! JavaScript's ways with JSON and numbers, where bytes must come out as its engine writes them.

use serde_json::Value;

/// Largest integer up to which JavaScript counts exactly: 2^53 - 1.
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Appends `text` as `JSON.stringify` quotes it.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain_from = 0;
    for (at, b) in text.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            b'\t' => "\\t",
            b'\n' => "\\n",
            0x0c => "\\f",
            b'\r' => "\\r",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain_from..at]);
        plain_from = at + 1;
        if escape.is_empty() {
            out.push_str(&format!("\\u{b:04x}"));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

/// Appends a finite number as JavaScript writes it; others as `null`, as `JSON.stringify` does.
pub fn push_number(out: &mut String, number: f64) {
    if number.is_finite() {
        out.push_str(ryu_js::Buffer::new().format_finite(number));
    } else {
        out.push_str("null");
    }
}

/// Appends what `JSON.stringify(JSON.parse(text))` gives for the text that `value` was parsed from: every number a double,
/// an object's index-like keys first, in ascending order.
pub fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => push_number(out, number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut indexed: Vec<(u32, &Value)> =
                members.iter().filter_map(|(key, member)| Some((array_index(key)?, member))).collect();
            indexed.sort_by_key(|(index, _)| *index);
            let indexed = indexed.into_iter().map(|(index, member)| (index.to_string(), member));
            let named = members.iter().filter(|(key, _)| array_index(key).is_none());
            out.push('{');
            for (i, (key, member)) in indexed.chain(named.map(|(key, member)| (key.clone(), member))).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_string(out, &key);
                out.push(':');
                push_value(out, member);
            }
            out.push('}');
        }
    }
}

/// The array index that a property key is, if it is one: canonical decimal, below 2^32 - 1.
fn array_index(key: &str) -> Option<u32> {
    let canonical = key == "0" || (!key.starts_with('0') && key.bytes().all(|b| b.is_ascii_digit()));
    key.parse().ok().filter(|index| canonical && *index != u32::MAX)
}

/// `parseInt(text)` where it gives a whole number from 0 to 2^53 - 1; `None` for `NaN`, negative and larger ones.
pub fn parse_int(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(is_space);
    let text = match text.strip_prefix('-') {
        // Only `-0` is not negative.
        Some(rest) => return (leading_digits(rest)?.parse::<f64>().ok()? == 0.0).then_some(0),
        None => text.strip_prefix('+').unwrap_or(text),
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        return u64::from_str_radix(&hex[..end], 16).ok().filter(|n| *n <= SAFE_INTEGER_MAX);
    }
    leading_digits(text)?.parse().ok().filter(|n| *n <= SAFE_INTEGER_MAX)
}

fn leading_digits(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

/// `Number(text)` where it is finite.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    if text.is_empty() {
        return Some(0.0);
    }
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let whole =
                digits.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| u64::from_str_radix(digits, radix).ok());
            return whole.flatten().map(|n| n as f64);
        }
    }
    // Rust also reads "inf" and "nan", JavaScript does not.
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|n: &f64| decimal && n.is_finite())
}

/// What JavaScript trims.
pub fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{feff}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(v: &Value) -> String {
        let mut out = String::new();
        push_value(&mut out, v);
        out
    }

    #[test]
    fn strings_are_quoted_as_node_quotes_them() {
        // JSON.stringify of every ASCII control character, the quote, the backslash, DEL and two separators.
        let all: String = (0u8..0x20).map(char::from).chain("\"\\\u{7f}\u{2028}é/".chars()).collect();
        let mut out = String::new();
        push_string(&mut out, &all);
        assert_eq!(
            out,
            "\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f\\u0010\\u0011\\u0012\
             \\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f\\\"\\\\\u{7f}\u{2028}é/\""
        );
    }

    #[test]
    fn numbers_are_doubles() {
        let parsed: Value = serde_json::from_str("[1.0,12345678901234567890,1e21,1e-7,-0.0,0.1]").unwrap();
        assert_eq!(value(&parsed), "[1,12345678901234567000,1e+21,1e-7,0,0.1]");
    }

    #[test]
    fn index_like_keys_come_first_in_ascending_order() {
        let parsed: Value = serde_json::from_str(r#"{"b":1,"10":2,"9":3,"01":4,"4294967295":5,"a":6}"#).unwrap();
        assert_eq!(value(&parsed), r#"{"9":3,"10":2,"b":1,"01":4,"4294967295":5,"a":6}"#);
    }

    #[test]
    fn parse_int_reads_what_stands_in_front() {
        for (text, want) in [
            ("000001690000", Some(1_690_000)),
            ("  42px", Some(42)),
            ("+7", Some(7)),
            ("0x10", Some(16)),
            ("1e3", Some(1)),
            ("-0", Some(0)),
            ("9007199254740991", Some(SAFE_INTEGER_MAX)),
            ("9007199254740992", None),
            ("99999999999999999999999", None),
            ("-5", None),
            ("", None),
            ("abc", None),
            ("0x", None),
        ] {
            assert_eq!(parse_int(text), want, "{text:?}");
        }
    }

    #[test]
    fn number_reads_the_whole_text_or_nothing() {
        for (text, want) in [
            ("12", Some(12.0)),
            (" 1.5e3 ", Some(1500.0)),
            ("", Some(0.0)),
            ("0x1f", Some(31.0)),
            (".5", Some(0.5)),
            ("12px", None),
            ("inf", None),
            ("NaN", None),
            ("1e999", None),
            ("--1", None),
        ] {
            assert_eq!(number(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in any::<String>()) {
            let mut out = String::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!(text));
        }

        #[test]
        fn parsers_never_panic(text in any::<String>()) {
            let _ = (parse_int(&text), number(&text));
        }
    }
}
