//! The JSON of results, pages and cursors, as the reference writes it: fixed key order, defaults filled in.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use lockstep_cu::unit::{Cursor, Edge, Page, Sort};
use lockstep_jit::{Outcome, json::to_js_string as js};
use serde_json::Value;

use crate::http::number::{from_value, to_u64};

/// Base64 as clients may send it: standard alphabet, padded or not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether a result is shown whole, or as a page's node (without gas and error).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    Node,
}

/// The body of `/result` and `/dry-run`: `Messages, Assignments, Spawns, Output[, GasUsed][, Error]`.
pub fn result(outcome: &Outcome) -> String {
    let mut body = String::new();
    push_outcome(&mut body, outcome, Shape::Whole);
    body
}

/// The body of `/results` and `/cron`; `sort` goes into every cursor.
pub fn page(page: &Page, sort: Sort) -> String {
    let mut body = format!(r#"{{"pageInfo":{{"hasNextPage":{}}},"edges":["#, page.has_next);
    for (index, Edge { cursor, outcome }) in page.edges.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(r#"{"node":"#);
        push_outcome(&mut body, outcome, Shape::Node);
        body.push_str(r#","cursor":""#);
        body.push_str(&encode_cursor(cursor, sort));
        body.push_str(r#""}"#);
    }
    body.push_str("]}");
    body
}

/// A cursor: base64 of `{"timestamp","ordinate","cron","sort"}`; `cron` is null for scheduled messages.
pub fn encode_cursor(cursor: &Cursor, sort: Sort) -> String {
    let text = |text: &Option<String>| match text {
        Some(text) => Value::from(text.as_str()).to_string(),
        None => "null".to_owned(),
    };
    STANDARD.encode(format!(
        r#"{{"timestamp":{},"ordinate":{},"cron":{},"sort":"{}"}}"#,
        cursor.timestamp,
        text(&cursor.ordinate),
        text(&cursor.cron),
        sort_name(sort),
    ))
}

/// A bound as a client gave it: a cursor, or a timestamp alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Bound {
    /// The place; none for a cursor that names none (`{}`), which bounds nothing.
    pub cursor: Option<Cursor>,
    /// The order a cursor carries.
    pub sort: Option<Sort>,
}

/// Reads a bound. Whatever is not base64 of JSON is taken for a timestamp in milliseconds, as in the reference.
///
/// # Errors
/// What was expected and received, in the reference's words.
pub fn decode_bound(text: &str) -> Result<Bound, String> {
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let json = LENIENT.decode(&compact).ok().and_then(|bytes| {
        // A browser's `atob` gives one character a byte.
        let text: String = bytes.into_iter().map(char::from).collect();
        serde_json::from_str::<Value>(&text).ok()
    });
    let Some(json) = json else {
        let timestamp = to_u64(crate::http::number::from_text(text)).ok_or("Expected number, received nan")?;
        return Ok(Bound { cursor: Some(Cursor { timestamp, ordinate: None, cron: None }), sort: None });
    };
    let Value::Object(fields) = json else {
        return Err(format!("Expected object, received {}", crate::http::number::kind(&json)));
    };
    let sort = fields.get("sort").and_then(Value::as_str).and_then(parse_sort);
    let text_of = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(js(other)),
    };
    let cursor = match fields.get("timestamp") {
        None | Some(Value::Null) => None,
        Some(value) => Some(Cursor {
            timestamp: to_u64(from_value(value)).ok_or("Expected number, received nan")?,
            ordinate: text_of("ordinate"),
            cron: text_of("cron"),
        }),
    };
    Ok(Bound { cursor, sort })
}

/// `ASC` or `DESC`.
pub fn parse_sort(text: &str) -> Option<Sort> {
    match text {
        "ASC" => Some(Sort::Asc),
        "DESC" => Some(Sort::Desc),
        _ => None,
    }
}

fn sort_name(sort: Sort) -> &'static str {
    match sort {
        Sort::Asc => "ASC",
        Sort::Desc => "DESC",
    }
}

fn push_outcome(body: &mut String, outcome: &Outcome, shape: Shape) {
    for (opening, list) in [
        (r#"{"Messages":"#, &outcome.messages),
        (r#","Assignments":"#, &outcome.assignments),
        (r#","Spawns":"#, &outcome.spawns),
    ] {
        body.push_str(opening);
        match list {
            Some(list @ Value::Array(_)) => body.push_str(&js(list)),
            // Messengers drop a whole result whose lists are not arrays; an empty Lua table may well be an object.
            _ => body.push_str("[]"),
        }
    }
    body.push_str(r#","Output":"#);
    match &outcome.output {
        None | Some(Value::Null) => body.push_str(r#""""#),
        Some(number @ Value::Number(_)) => {
            body.push('"');
            body.push_str(&js(number));
            body.push('"');
        }
        Some(output) => body.push_str(&js(output)),
    }
    if shape == Shape::Whole {
        if let Some(gas) = outcome.gas_used {
            body.push_str(&format!(r#","GasUsed":{gas}"#));
        }
        if let Some(error) = &outcome.error {
            body.push_str(r#","Error":"#);
            body.push_str(&js(error));
        }
    }
    body.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn cursor(timestamp: u64, ordinate: &str, cron: Option<&str>) -> Cursor {
        Cursor { timestamp, ordinate: Some(ordinate.to_owned()), cron: cron.map(str::to_owned) }
    }

    #[test]
    fn a_result_s_keys_are_in_the_reference_s_order() {
        let outcome = Outcome {
            error: Some(json!("boom")),
            output: Some(parse(r#"{"z":1,"a":2}"#)),
            messages: Some(json!([{ "Target": "t" }])),
            spawns: Some(json!([1])),
            assignments: Some(json!([2])),
            patches: Some(json!([3])),
            gas_used: Some(7),
        };
        assert_eq!(
            result(&outcome),
            r#"{"Messages":[{"Target":"t"}],"Assignments":[2],"Spawns":[1],"Output":{"z":1,"a":2},"GasUsed":7,"Error":"boom"}"#
        );
    }

    #[test]
    fn what_is_missing_gets_its_default_and_a_thrown_evaluation_has_no_gas() {
        let thrown = Outcome { error: Some(json!({})), ..Outcome::default() };
        assert_eq!(result(&thrown), r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":"","Error":{}}"#);
        let empty = Outcome { gas_used: Some(0), ..Outcome::default() };
        assert_eq!(result(&empty), r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":"","GasUsed":0}"#);
    }

    #[test]
    fn a_numeric_output_becomes_a_string_and_other_outputs_stay() {
        for (output, expected) in [
            (json!(1), r#""1""#),
            (json!("1"), r#""1""#),
            (json!(false), "false"),
            (json!([1]), "[1]"),
            (Value::Null, r#""""#),
        ] {
            let body = result(&Outcome { output: Some(output), ..Outcome::default() });
            assert!(body.ends_with(&format!(r#""Output":{expected}}}"#)), "{body}");
        }
    }

    #[test]
    fn lists_are_always_arrays() {
        let odd = Outcome {
            messages: Some(json!({})),
            spawns: Some(Value::Null),
            assignments: Some(json!("x")),
            ..Outcome::default()
        };
        assert_eq!(result(&odd), r#"{"Messages":[],"Assignments":[],"Spawns":[],"Output":""}"#);
    }

    #[test]
    fn a_page_s_nodes_have_neither_gas_nor_error() {
        let outcome =
            Outcome { gas_used: Some(5), error: Some(json!(false)), output: Some(json!(3)), ..Outcome::default() };
        let edges = vec![Edge { cursor: cursor(17, "2", None), outcome }];
        let body = page(&Page { edges, has_next: true }, Sort::Desc);
        let encoded = STANDARD.encode(r#"{"timestamp":17,"ordinate":"2","cron":null,"sort":"DESC"}"#);
        assert_eq!(
            body,
            format!(
                r#"{{"pageInfo":{{"hasNextPage":true}},"edges":[{{"node":{{"Messages":[],"Assignments":[],"Spawns":[],"Output":"3"}},"cursor":"{encoded}"}}]}}"#
            )
        );
        assert_eq!(
            page(&Page { edges: vec![], has_next: false }, Sort::Asc),
            r#"{"pageInfo":{"hasNextPage":false},"edges":[]}"#
        );
    }

    #[test]
    fn cursors_read_back_as_they_were_written() {
        for place in
            [cursor(1750000031460, "0", None), cursor(1, "12", Some("0-10-minutes")), cursor(1, "é\"", Some("\\"))]
        {
            for sort in [Sort::Asc, Sort::Desc] {
                let text = encode_cursor(&place, sort);
                // JSON escapes nothing above ASCII, so only ASCII survives `atob`; ordinates and crons are ASCII.
                if text.is_ascii() && place.ordinate.as_deref().is_some_and(str::is_ascii) {
                    assert_eq!(decode_bound(&text), Ok(Bound { cursor: Some(place.clone()), sort: Some(sort) }));
                    let unpadded = text.trim_end_matches('=');
                    assert_eq!(decode_bound(unpadded), Ok(Bound { cursor: Some(place.clone()), sort: Some(sort) }));
                }
            }
        }
    }

    #[test]
    fn the_reference_s_cursor_bytes() {
        let text = "eyJ0aW1lc3RhbXAiOjE3NTAwMDAwMzE0NjAsIm9yZGluYXRlIjoiMCIsImNyb24iOm51bGwsInNvcnQiOiJBU0MifQ==";
        assert_eq!(encode_cursor(&cursor(1750000031460, "0", None), Sort::Asc), text);
    }

    #[test]
    fn a_bound_that_is_no_cursor_is_a_timestamp() {
        for (text, timestamp) in
            [("1750000031460", 1_750_000_031_460), ("12345678", 12_345_678), ("1e3", 1000), ("-5", 0), (" 7 ", 7)]
        {
            let expected = Bound { cursor: Some(Cursor { timestamp, ordinate: None, cron: None }), sort: None };
            assert_eq!(decode_bound(text), Ok(expected), "{text}");
        }
        assert_eq!(decode_bound("yesterday"), Err("Expected number, received nan".to_owned()));
    }

    #[test]
    fn a_cursor_that_is_not_an_object_says_what_it_is() {
        for (json, kind) in
            [("7", "number"), ("null", "null"), ("[]", "array"), ("\"x\"", "string"), ("true", "boolean")]
        {
            assert_eq!(decode_bound(&STANDARD.encode(json)), Err(format!("Expected object, received {kind}")));
        }
    }

    #[test]
    fn a_cursor_without_a_place_bounds_nothing_but_may_sort() {
        assert_eq!(decode_bound(&STANDARD.encode("{}")), Ok(Bound { cursor: None, sort: None }));
        assert_eq!(
            decode_bound(&STANDARD.encode(r#"{"sort":"DESC"}"#)),
            Ok(Bound { cursor: None, sort: Some(Sort::Desc) })
        );
        assert_eq!(
            decode_bound(&STANDARD.encode(r#"{"timestamp":"12","ordinate":3,"sort":"UP"}"#)),
            Ok(Bound { cursor: Some(cursor(12, "3", None)), sort: None })
        );
    }
}
